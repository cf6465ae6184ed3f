# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening and closing regular files, and in which way the kernel gets at their content."""

from __future__ import annotations

import errno
import os

from unionfs.fuse import replies, wire
from unionfs.fuse.backing import Backing, StaleBacking
from unionfs.fuse.handles import Handle
from unionfs.fuse.request import (
    BODY,
    NODE,
    PID,
    UID,
    UNIQUE,
    Answer,
    Head,
    Table,
    caller_of,
    name_at,
)
from unionfs.fuse.wire import Opcode
from unionfs.node import File, Node, Stat
from unionfs.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from unionfs.fuse.device import Device

_CHANGES: Final = os.O_ACCMODE | os.O_TRUNC
_BEYOND_READING: Final = _CHANGES | os.O_DIRECT


def _not_needed(head: Head, buffer: memoryview) -> Answer:
    """ENOSYS: the kernel takes it for granted from now on."""
    return errno.ENOSYS


class Files:
    """OPEN, CREATE, TMPFILE, RELEASE.

    A descriptor that reads a lower file in passthrough goes on reading it after a copy-up, as on
    kernel overlayfs. The next open cannot be of the same kernel inode then (see `backing`): it is
    answered ESTALE once, after the node has been renewed. Opened by its path, the VFS then finds
    the new node. Opened by /proc/PID/fd/N there is no path to look up, and the same open comes a
    second time: it gets the content that descriptor N has.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._union = device.union
        self._nodes = device.union.nodes
        self._handles = device.handles
        self._attach = device.backings.attach
        self._detach = device.backings.detach
        self._active = device.backings.active
        self._unsettled = device.unsettled
        self._unmasked = device.unmasked
        self._last = 0

    def table(self) -> Table:
        return {
            Opcode.OPEN: self.open,
            Opcode.CREATE: self.create,
            Opcode.TMPFILE: self.tmpfile,
            Opcode.RELEASE: self.release,
            # Nothing is kept back that a close would have to write out.
            Opcode.FLUSH: _not_needed,
        }

    def open(self, head: Head, buffer: memoryview) -> Answer:
        flags, extra = wire.OPEN_IN.unpack_from(buffer, 40)
        number = head[3]
        node = self._nodes[number]
        changes = flags & _CHANGES
        if changes:
            size = 0 if flags & os.O_TRUNC else None
            if self._device.waiting.put_off(node, size, head, buffer):
                return None
        backing = self._active.get(number)
        if backing is not None and backing.stale:
            return self._open_stale(head, node, backing, flags)
        if backing is not None and backing.id and not flags & _BEYOND_READING:
            # The kernel has the content in hand and will not ask for it here.
            file = self._union.hold(node, flags)
        else:
            file = self._union.open(node, flags)
        try:
            backing = self._attach(number, file)
        except StaleBacking:
            self._union.release(file)
            return self._renew(head)
        if flags & os.O_TRUNC and self._loses_privileges(head, extra):
            self._union.setattr(node, file=file, kill_suidgid=True)
            self._device.notifier.attributes_changed(number)
        if flags & os.O_DIRECT:
            backing = self._directly(file, backing, number)
        fh = self._enter(file, backing, number, flags, True)
        return wire.OPEN_REPLY.pack(32, 0, head[2], fh, backing.open_flags, backing.id)

    def _loses_privileges(self, head: Head, extra: int) -> bool:
        """Whether a truncating open takes setuid and setgid away, as a write would (open(2)).

        It does unless the caller has CAP_FSETID, which older kernels do not tell.
        """
        if self._device.terms.has(wire.HANDLE_KILLPRIV_V2):
            return bool(extra & wire.OPEN_KILL_SUIDGID)
        return head[UID] != 0

    def _enter(self, file: File, backing: Backing, number: int, flags: int, known: bool) -> int:
        """Give an open file its handle.

        known -- the kernel has attributes of the node already
        """
        maps = backing.id != 0 and flags & os.O_ACCMODE == os.O_RDWR
        if maps:
            backing.mappers += 1
            if backing.mappers == 1:
                self._device.unsettle(number, known)
        self._last = fh = self._last + 1
        self._handles[fh] = Handle(file, backing, number, maps)
        return fh

    def _directly(self, file: File, backing: Backing, number: int) -> Backing:
        """The backing for an open file that is to be read and written with O_DIRECT.

        The kernel opens the layer's file with the caller's flags and turns a refusal into EIO. So
        where the layer takes no O_DIRECT it is not asked to. EINVAL where it already was.
        """
        if not backing.id:
            return backing
        try:
            os.close(os.open(b"/proc/self/fd/%d" % file.fd, os.O_RDONLY | os.O_DIRECT))
        except OSError as error:
            backings = self._device.backings
            other = backings.uncouple(number, backing)
            if other is None:
                backings.detach(number, backing)
                self._union.release(file)
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
            return other
        return backing

    def _renew(self, head: Head) -> Answer:
        """The node's open descriptors are bound to its lower file: let its path lead elsewhere."""
        number = head[NODE]
        self._active[number].stale = True
        self._device.part(number)
        self._device.refused[head[PID]] = number
        return errno.ESTALE

    def _open_stale(self, head: Head, node: Node, backing: Backing, flags: int) -> Answer:
        number, pid = head[NODE], head[PID]
        if self._device.refused.get(pid) != number or flags & _CHANGES:
            self._device.refused[pid] = number
            return errno.ESTALE
        del self._device.refused[pid]
        file = self._union.open(node, flags)
        backing.users += 1
        fh = self._enter(file, backing, number, flags, True)
        return wire.OPEN_REPLY.pack(32, 0, head[UNIQUE], fh, backing.open_flags, backing.id)

    def create(self, head: Head, buffer: memoryview) -> Answer:
        # OPEN_KILL_SUIDGID of a truncating create is for a file that is there; a new one keeps the
        # bits it is made with, and `Union.create` knows which it is.
        flags, mode, umask, _ = wire.CREATE_IN.unpack_from(buffer, BODY)
        caller = caller_of(head, buffer, umask if self._unmasked else 0)
        name = name_at(head, buffer, BODY + wire.CREATE_IN.size)
        parent = self._nodes[head[NODE]]
        node, found, file = self._union.create(parent, name, mode, flags, caller)
        return self._created(head, node, found, file, flags)

    def tmpfile(self, head: Head, buffer: memoryview) -> Answer:
        flags, mode, umask, _ = wire.CREATE_IN.unpack_from(buffer, BODY)
        caller = caller_of(head, buffer, umask if self._unmasked else 0)
        parent = self._nodes[head[NODE]]
        node, found, file = self._union.tmpfile(parent, mode, flags, caller)
        return self._created(head, node, found, file, flags)

    def _created(self, head: Head, node: Node, found: Stat, file: File, flags: int) -> Answer:
        number = node.id
        try:
            backing = self._attach(number, file)
        except StaleBacking:  # the name was taken after all, by such a file
            self._union.release(file)
            return errno.ESTALE
        if flags & os.O_DIRECT:
            backing = self._directly(file, backing, number)
        node.nlookup += 1
        fh = self._enter(file, backing, number, flags, False)
        attr_for = 0 if number in self._unsettled else replies.FOREVER
        return replies.created(
            head[UNIQUE], number, found, attr_for, fh, backing.open_flags, backing.id
        )

    def release(self, head: Head, buffer: memoryview) -> Answer:
        handle = self._handles.pop(wire.RELEASE_IN.unpack_from(buffer, 40)[0])
        backing = handle.backing
        self._union.release(handle.file)
        if handle.maps:
            backing.mappers -= 1
            if not backing.mappers:
                self._device.settle(handle.node)
        self._detach(handle.node, backing)
        return 0
