# SPDX-License-Identifier: GPL-3.0-or-later
"""Extended attributes, POSIX ACLs among them."""

from __future__ import annotations

import errno
import stat

from unionfs.fuse import wire
from unionfs.fuse.request import BODY, NODE, UID, UNIQUE, Answer, Head, Table, end_of, name_at
from unionfs.fuse.wire import Opcode
from unionfs.names import ACL_ACCESS, CAPABILITY
from unionfs.typed import TYPE_CHECKING, Final
from unionfs.xattrs import USUAL

if TYPE_CHECKING:
    from unionfs.fuse.device import Device

_LIST_MAX: Final = 65536  # XATTR_LIST_MAX


def _unknown(head: Head, buffer: memoryview) -> Answer:
    """ENOSYS: the kernel then says EOPNOTSUPP itself and never asks again."""
    return errno.ENOSYS


class Xattrs:
    """GETXATTR, SETXATTR, LISTXATTR, REMOVEXATTR."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._union = device.union
        self._nodes = device.union.nodes
        self._acl = device.union.config.acl

    def table(self) -> Table:
        if not self._union.config.xattrs:
            return {
                Opcode.GETXATTR: _unknown,
                Opcode.SETXATTR: _unknown,
                Opcode.LISTXATTR: _unknown,
                Opcode.REMOVEXATTR: _unknown,
            }
        return {
            Opcode.GETXATTR: self.getxattr,
            Opcode.SETXATTR: self.setxattr,
            Opcode.LISTXATTR: self.listxattr,
            Opcode.REMOVEXATTR: self.removexattr,
        }

    def getxattr(self, head: Head, buffer: memoryview) -> Answer:
        size, _ = wire.GETXATTR_IN.unpack_from(buffer, BODY)
        node = self._nodes[head[NODE]]
        name = name_at(head, buffer, BODY + wire.GETXATTR_IN.size)
        if node.bare and name in USUAL and self._acl:
            return errno.ENODATA
        return _sized(head, size, self._union.getxattr(node, name), errno.ERANGE)

    def listxattr(self, head: Head, buffer: memoryview) -> Answer:
        size, _ = wire.GETXATTR_IN.unpack_from(buffer, BODY)
        names = self._union.listxattr(self._nodes[head[NODE]])
        if head[UID] != 0:  # xattr(7): trusted attributes show to those with CAP_SYS_ADMIN alone
            names = [name for name in names if not name.startswith(b"trusted.")]
        listed = b"".join([name + b"\0" for name in names])
        if len(listed) > _LIST_MAX:
            return errno.E2BIG
        return _sized(head, size, listed, errno.ERANGE)

    def setxattr(self, head: Head, buffer: memoryview) -> Answer:
        node = self._nodes[head[NODE]]
        if self._device.waiting.put_off_metadata(node, head, buffer):
            return None
        extra = 0
        if self._device.terms.has(wire.SETXATTR_EXT):
            size, flags, extra, _ = wire.SETXATTR_IN.unpack_from(buffer, BODY)
            start = BODY + wire.SETXATTR_IN.size
        else:
            size, flags = wire.SETXATTR_COMPAT_IN.unpack_from(buffer, BODY)
            start = BODY + wire.SETXATTR_COMPAT_IN.size
        end = end_of(head)
        name = buffer[start : end - size - 1].tobytes()
        self._union.setxattr(node, name, buffer[end - size : end].tobytes(), flags)
        if extra & wire.SETXATTR_ACL_KILL_SGID and name == ACL_ACCESS:
            # As chmod(2): setgid goes when the mode is changed by somebody outside the group.
            mode = self._union.stat(node).mode
            if mode & stat.S_ISGID:
                self._union.setattr(node, mode=mode & ~stat.S_ISGID)
        return 0

    def removexattr(self, head: Head, buffer: memoryview) -> Answer:
        node = self._nodes[head[NODE]]
        if self._device.waiting.put_off_metadata(node, head, buffer):
            return None
        name = name_at(head, buffer, BODY)
        self._union.removexattr(node, name)
        if name == CAPABILITY and head[UID] == 0:
            self._device.disarmed = head[NODE]
        return 0


def _sized(head: Head, size: int, value: bytes, too_small: int) -> Answer:
    """The value, or just its length where the caller asked how much room it takes (xattr(7))."""
    if size == 0:
        return wire.GETXATTR_REPLY.pack(wire.GETXATTR_REPLY.size, 0, head[UNIQUE], len(value), 0)
    if len(value) > size:
        return too_small
    return wire.OUT_HEADER.pack(wire.OUT_SIZE + len(value), 0, head[UNIQUE]) + value
