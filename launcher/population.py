# SPDX-License-Identifier: GPL-3.0-or-later
"""The first content of a volume: what the image has where the volume is to be mounted.

As docker: only an empty volume is filled, only by the first start of a container, and not where
`nocopy` says so.
"""

from __future__ import annotations

import contextlib
import os
import stat

from launcher import treeremoval, volumes
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.record import Record, RequestedMount
from launcher.sys import mount

__all__ = ["fill"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 24


def fill(paths: Paths, record: Record, root_fd: int) -> None:
    """Fill the volumes of a container at its first start; `root_fd` is its root directory.

    Raises LaunchError; a volume that was filled in part is emptied again.
    """
    wanted = [each for each in record.mounts if each.kind == "volume"]
    done = paths.container(record.id) + b"/filled"
    if not wanted or os.path.exists(done):
        return
    for each in wanted:
        try:
            _fill_one(paths, record, each, root_fd)
        except OSError as error:
            raise LaunchError("fill volume", each.source, error) from error
    os.close(os.open(done, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _fill_one(paths: Paths, record: Record, wanted: RequestedMount, root_fd: int) -> None:
    place = volumes.data(paths, wanted.source)
    if os.listdir(place):
        return
    target = os.open(place, _DIRECTORY)
    try:
        if record.userns:
            uid, gid = (int(each) for each in record.userns.split(":")[:2])
            os.fchown(target, uid, gid)
        if "nocopy" in wanted.options:
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            source = mount.openat2(
                root_fd,
                os.fsencode(wanted.destination),
                os.O_RDONLY | os.O_DIRECTORY,
                mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS,
            )
            try:
                _copy_directory(source, target, {})
            except BaseException:
                _empty(place)
                raise
            finally:
                os.close(source)
    finally:
        os.close(target)


def _empty(place: bytes) -> None:
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(directory):
            treeremoval.remove_at(directory, os.fsencode(name))
    finally:
        os.close(directory)


# Where the copy of a file with several names lies, by the original's device and inode.
Links = dict[tuple[int, int], bytes]


def _copy_directory(source: int, target: int, links: Links) -> None:
    """Copy what is in one directory into another, and then its attributes."""
    for name in os.listdir(source):
        entry = os.fsencode(name)
        found = os.stat(entry, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(entry, 0o700, dir_fd=target)
            below = os.open(entry, _DIRECTORY, dir_fd=source)
            try:
                inner = os.open(entry, _DIRECTORY, dir_fd=target)
                try:
                    _copy_directory(below, inner, links)
                finally:
                    os.close(inner)
            finally:
                os.close(below)
            continue
        key = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and key in links:
            os.link(links[key], entry, dst_dir_fd=target, follow_symlinks=False)
            continue
        _copy_other(entry, found, source, target)
        if found.st_nlink > 1:
            links[key] = os.readlink(b"/proc/self/fd/%d" % target) + b"/" + entry
    _copy_attributes(source, target, os.fstat(source))


def _copy_other(name: bytes, found: os.stat_result, source: int, target: int) -> None:
    if stat.S_ISREG(found.st_mode):
        reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writing = os.open(name, flags, 0o600, dir_fd=target)
            try:
                while os.sendfile(writing, reading, None, _CHUNK):
                    pass
                _copy_attributes(reading, writing, found)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        return
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
    os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    times = (found.st_atime_ns, found.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_attributes(source: int, target: int, found: os.stat_result) -> None:
    os.fchown(target, found.st_uid, found.st_gid)
    for name in os.listxattr(source):
        # Not supported there, or the kernel's own to set: the file is good without.
        with contextlib.suppress(OSError):
            os.setxattr(target, name, os.getxattr(source, name))
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
