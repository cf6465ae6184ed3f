# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing what a container is after it was made: its name, its limits, its restart policy."""

from __future__ import annotations

from collections.abc import Callable

from launcher import control, events, record, runtime
from launcher.errors import LaunchError, SpecError
from launcher.names import is_name
from launcher.paths import Paths
from launcher.record import RestartPolicy
from launcher.spec import Resources
from launcher.state import Entry, State

__all__ = ["rename", "update"]


def rename(paths: Paths, entry: Entry, name: str) -> None:
    """Give a container another name. Raises LaunchError.

    The row is what counts: a crash before config.json is written leaves the old name there only.
    """
    row = entry.row
    if not is_name(name):
        reason = "a name is of letters, digits, _, . and -, and of two at least"
        raise SpecError("use name", name, reason)
    if name == row.name:
        raise LaunchError("rename container", row.name, "that is its name")
    wanted = record.load(paths, row.id)._replace(name=name)
    with State(paths) as state:
        state.rename(row.id, name)
    record.save(paths, wanted)
    if runtime.alive(paths, row.id):
        _tell(paths, entry)
    events.note(
        paths,
        "container",
        "rename",
        row.id,
        {"image": row.image, "name": name, "oldName": row.name},
    )


def update(
    paths: Paths,
    entry: Entry,
    change: Callable[[Resources], Resources],
    policy: RestartPolicy | None,
) -> list[str]:
    """Change limits and the restart policy, of what runs at once; what this machine cannot limit.

    Raises LaunchError; then all is as it was.
    """
    row = entry.row
    old = record.load(paths, row.id)
    wanted = old._replace(resources=change(old.resources), restart=policy or old.restart)
    if wanted.auto_remove and wanted.restart.name != "no":
        reason = "it is removed when it ends, so it cannot be restarted"
        raise LaunchError("update container", row.name, reason)
    record.save(paths, wanted)
    missing: list[str] = []
    if runtime.alive(paths, row.id):
        try:
            missing = _tell(paths, entry)
        except LaunchError as error:
            record.save(paths, old)
            raise LaunchError("update container", row.name, str(error.reason)) from error
    events.note(paths, "container", "update", row.id, {"image": row.image, "name": row.name})
    return missing


def _tell(paths: Paths, entry: Entry) -> list[str]:
    """Have the supervisor read config.json anew."""
    with control.connect(paths, entry.row.id) as connection:
        found = connection.request("update")
        connection.finish()
    return [str(each) for each in found.get("warnings", ())]
