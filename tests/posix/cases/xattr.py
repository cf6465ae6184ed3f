# SPDX-License-Identifier: GPL-3.0-or-later
"""setxattr(2), getxattr(2), listxattr(2), removexattr(2), xattr(7)."""

from __future__ import annotations

import ctypes
import errno
import os

from tests.posix.expect import fails, times, unchanged
from tests.posix.scene import ANNE, BERT, device, directory, fifo, file
from tests.posix.table import Steps
from tests.support.user import as_user

_libc = ctypes.CDLL(None, use_errno=True)


def _raw(function: str, *arguments: object) -> int:
    """A call with a buffer of one's own, which the os module hides; OSError as there."""
    result: int = getattr(_libc, function)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def set_get_list_remove() -> Steps:
    """The life of an attribute, on files and directories."""
    file("f")
    directory("d")
    yield
    for name in ("f", "d"):
        assert os.listxattr(name) == []
        os.setxattr(name, "user.one", b"1")
        os.setxattr(name, "user.two", b"\0\xff\n")
        assert sorted(os.listxattr(name)) == ["user.one", "user.two"]
        assert os.getxattr(name, "user.two") == b"\0\xff\n"
        os.setxattr(name, "user.one", b"other")
        assert os.getxattr(name, "user.one") == b"other"
        os.removexattr(name, "user.one")
        assert os.listxattr(name) == ["user.two"]
        with fails(errno.ENODATA):
            os.getxattr(name, "user.one")


def of_a_layer() -> Steps:
    """Attributes that were there stay through a change, and can be changed themselves."""
    for make, name in ((file, "f"), (directory, "d")):
        make(name)
        for key in ("user.a", "user.b", "trusted.c", "security.d"):
            os.setxattr(name, key, key.encode())
    yield
    for name in ("f", "d"):
        os.chmod(name, 0o700)
        assert sorted(os.listxattr(name)) == ["security.d", "trusted.c", "user.a", "user.b"]
        for key in os.listxattr(name):
            assert os.getxattr(name, key) == key.encode()
        os.removexattr(name, "user.a")
        os.setxattr(name, "user.b", b"new")
        with fails(errno.ENODATA):
            os.getxattr(name, "user.a")
        assert os.getxattr(name, "user.b") == b"new"


def by_descriptor() -> Steps:
    """fsetxattr(2) and its family, on a removed file too."""
    file("f")
    yield
    fd = os.open("f", os.O_RDWR)
    os.setxattr(fd, "user.k", b"v")
    assert os.getxattr("f", "user.k") == b"v"
    os.unlink("f")
    os.setxattr(fd, "user.l", b"w")
    assert sorted(os.listxattr(fd)) == ["user.k", "user.l"]
    os.removexattr(fd, "user.k")
    assert os.listxattr(fd) == ["user.l"]
    os.close(fd)


def create_and_replace() -> Steps:
    """EEXIST with XATTR_CREATE, ENODATA with XATTR_REPLACE."""
    file("f")
    os.setxattr("f", "user.old", b"1")
    yield
    with fails(errno.EEXIST):
        os.setxattr("f", "user.old", b"2", os.XATTR_CREATE)
    with fails(errno.ENODATA):
        os.setxattr("f", "user.new", b"2", os.XATTR_REPLACE)
    os.setxattr("f", "user.new", b"3", os.XATTR_CREATE)
    os.setxattr("f", "user.old", b"4", os.XATTR_REPLACE)
    assert os.getxattr("f", "user.new") == b"3"
    assert os.getxattr("f", "user.old") == b"4"


def missing() -> Steps:
    """ENODATA from reading and removing."""
    file("f")
    directory("d")
    yield
    with unchanged("f", "d"):
        for name in ("f", "d"):
            for key in ("user.x", "trusted.x", "security.x"):
                with fails(errno.ENODATA):
                    os.getxattr(name, key)
                with fails(errno.ENODATA):
                    os.removexattr(name, key)


def buffer_too_small() -> Steps:
    """ERANGE; with a size of 0 the size that is needed."""
    file("f")
    os.setxattr("f", "user.key", b"0123456789")
    yield
    buffer = ctypes.create_string_buffer(100)
    assert _raw("getxattr", b"f", b"user.key", None, 0) == 10
    with fails(errno.ERANGE):
        _raw("getxattr", b"f", b"user.key", buffer, 9)
    assert _raw("getxattr", b"f", b"user.key", buffer, 10) == 10
    assert buffer.raw[:10] == b"0123456789"
    assert _raw("listxattr", b"f", None, 0) == 9
    with fails(errno.ERANGE):
        _raw("listxattr", b"f", buffer, 8)
    assert _raw("listxattr", b"f", buffer, 9) == 9
    assert buffer.raw[:9] == b"user.key\0"


