# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading directories, without handles: OPENDIR is answered ENOSYS so that listings are cached."""

from __future__ import annotations

import errno
import os
from itertools import islice
from time import monotonic_ns

from unionfs.fuse import replies, wire
from unionfs.fuse.order import Order
from unionfs.fuse.request import BODY, NODE, UNIQUE, Answer, Head, Table
from unionfs.fuse.wire import Opcode
from unionfs.fuse.workers import Pace
from unionfs.node import Node
from unionfs.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from unionfs.fuse.device import Device

_UNKNOWN_INO: Final = 0xFFFF_FFFF
_PLUS: Final = wire.DIRENTPLUS.size + 7
_BARE: Final = wire.DIRENT.size + 7
_DOTS: Final = (b".", b"..")
_SLOW_NS: Final = 300_000


class Listings:
    """OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._union = device.union
        self._nodes = device.union.nodes
        self._find = device.union.lookup
        self._orders = device.orders
        self._unsettled = device.unsettled
        self._appetite = device.appetite
        self._syncs = Pace(_SLOW_NS)

    def table(self) -> Table:
        return {
            Opcode.OPENDIR: self.opendir,
            Opcode.READDIR: self.readdir,
            Opcode.READDIRPLUS: self.readdirplus,
            Opcode.RELEASEDIR: lambda head, buffer: 0,
            Opcode.FSYNCDIR: self.fsyncdir,
        }

    def opendir(self, head: Head, buffer: memoryview) -> Answer:
        if self._device.terms.has(wire.NO_OPENDIR_SUPPORT):
            return errno.ENOSYS
        flags = wire.FOPEN_CACHE_DIR | wire.FOPEN_KEEP_CACHE
        return wire.OPEN_REPLY.pack(wire.OPEN_REPLY.size, 0, head[UNIQUE], 0, flags, 0)

    def _order(self, node: Node, number: int, place: int) -> Order:
        """The directory's names; read anew at the beginning, and where they are not known."""
        order = self._orders.get(number)
        if order is not None and place:
            return order
        listing = self._union.opendir(node)
        rows = listing.entries
        if order is None:
            order = Order(rows)
        else:
            self._orders.drop(number)
            order.refresh(rows)
        order.numbers = listing.numbers
        self._orders.keep(number, order)
        return order

    def readdirplus(self, head: Head, buffer: memoryview) -> Answer:
        _, place, size, _, _, _, _ = wire.READ_IN.unpack_from(buffer, BODY)
        number = head[NODE]
        node = self._nodes[number]
        order = self._order(node, number, place)
        # The kernel asks so at the start of every directory, and later where it has seen lookups.
        if not place and not self._appetite.for_attributes():
            self._appetite.told_barely(number, len(order.rows) - len(_DOTS))
            return self._names(head, node, order, place, size, _PLUS, replies.BARE_PLUS)
        rows, find, unsettled = order.rows, self._find, self._unsettled
        records: list[bytes] = []
        room = size
        index = order.after(place)
        while index < len(rows):
            name, kind = rows[index]
            room -= (_PLUS + len(name)) & ~7
            if room < 0:
                break
            behind = order.place(index)
            index += 1
            if index <= 2 and name in _DOTS:
                records.append(replies.bare_direntplus(self._ino(node, name), kind, behind, name))
                continue
            try:
                found = find(node, name)
            except OSError:
                # Its name can be told; what it is will be told by whoever asks for it.
                records.append(replies.bare_direntplus(_UNKNOWN_INO, kind, behind, name))
                continue
            if found is None:  # removed since the directory was read
                room += (_PLUS + len(name)) & ~7
                continue
            child, attributes = found
            child.nlookup += 1
            attr_for = 0 if child.id in unsettled else replies.FOREVER
            records.append(replies.direntplus(child.id, attributes, attr_for, behind, name))
        return self._told(head, order, index, records)

    def readdir(self, head: Head, buffer: memoryview) -> Answer:
        _, place, size, _, _, _, _ = wire.READ_IN.unpack_from(buffer, BODY)
        number = head[NODE]
        node = self._nodes[number]
        order = self._order(node, number, place)
        return self._names(head, node, order, place, size, _BARE, replies.BARE)

    def _names(
        self,
        head: Head,
        node: Node,
        order: Order,
        place: int,
        room: int,
        overhead: int,
        packed: wire.Records,
    ) -> Answer:
        """Tell names and types, as many as there is room for.

        overhead -- bytes of a record around its name, and padding
        """
        numbers, places = order.numbers.get, order.places
        records: list[bytes] = []
        add = records.append
        index = order.after(place)
        for name, kind in islice(order.rows, index, None):
            length = len(name)
            room -= (overhead + length) & ~7
            if room < 0:
                break
            behind = index + 1 if places is None else places[index]
            index += 1
            ino = numbers(name) or self._ino(node, name)
            add(packed[length](ino, behind, length, kind, name))
        return self._told(head, order, index, records)

    def _told(self, head: Head, order: Order, index: int, records: list[bytes]) -> Answer:
        if not records and index >= len(order.rows):
            self._orders.finish(head[NODE])
        body = b"".join(records)
        return wire.OUT_HEADER.pack(wire.OUT_SIZE + len(body), 0, head[UNIQUE]) + body

    def _ino(self, node: Node, name: bytes) -> int:
        """The d_ino of a name, which agrees with its st_ino."""
        if name == b".":
            return node.ino
        if name == b"..":
            return (node.parent or node).ino
        try:
            found = self._find(node, name)
        except OSError:
            return _UNKNOWN_INO
        if found is None:
            return _UNKNOWN_INO
        child, attributes = found
        if not child.nlookup:
            self._union.forget(child, 0)  # nobody was told of it
        return attributes.ino

    def fsyncdir(self, head: Head, buffer: memoryview) -> Answer:
        _, flags, _ = wire.FSYNC_IN.unpack_from(buffer, BODY)
        datasync = bool(flags & wire.FSYNC_FDATASYNC)
        node = self._nodes[head[NODE]]
        if not self._syncs.slow or self._union.config.volatile or not node.is_upper:
            start = monotonic_ns()
            self._union.fsyncdir(node, datasync)
            self._syncs.took(monotonic_ns() - start)
            return 0
        fd = node.open_real(os.O_RDONLY | os.O_DIRECTORY)

        def sync() -> int:
            start = monotonic_ns()
            try:
                os.fdatasync(fd) if datasync else os.fsync(fd)
            finally:
                os.close(fd)
                self._syncs.took(monotonic_ns() - start)
            return 0

        self._device.work(head, sync)
        return None
