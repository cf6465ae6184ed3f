# SPDX-License-Identifier: GPL-3.0-or-later
"""POSIX ACLs as xattrs: what a new object inherits from its directory's default ACL.

Most objects are made right in their directory, where the upper filesystem does this itself. Only
what is first made in the work directory needs it done here (acl(5), "OBJECT CREATION AND DEFAULT
ACLs"; the layout is linux/posix_acl_xattr.h).
"""

from __future__ import annotations

import struct

from unionfs.typed import Final

_VERSION: Final = 2
_ENTRY: Final = struct.Struct("<HHI")
_USER_OBJ: Final = 0x01
_GROUP_OBJ: Final = 0x04
_MASK: Final = 0x10
_OTHER: Final = 0x20


def inherit(default: bytes, mode: int) -> tuple[bytes | None, int] | None:
    """The access ACL and permission bits of a new object, from the default ACL and the asked mode.

    The ACL is None where the permission bits say it all. None for a malformed default ACL. The
    umask plays no part.
    """
    entries = parse(default)
    if entries is None:
        return None
    mask_index = next((i for i, (tag, _, _) in enumerate(entries) if tag == _MASK), None)
    granted = mode & ~0o777
    result: list[tuple[int, int, int]] = []
    for position, (tag, perm, who) in enumerate(entries):
        if tag == _USER_OBJ:
            perm &= mode >> 6 & 7
            granted |= perm << 6
        elif tag == _OTHER:
            perm &= mode & 7
            granted |= perm
        elif position == mask_index or (tag == _GROUP_OBJ and mask_index is None):
            perm &= mode >> 3 & 7
            granted |= perm << 3
        result.append((tag, perm, who))
    if len(result) <= 3:
        return None, granted
    body = b"".join(_ENTRY.pack(*entry) for entry in result)
    return struct.pack("<I", _VERSION) + body, granted


def parse(value: bytes) -> list[tuple[int, int, int]] | None:
    """(tag, permissions, id) of each entry; None if it is not an ACL."""
    if len(value) < 4 or (len(value) - 4) % _ENTRY.size:
        return None
    if struct.unpack_from("<I", value)[0] != _VERSION:
        return None
    return list(_ENTRY.iter_unpack(value[4:]))
