# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of pathname resolution (path_resolution(7)), for every call that takes a path."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from tests.posix.expect import exists, fails
from tests.posix.scene import ANNE, TOO_LONG, directory, file
from tests.posix.table import Steps
from tests.support.syscall import renameat2, utimensat
from tests.support.user import as_user

Call = Callable[[str], object]


def _open(flags: int) -> Call:
    def call(path: str) -> None:
        os.close(os.open(path, flags, 0o644))

    return call


# Calls on an object that is there, and calls that make one.
FINDING: dict[str, Call] = {
    "stat": os.stat,
    "lstat": os.lstat,
    "access": lambda path: os.stat(path) if os.access(path, os.F_OK) else _open(os.O_PATH)(path),
    "open": _open(os.O_RDONLY),
    "open_write": _open(os.O_WRONLY),
    "open_truncate": _open(os.O_WRONLY | os.O_TRUNC),
    "chmod": lambda path: os.chmod(path, 0o600),
    "chown": lambda path: os.chown(path, -1, 0),
    "lchown": lambda path: os.lchown(path, -1, 0),
    "truncate": lambda path: os.truncate(path, 0),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "readlink": os.readlink,
    "utimensat": lambda path: utimensat(path, (1, 0), (1, 0)),
    "rename_from": lambda path: os.rename(path, "made"),
    "exchange": lambda path: renameat2("spare", path, 2),
    "link_from": lambda path: os.link(path, "made", follow_symlinks=False),
    "getxattr": lambda path: os.getxattr(path, "user.x"),
    "setxattr": lambda path: os.setxattr(path, "user.x", b"x"),
    "removexattr": lambda path: os.removexattr(path, "user.x"),
    "listxattr": os.listxattr,
    "statvfs": os.statvfs,
    "listdir": os.listdir,
}
MAKING: dict[str, Call] = {
    "create": _open(os.O_CREAT | os.O_WRONLY),
    "create_exclusive": _open(os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod_file": lambda path: os.mknod(path, stat.S_IFREG | 0o644),
    "mknod_device": lambda path: os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 3)),
    "mknod_socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o644),
    "symlink": lambda path: os.symlink("target", path),
    "rename_to": lambda path: os.rename("spare", path),
    "link_to": lambda path: os.link("spare", path),
}
# Each resolves its last component too when that is a symbolic link.
FOLLOWING = {*FINDING, "create"} - {
    "lstat",
    "access",
    "lchown",
    "unlink",
    "rmdir",
    "readlink",
    "rename_from",
    "exchange",
    "link_from",
}


def _errors(name: str, call: Call) -> Callable[[], Steps]:
    def steps() -> Steps:
        file("spare")
        file("plain")
        directory("locked", 0o700)
        file("locked/inner", mode=0o666)
        os.symlink("loop", "loop")
        os.symlink("missing", "dangling")
        directory("home", 0o755, ANNE)
        yield
        missing = name in FINDING
        if missing:
            with fails(errno.ENOENT, what="a missing name:"):
                call("missing")
        with fails(errno.ENOENT, what="the empty path:"):
            call("")
        with fails(errno.ENOENT, what="a missing directory:"):
            call("missing/name")
        with fails(errno.ENOENT, what="through a dangling link:"):
            call("dangling/name")
        with fails(errno.ENOTDIR, what="below a file:"):
            call("plain/name")
        with fails(errno.ELOOP, what="through a loop:"):
            call("loop/name")
        with fails(errno.ENAMETOOLONG, what="a name of 256 bytes:"):
            call(TOO_LONG)
        with fails(errno.ENAMETOOLONG, what="a directory's name of 256 bytes:"):
            call(f"{TOO_LONG}/name")
        with fails(errno.ENAMETOOLONG, what="a path of 4096 bytes:"):
            call("./" * 2047 + "ab")
        if name in FOLLOWING:
            with fails(errno.ELOOP, what="a loop itself:"):
                call("loop")
            if missing:
                with fails(errno.ENOENT, what="a dangling link:"):
                    call("dangling")
        os.chmod(".", 0o777)
        target = "locked/inner" if missing else "locked/new"
        with fails(errno.EACCES, what="below a directory without search permission:"):
            as_user(ANNE, lambda: call(target))
        assert not exists("made")

    return steps


