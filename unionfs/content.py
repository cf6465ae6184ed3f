# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying the content of a file as fast as its filesystem can: shared, by extents, by bytes.

Only descriptors are touched, so this may run in any thread.
"""

from __future__ import annotations

import errno
import os

from unionfs.layer import Layer
from unionfs.sys import calls
from unionfs.typed import Callable, Final

_CHUNK: Final = 1 << 24
# From this much on the disc begins to write while the copy goes on: an fsync ends it (bytes).
_EARLY: Final = 1 << 23
# Up to this much is read and written: copy_file_range(2) first sets up a pipe (bytes).
_SMALL: Final = 1 << 15


class Brake:
    """Ends a copy from another thread."""

    __slots__ = ("_pulled",)

    def __init__(self) -> None:
        self._pulled = False

    def pull(self) -> None:
        """Let the copy end with ECANCELED at its next step."""
        self._pulled = True

    def check(self) -> None:
        """The step of `copy_content`."""
        if self._pulled:
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))


def copy_content(
    source: int,
    target: int,
    size: int,
    layer: Layer | None = None,
    step: Callable[[], None] | None = None,
) -> None:
    """Copy the first ``size`` bytes of a file to an empty one: extents shared, holes kept as holes.

    In this order: FICLONE (all of it), copy_file_range(2) extent by extent, read and write.

    source, target -- descriptors to read and to write; the caller's
    layer          -- the layer of the source, which remembers whether it can share extents
    step           -- called before every piece, and may raise
    """
    if size and (layer is None or layer.clones) and _clone(layer, source, target):
        os.ftruncate(target, size)
        return
    found = os.fstat(source)
    if found.st_blocks * 512 >= found.st_size:
        _copy_extent(source, target, 0, size, step)
        return
    os.ftruncate(target, size)
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno != errno.EINVAL:
                raise
            start, end = position, size
        else:
            end = os.lseek(source, start, os.SEEK_HOLE) if start < size else size
        _copy_extent(source, target, min(start, size), min(end, size), step)
        position = end


def _clone(layer: Layer | None, source: int, target: int) -> bool:
    try:
        calls.clone_file(source, target)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.ENOSYS):
            if layer is not None:
                layer.clones = False
        elif error.errno not in (errno.EINVAL, errno.EPERM, errno.EBADF, errno.ETXTBSY):
            raise
        return False
    return True


def _copy_extent(
    source: int, target: int, start: int, end: int, step: Callable[[], None] | None
) -> None:
    position = start
    if end - start <= _SMALL:
        _copy_bytes(source, target, start, end, step)
        return
    try:
        while position < end:
            if step is not None:
                step()
            wanted = min(end - position, _CHUNK)
            copied = os.copy_file_range(source, target, wanted, position, position)
            if copied == 0:
                break
            if copied >= _EARLY:
                calls.start_writeback(target, position, copied)
            position += copied
    except OSError as error:
        if error.errno not in (
            errno.EXDEV,
            errno.EINVAL,
            errno.ENOSYS,
            errno.EOPNOTSUPP,
            errno.EBADF,
            errno.EPERM,
        ):
            raise
    _copy_bytes(source, target, position, end, step)


def _copy_bytes(
    source: int, target: int, position: int, end: int, step: Callable[[], None] | None
) -> None:
    while position < end:
        if step is not None:
            step()
        data = os.pread(source, min(end - position, 1 << 20), position)
        if not data:
            return
        view = memoryview(data)
        while view:
            written = os.pwrite(target, view, position)
            position += written
            view = view[written:]
