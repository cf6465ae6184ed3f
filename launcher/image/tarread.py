# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading tar archives, entry by entry, from a file that may still grow.

Nothing that an archive says is believed further than it can be checked: numbers, lengths and maps
are bounded before memory is taken for them. What is wrong is raised as `Damaged`.
"""

from __future__ import annotations

import os
import struct

from launcher.errors import shown
from launcher.image import tar
from launcher.image.tar import BLOCK, Damaged, Entry, padded
from launcher.typed import Final, Iterator, Protocol

__all__ = ["Reader", "Source", "Whole"]

_ZEROS: Final = bytes(BLOCK)
_WINDOW: Final = 256 << 10
# A name, or all pax records of one entry; xattr values are 64 KiB at most, each.
_MOST_EXTRA: Final = 8 << 20
_MOST_EXTENTS: Final = 1 << 20
_LIMIT: Final = 1 << 62
_PLAIN: Final = frozenset((0, tar.FILE, 0x37))  # 7: contiguous files, which are files
_KNOWN: Final = frozenset(range(tar.FILE, tar.FIFO + 1))


class Source(Protocol):
    """Where an archive is read from: a seekable file of which the rest may yet be to come."""

    @property
    def fd(self) -> int:
        """A descriptor that pread(2) and copy_file_range(2) take."""
        ...

    def wait(self, end: int) -> int:
        """Wait until `end` bytes are there, or the last ones; how many there are."""
        ...


class Whole:
    """A source that is all there: `start` and `length` choose a part of the file."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._size = os.fstat(fd).st_size

    def wait(self, end: int) -> int:
        return self._size


