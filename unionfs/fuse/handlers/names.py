# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: looking them up, forgetting, making, linking, renaming and removing."""

from __future__ import annotations

import errno

from unionfs.fuse import replies, wire
from unionfs.fuse.request import (
    BODY,
    NODE,
    UNIQUE,
    Answer,
    Head,
    Table,
    caller_of,
    name_at,
    names_at,
)
from unionfs.fuse.wire import Opcode
from unionfs.node import Node, Stat
from unionfs.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from unionfs.fuse.device import Device

_RENAME_KNOWN = 1 | 2  # NOREPLACE, EXCHANGE; WHITEOUT would forge a mark (rename(2): EINVAL)


class Names:
    """LOOKUP, FORGET and everything that changes a directory."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._union = device.union
        self._nodes = device.union.nodes
        self._find = device.union.lookup
        self._unsettled = device.unsettled
        self._unmasked = device.unmasked
        self._refused = device.refused
        self._appetite = device.appetite
        self._bare = device.appetite.bare

    def table(self) -> Table:
        return {
            Opcode.LOOKUP: self.lookup,
            Opcode.FORGET: self.forget,
            Opcode.BATCH_FORGET: self.batch_forget,
            Opcode.READLINK: self.readlink,
            Opcode.SYMLINK: self.symlink,
            Opcode.MKNOD: self.mknod,
            Opcode.MKDIR: self.mkdir,
            Opcode.UNLINK: self.unlink,
            Opcode.RMDIR: self.rmdir,
            Opcode.LINK: self.link,
            Opcode.RENAME: self.rename,
            Opcode.RENAME2: self.rename2,
        }

    def lookup(self, head: Head, buffer: memoryview) -> Answer:
        if self._refused:
            self._refused.clear()
        if head[3] in self._bare:
            self._appetite.looked_up(head[3])
        # The commonest request of all: indices instead of calls.
        found = self._find(self._nodes[head[3]], buffer[40 : head[0] - 1].tobytes())
        if found is None:
            return replies.no_entry(head[2])
        node, attributes = found
        node.nlookup += 1
        number = node.id
        attr_for = 0 if number in self._unsettled else replies.FOREVER
        return replies.entry(head[2], number, attributes, attr_for)

    def _made(self, head: Head, made: tuple[Node, Stat]) -> Answer:
        node, attributes = made
        node.nlookup += 1
        attr_for = 0 if node.id in self._unsettled else replies.FOREVER
        return replies.entry(head[UNIQUE], node.id, attributes, attr_for)

    def forget(self, head: Head, buffer: memoryview) -> None:
        (count,) = wire.FORGET_IN.unpack_from(buffer, BODY)
        self._device.forget(head[NODE], count)

    def batch_forget(self, head: Head, buffer: memoryview) -> None:
        count, _ = wire.BATCH_FORGET_IN.unpack_from(buffer, BODY)
        start = BODY + wire.BATCH_FORGET_IN.size
        forget = self._device.forget
        for number, times in wire.FORGET_ONE.iter_unpack(
            buffer[start : start + count * wire.FORGET_ONE.size]
        ):
            forget(number, times)

    def readlink(self, head: Head, buffer: memoryview) -> Answer:
        target = self._union.readlink(self._nodes[head[NODE]])
        return wire.OUT_HEADER.pack(wire.OUT_SIZE + len(target), 0, head[UNIQUE]) + target

    def symlink(self, head: Head, buffer: memoryview) -> Answer:
        name, target = names_at(head, buffer, BODY)
        caller = caller_of(head, buffer, 0)
        return self._made(head, self._union.symlink(self._nodes[head[NODE]], name, target, caller))

    def mknod(self, head: Head, buffer: memoryview) -> Answer:
        mode, rdev, umask, _ = wire.MKNOD_IN.unpack_from(buffer, BODY)
        name = name_at(head, buffer, BODY + wire.MKNOD_IN.size)
        caller = caller_of(head, buffer, umask if self._unmasked else 0)
        rdev = replies.decode_dev(rdev) if rdev else 0
        parent = self._nodes[head[NODE]]
        return self._made(head, self._union.mknod(parent, name, mode, rdev, caller))

    def mkdir(self, head: Head, buffer: memoryview) -> Answer:
        mode, umask = wire.MKDIR_IN.unpack_from(buffer, BODY)
        name = name_at(head, buffer, BODY + wire.MKDIR_IN.size)
        caller = caller_of(head, buffer, umask if self._unmasked else 0)
        return self._made(head, self._union.mkdir(self._nodes[head[NODE]], name, mode, caller))

    def unlink(self, head: Head, buffer: memoryview) -> Answer:
        self._union.unlink(self._nodes[head[NODE]], name_at(head, buffer, BODY))
        return 0

    def rmdir(self, head: Head, buffer: memoryview) -> Answer:
        self._union.rmdir(self._nodes[head[NODE]], name_at(head, buffer, BODY))
        return 0

    def link(self, head: Head, buffer: memoryview) -> Answer:
        (number,) = wire.LINK_IN.unpack_from(buffer, BODY)
        node = self._nodes[number]
        if self._device.waiting.put_off_metadata(node, head, buffer):
            return None
        name = name_at(head, buffer, BODY + wire.LINK_IN.size)
        return self._made(head, self._union.link(node, self._nodes[head[NODE]], name))

    def rename(self, head: Head, buffer: memoryview) -> Answer:
        (target,) = wire.RENAME_IN.unpack_from(buffer, BODY)
        return self._rename(head, buffer, target, 0, BODY + wire.RENAME_IN.size)

    def rename2(self, head: Head, buffer: memoryview) -> Answer:
        target, flags, _ = wire.RENAME2_IN.unpack_from(buffer, BODY)
        return self._rename(head, buffer, target, flags, BODY + wire.RENAME2_IN.size)

    def _rename(
        self, head: Head, buffer: memoryview, target: int, flags: int, start: int
    ) -> Answer:
        if flags & ~_RENAME_KNOWN:
            return errno.EINVAL
        name, new = names_at(head, buffer, start)
        parent, newparent = self._nodes[head[NODE]], self._nodes[target]
        if self._moves_below(parent, name, head, buffer):
            return None
        if flags & 2 and self._moves_below(newparent, new, head, buffer):
            return None
        self._union.rename(parent, name, newparent, new, flags)
        return 0

    def _moves_below(self, parent: Node, name: bytes, head: Head, buffer: memoryview) -> bool:
        """Whether the request was put off until a lower file has been copied up to be renamed."""
        node = self._union.moved_up_by_rename(parent, name)
        if node is None:
            return False
        return self._device.waiting.put_off_metadata(node, head, buffer)
