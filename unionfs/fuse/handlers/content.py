# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of open files: what the kernel does not read and write by itself."""

from __future__ import annotations

import errno
import os
from time import monotonic_ns

from unionfs.fuse import wire
from unionfs.fuse.request import BODY, UNIQUE, Answer, Head, Table
from unionfs.fuse.wire import Opcode
from unionfs.fuse.workers import Pace
from unionfs.node import File
from unionfs.typed import TYPE_CHECKING, Callable, Final

if TYPE_CHECKING:
    from unionfs.fuse.device import Device

_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
# Work of this kind is worth a thread if it has lately taken longer than this.
_SLOW_NS: Final = 300_000
_LONG: Final = 1 << 20  # bytes that fallocate and copy_file_range may take on in passing
_COPY_STEP: Final = 1 << 26
_COPY_MAX: Final = 1 << 30  # a longer copy comes back for the rest, and can be interrupted


class Content:
    """READ, WRITE, FSYNC, LSEEK, FALLOCATE, COPY_FILE_RANGE."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._union = device.union
        self._handles = device.handles
        self._out = bytearray(wire.OUT_SIZE)
        self._room = memoryview(self._out)
        self._nowait = _NOWAIT
        self._reads = Pace(_SLOW_NS)
        self._writes = Pace(_SLOW_NS)
        self._syncs = Pace(_SLOW_NS)

    def table(self) -> Table:
        return {
            Opcode.READ: self.read,
            Opcode.WRITE: self.write,
            Opcode.FSYNC: self.fsync,
            Opcode.LSEEK: self.lseek,
            Opcode.FALLOCATE: self.fallocate,
            Opcode.COPY_FILE_RANGE: self.copy_file_range,
            Opcode.COPY_FILE_RANGE_64: self.copy_file_range_64,
        }

    # -- reading

    def read(self, head: Head, buffer: memoryview) -> Answer:
        fh, offset, size, _, _, _, _ = wire.READ_IN.unpack_from(buffer, BODY)
        file = self._handles[fh].file
        end = wire.OUT_SIZE + size
        if end > len(self._out):
            self._out = bytearray(max(end, 1 << 17))
            self._room = memoryview(self._out)
        room = self._room[wire.OUT_SIZE : end]
        got = self._read_cached(file, room, offset)
        if got < 0:
            self._device.work(head, lambda: _read(head, file, size, offset))
            return None
        end = wire.OUT_SIZE + got
        wire.OUT_HEADER.pack_into(self._out, 0, end, 0, head[UNIQUE])
        return self._room[:end]

    def _read_cached(self, file: File, room: memoryview, offset: int) -> int:
        """Read what takes no waiting; -1 if it would have to wait for a disc."""
        if self._nowait:
            try:
                return self._read_nowait(file.fd, room, offset)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return -1
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        # A filesystem that cannot tell (tmpfs, and others that have nothing to wait for).
        if self._reads.slow:
            return -1
        start = monotonic_ns()
        got = file.read_into(room, offset)
        self._reads.took(monotonic_ns() - start)
        return got

    def _read_nowait(self, fd: int, room: memoryview, offset: int) -> int:
        wanted = len(room)
        got = os.preadv(fd, [room], offset, self._nowait)
        while 0 < got < wanted:
            # Short at the end of the file, or because the rest is not in memory: ask for the rest.
            more = os.preadv(fd, [room[got:]], offset + got, self._nowait)
            if not more:
                break
            got += more
        return got

    # -- writing

    def write(self, head: Head, buffer: memoryview) -> Answer:
        fh, offset, size, flags, _, _, _ = wire.WRITE_IN.unpack_from(buffer, BODY)
        file = self._handles[fh].file
        start = BODY + wire.WRITE_IN.size
        data = buffer[start : start + size]
        if flags & wire.WRITE_KILL_SUIDGID:
            self._union.setattr(file.node, file=file, kill_suidgid=True)
        if self._writes.slow:
            kept = data.tobytes()
            self._device.work(head, lambda: self._write(head, file, kept, offset))
            return None
        return self._write(head, file, data, offset)

    def _write(self, head: Head, file: File, data: bytes | memoryview, offset: int) -> bytes:
        start = monotonic_ns()
        done = file.write(data, offset)
        self._writes.took(monotonic_ns() - start)
        return wire.WRITE_REPLY.pack(wire.WRITE_REPLY.size, 0, head[UNIQUE], done, 0)

    def fsync(self, head: Head, buffer: memoryview) -> Answer:
        fh, flags, _ = wire.FSYNC_IN.unpack_from(buffer, BODY)
        file = self._handles[fh].file
        datasync = bool(flags & wire.FSYNC_FDATASYNC)
        return self._paced(head, self._syncs, lambda: file.fsync(datasync))

    def _paced(self, head: Head, pace: Pace, work: Callable[[], None]) -> Answer:
        """Do it now if it is quick lately, else on a worker."""

        def timed() -> int:
            start = monotonic_ns()
            try:
                work()
            finally:
                pace.took(monotonic_ns() - start)
            return 0

        if pace.slow:
            self._device.work(head, timed)
            return None
        return timed()

    # -- places and ranges

    def lseek(self, head: Head, buffer: memoryview) -> Answer:
        fh, offset, whence, _ = wire.LSEEK_IN.unpack_from(buffer, BODY)
        place = self._handles[fh].file.lseek(offset, whence)
        return wire.LSEEK_REPLY.pack(wire.LSEEK_REPLY.size, 0, head[UNIQUE], place)

    def fallocate(self, head: Head, buffer: memoryview) -> Answer:
        fh, offset, length, mode, _ = wire.FALLOCATE_IN.unpack_from(buffer, BODY)
        file = self._handles[fh].file

        def allocate() -> int:
            file.fallocate(mode, offset, length)
            return 0

        if length > _LONG:
            self._device.work(head, allocate)
            return None
        return allocate()

    def copy_file_range(self, head: Head, buffer: memoryview) -> Answer:
        return self._copy(head, buffer, lambda done: _written(head, done))

    def copy_file_range_64(self, head: Head, buffer: memoryview) -> Answer:
        return self._copy(head, buffer, lambda done: _copied(head, done))

    def _copy(self, head: Head, buffer: memoryview, reply: Callable[[int], bytes]) -> Answer:
        source, source_at, _, target, target_at, length, flags = (
            wire.COPY_FILE_RANGE_IN.unpack_from(buffer, BODY)
        )
        if flags:
            return errno.EINVAL
        reader, writer = self._handles[source].file, self._handles[target].file
        length = min(length, _COPY_MAX)

        def copy() -> bytes:
            return reply(_copy_range(reader, source_at, writer, target_at, length))

        if length > _LONG:
            self._device.work(head, copy)
            return None
        return copy()


def _read(head: Head, file: File, size: int, offset: int) -> bytes:
    data = file.read(size, offset)
    return wire.OUT_HEADER.pack(wire.OUT_SIZE + len(data), 0, head[UNIQUE]) + data


def _written(head: Head, done: int) -> bytes:
    return wire.WRITE_REPLY.pack(wire.WRITE_REPLY.size, 0, head[UNIQUE], done, 0)


def _copied(head: Head, done: int) -> bytes:
    return wire.COPY_FILE_RANGE_REPLY.pack(wire.COPY_FILE_RANGE_REPLY.size, 0, head[UNIQUE], done)


def _copy_range(source: File, source_at: int, target: File, target_at: int, length: int) -> int:
    """copy_file_range(2) until it is done, short or refused; bytes copied."""
    done = 0
    while done < length:
        try:
            step = os.copy_file_range(
                source.fd,
                target.fd,
                min(length - done, _COPY_STEP),
                source_at + done,
                target_at + done,
            )
        except OSError:
            if done:
                break
            raise
        if step == 0:
            break
        done += step
    return done
