# SPDX-License-Identifier: GPL-3.0-or-later
"""INIT: what the kernel offers, what a union wants of it, and the terms both then keep to.

Pure functions over values. The rule of the protocol is that a flag holds only if both sides name
it; so every wish is masked with the offer, and whoever needs to know what came of it asks `Terms`.
"""

from __future__ import annotations

from unionfs.fuse import wire
from unionfs.typed import Final, NamedTuple

MAX_WRITE: Final = 1 << 20  # bytes of one WRITE or READ
_PAGE: Final = 4096
_MAX_BACKGROUND: Final = 64
_CONGESTION: Final = 48

# Asked for wherever the kernel has them, and why:
#   ATOMIC_O_TRUNC        a truncating open is one request, and copies no data up
#   DONT_MASK             the umask comes with the request: a default ACL replaces it (acl(5))
#   READDIRPLUS_AUTO      attributes may come with the first 200 names of a directory (`appetite`
#                         decides), and with the rest where somebody asks for them
#   HANDLE_KILLPRIV_V2    no GETXATTR for each write: the union clears setuid and setgid itself
#   EXPLICIT_INVAL_DATA   cached pages stay when attributes are fetched: nobody else writes
#   NO_OPENDIR_SUPPORT    ENOSYS to OPENDIR makes the kernel cache listings
#   NO_EXPORT_SUPPORT     node ids do not outlive the mount, so file handles must not
#   ABORT_ERROR           an abort can be told from an unmount
# Never asked for: WRITEBACK_CACHE (excludes PASSTHROUGH, and would keep mtime and size from the
# layers), POSIX_LOCKS and FLOCK_LOCKS (without them the kernel keeps locks itself, which is right
# while the mount has one machine), AUTO_INVAL_DATA, EXPORT_SUPPORT, SECURITY_CTX, ALLOW_IDMAP.
_WANTED: Final = (
    wire.ASYNC_READ
    | wire.ATOMIC_O_TRUNC
    | wire.BIG_WRITES
    | wire.DONT_MASK
    | wire.DO_READDIRPLUS
    | wire.READDIRPLUS_AUTO
    | wire.ASYNC_DIO
    | wire.PARALLEL_DIROPS
    | wire.ABORT_ERROR
    | wire.MAX_PAGES
    | wire.CACHE_SYMLINKS
    | wire.NO_OPENDIR_SUPPORT
    | wire.EXPLICIT_INVAL_DATA
    | wire.HANDLE_KILLPRIV_V2
    | wire.SETXATTR_EXT
    | wire.INIT_EXT
    | wire.CREATE_SUPP_GROUP
    | wire.HAS_EXPIRE_ONLY
    | wire.DIRECT_IO_ALLOW_MMAP
    | wire.NO_EXPORT_SUPPORT
)


class Offer(NamedTuple):
    """The kernel's INIT request; `flags` holds flags and flags2 as one number."""

    major: int
    minor: int
    max_readahead: int
    flags: int


class Wishes(NamedTuple):
    """What this session would like beyond what every session wants.

    stack_depth -- 0: no passthrough; 1: to files on plain filesystems; 2: to files on stacked
                   ones (overlayfs, another passthrough mount), after which nothing can be stacked
                   on this mount (FILESYSTEM_MAX_STACK_DEPTH is 2)
    acl         -- POSIX ACLs are served
    """

    stack_depth: int
    acl: bool


class Terms(NamedTuple):
    """What both sides keep to from here on."""

    minor: int
    flags: int
    max_readahead: int
    max_write: int
    max_pages: int
    stack_depth: int

    def has(self, flag: int) -> bool:
        return bool(self.flags & flag)


class ProtocolError(Exception):
    """The kernel speaks a FUSE protocol that cannot be served; str() is the reason."""


def read_offer(message: bytes | bytearray | memoryview) -> Offer:
    """The offer in an INIT request; the request begins at 0 with its header."""
    major, minor, max_readahead, flags = wire.INIT_IN.unpack_from(message, wire.IN_SIZE)
    (length,) = wire.INIT_IN_EXT.unpack_from(message, 0)
    beyond = wire.IN_SIZE + wire.INIT_IN.size
    if flags & wire.INIT_EXT and length >= beyond + wire.INIT_IN_EXT.size:
        (flags2,) = wire.INIT_IN_EXT.unpack_from(message, beyond)
        flags |= flags2 << 32
    return Offer(major, minor, max_readahead, flags)


def negotiate(offer: Offer, wishes: Wishes) -> Terms | None:
    """The terms; None if the kernel must first be told our major version and will ask again.

    Raises ProtocolError where no common ground exists.
    """
    if offer.major > wire.MAJOR:
        return None
    if (offer.major, offer.minor) < (wire.MAJOR, wire.OLDEST_MINOR):
        raise ProtocolError(
            f"the kernel speaks FUSE {offer.major}.{offer.minor};"
            f" {wire.MAJOR}.{wire.OLDEST_MINOR} (Linux 5.4) is the oldest that is served"
        )
    wanted = _WANTED
    if wishes.acl:
        wanted |= wire.POSIX_ACL
    if wishes.stack_depth:
        wanted |= wire.PASSTHROUGH
    flags = wanted & offer.flags
    if not flags & wire.INIT_EXT:
        flags &= 0xFFFF_FFFF
    pages = MAX_WRITE // _PAGE if flags & wire.MAX_PAGES else 32
    return Terms(
        minor=min(offer.minor, wire.MINOR),
        flags=flags,
        max_readahead=offer.max_readahead,
        max_write=pages * _PAGE,
        max_pages=pages,
        stack_depth=wishes.stack_depth if flags & wire.PASSTHROUGH else 0,
    )


def accept(unique: int, terms: Terms) -> bytes:
    """The reply that seals the terms."""
    body = wire.INIT_OUT.pack(
        wire.MAJOR,
        terms.minor,
        terms.max_readahead,
        terms.flags & 0xFFFF_FFFF,
        _MAX_BACKGROUND,
        _CONGESTION,
        terms.max_write,
        1,  # time_gran: nanoseconds
        terms.max_pages,
        0,
        terms.flags >> 32,
        terms.stack_depth,
        0,
    )
    return wire.OUT_HEADER.pack(wire.OUT_SIZE + len(body), 0, unique) + body


def other_major(unique: int) -> bytes:
    """The reply to a kernel with a newer major version: ours, and nothing else."""
    body = wire.INIT_OUT.pack(wire.MAJOR, wire.MINOR, *[0] * 11)
    return wire.OUT_HEADER.pack(wire.OUT_SIZE + len(body), 0, unique) + body
