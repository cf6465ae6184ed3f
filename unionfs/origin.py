# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a copied-up object came from: the origin mark, and public inode numbers.

The origin mark is the kernel's ``struct ovl_fh`` (fs/overlayfs/overlayfs.h, "On-disk format"), so a
layer that moves to kernel overlayfs keeps its inode numbers and hard links there, and the other way
round. The hex form of the same bytes names a file's entry in the hard-link index.
"""

from __future__ import annotations

import os
import struct
import sys

from unionfs.layer import Layer
from unionfs.light import contextlib
from unionfs.sys import calls
from unionfs.typed import Final, NamedTuple

_HEAD: Final = struct.Struct("=BBBBB16s")
_VERSION: Final = 0
_MAGIC: Final = 0xFB
_BIG_ENDIAN: Final = 1
_ANY_ENDIAN: Final = 2
_FLAGS: Final = _BIG_ENDIAN if sys.byteorder == "big" else 0

# Bits of the public number that tell the filesystem apart; the kernel calls this xino.
_FILESYSTEM_SHIFT: Final = 56
_HASHED: Final = 1 << 63


class Origin(NamedTuple):
    """A decoded origin mark."""

    uuid: bytes
    handle: calls.Handle


def encode(layer: Layer, dirfd: int, name: bytes) -> bytes | None:
    """The origin mark for an object of ``layer``; None where its filesystem has no handles."""
    if not layer.handles:
        return None
    try:
        handle = calls.name_to_handle(dirfd, name)
    except OSError:
        layer.handles = False
        return None
    return pack(Origin(layer.uuid, handle))


def pack(origin: Origin) -> bytes | None:
    handle = origin.handle
    size = _HEAD.size + len(handle.data)
    if size > 255 or handle.kind > 255:
        return None
    head = _HEAD.pack(_VERSION, _MAGIC, size, _FLAGS, handle.kind, origin.uuid)
    return head + handle.data


def decode(mark: bytes | None) -> Origin | None:
    """What a mark says, or None for an empty ("unknown origin"), foreign or damaged one."""
    if mark is None or len(mark) < _HEAD.size:
        return None
    version, magic, size, flags, kind, uuid = _HEAD.unpack_from(mark)
    if version != _VERSION or magic != _MAGIC or size != len(mark):
        return None
    if not flags & _ANY_ENDIAN and flags & _BIG_ENDIAN != _FLAGS:
        return None
    return Origin(uuid, calls.Handle(kind, mark[_HEAD.size :]))


def index_name(mark: bytes) -> bytes:
    """Name of the index entry for an origin (overlayfs.rst, "Index directory")."""
    return mark.hex().encode()


def resolve(origin: Origin, layers: list[Layer]) -> tuple[Layer, os.stat_result] | None:
    """The lower object an origin names, where the caller may open by handle; else None."""
    tried: set[int] = set()
    for layer in layers:
        if layer.uuid != origin.uuid or layer.filesystem in tried:
            continue
        tried.add(layer.filesystem)
        with contextlib.suppress(OSError):
            fd = calls.open_by_handle(layer.readable(), origin.handle, os.O_PATH)
            try:
                return layer, os.stat(fd)
            finally:
                os.close(fd)
    return None


def public_ino(filesystem: int, ino: int) -> int:
    """A number that no two objects of the union share, equal in every mount of the same layers.

    The filesystem of the upper layer keeps its numbers; other filesystems get their number in the
    high bits, and what does not fit there is hashed.
    """
    if ino >> _FILESYSTEM_SHIFT == 0 and filesystem < 128:
        return ino | filesystem << _FILESYSTEM_SHIFT
    from hashlib import blake2b  # rarely needed, and slow to load

    digest = blake2b(b"%d %d" % (filesystem, ino), digest_size=8).digest()
    return int.from_bytes(digest, "little") | _HASHED
