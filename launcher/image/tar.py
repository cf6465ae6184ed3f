# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tar archive consists of: its entries, and how their headers are laid out.

The formats are those of tar(5): old V7, ustar, GNU and pax (POSIX.1-2017, "pax Interchange
Format"), with the extensions that layers use (SCHILY.xattr., GNU.sparse.). Reading is in `tarread`,
writing in `tarwrite`; what an entry means in a layer is known to `unpack` and `pack`.
"""

from __future__ import annotations

import stat

from launcher.typed import Final, NamedTuple

__all__ = [
    "BLOCK",
    "BLOCK_DEVICE",
    "CHARACTER_DEVICE",
    "DIRECTORY",
    "FIFO",
    "FILE",
    "HARD_LINK",
    "KINDS",
    "SYMLINK",
    "XATTR",
    "Damaged",
    "Entry",
    "padded",
]

BLOCK: Final = 512
XATTR: Final = b"SCHILY.xattr."

# Type flags of ustar.
FILE: Final = 0x30
HARD_LINK: Final = 0x31
SYMLINK: Final = 0x32
CHARACTER_DEVICE: Final = 0x33
BLOCK_DEVICE: Final = 0x34
DIRECTORY: Final = 0x35
FIFO: Final = 0x36
KINDS: Final = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHARACTER_DEVICE,
    stat.S_IFBLK: BLOCK_DEVICE,
}
"""By the type of a file: all but sockets, which no archive can hold."""


class Damaged(Exception):
    """An archive that cannot be read or must not be: `str()` says what is wrong and where."""


class Entry(NamedTuple):
    """One object of an archive.

    name   -- as it stands there, with whatever slashes and dots
    kind   -- one of the type flags above
    mode   -- permission and set-id bits only
    size   -- bytes of the file's content, holes included
    mtime  -- nanoseconds since the epoch
    link   -- target of a symbolic link, or the name that a hard link repeats
    device -- major and minor number
    xattrs -- names with their namespace, and values
    sparse -- (offset, length) of what is not a hole, where the file is stored sparsely
    offset -- where in the archive its stored content begins
    stored -- bytes that are stored
    """

    name: bytes
    kind: int
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    sparse: tuple[tuple[int, int], ...] | None = None
    offset: int = 0
    stored: int = 0


def padded(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return (size + BLOCK - 1) & -BLOCK
