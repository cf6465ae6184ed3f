# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes of objects and of the whole filesystem."""

from __future__ import annotations

import errno

from unionfs.fuse import replies, wire
from unionfs.fuse.request import BODY, NODE, UID, UNIQUE, Answer, Head, Table
from unionfs.fuse.wire import Opcode
from unionfs.node import File
from unionfs.typed import TYPE_CHECKING, Final
from unionfs.union import NOW

if TYPE_CHECKING:
    from unionfs.fuse.device import Device

_SECOND: Final = 1_000_000_000
_SILENT: Final = wire.FATTR_FH | wire.FATTR_LOCKOWNER | wire.FATTR_CTIME
_NAME_MAX: Final = 255


class Attributes:
    """GETATTR, SETATTR, STATX, STATFS."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._union = device.union
        self._nodes = device.union.nodes
        self._handles = device.handles
        self._stat = device.union.stat
        self._unsettled = device.unsettled

    def table(self) -> Table:
        return {
            Opcode.GETATTR: self.getattr,
            Opcode.SETATTR: self.setattr,
            Opcode.STATX: self.statx,
            Opcode.STATFS: self.statfs,
            Opcode.SYNCFS: self.syncfs,
            # With default_permissions the kernel checks access(2) itself.
            Opcode.ACCESS: lambda head, buffer: errno.ENOSYS,
        }

    def getattr(self, head: Head, buffer: memoryview) -> Answer:
        flags, _, fh = wire.GETATTR_IN.unpack_from(buffer, 40)
        number = head[3]
        file = self._file(fh) if flags & wire.GETATTR_FH else None
        found = self._stat(self._nodes[number], file)
        attr_for = 0 if number in self._unsettled else replies.FOREVER
        return replies.attributes(head[2], found, attr_for)

    def _file(self, fh: int) -> File | None:
        handle = self._handles.get(fh)
        return handle.file if handle is not None else None

    def setattr(self, head: Head, buffer: memoryview) -> Answer:
        (
            valid,
            _,
            fh,
            size,
            _,
            atime,
            mtime,
            _,
            atime_nsec,
            mtime_nsec,
            _,
            mode,
            _,
            uid,
            gid,
            _,
        ) = wire.SETATTR_IN.unpack_from(buffer, BODY)
        node = self._nodes[head[NODE]]
        truncates = valid & wire.FATTR_SIZE
        waiting = self._device.waiting
        if (
            waiting.put_off(node, size, head, buffer)
            if truncates
            else waiting.put_off_metadata(node, head, buffer)
        ):
            return None
        at: int | None = None
        if valid & wire.FATTR_ATIME_NOW:
            at = NOW
        elif valid & wire.FATTR_ATIME:
            at = atime * _SECOND + atime_nsec
        mt: int | None = None
        if valid & wire.FATTR_MTIME_NOW:
            mt = NOW
        elif valid & wire.FATTR_MTIME:
            mt = mtime * _SECOND + mtime_nsec
        found = self._union.setattr(
            node,
            mode=mode if valid & wire.FATTR_MODE else None,
            uid=uid if valid & wire.FATTR_UID else None,
            gid=gid if valid & wire.FATTR_GID else None,
            size=size if truncates else None,
            atime_ns=at,
            mtime_ns=mt,
            file=self._file(fh) if valid & wire.FATTR_FH else None,
            # A request that names nothing to change is what is left of a removal of privileges
            # that the VFS asked for: chown(-1, -1), or a write in passthrough by somebody without
            # CAP_FSETID (fuse_setattr drops ATTR_KILL_* under HANDLE_KILLPRIV_V2).
            kill_suidgid=bool(valid & wire.FATTR_KILL_SUIDGID) or self._unnamed(head, valid),
        )
        attr_for = 0 if head[NODE] in self._unsettled else replies.FOREVER
        return replies.attributes(head[UNIQUE], found, attr_for)

    def _unnamed(self, head: Head, valid: int) -> bool:
        """Whether a SETATTR that names nothing asks for set-id bits to be removed.

        The same is left of a write by root to a file with capabilities: they were removed just
        before, and root keeps set-id bits.
        """
        disarmed, self._device.disarmed = self._device.disarmed, 0
        if valid & ~_SILENT:
            return False
        return head[UID] != 0 or disarmed != head[NODE]

    def statx(self, head: Head, buffer: memoryview) -> Answer:
        flags, _, fh, _, mask = wire.STATX_IN.unpack_from(buffer, BODY)
        node = self._nodes[head[NODE]]
        found = self._stat(node, self._file(fh) if flags & wire.GETATTR_FH else None)
        born = self._union.birthtime(node) if mask & wire.STATX_BTIME else None
        attr_for = 0 if head[NODE] in self._unsettled else replies.FOREVER
        return replies.statx(head[UNIQUE], found, born, attr_for)

    def statfs(self, head: Head, buffer: memoryview) -> Answer:
        found = self._union.statfs()
        return wire.STATFS_REPLY.pack(
            wire.STATFS_REPLY.size,
            0,
            head[UNIQUE],
            found.f_blocks,
            found.f_bfree,
            found.f_bavail,
            found.f_files,
            found.f_ffree,
            found.f_bsize,
            min(found.f_namemax, _NAME_MAX),
            found.f_frsize,
            0,
        )

    def syncfs(self, head: Head, buffer: memoryview) -> Answer:
        self._union.syncfs()
        return 0