def sizes() -> Steps:
    """Empty values and values of a few KiB; E2BIG above 64 KiB."""
    file("f")
    yield
    for value in (b"", b"x", b"y" * 2000):
        os.setxattr("f", "user.k", value)
        assert os.getxattr("f", "user.k") == value
    with fails(errno.E2BIG):
        os.setxattr("f", "user.k", b"z" * 65_537)
    assert os.getxattr("f", "user.k") == b"y" * 2000


def names() -> Steps:
    """Names of 255 bytes and of any bytes; ERANGE for longer and empty ones."""
    file("f")
    longest = b"user." + b"n" * 250
    yield
    for name in (longest, b"user.\xff\xfe", b"user.with space", b"user.a.b.c"):
        os.setxattr("f", name, name)
        assert os.getxattr("f", name) == name
    with fails(errno.ERANGE):
        os.setxattr("f", longest + b"n", b"")
    with fails(errno.ERANGE):
        os.setxattr("f", b"", b"")
    with fails(errno.EOPNOTSUPP):
        os.setxattr("f", "unknown.name", b"")
    with fails(errno.EOPNOTSUPP):
        os.getxattr("f", "unknown.name")
    with fails(errno.EINVAL, errno.EOPNOTSUPP):
        os.setxattr("f", "user.", b"")


def user_attributes_of_special_files() -> Steps:
    """EPERM: only files and directories have them (xattr(7))."""
    os.symlink("x", "link")
    fifo("fifo")
    device("device")
    yield
    for name in ("link", "fifo", "device"):
        with fails(errno.EPERM, what=name):
            os.setxattr(name, "user.k", b"v", follow_symlinks=False)
        with fails(errno.ENODATA, what=name):
            os.getxattr(name, "user.k", follow_symlinks=False)


def trusted_of_symlink() -> Steps:
    """Trusted attributes are for every type, links themselves too."""
    file("f")
    os.symlink("f", "link")
    fifo("fifo")
    yield
    for name in ("link", "fifo"):
        os.setxattr(name, "trusted.k", b"v", follow_symlinks=False)
        assert os.getxattr(name, "trusted.k", follow_symlinks=False) == b"v"
        assert os.listxattr(name, follow_symlinks=False) == ["trusted.k"]
    assert os.listxattr("f") == []
    os.setxattr("link", "user.through", b"v")
    assert os.listxattr("f") == ["user.through"]


def permission() -> Steps:
    """User attributes follow r and w of the file: EACCES."""
    file("closed", mode=0o600, uid=BERT)
    file("read", mode=0o644, uid=BERT)
    for name in ("closed", "read"):
        os.setxattr(name, "user.k", b"v")
    yield

    def act() -> None:
        with fails(errno.EACCES):
            os.getxattr("closed", "user.k")
        assert os.getxattr("read", "user.k") == b"v"
        for name in ("closed", "read"):
            with fails(errno.EACCES):
                os.setxattr(name, "user.k", b"w")
            with fails(errno.EACCES):
                os.removexattr(name, "user.k")

    as_user(ANNE, act)


def trusted_is_for_root() -> Steps:
    """Others neither see nor set trusted attributes."""
    file("f", mode=0o666, uid=ANNE)
    os.setxattr("f", "trusted.k", b"v")
    os.setxattr("f", "user.k", b"v")
    yield

    def act() -> None:
        assert os.listxattr("f") == ["user.k"]
        with fails(errno.ENODATA):
            os.getxattr("f", "trusted.k")
        with fails(errno.EPERM):
            os.setxattr("f", "trusted.k", b"w")
        with fails(errno.EPERM):
            os.removexattr("f", "trusted.k")

    as_user(ANNE, act)
    assert sorted(os.listxattr("f")) == ["trusted.k", "user.k"]


def sticky_directory() -> Steps:
    """EPERM: in a sticky directory of another's, user attributes are the owner's (xattr(7))."""
    directory("d", 0o1777)
    yield

    def act() -> None:
        with fails(errno.EPERM):
            os.setxattr("d", "user.k", b"v")

    as_user(ANNE, act)
    os.setxattr("d", "user.k", b"v")


def moves_ctime() -> Steps:
    """Setting and removing move the change time, not the modification time."""
    file("f")
    directory("d")
    yield
    with times(f="c", d="c", here=""):
        for name in ("f", "d"):
            os.setxattr(name, "user.k", b"v")
    with times(f="c", d="c"):
        for name in ("f", "d"):
            os.removexattr(name, "user.k")


def many() -> Steps:
    """A hundred small attributes."""
    file("f")
    yield
    wanted = {f"user.{number}": b"%d" % number for number in range(100)}
    for key, value in wanted.items():
        os.setxattr("f", key, value)
    assert {key: os.getxattr("f", key) for key in os.listxattr("f")} == wanted
