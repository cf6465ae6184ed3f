# SPDX-License-Identifier: GPL-3.0-or-later
"""Extended attributes as a user of the union sees them; changing them is in `attributes`.

The names of private marks never cross: a user's own ``overlay.x`` is stored as
``overlay.overlay.x`` and shown without the escape (overlayfs.rst, "Nesting overlayfs mounts").
"""

from __future__ import annotations

import errno
import os

from unionfs import names
from unionfs.marks import list_xattrs
from unionfs.node import Directory, Node
from unionfs.stack import Stack
from unionfs.sys import calls
from unionfs.typed import Final

_XATTR_NAME_MAX: Final = 255
USUAL: Final = frozenset((names.CAPABILITY, names.ACL_ACCESS, names.ACL_DEFAULT))
"""What the kernel asks for by itself; of other names a layer may say that they cannot be."""


def getxattr(stack: Stack, node: Node, name: bytes) -> bytes:
    """One xattr; ENODATA if it is not there or private, ENOTSUP where there are none."""
    disk = stored(stack, name)
    if disk is None or (disk in USUAL and is_bare(node)):
        raise _error(errno.ENODATA)
    return os.getxattr(node.real_path(), disk, follow_symlinks=node.follow)


def is_bare(node: Node) -> bool:
    """Whether a node is known to have no xattr that a user could see.

    Most have none, and are asked for security.capability at every first write and change of owner.
    Only this union changes them, so to ask the layer once is enough.
    """
    if node.bare:
        return True
    if node.fd >= 0:
        return False
    if isinstance(node, Directory):
        node.bare = calls.lacks_xattrs(node.parts[0].open(), b".")
    else:
        node.bare = calls.lacks_xattrs(node.part.open(), node.name)
    return node.bare


def listxattr(stack: Stack, node: Node) -> list[bytes]:
    if not stack.config.xattrs:
        raise _error(errno.ENOTSUP)
    if is_bare(node):
        return []
    prefix = stack.marks.prefix
    escaped = prefix + names.ESCAPE
    result: list[bytes] = []
    for disk in list_xattrs(node.real_path(), node.follow):
        if disk.startswith(escaped):
            result.append(prefix + disk[len(escaped) :])
        elif disk.startswith((prefix, names.FUSE_OVERLAYFS)) or (
            not stack.config.acl and disk in (names.ACL_ACCESS, names.ACL_DEFAULT)
        ):
            continue
        else:
            result.append(disk)
    return result


def stored(stack: Stack, name: bytes) -> bytes | None:
    """The name on disk of a user's xattr; None for one that is never shown."""
    if not stack.config.xattrs:
        raise _error(errno.ENOTSUP)
    if not stack.config.acl and name in (names.ACL_ACCESS, names.ACL_DEFAULT):
        raise _error(errno.ENOTSUP)
    if name.startswith(names.FUSE_OVERLAYFS):
        return None
    prefix = stack.marks.prefix
    if not name.startswith(prefix):
        return name
    disk = prefix + names.ESCAPE + name[len(prefix) :]
    if len(disk) > _XATTR_NAME_MAX:
        raise _error(errno.ERANGE)
    return disk


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
