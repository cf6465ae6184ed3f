# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects made anew with everything that belongs to them: content, holes, owner, mode, times,
xattrs, ACLs, file capabilities.

An object comes from a union (`View`) or from a directory of the host's. It is made under a name
that is free, and is whole when the function returns; what fails half-way is removed again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import unionfs
from launcher import treeremoval
from launcher.trial.view import View
from launcher.typed import Final, NamedTuple

__all__ = [
    "Traits",
    "copy_tree",
    "give",
    "make",
    "make_from_view",
    "traits_of_host",
    "traits_of_view",
]

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNSUPPORTED: Final = frozenset((errno.ENOTSUP, errno.ENOSYS))
# The security module sets its own where a file is made, and refuses to be without.
_LABELS: Final = frozenset((b"security.selinux", b"security.SMACK64", b"security.apparmor"))


class Traits(NamedTuple):
    """All of an object but its content and its names. Times in nanoseconds."""

    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    atime: int
    mtime: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    target: bytes = b""


def traits_of_view(view: View, node: unionfs.Node, status: unionfs.Stat) -> Traits:
    """Of an object of a union."""
    union = view.union
    xattrs = []
    for name in union.listxattr(node):
        with _gone_is_none():
            xattrs.append((name, union.getxattr(node, name)))
    target = union.readlink(node) if stat.S_ISLNK(status.mode) else b""
    return Traits(
        status.mode, status.uid, status.gid, status.rdev, status.size,
        status.atime_ns, status.mtime_ns, tuple(sorted(xattrs)), target,
    )  # fmt: skip


def traits_of_host(directory: int, name: bytes) -> Traits:
    """Of one name in a directory."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    path = _proc(directory, name)
    xattrs = []
    for each in _names_of_xattrs(path):
        with _gone_is_none():
            xattrs.append((each, os.getxattr(path, each, follow_symlinks=False)))
    target = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(status.st_mode) else b""
    return Traits(
        status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_size,
        status.st_atime_ns, status.st_mtime_ns, tuple(sorted(xattrs)), target,
    )  # fmt: skip


@contextmanager
def _gone_is_none() -> Iterator[None]:
    """An xattr may go between its listing and its reading."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def _proc(directory: int, name: bytes) -> bytes:
    # For the calls that take no directory descriptor (proc(5), /proc/self/fd).
    return b"/proc/self/fd/%d/%s" % (directory, name)


def _names_of_xattrs(path: bytes, *, follow: bool = False) -> list[bytes]:
    try:
        return [os.fsencode(name) for name in os.listxattr(path, follow_symlinks=follow)]
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return []
        raise


