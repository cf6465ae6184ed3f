# SPDX-License-Identifier: GPL-3.0-or-later
"""What `load` reads from: named files in an archive or a directory, each read at any place.

An archive is looked through once; what is compressed, or cannot be read at any place, is first laid
down in a nameless file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from launcher.errors import shown
from launcher.image import compression, tar
from launcher.image.limits import Limits
from launcher.image.tar import Damaged
from launcher.image.tarread import Reader, Whole
from launcher.sys import files
from launcher.typed import Final, NamedTuple

__all__ = ["Bundle", "open_bundle"]

_PIECE: Final = 1 << 20
_MOST_FILES: Final = 100_000
_INSIDE: Final = files.BENEATH | files.NO_MAGICLINKS


class _Place(NamedTuple):
    """A file in the archive: where its content is, or what it is a link to."""

    offset: int
    size: int
    link: str = ""


class Bundle:
    """Named files. A context manager; `size` is about how many bytes there are in all."""

    def __init__(self, fd: int, places: dict[str, _Place] | None, size: int) -> None:
        self._fd = fd
        self._places = places
        self.size = size

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def has(self, name: str) -> bool:
        if self._places is not None:
            return name in self._places
        try:
            return stat.S_ISREG(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode)
        except (OSError, ValueError):
            return False

    def content(self, name: str, most: int) -> bytes:
        """A small file, whole. `Damaged` if it is not there or has more than `most` bytes."""
        with self.open(name) as file:
            if file.size > most:
                raise Damaged(f"{shown(name)}: {file.size} bytes, where {most} are the most")
            return file.read_all()

    def open(self, name: str) -> _File:
        """A file, to be read from its start. `Damaged` if there is none of that name."""
        if self._places is None:
            return self._open_beneath(name)
        for _ in range(8):
            place = self._places.get(name)
            if place is None:
                break
            if not place.link:
                return _File(self._fd, place.offset, place.size)
            name = place.link
        raise Damaged(f"{shown(name)}: it is not there")

    def _open_beneath(self, name: str) -> _File:
        flags = os.O_RDONLY | os.O_NONBLOCK
        try:
            fd = files.openat2(self._fd, os.fsencode(name), flags, _INSIDE)
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            raise Damaged(f"{shown(name)}: {reason}") from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise Damaged(f"{shown(name)}: it is not a file")
        return _File(fd, 0, found.st_size, owned=True)


class _File:
    """One file of a bundle, being read. A context manager."""

    def __init__(self, fd: int, offset: int, size: int, *, owned: bool = False) -> None:
        self.size = size
        self._fd = fd
        self._at = offset
        self._end = offset + size
        self._owned = owned

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        if self._owned:
            os.close(self._fd)

    def read(self, length: int) -> bytes:
        """The next bytes, at most `length`; b"" at the end."""
        piece = os.pread(self._fd, min(length, self._end - self._at), self._at)
        self._at += len(piece)
        return piece

    def read_all(self) -> bytes:
        pieces: list[bytes] = []
        while piece := self.read(_PIECE):
            pieces.append(piece)
        return b"".join(pieces)


def open_bundle(
    source: bytes, directory: bytes, limits: Limits, watch: Callable[[int, int], None] | None
) -> Bundle:
    """Open a directory, an archive (compressed or not), or b"-", standard input.

    directory -- where a nameless file may be made
    watch     -- told how much of what cannot be read at any place has been laid down
    Raises `Damaged` or OSError.
    """
    fd = os.dup(0) if source == b"-" else os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            return Bundle(fd, None, 0)
        if source != b"-":
            os.set_blocking(fd, True)
        kind = compression.kind_of(os.pread(fd, 6, 0)) if stat.S_ISREG(found.st_mode) else None
        if kind != "":
            plain = _lay_down(fd, directory, limits, watch)
            os.close(fd)
            fd = plain
        return Bundle(fd, _places(fd), os.fstat(fd).st_size)
    except BaseException:
        os.close(fd)
        raise


def _lay_down(
    fd: int, directory: bytes, limits: Limits, watch: Callable[[int, int], None] | None
) -> int:
    """Everything that can be read from `fd`, decompressed, in a file without a name."""
    total = 0

    def pieces() -> Iterator[bytes]:
        nonlocal total
        while piece := os.read(fd, _PIECE):
            total += len(piece)
            if watch is not None:
                watch(total, 0)
            yield piece

    incoming = pieces()
    head = b""
    while len(head) < 6 and (piece := next(incoming, b"")):
        head += piece

    def all_pieces() -> Iterator[bytes]:
        yield head
        yield from incoming

    kind = compression.kind_of(head)
    source = compression.decompressed(kind, all_pieces()) if kind else all_pieces()
    plain = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        written = 0
        for piece in source:
            written += len(piece)
            if written > limits.size:
                reason = f"it unpacks to more than {limits.size} bytes (LAMINA_MAX_LAYER_SIZE)"
                raise Damaged(reason)
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(plain, rest) :]
    except BaseException:
        os.close(plain)
        raise
    return plain


def _places(fd: int) -> dict[str, _Place]:
    """Where each file of an archive is. `Damaged` for one that is not one."""
    places: dict[str, _Place] = {}
    reader = Reader(Whole(fd))
    for count, entry in enumerate(reader):
        if count >= _MOST_FILES:
            raise Damaged(f"it has more than {_MOST_FILES} files")
        name = _plain(os.fsdecode(entry.name))
        if entry.kind == tar.FILE and entry.sparse is None:
            places[name] = _Place(entry.offset, entry.stored)
        elif entry.kind == tar.SYMLINK:
            above = name.rpartition("/")[0]
            target = os.path.normpath(os.path.join(above, os.fsdecode(entry.link)))
            places[name] = _Place(0, 0, target)
        elif entry.kind == tar.HARD_LINK:
            places[name] = _Place(0, 0, _plain(os.fsdecode(entry.link)))
    if not reader.ended and not places:
        raise Damaged("it is empty, or no archive")
    if not reader.ended:
        raise Damaged("it ends too early")
    return places


def _plain(name: str) -> str:
    return name[2:] if name.startswith("./") else name
