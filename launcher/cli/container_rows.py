# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers as lines of a listing: docker's fields, and how each is put into words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from launcher.cli.listing import Listing
from launcher.cli.quoting import ellipsis, quoted
from launcher.cli.sizes import decimal_size
from launcher.cli.times import ago, span, wall_clock
from launcher.documents import Row
from launcher.paths import Paths
from launcher.record import glance
from launcher.state import Entry
from launcher.typed import Any, Final

__all__ = ["LISTING", "Look", "container_row", "ports_text", "sizes_text", "status_text"]

_COMMAND_WIDTH: Final = 20
_MOUNT_WIDTH: Final = 15

LISTING: Final = Listing(
    {
        "ID": "CONTAINER ID",
        "Names": "NAMES",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "Ports": "PORTS",
        "State": "STATE",
        "Status": "STATUS",
        "Size": "SIZE",
        "Labels": "LABELS",
        "Mounts": "MOUNTS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Networks": "NETWORKS",
        "Platform": "PLATFORM",
    },
    ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"),
    "container_id: {{.ID}}\\nimage: {{.Image}}\\ncommand: {{.Command}}\\n"
    "created_at: {{.CreatedAt}}\\nstate: {{- pad .State 1 0}}\\nstatus: {{- pad .Status 1 0}}\\n"
    "names: {{.Names}}\\nlabels: {{- pad .Labels 1 0}}\\nports: {{- pad .Ports 1 0}}\\n",
)


class Look:
    """A container that is being looked at: its entry, and its config.json once that is needed."""

    __slots__ = ("_fields", "_paths", "entry")

    def __init__(self, paths: Paths, entry: Entry) -> None:
        self.entry = entry
        self._paths = paths
        self._fields: dict[str, Any] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        if self._fields is None:
            self._fields = glance(self._paths, self.entry.row.id)
        return self._fields

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.fields.get("labels", ()))

    @property
    def ports(self) -> list[tuple[str, int, int, str]]:
        """(host's address, host's port, container's port, protocol); a host's of 0: exposed only.

        Of a container that does not run, or has no network of its own, there are none.
        """
        if self.entry.running is None or self.fields.get("network") in ("none", "host"):
            return []
        published = [
            (each["ip"] or "0.0.0.0", each["host"], each["container"], each["protocol"])
            for each in self.fields.get("ports", ())
        ]
        taken = {(container, protocol) for _, _, container, protocol in published}
        for word in self.fields.get("exposed", ()):
            number, _, protocol = word.partition("/")
            if number.isdigit() and (int(number), protocol or "tcp") not in taken:
                published.append(("", 0, int(number), protocol or "tcp"))
        return published


def container_row(look: Look, now: int, cut: bool, size: str | Callable[[], str]) -> Row:
    """The fields of one container. `cut`: ids, commands and mounts are shortened."""
    row = look.entry.row
    return Row(
        {
            "ID": row.id[:12] if cut else row.id,
            "Names": row.name,
            "Image": _image(row.image, row.image_id, cut),
            "Command": lambda: _command(look.fields.get("args", ()), cut),
            "CreatedAt": lambda: wall_clock(row.created),
            "RunningFor": lambda: ago(row.created, now),
            "Ports": lambda: ports_text(look.ports),
            "State": look.entry.status,
            "Status": lambda: status_text(look.entry, now),
            "Size": size,
            "Labels": lambda: ",".join(f"{k}={v}" for k, v in sorted(look.labels.items())),
            "Mounts": lambda: _mounts(look.fields.get("mounts", ()), cut),
            "LocalVolumes": lambda: str(
                sum(each["kind"] == "volume" for each in look.fields.get("mounts", ()))
            ),
            "Networks": lambda: str(look.fields.get("network", "")),
            "Platform": "linux",
        },
        {"Label": lambda name: look.labels.get(name, "")},
    )


def sizes_text(own: int, layers: int) -> str:
    """What a container has written, and that with its image."""
    return f"{decimal_size(own)} (virtual {decimal_size(own + layers)})"


def status_text(entry: Entry, now: int) -> str:
    """`.Status`: the state with its times and exit code."""
    row, running, status = entry.row, entry.running, entry.status
    if status == "restarting":
        since = row.finished or (running.started if running else now)
        return f"Restarting ({row.exit_code}) {ago(since, now)}"
    if running is not None and status in ("running", "paused"):
        text = "Up " + span(now - (running.started or row.started or now))
        if status == "paused":
            return text + " (Paused)"
        health = running.health
        if health:
            text += f" ({'health: ' if health == 'starting' else ''}{health})"
        return text
    if status == "removing":
        return "Removal In Progress"
    if status == "exited":
        killed = " (out of memory)" if row.oom else ""
        return f"Exited ({row.exit_code}) {ago(row.finished, now)}{killed}"
    return status.capitalize()


def _image(name: str, id: str, cut: bool) -> str:
    if not name:
        return "<no image>"
    if not cut:
        return name
    plain = name.removeprefix("sha256:")
    if id.startswith(plain) and len(plain) > 12:
        return plain[:12]
    return name.partition("@")[0]


def _command(args: list[str], cut: bool) -> str:
    words = [*args[:1], *(f"'{word}'" if " " in word else word for word in args[1:])]
    text = " ".join(words)
    return quoted(ellipsis(text, _COMMAND_WIDTH) if cut else text)


def _mounts(mounts: list[Mapping[str, Any]], cut: bool) -> str:
    names = (str(each["source"]) for each in mounts if each["kind"] != "tmpfs")
    return ",".join(ellipsis(name, _MOUNT_WIDTH) if cut else name for name in names)


def ports_text(ports: list[tuple[str, int, int, str]]) -> str:
    """Ports as docker shows them: neighbours that have the same number outside are put together."""
    ranges: list[tuple[str, str, int, int]] = []
    mapped: list[str] = []
    for address, outside, inside, protocol in sorted(
        ports, key=lambda port: (port[2], port[1], port[0], port[3])
    ):
        place = f"[{address}]" if ":" in address else address
        if outside not in (0, inside):
            mapped.append(f"{place}:{outside}->{inside}/{protocol}")
            continue
        key = place if outside else ""
        for index, (known, kind, first, last) in enumerate(ranges):
            if (known, kind, last + 1) == (key, protocol, inside):
                ranges[index] = known, kind, first, inside
                break
        else:
            ranges.append((key, protocol, inside, inside))
    texts = []
    for place, protocol, first, last in sorted(ranges, key=lambda each: (each[0], each[2])):
        numbers = str(first) if first == last else f"{first}-{last}"
        outside_text = f"{place}:{numbers}->" if place else ""
        texts.append(f"{outside_text}{numbers}/{protocol}")
    return ", ".join(texts + mapped)
