# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing tar archives: the same entries give the same bytes, always.

ustar headers, with pax records where ustar has no room (tar(5)): long or deep names, large ids and
sizes, fractions of a second, xattrs (SCHILY.xattr.), and holes as GNU's sparse format 1.0. No user
names, no access times, nothing of who wrote it or when.
"""

from __future__ import annotations

import errno
import os

from launcher.errors import shown
from launcher.image import tar
from launcher.image.tar import BLOCK, Damaged, Entry, padded
from launcher.typed import Callable, Final, Iterable

__all__ = ["Writer", "data_extents"]

_PIECE: Final = 1 << 20
_OCTAL_ID: Final = 1 << 21
_OCTAL_SIZE: Final = 1 << 33
WORTH: Final = 256 << 20
_END: Final = bytes(2 * BLOCK)


class Writer:
    """Writes an archive through `write`, which takes bytes and keeps none of them.

    size -- bytes written so far
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.size = 0

    def add(self, entry: Entry, content: int = -1) -> None:
        """Write one entry; `content` is a descriptor of a file's content, read from offset 0.

        For a file `entry.size` bytes are written, or, with `entry.sparse`, those of its pieces.
        `Damaged` if the file has become shorter meanwhile. The descriptor stays the caller's.
        """
        if entry.kind != tar.FILE:
            self._head(entry, 0)
            return
        if entry.sparse is None:
            self._head(entry, entry.size)
            self._copy(entry, content, 0, entry.size)
            self._put(bytes(padded(entry.size) - entry.size))
            return
        map_ = _sparse_map(entry.sparse, entry.size)
        stored = len(map_) + sum(length for _, length in entry.sparse)
        self._head(entry, stored)
        self._put(map_)
        for offset, length in entry.sparse:
            self._copy(entry, content, offset, length)
        self._put(bytes(padded(stored) - stored))

    def add_bytes(self, entry: Entry, content: bytes) -> None:
        """Write a file whose content is in memory, whatever `entry.size` says."""
        self.add_pieces(entry._replace(size=len(content)), (content,))

    def add_pieces(self, entry: Entry, pieces: Iterable[bytes]) -> None:
        """Write a file whose content comes in pieces, of `entry.size` bytes in all.

        `Damaged` if they are more or fewer.
        """
        self._head(entry, entry.size)
        begin = self.size
        for piece in pieces:
            self._put(piece)
        if self.size - begin != entry.size:
            raise Damaged(f"{shown(entry.name)} has another size than was said")
        self._put(bytes(padded(entry.size) - entry.size))

    def close(self) -> None:
        """Write the mark of the end. The descriptor behind `write` is the caller's."""
        self._put(_END)

    def _head(self, entry: Entry, stored: int) -> None:
        """Write the headers of an entry of which `stored` bytes will follow."""
        records = self._records(entry)
        name = entry.name
        if entry.sparse is not None:
            directory, _, base = name.rpartition(b"/")
            records[b"GNU.sparse.major"] = b"1"
            records[b"GNU.sparse.minor"] = b"0"
            records[b"GNU.sparse.name"] = name
            records[b"GNU.sparse.realsize"] = b"%d" % entry.size
            name = b"/".join(filter(None, (directory, b"GNUSparseFile.0", base)))
        prefix, short = _split(name)
        if short is None:
            records[b"path"] = name
            prefix, short = b"", name[-100:]
        link = entry.link
        if len(link) > 100:
            records[b"linkpath"] = link
            link = link[:100]
        if stored >= _OCTAL_SIZE:
            records[b"size"] = b"%d" % stored
        if records:
            block = b"".join(_record(key, records[key]) for key in sorted(records))
            self._put(_header(b"", b"PaxHeaders/" + short[:80], 0x78, 0o644, 0, 0, len(block), 0))
            self._put(block + bytes(padded(len(block)) - len(block)))
        self._put(
            _header(
                prefix,
                short,
                entry.kind,
                entry.mode,
                entry.uid if entry.uid < _OCTAL_ID else 0,
                entry.gid if entry.gid < _OCTAL_ID else 0,
                stored if stored < _OCTAL_SIZE else 0,
                max(0, min(entry.mtime // 1_000_000_000, _OCTAL_SIZE - 1)),
                link,
                entry.device,
            )
        )

    def _records(self, entry: Entry) -> dict[bytes, bytes]:
        records = {tar.XATTR + name: value for name, value in entry.xattrs}
        seconds, rest = divmod(entry.mtime, 1_000_000_000)
        if rest or not 0 <= seconds < _OCTAL_SIZE:
            records[b"mtime"] = _seconds(entry.mtime)
        if entry.uid >= _OCTAL_ID:
            records[b"uid"] = b"%d" % entry.uid
        if entry.gid >= _OCTAL_ID:
            records[b"gid"] = b"%d" % entry.gid
        return records

    def _copy(self, entry: Entry, content: int, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            piece = os.pread(content, min(_PIECE, end - offset), offset)
            if not piece:
                raise Damaged(f"{shown(entry.name)} became shorter while it was read")
            self._put(piece)
            offset += len(piece)

    def _put(self, data: bytes) -> None:
        if data:
            self._write(data)
            self.size += len(data)


def data_extents(fd: int, size: int, worth: int = WORTH) -> tuple[tuple[int, int], ...]:
    """The pieces of a file that are not holes (lseek(2), SEEK_DATA); one if its holes are small.

    worth -- from how many bytes of holes on they are told apart. podman (4.3) refuses layers with
             sparse entries, so in layers they are left to files that would be far too large
             without: images of discs, lastlog(8) with a high uid in it
    """
    pieces: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        at = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        if begin < at:
            pieces.append((begin, at - begin))
    if size - sum(length for _, length in pieces) < worth:
        return ((0, size),)
    return tuple(pieces)


def _sparse_map(pieces: tuple[tuple[int, int], ...], size: int) -> bytes:
    """Format 1.0's map. GNU tar makes a hole at the end only where a piece of no length ends it."""
    if not pieces or sum(pieces[-1]) < size:
        pieces = (*pieces, (size, 0))
    numbers = [len(pieces), *(number for piece in pieces for number in piece)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(padded(len(text)) - len(text))


def _seconds(time: int) -> bytes:
    """Nanoseconds → seconds with decimals, as pax has times."""
    sign = b"-" if time < 0 else b""
    seconds, rest = divmod(abs(time), 1_000_000_000)
    text = b"%s%d.%09d" % (sign, seconds, rest)
    return text.rstrip(b"0").rstrip(b".")


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """A name → ustar's prefix and name; None where it does not fit."""
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, 156)
    if len(name) > 256 or cut <= 0 or not 0 < len(name) - cut - 1 <= 100:
        return b"", None
    return name[:cut], name[cut + 1 :]


def _record(key: bytes, value: bytes) -> bytes:
    """One pax record: its length, which counts its own digits, and KEY=VALUE."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _header(
    prefix: bytes,
    name: bytes,
    kind: int,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    header = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0        %c%sustar\00000%s%07o\0%07o\0%s%s" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        mtime,
        kind,
        link.ljust(100, b"\0"),
        bytes(64),
        device[0],
        device[1],
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    return b"%s%06o\0 %s" % (header[:148], sum(header), header[156:])
