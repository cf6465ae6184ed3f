# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what the page cache already holds, without ever waiting for a disc."""

from __future__ import annotations

import ctypes
import errno
import os

from unionfs.node import File
from unionfs.typed import Final

__all__ = ["PageCache"]

_libc: Final = ctypes.CDLL(None, use_errno=True)
_STATFS_SIZE: Final = 256  # more than any architecture's struct statfs

# statfs(2): filesystems whose files are nowhere but in memory.
_TMPFS_MAGIC: Final = 0x01021994
_RAMFS_MAGIC: Final = 0x858458F6

_FIRST_SIZE: Final = 128 << 10


class PageCache:
    """Reads for one serving thread.

    The answer of `read` lies in a buffer that the next `read` overwrites: send it first.
    """

    __slots__ = ("_blind", "_buffer")

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_FIRST_SIZE))
        # st_dev of filesystems without RWF_NOWAIT -> whether they live in memory
        self._blind: dict[int, bool] = {}

    def read(self, file: File, size: int, offset: int) -> memoryview | None:
        """``size`` bytes, fewer only at the end of the file; None if it would have to wait."""
        buffer = self._buffer
        if size > len(buffer):
            buffer = self._buffer = memoryview(bytearray(size))
        fd = file.fd
        try:
            done = os.preadv(fd, [buffer[:size]], offset, os.RWF_NOWAIT)
            # A short count is the end of the file or the end of what is cached (preadv2(2)); to
            # the kernel it is always the end of the file, which it would fill up with zeros.
            if done in (0, size):
                return buffer[:done]
            if os.preadv(fd, [buffer[done:size]], offset + done, os.RWF_NOWAIT) == 0:
                return buffer[:done]
            return None
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            if error.errno != errno.EOPNOTSUPP:
                raise
        if self._in_memory(fd):
            return buffer[: file.read_into(buffer[:size], offset)]
        return None

    def _in_memory(self, fd: int) -> bool:
        """Whether a filesystem that cannot be asked not to wait never has to."""
        device = os.fstat(fd).st_dev
        known = self._blind.get(device)
        if known is None:
            known = self._blind[device] = _magic(fd) in (_TMPFS_MAGIC, _RAMFS_MAGIC)
        return known


def _magic(fd: int) -> int:
    """f_type of statfs(2), which ``os.fstatvfs`` leaves out; 0 where it is not told."""
    status = (ctypes.c_ulong * (_STATFS_SIZE // ctypes.sizeof(ctypes.c_ulong)))()
    if _libc.fstatfs(fd, status) != 0:
        return 0
    return status[0] & 0xFFFFFFFF
