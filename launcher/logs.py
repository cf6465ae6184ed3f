# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what a container has put out: docker's json-file format, and its rotated files.

`log` is the file that is being written; `log.1` was the one before it, and so on. A file that is
renamed is not written any more. The writing side is the supervisor's.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator

from launcher import runtime
from launcher.paths import Paths
from launcher.typed import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from launcher.sys.inotify import Inotify

__all__ = ["Piece", "follow", "read"]

_BLOCK: Final = 1 << 16


class Piece(NamedTuple):
    """What was written at once: a line, or a part of one if it has no newline at the end.

    when  -- RFC 3339 in UTC, with nine digits behind the point: they sort as they follow
    stream -- stdout or stderr
    extra -- what `--log-opt labels` and `env` added
    """

    when: str
    stream: str
    text: str
    extra: dict[str, str]


def read(paths: Paths, id: str, tail: int | None = None) -> Iterator[Piece]:
    """What there is of a container's log, the oldest first; the last `tail` pieces of it."""
    with _Files(paths.container(id) + b"/log", tail) as files:
        yield from files.more()


def follow(
    paths: Paths, id: str, tail: int | None = None, until: int | None = None
) -> Iterator[Piece | None]:
    """As `read`, and then what comes, until the container has ended or it is `until` (ns).

    None means that there is nothing more for now. Raises OSError.
    """
    from launcher.sys.inotify import CREATE, DELETE, MODIFY, MOVED_TO, Inotify

    with Inotify() as inotify, _Files(paths.container(id) + b"/log", tail) as files:
        inotify.add(paths.container(id), MODIFY | CREATE | MOVED_TO)
        with contextlib.suppress(FileNotFoundError):
            inotify.add(paths.runtime(id), MOVED_TO | DELETE)
        while True:
            # In this order: what it wrote before its end is read after its end was seen.
            running = runtime.look(paths, id)
            yield from files.more()
            if running is None:
                return
            seconds = None if until is None else (until - time.time_ns()) / 10**9
            if seconds is not None and seconds <= 0:
                return
            yield None
            _wait(inotify, seconds, running.supervisor)


def _wait(inotify: Inotify, seconds: float | None, supervisor: int) -> None:
    """Wait for something to be written, or for the end of the supervisor, however it comes."""
    if not supervisor:  # it has not said yet; when it does, the directory changes
        inotify.wait(seconds)
        return
    try:
        pidfd = os.pidfd_open(supervisor)
    except ProcessLookupError:
        return
    try:
        inotify.wait(seconds, pidfd)
    finally:
        os.close(pidfd)


class _Files:
    """The files of a log, the oldest first, each read on from where the last look ended."""

    __slots__ = ("_directory", "_name", "_open", "_path", "_tail", "_torn")

    def __init__(self, path: bytes, tail: int | None) -> None:
        self._path = path
        self._tail = tail
        self._open: list[int] = []
        self._torn = b""
        self._find()
        if tail is not None:
            self._skip(tail)

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open:
            os.close(fd)

    def _find(self) -> None:
        """Open what there is. A rotation meanwhile shows a file twice, but hides none."""
        seen = set()
        number = 0
        while True:
            fd = _opened(self._named(number))
            if fd is None:
                if number:
                    break
            else:
                key = _identity(fd)
                if key in seen:
                    os.close(fd)
                else:
                    seen.add(key)
                    self._open.insert(0, fd)
            number += 1

    def _named(self, number: int) -> bytes:
        return self._path + (b".%d" % number if number else b"")

    def _skip(self, tail: int) -> None:
        """Place the files so that the last `tail` lines of all are still to be read."""
        missing = tail
        for fd in reversed(self._open):
            offset, found = _end_lines(fd, missing)
            os.lseek(fd, offset, os.SEEK_SET)
            missing -= found

    def more(self) -> Iterator[Piece]:
        """What has been written whole since the last call."""
        if not self._open:
            self._find()
        while self._open:
            yield from self._drain(self._open[0])
            if len(self._open) == 1:
                following = self._follower(self._open[0])
                if not following:
                    return
                # It was written up to its renaming, which was after the last look.
                yield from self._drain(self._open[0])
                self._open += following
            os.close(self._open.pop(0))
            self._torn = b""

    def _follower(self, fd: int) -> list[int]:
        """The files that were begun after an open one."""
        mine = _identity(fd)
        newer: list[int] = []
        number = 0
        while True:
            other = _opened(self._named(number))
            if other is None:
                if number:
                    return newer  # it has been removed: all that there are came after it
            elif _identity(other) == mine:
                os.close(other)
                return newer
            elif newer and _identity(other) == _identity(newer[0]):
                os.close(other)  # a rotation meanwhile
            else:
                newer.insert(0, other)
            number += 1

    def _drain(self, fd: int) -> Iterator[Piece]:
        while True:
            part = os.read(fd, _BLOCK)
            if not part:
                return
            *lines, self._torn = (self._torn + part).split(b"\n")
            for line in lines:
                piece = _parsed(line)
                if piece is not None:
                    yield piece


def _opened(path: bytes) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _identity(fd: int) -> tuple[int, int]:
    stat = os.fstat(fd)
    return stat.st_dev, stat.st_ino


def _end_lines(fd: int, wanted: int) -> tuple[int, int]:
    """Where the last `wanted` lines of a file begin, and how many lines there are from there."""
    found = 0
    at = os.fstat(fd).st_size
    while at > 0:
        start = max(at - _BLOCK, 0)
        block = os.pread(fd, at - start, start)
        where = block.rfind(b"\n")
        while where >= 0:
            found += 1
            if found > wanted:  # the end of the line before them
                return start + where + 1, wanted
            where = block.rfind(b"\n", 0, where)
        at = start
    return 0, found


def _parsed(line: bytes) -> Piece | None:
    try:
        fields = json.loads(line)
        return Piece(
            _nine_digits(fields["time"]),
            fields["stream"],
            fields["log"],
            fields.get("attrs") or {},
        )
    except (ValueError, TypeError, KeyError):
        return None  # torn by a loss of power, or by a full disc


def _nine_digits(when: str) -> str:
    if len(when) == 30:
        return when
    whole, _, rest = when.rstrip("Z").partition(".")
    return f"{whole}.{rest:0<9}Z"
