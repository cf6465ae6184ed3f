# SPDX-License-Identifier: GPL-3.0-or-later
"""Inode flags (chattr(1), FS_IOC_GETFLAGS …), the one family of ioctls that makes sense here.

Permission has been checked by the kernel (vfs_fileattr_set). Others are answered ENOTTY: what they
mean belongs to the layer's filesystem, and may reach what the union hides.
"""

from __future__ import annotations

import errno
import fcntl
import os

from unionfs.fuse import wire
from unionfs.fuse.request import BODY, NODE, UNIQUE, Answer, Head, Table
from unionfs.fuse.wire import Opcode
from unionfs.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from unionfs.fuse.device import Device

# <linux/fs.h>; the first two are declared with a long and take an int. Size of what they carry.
_GETFLAGS: Final = 0x80086601
_SETFLAGS: Final = 0x40086602
_FSGETXATTR: Final = 0x801C581F
_FSSETXATTR: Final = 0x401C5820
_SIZES: Final = {_GETFLAGS: 4, _SETFLAGS: 4, _FSGETXATTR: 28, _FSSETXATTR: 28}
_READING: Final = (_GETFLAGS, _FSGETXATTR)


class Ioctls:
    """IOCTL."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._union = device.union
        self._nodes = device.union.nodes

    def table(self) -> Table:
        return {Opcode.IOCTL: self.ioctl}

    def ioctl(self, head: Head, buffer: memoryview) -> Answer:
        _, _, command, _, given, wanted = wire.IOCTL_IN.unpack_from(buffer, BODY)
        size = _SIZES.get(command)
        reads = command in _READING
        if size is None or (wanted if reads else given) < size:
            return errno.ENOTTY
        node = self._nodes[head[NODE]]
        if not reads:
            if not self._device.writable:
                return errno.EROFS
            if self._device.waiting.put_off_metadata(node, head, buffer):
                return None
            if not node.is_upper:
                self._union.setattr(node)  # copies it up and changes nothing
        start = BODY + wire.IOCTL_IN.size
        value = bytearray(size) if reads else bytearray(buffer[start : start + size])
        kind = os.O_DIRECTORY if node.is_dir else 0
        fd = node.open_real(os.O_RDONLY | os.O_NONBLOCK | kind)
        try:
            fcntl.ioctl(fd, command, value, True)
        finally:
            os.close(fd)
        body = bytes(value) if reads else b""
        header = wire.IOCTL_REPLY.pack(
            wire.IOCTL_REPLY.size + len(body), 0, head[UNIQUE], 0, 0, 0, 0
        )
        return header + body
