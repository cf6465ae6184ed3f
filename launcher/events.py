# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to containers and images, written down by whoever does it, for `lamina events`.

RUN/events has one JSON object a line, each written at once and at the end, so that any number of
processes may write without knowing of each other. A file that has grown to `_LARGEST` becomes
RUN/events.1, in place of the one before; so there is an end to what is kept, and nothing of it
outlives the machine's uptime. Names of kinds and actions are docker's: container create, start,
die …; image import, tag …

Writing never fails: what was done stays done though nobody can be told of it.
"""

from __future__ import annotations

import os
import time

from launcher.paths import Paths
from launcher.typed import (
    TYPE_CHECKING,
    Final,
    Iterator,
    Mapping,
    NamedTuple,
    Protocol,
)
from unionfs.light import json

if TYPE_CHECKING:
    from launcher.sys.inotify import Inotify

__all__ = ["Event", "Follower", "note", "note_container", "note_image", "past"]

_LARGEST: Final = 1 << 20


Labels = tuple[tuple[str, str], ...]


class Container(Protocol):
    """What `Record` and `Row` have in common."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def image(self) -> str: ...


class Event(NamedTuple):
    """`when` is in nanoseconds since the epoch; `id` of the container or image it happened to."""

    kind: str
    action: str
    id: str
    attributes: dict[str, str]
    when: int


def note(
    paths: Paths, kind: str, action: str, id: str, attributes: Mapping[str, str] | None = None
) -> None:
    """Write down that `action` has happened now. Raises nothing."""
    event = Event(kind, action, id, dict(attributes or {}), time.time_ns())
    line = json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n"
    path = _path(paths)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(paths.run, 0o700, exist_ok=True)
            fd = os.open(path, flags, 0o600)
        try:
            if os.write(fd, line) < len(line):
                os.write(fd, b"\n")  # a full disc; what comes later must not join the rest
            if os.fstat(fd).st_size >= _LARGEST:
                _rotate(fd, path)
        finally:
            os.close(fd)
    except OSError:
        pass


def note_container(
    paths: Paths, action: str, container: Container, labels: Labels = (), **more: str
) -> None:
    """As `note`, of a container: its record, or its row and its labels beside it."""
    attributes = dict(labels or getattr(container, "labels", ()))
    attributes |= {"image": container.image, "name": container.name} | more
    note(paths, "container", action, container.id, attributes)


def note_image(paths: Paths, action: str, id: str, name: str = "") -> None:
    """As `note`, of an image: the digits of its id, and the name that is meant."""
    digest = id if id.startswith("sha256:") else "sha256:" + id
    note(paths, "image", action, digest, {"name": name or digest})


def _rotate(fd: int, path: bytes) -> None:
    import fcntl

    # Who holds the lock of the file that has the name is the only one to take the name from it.
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.path.samestat(os.fstat(fd), os.stat(path)):
        os.rename(path, path + b".1")


def _path(paths: Paths) -> bytes:
    return paths.run + b"/events"


def past(paths: Paths) -> list[Event]:
    """All that is still known, the oldest first."""
    with Follower(paths) as follower:
        return follower.more()


class Follower:
    """Reads what is written, from the oldest event on. A context manager; one thread's."""

    __slots__ = ("_files", "_inotify", "_names", "_run")

    def __init__(self, paths: Paths) -> None:
        self._run = paths.run
        self._names = (_path(paths), _path(paths) + b".1")
        # By (device, inode): the descriptor, and the line of which the end is not written yet.
        self._files: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._inotify: Inotify | None = None

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        for fd, _line in self._files.values():
            os.close(fd)
        if self._inotify is not None:
            self._inotify.__exit__()

    def more(self) -> list[Event]:
        """What has been written since the last call, as far as it is written whole."""
        # First the name that loses its file to the other one.
        named = [key for key in map(self._open, self._names) if key is not None]
        found = [event for key in list(self._files) for event in self._drain(key)]
        for key in self._files.keys() - named:
            os.close(self._files.pop(key)[0])
        return sorted(found, key=lambda event: event.when)

    def _open(self, path: bytes) -> tuple[int, int] | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        stat = os.fstat(fd)
        key = stat.st_dev, stat.st_ino
        if key in self._files:
            os.close(fd)
        else:
            self._files[key] = fd, b""
        return key

    def _drain(self, key: tuple[int, int]) -> Iterator[Event]:
        fd, torn = self._files[key]
        while True:
            part = os.read(fd, 1 << 16)
            if not part:
                break
            *lines, torn = (torn + part).split(b"\n")
            for line in lines:
                try:
                    event = Event(*json.loads(line))
                except (ValueError, TypeError):
                    continue  # cut off by a full disc
                yield event
        self._files[key] = fd, torn

    def wait(self, until: int | None = None) -> bool:
        """Wait for more; False once the time `until` (ns) has come. Raises OSError."""
        from launcher.sys.inotify import CREATE, MODIFY, MOVED_TO, Inotify

        if self._inotify is None:
            os.makedirs(self._run, 0o700, exist_ok=True)
            self._inotify = Inotify()
            self._inotify.add(self._run, CREATE | MODIFY | MOVED_TO)
            return True  # what was written before there was the watch is to be read first
        seconds = None if until is None else (until - time.time_ns()) / 10**9
        if seconds is not None and seconds <= 0:
            return False
        self._inotify.wait(seconds)
        return True
