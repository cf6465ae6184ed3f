# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers there are: their names, and how each last ended. Every change is a transaction.

What a container is to be is in its `config.json` (`record`); whether it runs now is known from its
runtime directory (`runtime`), never from a row, so that no crash and no loss of power leaves a
container that is said to run. `Entry` puts the three together.
"""

from __future__ import annotations

import os

from launcher import database, runtime
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.record import Record
from launcher.typed import Final, Iterable, NamedTuple
from unionfs.light import sqlite3

__all__ = ["Entry", "Row", "State", "status_of"]

_COLUMNS: Final = (
    "id, name, image, image_id, created, started, finished, exit_code, oom, restarts, stopped, "
    "removing, error"
)


class Row(NamedTuple):
    """A container's row. Times are in nanoseconds since the epoch, 0: never.

    exit_code -- of the last run; 128 and more: killed by a signal; as docker's
    oom       -- 1 if a process of the last run was killed because memory ran out
    stopped   -- 1 if it ended because somebody asked for that (`--restart unless-stopped`)
    removing  -- 1 once `rm` has begun
    error     -- one line, where the last start failed or the supervisor was killed
    """

    id: str
    name: str
    image: str
    image_id: str
    created: int
    started: int = 0
    finished: int = 0
    exit_code: int = 0
    oom: int = 0
    restarts: int = 0
    stopped: int = 0
    removing: int = 0
    error: str = ""


class Entry(NamedTuple):
    """A container as it is now. `intact`: its directory is there."""

    row: Row
    running: runtime.Running | None
    intact: bool = True

    @property
    def status(self) -> str:
        """created, running, paused, restarting, exited, dead or removing (docker's `.State`)."""
        lost = not self.intact and not self.row.removing
        return "dead" if lost else status_of(self.row, self.running)


def status_of(row: Row, running: runtime.Running | None) -> str:
    if row.removing:
        return "removing"
    if running is not None:
        return {"starting": "created", "stopping": "running"}.get(running.state, running.state)
    if row.started == 0:
        return "created"
    # A start that nobody wrote the end of: its supervisor was killed, or the machine lost power.
    return "exited" if row.finished >= row.started else "dead"


class State:
    """The table of containers, open. A context manager; one thread's."""

    def __init__(self, paths: Paths, db: sqlite3.Connection | None = None) -> None:
        """`db`: the database, if it is open already; it becomes this object's to close."""
        self.paths = paths
        self._db = database.connect(paths) if db is None else db

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def add(self, record: Record, image: str = "") -> None:
        """Enter a container whose directory is complete. Raises LaunchError for a name in use.

        image -- id of the image that has to be in the store at that very moment: `rmi` lets an
                 image go in one transaction with looking for its containers
        """
        try:
            entered = self._db.execute(
                "INSERT INTO containers (id, name, image, image_id, created) "
                "SELECT ?, ?, ?, ?, ? WHERE ? = '' OR EXISTS (SELECT 1 FROM images WHERE id = ?)",
                (
                    record.id,
                    record.name,
                    record.image,
                    record.image_id,
                    record.created,
                    image,
                    image,
                ),
            )
        except sqlite3.IntegrityError:
            raise self._taken(record.name) from None
        if not entered.rowcount:
            raise LaunchError("find image", record.image, "it has just been removed")

    def has_image(self, id: str) -> bool:
        """Whether an image is in the store now."""
        return bool(self._db.execute("SELECT 1 FROM images WHERE id = ?", (id,)).fetchone())

    def _taken(self, name: str) -> LaunchError:
        row = self._one("name = ?", name)
        holder = row.id[:12] if row is not None else "another container"
        return LaunchError("use name", name, f"it is the name of container {holder}")

    def has_name(self, name: str) -> bool:
        return self._one("name = ?", name) is not None

    def find(self, reference: str) -> Entry:
        """The container that an id, a name or an unambiguous beginning of an id stands for.

        As docker: a full id wins over a name, a name over a prefix. Raises LaunchError.
        """
        row = self._one("id = ?", reference) or self._one("name = ?", reference.lstrip("/"))
        if row is None:
            matching = self._rows("id >= ? AND id < ?", reference, reference + "g")
            if not reference or not matching:
                raise LaunchError("find container", reference, "there is none of that name or id")
            if len(matching) > 1:
                count = len(matching)
                raise LaunchError("find container", reference, f"{count} ids begin so")
            row = matching[0]
        return self._entry(row)

    def has(self, id: str) -> bool:
        return self._one("id = ?", id) is not None

    def row(self, id: str) -> Row:
        """The row of a container by its whole id. Raises LaunchError."""
        row = self._one("id = ?", id)
        if row is None:
            raise LaunchError("find container", id[:12], "there is none of that id")
        return row

    def all(self) -> tuple[Entry, ...]:
        """All containers, the newest first."""
        return tuple(self._entry(row) for row in self._rows("1 ORDER BY created DESC"))

    def of_image(self, image_id: str) -> tuple[Row, ...]:
        """The containers that were made of an image."""
        return tuple(self._rows("image_id = ?", image_id))

    def rename(self, id: str, name: str) -> None:
        """Give a container another name. Raises LaunchError if that is taken."""
        try:
            self._db.execute("UPDATE containers SET name = ? WHERE id = ?", (name, id))
        except sqlite3.IntegrityError:
            raise self._taken(name) from None

    def started(self, id: str, when: int, restarts: int = 0) -> None:
        """A run begins (ns)."""
        self._db.execute(
            "UPDATE containers SET started = ?, restarts = ?, oom = 0, stopped = 0, error = '' "
            "WHERE id = ?",
            (when, restarts, id),
        )

    def finished(
        self,
        id: str,
        when: int,
        exit_code: int,
        *,
        oom: bool = False,
        stopped: bool = False,
        error: str = "",
    ) -> None:
        """A run has ended, or a start has failed with the line `error`."""
        self._db.execute(
            "UPDATE containers SET finished = ?, exit_code = ?, oom = ?, stopped = ?, error = ? "
            "WHERE id = ?",
            (when, exit_code, int(oom), int(stopped), error, id),
        )

    def failed(self, before: Row, exit_code: int, error: str) -> None:
        """A start has come to nothing: as it was `before`, but for the status and a line."""
        self._db.execute(
            "UPDATE containers SET started = ?, finished = ?, exit_code = ?, error = ? "
            "WHERE id = ?",
            (before.started, before.finished, exit_code, error, before.id),
        )

    def begin_removal(self, id: str) -> None:
        """From here on it can only be removed, by this command or, after a crash, by another."""
        self._db.execute("UPDATE containers SET removing = 1 WHERE id = ?", (id,))

    def remove(self, id: str) -> None:
        """Take a container out. Its files go before: see `begin_removal`."""
        self._db.execute("DELETE FROM containers WHERE id = ?", (id,))

    def _entry(self, row: Row) -> Entry:
        intact = os.path.isdir(self.paths.container(row.id))
        return Entry(row, runtime.look(self.paths, row.id), intact)

    def _rows(self, where: str, *values: str) -> list[Row]:
        found: Iterable[tuple[object, ...]] = self._db.execute(
            f"SELECT {_COLUMNS} FROM containers WHERE {where}", values
        )
        return [Row(*each) for each in found]  # type: ignore[arg-type]

    def _one(self, where: str, *values: str) -> Row | None:
        rows = self._rows(where, *values)
        return rows[0] if rows else None
