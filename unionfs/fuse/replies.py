# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes as messages: one `pack` from a `Stat` to a whole reply.

Entries and attributes are good for as long as the kernel can count (`FOREVER`): the union is the
only writer, and the kernel drops by itself what its own requests change. Where something changes
behind the kernel's back, the attributes are given out for no time at all (`attr_for` = 0).
"""

from __future__ import annotations

import os

from unionfs.fuse import wire
from unionfs.node import Stat
from unionfs.typed import Final

FOREVER: Final = 0x7FFF_FFFF  # seconds
_SECOND: Final = 1_000_000_000

_entry = wire.ENTRY_REPLY.pack
_created = wire.CREATE_REPLY.pack
_attr = wire.ATTR_REPLY.pack
_direntplus = wire.DIRENTPLUS.pack
_statx = wire.STATX_REPLY.pack
# Length of a name → what packs (ino, offset, length, type, name) to a record of a listing.
BARE: Final = wire.Records(0)
BARE_PLUS: Final = wire.Records(wire.ENTRY_OUT.size)
_PADDING: Final = tuple(bytes(length) for length in range(8))
_NOTHING: Final = wire.ENTRY_OUT.pack(0, 0, FOREVER, 0, *[0] * 18)
_HEADER: Final = wire.OUT_HEADER.pack
_ENTRY_SIZE: Final = wire.ENTRY_REPLY.size
_CREATED_SIZE: Final = wire.CREATE_REPLY.size
_ATTR_SIZE: Final = wire.ATTR_REPLY.size


def encode_dev(rdev: int) -> int:
    """st_rdev as the kernel's 32-bit encoding (new_encode_dev)."""
    major, minor = os.major(rdev), os.minor(rdev)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def decode_dev(rdev: int) -> int:
    """The kernel's 32-bit encoding as st_rdev."""
    return os.makedev((rdev >> 8) & 0xFFF, (rdev & 0xFF) | ((rdev >> 12) & 0xFFF00))


def error(unique: int, number: int) -> bytes:
    """An errno, or 0 for a success without a payload."""
    return _HEADER(16, -number, unique)


def no_entry(unique: int) -> bytes:
    """There is no such name, and the kernel may remember it (node id 0 with a timeout)."""
    return _HEADER(_ENTRY_SIZE, 0, unique) + _NOTHING


def entry(unique: int, node: int, found: Stat, attr_for: int) -> bytes:
    """A name stands for `node`. Each such reply adds one to the node's lookup count."""
    ino, mode, nlink, uid, gid, rdev, size, blocks, blksize, atime, mtime, ctime = found
    return _entry(
        _ENTRY_SIZE,
        0,
        unique,
        node,
        0,
        FOREVER,
        attr_for,
        0,
        0,
        ino,
        size,
        blocks,
        atime // _SECOND,
        mtime // _SECOND,
        ctime // _SECOND,
        atime % _SECOND,
        mtime % _SECOND,
        ctime % _SECOND,
        mode,
        nlink,
        uid,
        gid,
        encode_dev(rdev) if rdev else 0,
        blksize,
        0,
    )


def created(
    unique: int, node: int, found: Stat, attr_for: int, fh: int, flags: int, backing: int
) -> bytes:
    """An entry and an open file at once: CREATE and TMPFILE."""
    ino, mode, nlink, uid, gid, _, size, blocks, blksize, atime, mtime, ctime = found
    return _created(
        _CREATED_SIZE,
        0,
        unique,
        node,
        0,
        FOREVER,
        attr_for,
        0,
        0,
        ino,
        size,
        blocks,
        atime // _SECOND,
        mtime // _SECOND,
        ctime // _SECOND,
        atime % _SECOND,
        mtime % _SECOND,
        ctime % _SECOND,
        mode,
        nlink,
        uid,
        gid,
        0,
        blksize,
        0,
        fh,
        flags,
        backing,
    )


def attributes(unique: int, found: Stat, attr_for: int) -> bytes:
    ino, mode, nlink, uid, gid, rdev, size, blocks, blksize, atime, mtime, ctime = found
    return _attr(
        _ATTR_SIZE,
        0,
        unique,
        attr_for,
        0,
        0,
        ino,
        size,
        blocks,
        atime // _SECOND,
        mtime // _SECOND,
        ctime // _SECOND,
        atime % _SECOND,
        mtime % _SECOND,
        ctime % _SECOND,
        mode,
        nlink,
        uid,
        gid,
        encode_dev(rdev) if rdev else 0,
        blksize,
        0,
    )


def statx(unique: int, found: Stat, born: int | None, attr_for: int) -> bytes:
    """statx(2): the basic attributes, and the birth time where it is known."""
    ino, mode, nlink, uid, gid, rdev, size, blocks, blksize, atime, mtime, ctime = found
    mask = wire.STATX_BASIC_STATS
    if born is None:
        born = 0
    else:
        mask |= wire.STATX_BTIME
    return _statx(
        wire.STATX_REPLY.size,
        0,
        unique,
        attr_for,
        0,
        0,
        mask,
        blksize,
        0,
        nlink,
        uid,
        gid,
        mode,
        ino,
        size,
        blocks,
        0,
        atime // _SECOND,
        atime % _SECOND,
        born // _SECOND,
        born % _SECOND,
        ctime // _SECOND,
        ctime % _SECOND,
        mtime // _SECOND,
        mtime % _SECOND,
        os.major(rdev),
        os.minor(rdev),
        0,
        0,
    )


def direntplus(node: int, found: Stat, attr_for: int, offset: int, name: bytes) -> bytes:
    """One record of READDIRPLUS, padded. It counts as a lookup unless `node` is 0."""
    ino, mode, nlink, uid, gid, rdev, size, blocks, blksize, atime, mtime, ctime = found
    length = len(name)
    return (
        _direntplus(
            node,
            0,
            FOREVER,
            attr_for,
            0,
            0,
            ino,
            size,
            blocks,
            atime // _SECOND,
            mtime // _SECOND,
            ctime // _SECOND,
            atime % _SECOND,
            mtime % _SECOND,
            ctime % _SECOND,
            mode,
            nlink,
            uid,
            gid,
            encode_dev(rdev) if rdev else 0,
            blksize,
            0,
            ino,
            offset,
            length,
            mode >> 12,
        )
        + name
        + _PADDING[-length & 7]
    )


def bare_direntplus(ino: int, kind: int, offset: int, name: bytes) -> bytes:
    """A record of READDIRPLUS that tells a name and its type alone, and counts no lookup."""
    length = len(name)
    return BARE_PLUS[length](ino, offset, length, kind, name)
