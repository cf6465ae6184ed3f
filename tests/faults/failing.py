# SPDX-License-Identifier: GPL-3.0-or-later
"""A read-only filesystem that mirrors a directory and fails on command: a disc with bad sectors.

    python -m tests.faults.failing SOURCE MOUNTPOINT CONTROL READY_FD

A file CONTROL/OPERATION makes that operation fail: it holds the errno, and for `read` optionally
the offset from which on it fails. Nothing is cached, so the next request sees what is said there.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pyfuse3
import trio


class FailingMirror(pyfuse3.Operations):
    """The operations of a read-only mirror.

    _paths   inode number, as in the source, to a path by which it was found
    """

    enable_writeback_cache = False

    def __init__(self, source: str, control: str) -> None:
        super().__init__()
        self._control = control
        root = os.fsencode(source)
        self._paths = {pyfuse3.ROOT_INODE: root}
        self._root = os.lstat(root).st_ino

    def _may_fail(self, operation: str, reach: int = 0) -> None:
        """Fail if the control file says so; `reach` is the end of what is asked for."""
        try:
            words = Path(self._control, operation).read_text().split()
        except FileNotFoundError:
            return
        if len(words) == 1 or reach > int(words[1]):
            raise pyfuse3.FUSEError(int(words[0]))

    def _entry(self, path: bytes) -> pyfuse3.EntryAttributes:
        try:
            found = os.lstat(path)
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        # The numbers of a fresh tmpfs are small: the root's cannot be another's by moving them up.
        number = pyfuse3.ROOT_INODE if found.st_ino == self._root else found.st_ino + 1
        self._paths[number] = path
        entry = pyfuse3.EntryAttributes()
        for field in (
            *("st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_blocks"),
            *("st_blksize", "st_atime_ns", "st_mtime_ns", "st_ctime_ns"),
        ):
            setattr(entry, field, getattr(found, field))
        entry.st_ino = number
        entry.entry_timeout = entry.attr_timeout = 0
        return entry

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        self._may_fail("lookup")
        return self._entry(os.path.join(self._paths[parent_inode], name))

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        self._may_fail("getattr")
        return self._entry(self._paths[inode])

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        found = os.statvfs(self._paths[pyfuse3.ROOT_INODE])
        data = pyfuse3.StatvfsData()
        for field in (
            *("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail"),
            *("f_files", "f_ffree", "f_favail", "f_namemax"),
        ):
            setattr(data, field, getattr(found, field))
        return data

    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        self._may_fail("readlink")
        return os.readlink(self._paths[inode])

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        self._may_fail("open")
        return pyfuse3.FileInfo(fh=inode, direct_io=True, keep_cache=False)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        self._may_fail("read", off + size)
        with open(self._paths[fh], "rb") as stream:
            stream.seek(off)
            return stream.read(size)

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        self._may_fail("opendir")
        return inode

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        self._may_fail("readdir")
        names = sorted(os.listdir(self._paths[fh]))
        for place, name in enumerate(names[start_id:], start_id + 1):
            entry = self._entry(os.path.join(self._paths[fh], name))
            if not pyfuse3.readdir_reply(token, name, entry, place):
                return

    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        self._may_fail("listxattr")
        path = self._paths[inode]
        if stat.S_ISLNK(os.lstat(path).st_mode):
            return []
        return [os.fsencode(name) for name in os.listxattr(path)]

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        self._may_fail("getxattr")
        try:
            return os.getxattr(self._paths[inode], name, follow_symlinks=False)
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None


def main(source: str, mountpoint: str, control: str, ready: str) -> None:
    options = {*pyfuse3.default_options, "fsname=failing", "allow_other", "default_permissions"}
    pyfuse3.init(FailingMirror(source, control), mountpoint, options)
    os.write(int(ready), b".")
    os.close(int(ready))
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
