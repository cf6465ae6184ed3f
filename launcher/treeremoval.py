# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing trees of any depth, never by way of a link: what containers, volumes, layers and tries
leave.

What an ordinary user's container made may belong to the user's subordinate ids (subuid(5)), which
only root of a user namespace that has them may remove.
"""

from __future__ import annotations

import errno
import os
import stat

from launcher.typed import Final

__all__ = ["remove", "remove_at", "remove_own"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A container may nest directories far deeper than descriptors, or calls, can follow at once.
_DEEPEST: Final = 100


def remove(path: bytes) -> None:
    """Remove a directory and all that is in it, whoever it belongs to; nothing to do where it is
    gone. OSError.
    """
    try:
        remove_own(path)
    except PermissionError:
        if os.geteuid() == 0:
            raise
        _remove_as_root_of_a_namespace(path)


def remove_own(path: bytes) -> None:
    """As `remove`, of what the caller may remove itself.

    Not shutil's, which follows no tree to its end, and whose loading takes longer than an ordinary
    container's removal.
    """
    try:
        _remove(path, None)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise


def remove_at(directory: int, name: bytes) -> None:
    """Remove what is called `name` in a directory, and if it is one all that is in it; nothing to
    do where it is gone. OSError.
    """
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise  # EPERM: it is immutable
        _remove(name, directory)


def _remove(path: bytes, parent: int | None) -> None:
    top = os.open(path, _DIRECTORY, dir_fd=parent)
    try:
        # What lies too deep is moved up here, and is found the next time.
        while names := os.listdir(top):
            for name in names:
                _remove_in(top, os.fsencode(name), top, 0)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=parent)


def _remove_in(parent: int, name: bytes, top: int, depth: int) -> None:
    """Remove what is called `name` in the directory `parent`."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(name, dir_fd=parent)
        return
    try:
        with os.scandir(fd) as entries:
            found = [
                (os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in entries
            ]
        for each, is_directory in found:
            if not is_directory:
                os.unlink(each, dir_fd=fd)
            elif depth < _DEEPEST:
                _remove_in(fd, each, top, depth + 1)
            else:
                os.rename(each, os.urandom(16).hex(), src_dir_fd=fd, dst_dir_fd=top)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _remove_as_root_of_a_namespace(path: bytes) -> None:
    from launcher import idmap
    from launcher.supervisor import rootless

    in_it_read, in_it_write = os.pipe()
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(in_it_read)
            os.close(go_write)
            rootless.enter(users=True)
            os.write(in_it_write, b"i")
            if os.read(go_read, 1) == b"g":
                rootless.become_root()
                remove(path)
                code = 0
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(min(code, 255))
    os.close(in_it_write)
    os.close(go_read)
    try:
        if os.read(in_it_read, 1):
            idmap.write(pid, idmap.of_caller())
            os.write(go_write, b"g")
    finally:
        os.close(in_it_read)
        os.close(go_write)
        _, result = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(result)
    if code != 0:
        raise OSError(abs(code), os.strerror(abs(code)), path)