def _trailing_slash(name: str, call: Call) -> Callable[[], Steps]:
    def steps() -> Steps:
        file("spare")
        file("plain")
        yield
        with fails(errno.ENOTDIR, what="a file's name with a slash:"):
            call("plain/")

    return steps


def more_cases() -> Iterator[tuple[str, Callable[[], Steps]]]:
    """One case a call."""
    for name, call in (FINDING | MAKING).items():
        yield f"errors_of_{name}", _errors(name, call)
    for name, call in FINDING.items():
        yield f"slash_after_file_{name}", _trailing_slash(name, call)


def longest_path() -> Steps:
    """A path of 4095 bytes and its end fits PATH_MAX."""
    file("f", b"here")
    yield
    path = "./" * 2047 + "f"
    assert len(path) == 4095
    assert os.stat(path).st_size == 4


def forty_links() -> Steps:
    """path_resolution(7): at most 40 symbolic links in one resolution."""
    file("link0", b"end")
    for number in range(1, 42):
        os.symlink(f"link{number - 1}", f"link{number}")
    yield
    assert os.stat("link40").st_size == 3
    with fails(errno.ELOOP):
        os.stat("link41")


def dots() -> Steps:
    """`.` and `..` resolve to where they should."""
    directory("a")
    directory("a/b")
    yield
    assert os.stat("a/b/..").st_ino == os.stat("a").st_ino
    assert os.stat("a/b/../..").st_ino == os.stat(".").st_ino
    assert os.stat("a/.").st_ino == os.stat("a").st_ino


def slash_after_directory() -> Steps:
    """A directory's name may end in a slash, also that of one to be made."""
    directory("d")
    os.symlink("d", "link")
    yield
    assert os.stat("d/").st_ino == os.lstat("link/").st_ino
    os.mkdir("e/")
    os.rename("e/", "f/")
    os.rmdir("f/")
    with fails(errno.ENOTDIR):
        os.rmdir("link/")


def slash_after_new_file() -> Steps:
    """Nothing but a directory can be made with a slash at the end of its name."""
    file("spare")
    yield
    with fails(errno.EISDIR):
        os.open("new/", os.O_CREAT | os.O_WRONLY, 0o644)
    for make in (
        os.mkfifo,
        lambda name: os.symlink("x", name),
        lambda name: os.link("spare", name),
    ):
        with fails(errno.ENOENT, errno.ENOTDIR):
            make("new/")
    with fails(errno.ENOTDIR):
        os.rename("spare", "new/")
    assert not exists("new")


def deeper_than_path_max() -> Steps:
    """A tree so deep that no path from its root can name its bottom works by chdir(2)."""
    yield
    start = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    name = "d" * 200
    depth = 25
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    file("bottom", b"deep")
    assert os.stat("bottom").st_size == 4
    os.rename("bottom", "floor")
    os.chmod("floor", 0o600)
    with fails(errno.ENAMETOOLONG):
        os.stat("/".join([name] * depth), dir_fd=start)
    os.unlink("floor")
    for _ in range(depth):
        os.chdir("..")
        os.rmdir(name)
    assert os.stat(".").st_ino == os.fstat(start).st_ino
    os.close(start)


def deep_objects_of_a_layer() -> Steps:
    """As before, where the deep objects were there already."""
    start = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    name = "e" * 200
    depth = 25
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    file("bottom", b"deep")
    os.fchdir(start)
    os.close(start)
    yield
    for _ in range(depth):
        os.chdir(name)
    with open("bottom", "ab") as stream:
        stream.write(b"er")
    assert os.stat("bottom").st_size == 6
    os.rename("bottom", "floor")
    os.unlink("floor")
    for _ in range(depth):
        os.chdir("..")
        os.rmdir(name)