def give(
    directory: int, name: bytes, traits: Traits, *, times: bool = True, ino: int | None = None
) -> None:
    """Give an object owner, mode, xattrs and, unless told otherwise, times.

    The object is taken hold of first, so that no link that takes its name meanwhile is followed;
    ESTALE if it is not of the traits' type, or not the inode `ino`.
    In this order: a new owner takes set-id bits and capabilities away (chown(2)), and a mode
    changes the mask of an ACL.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        found = os.fstat(fd)
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(traits.mode) or ino not in (
            None,
            found.st_ino,
        ):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        if stat.S_ISLNK(found.st_mode):
            _give_link(directory, name, found, traits)
            return
        # proc(5): this leads to the object itself, whatever has its name by now.
        path = b"/proc/self/fd/%d" % fd
        if (found.st_uid, found.st_gid) != (traits.uid, traits.gid):
            os.chown(path, traits.uid, traits.gid)
        if os.stat(path).st_mode != traits.mode:
            os.chmod(path, stat.S_IMODE(traits.mode))
        _give_xattrs(path, dict(traits.xattrs), follow=True)
        if times:
            os.utime(path, ns=(traits.atime, traits.mtime))
    finally:
        os.close(fd)


def _give_link(directory: int, name: bytes, found: os.stat_result, traits: Traits) -> None:
    if (found.st_uid, found.st_gid) != (traits.uid, traits.gid):
        os.chown(name, traits.uid, traits.gid, dir_fd=directory, follow_symlinks=False)
    _give_xattrs(_proc(directory, name), dict(traits.xattrs), follow=False)
    os.utime(name, ns=(traits.atime, traits.mtime), dir_fd=directory, follow_symlinks=False)


def _give_xattrs(path: bytes, wanted: dict[bytes, bytes], *, follow: bool) -> None:
    present = _names_of_xattrs(path, follow=follow)
    for name in present:
        if name not in wanted and name not in _LABELS:
            os.removexattr(path, name, follow_symlinks=follow)
    for name, value in wanted.items():
        if name not in present or os.getxattr(path, name, follow_symlinks=follow) != value:
            os.setxattr(path, name, value, follow_symlinks=follow)


def make(
    directory: int,
    name: bytes,
    traits: Traits,
    content: Callable[[], AbstractContextManager[int]] | None = None,
    *,
    sync: bool = True,
) -> None:
    """Make an object under a free name: an empty directory, or anything else whole.

    `content` opens what a regular file is to hold. `sync`: its content is on disc when this
    returns. Raises OSError; nothing is then left.
    """
    kind = stat.S_IFMT(traits.mode)
    if kind == stat.S_IFDIR:
        os.mkdir(name, 0o700, dir_fd=directory)
    elif kind == stat.S_IFLNK:
        os.symlink(traits.target, name, dir_fd=directory)
    elif kind != stat.S_IFREG:
        os.mknod(name, kind | 0o600, traits.rdev, dir_fd=directory)
    else:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=directory)
        try:
            if content is not None:
                with content() as source:
                    unionfs.copy_content(source, fd, traits.size)
            give(directory, name, traits)
            if sync:
                os.fsync(fd)
        except BaseException:
            _discard(directory, name)
            raise
        finally:
            os.close(fd)
        return
    try:
        give(directory, name, traits)
    except BaseException:
        _discard(directory, name)
        raise


def _discard(directory: int, name: bytes) -> None:
    with contextlib.suppress(OSError):
        treeremoval.remove_at(directory, name)


def make_from_view(
    view: View, path: bytes, directory: int, name: bytes, *, sync: bool = True
) -> Traits:
    """Make what a union has at `path` under a free name; a directory without its entries."""
    node, status = view.need(path)
    traits = traits_of_view(view, node, status)
    make(directory, name, traits, lambda: view.content(node), sync=sync)
    return traits


def copy_tree(source: int, name: bytes, target: int, new: bytes) -> None:
    """Copy what `name` in `source` is, with all below it, to the free name `new` in `target`.

    Hard links within the tree stay hard links. Raises OSError; nothing is then left.
    """
    try:
        _copy_below(source, name, target, new)
    except BaseException:
        _discard(target, new)
        raise


def _copy_below(source: int, name: bytes, target: int, new: bytes) -> None:
    seen: dict[tuple[int, int], bytes] = {}
    traits = traits_of_host(source, name)
    _copy_one(source, name, traits, target, new)
    if not stat.S_ISDIR(traits.mode):
        return
    from_top = os.open(name, _DIRECTORY, dir_fd=source)
    to_top = os.open(new, _DIRECTORY, dir_fd=target)
    made: list[tuple[bytes, Traits]] = [(b".", traits)]
    try:
        steps = [b"."]
        while steps:
            path = steps.pop()
            here = os.open(path, _DIRECTORY, dir_fd=from_top)
            there = os.open(path, _DIRECTORY, dir_fd=to_top)
            try:
                for each in os.listdir(b"/proc/self/fd/%d" % here):
                    traits = traits_of_host(here, each)
                    below = path + b"/" + each
                    status = os.stat(each, dir_fd=here, follow_symlinks=False)
                    key = status.st_dev, status.st_ino
                    if status.st_nlink > 1 and key in seen:
                        os.link(
                            seen[key], each, src_dir_fd=to_top, dst_dir_fd=there,
                            follow_symlinks=False,
                        )  # fmt: skip
                        continue
                    _copy_one(here, each, traits, there, each)
                    if stat.S_ISDIR(traits.mode):
                        steps.append(below)
                        made.append((below, traits))
                    elif status.st_nlink > 1:
                        seen[key] = below
            finally:
                os.close(here)
                os.close(there)
        # Entries that were made moved the times of their directories.
        for path, traits in made:
            os.utime(path, ns=(traits.atime, traits.mtime), dir_fd=to_top, follow_symlinks=False)
    finally:
        os.close(from_top)
        os.close(to_top)


def _copy_one(source: int, name: bytes, traits: Traits, target: int, new: bytes) -> None:
    @contextmanager
    def content() -> Iterator[int]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=source)
        try:
            yield fd
        finally:
            os.close(fd)

    make(target, new, traits, content)
