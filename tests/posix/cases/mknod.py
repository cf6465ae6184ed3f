# SPDX-License-Identifier: GPL-3.0-or-later
"""mknod(2), mkfifo(3), and the use of what they make."""

from __future__ import annotations

import errno
import os
import socket as sockets
import stat
from collections.abc import Callable
from pathlib import Path

from tests.posix.expect import exists, fails, mode, owner, times, unchanged
from tests.posix.scene import ANNE, device, fifo, file, one_of_each, open_house, socket
from tests.posix.table import Steps
from tests.support.user import as_user, in_child

TYPES = {
    "regular": (stat.S_IFREG, 0),
    "fifo": (stat.S_IFIFO, 0),
    "socket": (stat.S_IFSOCK, 0),
    "character": (stat.S_IFCHR, os.makedev(1, 3)),
    "block": (stat.S_IFBLK, os.makedev(7, 200)),
    "large": (stat.S_IFCHR, os.makedev(4000, 1_000_000)),
}


def every_type() -> Steps:
    """Type, device number, mode without umask, and owner are as asked."""
    yield
    for mask in (0, 0o027):
        os.umask(mask)
        for name, (kind, number) in TYPES.items():
            name = f"{name}{mask}"
            os.mknod(name, kind | 0o666, number)
            found = os.lstat(name)
            assert stat.S_IFMT(found.st_mode) == kind
            assert stat.S_IMODE(found.st_mode) == 0o666 & ~mask
            assert found.st_rdev == number
            assert found.st_nlink == 1
            assert found.st_size == 0
            assert owner(name) == (0, 0)


def keeps_device_number() -> Steps:
    """A change of mode, owner or name leaves type and number."""
    device("c", stat.S_IFCHR, 4000, 1_000_000)
    device("b", stat.S_IFBLK, 259, 65_537)
    yield
    for name, number in (("c", os.makedev(4000, 1_000_000)), ("b", os.makedev(259, 65_537))):
        kind = stat.S_IFMT(os.lstat(name).st_mode)
        os.chmod(name, 0o600)
        os.chown(name, ANNE, ANNE)
        os.rename(name, name + "2")
        os.link(name + "2", name)
        found = os.lstat(name)
        assert found.st_rdev == number
        assert stat.S_IFMT(found.st_mode) == kind


def existing_name() -> Steps:
    """EEXIST for a name of any type."""
    names = one_of_each()
    yield
    acts: list[Callable[[str], None]] = [
        os.mkfifo,
        lambda name: os.mknod(name, stat.S_IFREG | 0o644),
        lambda name: os.mknod(name, stat.S_IFCHR | 0o644, os.makedev(1, 3)),
    ]
    with unchanged(*names):
        for name in names:
            for act in acts:
                with fails(errno.EEXIST, what=name):
                    act(name)


def wrong_type() -> Steps:
    """EPERM for a directory, EINVAL for what is no type."""
    yield
    with fails(errno.EPERM):
        os.mknod("d", stat.S_IFDIR | 0o755)
    with fails(errno.EINVAL):
        os.mknod("l", stat.S_IFLNK | 0o755)
    assert os.listdir(".") == []


def devices_by_users() -> Steps:
    """EPERM for device nodes; FIFOs, sockets and files may be made."""
    open_house()
    yield

    def act() -> None:
        for kind in (stat.S_IFCHR, stat.S_IFBLK):
            with fails(errno.EPERM):
                os.mknod("node", kind | 0o666, os.makedev(1, 3))
        os.mknod("p", stat.S_IFIFO | 0o644)
        os.mknod("s", stat.S_IFSOCK | 0o644)
        os.mknod("f", stat.S_IFREG | 0o644)

    as_user(ANNE, act)
    assert not exists("node")
    assert owner("p") == owner("s") == owner("f") == (ANNE, ANNE)


def moves_times() -> Steps:
    """The parent's times move."""
    yield
    with times(here="mc"):
        os.mkfifo("p")
    with times(here="mc"):
        os.mknod("n", stat.S_IFCHR | 0o600, os.makedev(1, 3))


def failure_moves_no_times() -> Steps:
    """A call that fails leaves the parent as it was."""
    fifo("p")
    yield
    with unchanged(".", "p"), fails(errno.EEXIST):
        os.mkfifo("p")


def null_device_works() -> Steps:
    """A device node in the tree is the device."""
    device("null")
    device("zero", minor=5)
    yield
    Path("null").write_bytes(b"gone")
    assert Path("null").read_bytes() == b""
    with open("zero", "rb") as stream:
        assert stream.read(1000) == bytes(1000)
    assert os.stat("null").st_size == 0


def device_without_driver() -> Steps:
    """ENXIO where there is no such device."""
    device("none", stat.S_IFCHR, 4000, 1)
    device("block", stat.S_IFBLK, 4000, 1)
    yield
    for name in ("none", "block"):
        with fails(errno.ENXIO, errno.ENODEV):
            os.open(name, os.O_RDONLY)


def fifo_without_reader() -> Steps:
    """ENXIO for O_WRONLY|O_NONBLOCK; a reader does not wait."""
    fifo("p")
    yield
    with fails(errno.ENXIO):
        os.open("p", os.O_WRONLY | os.O_NONBLOCK)
    reader = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open("p", os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"word")
    assert os.read(reader, 10) == b"word"
    with fails(errno.EAGAIN):
        os.read(reader, 1)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def fifo_between_processes() -> Steps:
    """A FIFO joins two processes that know only its name, or two of its names."""
    fifo("p")
    yield
    os.link("p", "q")

    def write() -> None:
        Path("q").write_bytes(b"through the pipe")

    reader = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
    in_child(write)
    assert os.read(reader, 100) == b"through the pipe"
    os.close(reader)


def socket_connects() -> Steps:
    """A bound UNIX socket is reached by its name, and gone when the name is."""
    yield
    server = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    server.bind("s")
    server.listen()
    assert stat.S_ISSOCK(os.lstat("s").st_mode)
    client = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    client.connect("s")
    client.sendall(b"hello")
    peer, _ = server.accept()
    assert peer.recv(10) == b"hello"
    os.rename("s", "t")
    second = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    second.connect("t")
    os.unlink("t")
    with fails(errno.ENOENT):
        sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM).connect("t")
    for one in (server, client, peer, second):
        one.close()


def socket_is_not_opened() -> Steps:
    """ENXIO from open(2); ECONNREFUSED from connect(2) where nobody listens."""
    socket("s")
    yield
    with fails(errno.ENXIO):
        os.open("s", os.O_RDONLY)
    client = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    with fails(errno.ECONNREFUSED):
        client.connect("s")
    client.close()


def socket_name_in_use() -> Steps:
    """EADDRINUSE from bind(2) where the name exists."""
    file("f")
    yield
    server = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    with fails(errno.EADDRINUSE):
        server.bind("f")
    server.close()


def mode_is_changeable_later() -> Steps:
    """chmod on what mknod made."""
    yield
    os.mknod("n", stat.S_IFREG | 0o600)
    os.chmod("n", 0o4755)
    assert mode("n") == 0o4755
