# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers `ps --filter` shows, and `start --all --filter` starts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from launcher.cli.container_rows import Look
from launcher.cli.filters import Filters, any_fits, labelled
from launcher.errors import LaunchError, shown
from launcher.paths import Paths
from launcher.state import State
from launcher.typed import Final
from unionfs import UsageError

__all__ = ["KEYS", "selector"]

KEYS: Final = (
    "id",
    "name",
    "label",
    "status",
    "ancestor",
    "exited",
    "before",
    "since",
    "volume",
    "network",
    "publish",
    "expose",
    "health",
    "restart-policy",
    "should-start-on-boot",
)
_STATES: Final = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_HEALTH: Final = ("starting", "healthy", "unhealthy", "none")
_POLICIES: Final = ("no", "always", "unless-stopped", "on-failure")
_TRUTH: Final = ("true", "false")


def selector(paths: Paths, state: State, filters: Filters) -> Callable[[Look], bool]:
    """What tells whether a container fits. Raises UsageError, or LaunchError for no container."""
    _check(filters, "status", lambda value: value in _STATES, ", ".join(_STATES))
    _check(filters, "health", lambda value: value in _HEALTH, ", ".join(_HEALTH))
    _check(filters, "restart-policy", lambda value: value in _POLICIES, ", ".join(_POLICIES))
    _check(filters, "should-start-on-boot", lambda value: value in _TRUTH, "true or false")
    _check(filters, "exited", lambda value: value.lstrip("-").isdigit(), "an exit status")
    for key in ("publish", "expose"):
        _check(filters, key, lambda value: _port_range(value) is not None, "PORT[-PORT][/PROTOCOL]")
    for key in ("id", "name"):
        _check(filters, key, _is_expression, "a regular expression")
    before = [state.find(each).row.created for each in filters.get("before", ())]
    since = [state.find(each).row.created for each in filters.get("since", ())]
    ancestors = [_Ancestor(paths, each) for each in filters.get("ancestor", ())]

    def fits(look: Look) -> bool:
        row = look.entry.row
        if before and not any(row.created < each for each in before):
            return False
        if since and not any(row.created > each for each in since):
            return False
        return (
            any_fits(filters, "id", lambda value: re.search(value, row.id) is not None)
            and any_fits(filters, "name", lambda value: _named(value, row.name))
            and any_fits(filters, "status", lambda value: value == look.entry.status)
            and any_fits(filters, "exited", lambda value: _exited(look, int(value)))
            and any_fits(filters, "health", lambda value: value == _health(look))
            and (not ancestors or any(each.fits(look) for each in ancestors))
            and ("label" not in filters or labelled(filters, look.labels))
            and any_fits(filters, "volume", lambda value: _has_mount(look, value))
            and any_fits(filters, "network", lambda value: look.fields.get("network") == value)
            and any_fits(filters, "publish", lambda value: _has_port(look, value, True))
            and any_fits(filters, "expose", lambda value: _has_port(look, value, False))
            and any_fits(filters, "restart-policy", lambda value: value == _policy(look))
            and any_fits(
                filters, "should-start-on-boot", lambda value: (value == "true") == _on_boot(look)
            )
        )

    return fits


def _check(filters: Filters, key: str, valid: Callable[[str], bool], wanted: str) -> None:
    for value in filters.get(key, ()):
        if not valid(value):
            raise UsageError("use filter", shown(f"{key}={value}"), f"it takes {wanted}")


def _is_expression(value: str) -> bool:
    try:
        re.compile(value)
    except re.error:
        return False
    return True


def _named(value: str, name: str) -> bool:
    # Docker's names begin with a slash, and an expression may count on it or not.
    return re.search(value, name) is not None or re.search(value, "/" + name) is not None


def _exited(look: Look, code: int) -> bool:
    entry = look.entry
    return entry.running is None and entry.row.finished > 0 and entry.row.exit_code == code


def _health(look: Look) -> str:
    running = look.entry.running
    return (running.health if running is not None else "") or "none"


def _policy(look: Look) -> str:
    return look.fields["restart"]["name"] or "no"


def _on_boot(look: Look) -> bool:
    """Whether docker's daemon would start it when it comes up: what was run before, unless somebody
    stopped it and the policy has regard to that.
    """
    policy, row = _policy(look), look.entry.row
    wanted = policy == "always" or (policy == "unless-stopped" and not row.stopped)
    return wanted and row.started > 0


def _has_mount(look: Look, value: str) -> bool:
    return any(value in (each["source"], each["destination"]) for each in look.fields["mounts"])


def _port_range(value: str) -> tuple[int, int, str] | None:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", value)
    if match is None:
        return None
    first = int(match.group(1))
    return first, int(match.group(2) or first), match.group(3) or "tcp"


def _has_port(look: Look, value: str, published: bool) -> bool:
    wanted = _port_range(value)
    assert wanted is not None
    first, last, protocol = wanted
    ports = [(each["container"], each["protocol"]) for each in look.fields.get("ports", ())]
    if not published:
        for word in look.fields.get("exposed", ()):
            number, _, kind = word.partition("/")
            if number.isdigit():
                ports.append((int(number), kind or "tcp"))
    return any(first <= number <= last and kind == protocol for number, kind in ports)


class _Ancestor:
    """An image that containers may have been made of, or of one that builds upon it."""

    def __init__(self, paths: Paths, reference: str) -> None:
        self._reference = reference
        self._id = reference.removeprefix("sha256:")
        self._layers: tuple[bytes, ...] = ()
        image = _find_image(paths, reference)
        if image is not None:
            self._id, self._layers = image

    def fits(self, look: Look) -> bool:
        row = look.entry.row
        if row.image in (self._reference, self._reference + ":latest"):
            return True
        if len(self._id) >= 4 and row.image_id.removeprefix("sha256:").startswith(self._id):
            return True
        if not self._layers:
            return False
        lowest = look.fields.get("layers", ())[-len(self._layers) :]
        return [os.fsencode(each) for each in lowest] == list(self._layers)


def _find_image(paths: Paths, reference: str) -> tuple[str, tuple[bytes, ...]] | None:
    """The id and the layers of an image that there is. None is made for being asked for."""
    from launcher import database
    from launcher.image import builtin, catalog, layout

    if reference in ("host", "host:latest"):
        host = builtin.host()
        return host.id, host.layers
    db = database.connect(paths)
    try:
        id = catalog.find_image(db, reference).id
        layers = catalog.layers_of(db, id)
    except LaunchError:
        return None
    finally:
        db.close()
    return id, tuple(layout.tree(paths, each.tree) for each in reversed(layers))