class Reader:
    """An iterator over the entries of one archive.

    start, end -- the bytes of the source that are the archive; end -1: all the rest
    ended      -- whether the mark of the end was seen: without it the archive may be a part only
    at         -- where the next header is, for messages
    """

    def __init__(self, source: Source, start: int = 0, end: int = -1) -> None:
        self.source = source
        self.at = start
        self.ended = False
        self._end = end if end >= 0 else _LIMIT
        self._base = 0
        self._window = b""
        self._globals: dict[bytes, bytes] = {}

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset` of the source; `Damaged` if it ends before."""
        begin = offset - self._base
        end = begin + length
        if begin >= 0 and end <= len(self._window):
            return self._window[begin:end]
        if offset + length > self._end:
            raise Damaged(f"at byte {offset}: it ends in the middle of an entry")
        there = self.source.wait(offset + max(length, _WINDOW))
        if there < offset + length:
            raise Damaged(f"at byte {offset}: it ends in the middle of an entry")
        self._window = os.pread(self.source.fd, max(length, _WINDOW), offset)
        self._base = offset
        if len(self._window) < length:
            raise Damaged(f"at byte {offset}: it ends in the middle of an entry")
        return self._window[:length]

    def __iter__(self) -> Iterator[Entry]:
        pax: dict[bytes, bytes] = {}
        extents: list[int] = []
        long_name: bytes | None = None
        long_link: bytes | None = None
        while True:
            begin = self.at
            if self._finished(begin):
                if pax or long_name is not None or long_link is not None:
                    raise Damaged(f"at byte {begin}: an extended header has no entry behind it")
                return
            header = self.read(begin, BLOCK)
            if header == _ZEROS:
                self.ended = True
                return
            if sum(header) - sum(header[148:156]) + 256 != self._octal(header, 148, 156):
                self._check_signed(header)
            kind = header[156]
            stored = self._octal(header, 124, 136)
            body = begin + BLOCK
            if kind in (0x78, 0x67, 0x4C, 0x4B):  # x, g, L, K: they say more of the next entry
                extra = self._extra(body, stored)
                if kind == 0x78:
                    pax = {}
                    extents = []
                    self._records(extra, pax, extents)
                elif kind == 0x67:
                    self._records(extra, self._globals, [])
                elif kind == 0x4C:
                    long_name = extra.split(b"\0", 1)[0]
                else:
                    long_link = extra.split(b"\0", 1)[0]
                self.at = body + padded(stored)
                continue
            entry, after = self._entry(header, kind, stored, body, pax, extents)
            if long_name is not None and b"path" not in pax:
                entry = entry._replace(name=long_name)
            if long_link is not None and b"linkpath" not in pax:
                entry = entry._replace(link=long_link)
            self.at = after
            yield _settled(entry, begin)
            pax = {}
            extents = []
            long_name = long_link = None

    def _finished(self, at: int) -> bool:
        """Whether nothing more is there, without a mark of the end."""
        if at >= self._end:
            return True
        if at - self._base + BLOCK <= len(self._window) and at >= self._base:
            return False
        return self.source.wait(at + 1) <= at

    def _extra(self, at: int, length: int) -> bytes:
        if length > _MOST_EXTRA:
            raise Damaged(f"at byte {at}: an extended header of {length} bytes")
        return self.read(at, length)

    def _entry(
        self,
        header: bytes,
        kind: int,
        stored: int,
        body: int,
        pax: dict[bytes, bytes],
        extents: list[int],
    ) -> tuple[Entry, int]:
        """The entry of a header and the records before it; and where the next header is."""
        begin = body - BLOCK
        name = header[:100].split(b"\0", 1)[0]
        if header[257:263] == b"ustar\0" and header[345]:
            name = header[345:500].split(b"\0", 1)[0] + b"/" + name
        link = header[157:257].split(b"\0", 1)[0]
        octal = self._octal
        uid = octal(header, 108, 116)
        gid = octal(header, 116, 124)
        mtime = octal(header, 136, 148) * 1_000_000_000
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        sparse: tuple[tuple[int, int], ...] | None = None
        size = -1
        if pax or self._globals:
            records = {**self._globals, **pax} if self._globals else pax
            name = records.get(b"path", name)
            link = records.get(b"linkpath", link)
            if b"size" in records:
                stored = _number(records[b"size"], "size", begin)
            if b"uid" in records:
                uid = _number(records[b"uid"], "uid", begin)
            if b"gid" in records:
                gid = _number(records[b"gid"], "gid", begin)
            if b"mtime" in records:
                mtime = _time(records[b"mtime"], begin)
            xattrs = _xattrs(records)
            if b"GNU.sparse.major" in records or b"GNU.sparse.size" in records:
                name = records.get(b"GNU.sparse.name", name)
                real = records.get(b"GNU.sparse.realsize", records.get(b"GNU.sparse.size", b""))
                size = _number(real, "sparse size", begin)
                sparse, body, stored = self._pax_sparse(records, extents, body, stored)
        if kind in _PLAIN:
            # V7 archives know a directory by the slash behind its name only.
            kind = tar.DIRECTORY if kind == 0 and name.endswith(b"/") else tar.FILE
        elif kind == 0x53:  # S, GNU's older sparse files
            kind = tar.FILE
            size = octal(header, 483, 495)
            sparse, body = self._old_sparse(header, body)
        elif kind not in _KNOWN:
            raise Damaged(f"at byte {begin}: an entry of the unknown type {chr(kind)!r}")
        if kind == tar.FILE:
            after = body + padded(stored)
        else:
            # Whatever their size says: of links, directories and devices nothing is stored.
            after = body
            stored = 0
        if sparse is not None:
            _check_map(sparse, size, stored, begin)
        entry = Entry(
            name,
            kind,
            octal(header, 100, 108) & 0o7777,
            uid,
            gid,
            stored if size < 0 else size,
            mtime,
            link,
            (octal(header, 329, 337), octal(header, 337, 345))
            if kind in (tar.CHARACTER_DEVICE, tar.BLOCK_DEVICE)
            else (0, 0),
            xattrs,
            sparse,
            body,
            stored,
        )
        return entry, after

    def _octal(self, header: bytes, begin: int, end: int) -> int:
        """A number of a header: octal digits, or base 256 where its first bit is set."""
        first = header[begin]
        if first & 0x80:
            number = int.from_bytes(header[begin:end], "big", signed=False)
            bits = 8 * (end - begin)
            number &= (1 << (bits - 1)) - 1
            if first & 0x40:  # negative: only times may be
                number -= 1 << (bits - 1)
            if not -_LIMIT < number < _LIMIT or (number < 0 and begin != 136):
                raise Damaged(f"at byte {self.at}: a number out of range")
            return number
        digits = header[begin:end].split(b"\0", 1)[0].strip(b" ")
        if not digits:
            return 0
        if not digits.isdigit() or b"8" in digits or b"9" in digits:
            raise Damaged(f"at byte {self.at}: a number that is not octal")
        return int(digits, 8)

    def _check_signed(self, header: bytes) -> None:
        """Old tars added the bytes up as signed ones (tar(5))."""
        rest = header[:148] + b" " * 8 + header[156:]
        if sum(struct.unpack("512b", rest)) != self._octal(header, 148, 156):
            raise Damaged(f"at byte {self.at}: this is no tar header (its checksum is wrong)")

    def _records(self, block: bytes, into: dict[bytes, bytes], extents: list[int]) -> None:
        """The records of a pax header: `LENGTH KEY=VALUE\\n`, values of any bytes."""
        at = 0
        while at < len(block) and block[at]:
            space = block.find(b" ", at, at + 20)
            digits = block[at:space] if space > at else b""
            end = at + int(digits) if digits.isdigit() else 0
            if not at < space < end <= len(block) or block[end - 1] != 0x0A:
                raise Damaged(f"at byte {self.at}: a pax record of a wrong length")
            key, equals, value = block[space + 1 : end - 1].partition(b"=")
            if not equals or not key:
                raise Damaged(f"at byte {self.at}: a pax record without a value")
            at = end
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                extents.append(_number(value, "sparse map", self.at))
                if len(extents) > 2 * _MOST_EXTENTS:
                    raise Damaged(f"at byte {self.at}: a sparse map of too many pieces")
            elif value:
                into[key] = value
            else:
                into.pop(key, None)  # pax(1): an empty value takes an earlier one back
                if key.startswith(tar.XATTR):
                    into[key] = value

    def _pax_sparse(
        self, records: dict[bytes, bytes], extents: list[int], body: int, stored: int
    ) -> tuple[tuple[tuple[int, int], ...], int, int]:
        """The map of a sparse file in GNU's formats 0.0, 0.1 and 1.0; where its content is."""
        if records.get(b"GNU.sparse.major", b"0") == b"1":
            return self._inline_map(body, stored)
        numbers = extents
        if b"GNU.sparse.map" in records:
            words = records[b"GNU.sparse.map"].split(b",")
            numbers = [_number(word, "sparse map", body) for word in words]
        if len(numbers) % 2:
            raise Damaged(f"at byte {body}: a sparse map with a piece missing")
        return tuple(zip(numbers[::2], numbers[1::2], strict=True)), body, stored

    def _inline_map(self, body: int, stored: int) -> tuple[tuple[tuple[int, int], ...], int, int]:
        """Format 1.0: the map stands before the content, as lines in whole blocks."""
        text = b""
        wanted = 1
        at = body
        while True:
            lines = text.split(b"\n")
            if len(lines) > 1:
                wanted = 1 + 2 * _number(lines[0], "sparse map", body)
                if wanted > 2 * _MOST_EXTENTS:
                    raise Damaged(f"at byte {body}: a sparse map of too many pieces")
            if len(lines) > wanted:
                break
            if at - body >= stored:
                raise Damaged(f"at byte {body}: a sparse map that does not end")
            # Bigger pieces as it grows, so that splitting it again costs no square.
            length = min(max(BLOCK, padded(len(text))), stored - (at - body))
            text += self.read(at, length)
            at += length
        used = padded(sum(len(line) + 1 for line in lines[:wanted]))
        if used > stored:
            raise Damaged(f"at byte {body}: a sparse map that does not end")
        numbers = [_number(line, "sparse map", body) for line in lines[1:wanted]]
        pairs = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        return pairs, body + used, stored - used

    def _old_sparse(self, header: bytes, body: int) -> tuple[tuple[tuple[int, int], ...], int]:
        """GNU's first format: four pieces in the header, 21 in each block that follows."""
        pairs: list[tuple[int, int]] = []
        block, begin, count, more = header, 386, 4, header[482]
        while True:
            for at in range(begin, begin + 24 * count, 24):
                if not block[at]:
                    break
                offset = self._octal(block, at, at + 12)
                pairs.append((offset, self._octal(block, at + 12, at + 24)))
            if not more:
                return tuple(pairs), body
            if len(pairs) > _MOST_EXTENTS:
                raise Damaged(f"at byte {body}: a sparse map of too many pieces")
            block, begin, count = self.read(body, BLOCK), 0, 21
            more = block[504]
            body += BLOCK


def _number(value: bytes, what: str, at: int) -> int:
    if not value.isdigit() or len(value) > 19:
        raise Damaged(f"at byte {at}: the {what} {shown(value[:40])} is not a number")
    return int(value)


def _time(value: bytes, at: int) -> int:
    """Seconds with any number of decimals, as pax writes them → nanoseconds."""
    seconds, _, decimals = value.removeprefix(b"-").partition(b".")
    digits = seconds + decimals
    if not (seconds and digits.isdigit()) or len(seconds) > 19:
        raise Damaged(f"at byte {at}: the time {shown(value[:40])} is not one")
    time = int(seconds) * 1_000_000_000 + int((decimals + b"000000000")[:9])
    return -time if value.startswith(b"-") else time


def _xattrs(records: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    prefix = tar.XATTR
    return tuple(
        sorted((key[len(prefix) :], records[key]) for key in records if key.startswith(prefix))
    )


def _check_map(sparse: tuple[tuple[int, int], ...], size: int, stored: int, at: int) -> None:
    """A map must go forward, stay inside the file, and use up what is stored."""
    end = 0
    total = 0
    for offset, length in sparse:
        if offset < end or offset + length > size:
            raise Damaged(f"at byte {at}: a sparse map that overlaps or leaves its file")
        end = offset + length
        total += length
    if total != stored:
        raise Damaged(f"at byte {at}: a sparse map that does not fit its content")


def _settled(entry: Entry, at: int) -> Entry:
    """What no entry may say, whatever it is to be."""
    if b"\0" in entry.name or b"\0" in entry.link or not entry.name:
        raise Damaged(f"at byte {at}: an entry whose name is empty or has a zero byte in it")
    if entry.uid >= (1 << 32) - 1 or entry.gid >= (1 << 32) - 1:
        raise Damaged(f"{shown(entry.name)}: a user or group id out of range")
    if abs(entry.mtime) >= 1 << 63:
        raise Damaged(f"{shown(entry.name)}: a time out of range")
    if entry.size >= _LIMIT:
        raise Damaged(f"{shown(entry.name)}: a size out of range")
    return entry
