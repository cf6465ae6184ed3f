# SPDX-License-Identifier: GPL-3.0-or-later
"""How a pyfuse3 session begins and ends: signals, unmounting from outside, what is left."""

from __future__ import annotations

import errno
import mmap
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.clock import wait_until
from tests.support.layers import Layers, make_layers
from tests.support.mounttable import mount_at, run
from tests.support.user import as_user
from tests.transport.aside import Aside
from tests.transport.conftest import Serve
from tests.transport.pyfuse_served import Served

USER = pwd.getpwnam("nobody").pw_uid  # fusermount3 asks for a user with a name


def inside(path: Path, user: int | None = None) -> subprocess.Popen[bytes]:
    """A process with its working directory in a tree, which keeps the tree busy."""
    process = subprocess.Popen(
        ["sh", "-c", 'cd "$0" && echo && exec cat', str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=user,
        group=user,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_unmounts(layers: Layers, serve: Serve, number: int) -> None:
    served = serve()
    (layers.merged / "file").write_bytes(b"x")
    served.signal(number)
    served.wait()
    assert mount_at(layers.merged) is None
    assert (layers.upper / "file").read_bytes() == b"x"
    state = served.last_state()
    assert (state.lookups, state.files) == (0, 0)


def test_busy_mount_is_detached(layers: Layers, serve: Serve) -> None:
    served = serve()
    (layers.merged / "file").write_bytes(b"x")
    guest = inside(layers.merged)
    fd = os.open(layers.merged / "file", os.O_RDONLY)
    served.signal(signal.SIGTERM)
    served.wait()
    assert mount_at(layers.merged) is None
    with pytest.raises(OSError, match=r"not connected|connection abort") as caught:
        os.fstat(fd)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    os.close(fd)
    end(guest)
    state = served.last_state()
    assert (state.lookups, state.files) == (0, 0)


@pytest.mark.parametrize("busy", [False, True])
def test_mapped_changes_are_written_before_the_end(
    layers: Layers, serve: Serve, busy: bool
) -> None:
    (layers.lower / "file").write_bytes(bytes(8192))
    served = serve()
    with open(layers.merged / "file", "r+b") as stream:
        shared = mmap.mmap(stream.fileno(), 8192)
    shared[4096:4101] = b"dirty"
    if not busy:
        shared.close()
    served.signal(signal.SIGTERM)
    served.wait()
    assert (layers.upper / "file").read_bytes()[4096:4101] == b"dirty"
    shared.close()


def test_second_signal_ends_at_once(layers: Layers, serve: Serve) -> None:
    """The first waits for the requests under way, here for a copy that nobody lets go on."""
    data = os.urandom(3 << 20)
    (layers.lower / "large").write_bytes(data)
    fifo = layers.root / "held"
    os.mkfifo(fifo)
    served = serve(held=fifo)

    def chmod() -> None:
        with pytest.raises(OSError, match=r"not connected|connection abort"):
            os.chmod(layers.merged / "large", 0o600)

    work = Aside(chmod)
    wait_until(lambda: served.state()["copy"] == 1, "the copy has begun")
    served.signal(signal.SIGTERM)
    wait_until(lambda: mount_at(layers.merged) is None, "the mount is detached")
    assert not work.done
    served.signal(signal.SIGTERM)
    served.wait()
    work.join()
    assert os.listdir(layers.upper) == []
    serve()
    assert (layers.merged / "large").read_bytes() == data
    os.chmod(layers.merged / "large", 0o600)


def test_unmounted_from_outside(layers: Layers, serve: Serve) -> None:
    served = serve()
    (layers.merged / "file").write_bytes(b"x")
    run("umount", str(layers.merged))
    served.wait()
    state = served.last_state()
    assert (state.lookups, state.files) == (0, 0)


def test_detached_from_outside_while_busy(layers: Layers, serve: Serve) -> None:
    served = serve()
    (layers.merged / "file").write_bytes(b"x")
    fd = os.open(layers.merged / "file", os.O_RDWR)
    run("umount", "--lazy", str(layers.merged))
    assert os.pwrite(fd, b"still served", 0) == 12
    assert served.process is not None
    assert served.process.poll() is None
    os.close(fd)
    served.wait()
    assert (layers.upper / "file").read_bytes() == b"still served"


def test_what_lies_below_is_not_unmounted(layers: Layers, serve: Serve) -> None:
    """Something else on the same mount point outlives the session."""
    run("mount", "-t", "tmpfs", "below", str(layers.merged))
    served = serve()
    served.signal(signal.SIGTERM)
    served.wait()
    entry = mount_at(layers.merged)
    assert entry is not None
    assert entry.source == b"below"
    run("umount", str(layers.merged))


def test_mount_in_another_namespace(layers: Layers, serve: Serve) -> None:
    """A copy of the mount elsewhere does not keep the daemon from ending."""
    served = serve()
    guest = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", "echo; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert guest.stdout is not None
    guest.stdout.readline()
    served.signal(signal.SIGTERM)
    served.wait()
    end(guest)


def test_aborted_connection(layers: Layers, serve: Serve) -> None:
    served = serve()
    entry = mount_at(layers.merged)
    assert entry is not None
    control = Path("/sys/fs/fuse/connections")
    if not (control / str(entry.device[1])).exists():
        run("mount", "-t", "fusectl", "none", str(control))
    (control / str(entry.device[1]) / "abort").write_text("1")
    served.wait()
    assert mount_at(layers.merged) is None


def test_descriptors_end_with_the_session(layers: Layers, serve: Serve) -> None:
    served = serve()
    before = served.state()
    for number in range(20):
        (layers.merged / f"{number}").write_bytes(b"x")
    kept = [os.open(layers.merged / f"{number}", os.O_RDWR) for number in range(20)]
    kept.append(os.open(layers.merged, os.O_RDONLY))
    assert served.state().files == 20
    served.signal(signal.SIGTERM)
    served.wait()
    assert served.last_state().descriptors <= before.descriptors
    for fd in kept:
        os.close(fd)


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file"), ("file", "directory")])
def test_bad_mount_point(layers: Layers, name: str, reason: str) -> None:
    (layers.root / "file").touch()
    served = Served(layers, session={"mountpoint": str(layers.root / name)})
    with pytest.raises(AssertionError):
        served.start()
    served.wait(1)
    lines = served.log().splitlines()
    assert len(lines) == 1, served.log()
    assert str(layers.root / name) in lines[0]
    assert reason in lines[0]
    served.finish()


@pytest.fixture
def own_layers() -> Iterator[Layers]:
    """Layers of an ordinary user, who may use /dev/fuse as udev sets it up."""
    layers = make_layers()
    for path in (layers.root, layers.lower, layers.upper, layers.work, layers.merged):
        os.chown(path, USER, USER)
    mode = os.stat("/dev/fuse").st_mode
    os.chmod("/dev/fuse", 0o666)
    yield layers
    os.chmod("/dev/fuse", stat.S_IMODE(mode))
    layers.remove()


def served_as_user(layers: Layers) -> Served:
    return Served(layers, user=USER, config={"userxattr": True}).start()


def test_ordinary_user(own_layers: Layers) -> None:
    layers = own_layers
    as_user(USER, lambda: (layers.lower / "file").write_bytes(b"lower"))
    served = served_as_user(layers)
    try:
        entry = mount_at(layers.merged)
        assert entry is not None
        assert {"nosuid", "nodev"} <= entry.options
        assert "allow_other" not in entry.super_options

        def act() -> None:
            assert (layers.merged / "file").read_bytes() == b"lower"
            (layers.merged / "file").write_bytes(b"edited")
            os.mkdir(layers.merged / "dir")
            os.unlink(layers.merged / "file")
            assert os.listdir(layers.merged) == ["dir"]

        as_user(USER, act)
        served.signal(signal.SIGTERM)
        served.wait()
        assert mount_at(layers.merged) is None
    finally:
        served.finish()


@pytest.mark.parametrize("busy", [False, True])
def test_ordinary_user_ends(own_layers: Layers, busy: bool) -> None:
    served = served_as_user(own_layers)
    try:
        with ExitStack() as stack:
            if busy:
                stack.callback(end, inside(own_layers.merged, user=USER))
            served.signal(signal.SIGTERM)
            served.wait()
            assert mount_at(own_layers.merged) is None
    finally:
        served.finish()
