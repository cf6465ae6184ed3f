# SPDX-License-Identifier: GPL-3.0-or-later
"""How a session of the device transport begins and ends, for root and for others."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clock import wait_until
from tests.support.daemon import environment, wait_gone
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, run, unmount_all
from tests.support.user import as_user
from tests.transport.device_served import DeviceServed, Start
from unionfs.config import SessionConfig
from unionfs.errors import UnionError
from unionfs.fuse import mounting

USER = 65534


@pytest.fixture
def served(layers: Layers, start: Start) -> DeviceServed:
    (layers.lower / "file").write_bytes(b"lower")
    return start(layers)


@pytest.fixture
def users(layers: Layers) -> Iterator[Layers]:
    """Layers of an ordinary user, who may use /dev/fuse as udev sets it up."""
    for path in (layers.lower, layers.upper, layers.work, layers.merged):
        os.chown(path, USER, USER)
    (layers.lower / "file").write_bytes(b"lower")
    os.chown(layers.lower / "file", USER, USER)
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    yield layers
    os.chmod("/dev/fuse", mode)


def test_what_the_mount_table_shows(layers: Layers, start: Start) -> None:
    start(layers, session={"fsname": "my layers, all", "nosuid": True, "noexec": True})
    entry = mount_at(layers.merged)
    assert entry is not None
    assert (entry.fstype, entry.source) == ("fuse.lamina", b"my layers, all")
    assert {"nosuid", "noexec", "rw"} <= entry.options
    assert {"default_permissions", "allow_other"} <= entry.super_options


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_takes_the_mount_down(served: DeviceServed, number: signal.Signals) -> None:
    (served.merged / "new").write_bytes(b"x")
    os.kill(served.pid, number)
    served.wait()
    assert mount_at(served.merged) is None


def test_signal_while_the_mount_is_in_use(served: DeviceServed) -> None:
    fd = os.open(served.merged / "file", os.O_RDONLY)
    os.kill(served.pid, signal.SIGTERM)
    served.wait()
    assert mount_at(served.merged) is None
    with pytest.raises(OSError, match="not connected"):
        os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    with contextlib.suppress(OSError):  # close(2) tells that the daemon is gone
        os.close(fd)


@pytest.mark.parametrize("passthrough", [True, False])
def test_what_was_mapped_is_written_before_the_end(
    layers: Layers, start: Start, passthrough: bool
) -> None:
    served = start(layers, session={"passthrough": passthrough})
    path = layers.merged / "mapped"
    path.write_bytes(b"a" * 4096)
    with open(path, "r+b") as stream:
        mapped = mmap.mmap(stream.fileno(), 4096)
        mapped[:5] = b"dirty"
        os.kill(served.pid, signal.SIGTERM)
        served.wait()
        assert (layers.upper / "mapped").read_bytes()[:5] == b"dirty"
        mapped.close()


def test_unmount_from_outside(served: DeviceServed) -> None:
    (served.merged / "new").write_bytes(b"x")
    served.settled()
    run("umount", str(served.merged))
    served.wait()
    state = served.last_state()
    assert (state.handles, state.files, state.descriptors) == (0, 0, 0)


def test_lazy_unmount_serves_on_until_the_last_user_leaves(served: DeviceServed) -> None:
    with open(served.merged / "file", "r+b", 0) as stream:
        run("umount", "--lazy", str(served.merged))
        assert mount_at(served.merged) is None
        stream.write(b"still")
        assert os.fstat(stream.fileno()).st_size == 5
        assert served.process is not None
        assert served.process.poll() is None
    served.wait()
    assert (served.layers.upper / "file").read_bytes() == b"still"


def test_mount_covered_by_another_is_left_alone(served: DeviceServed) -> None:
    run("mount", "-t", "tmpfs", "cover", str(served.merged))
    os.kill(served.pid, signal.SIGTERM)
    served.wait()
    entry = mount_at(served.merged)
    assert entry is not None
    assert entry.fstype == "tmpfs"
    assert unmount_all(served.merged) == 2


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[Path]:
    run("mount", "-t", "fusectl", "fusectl", str(tmp_path))
    yield tmp_path
    run("umount", str(tmp_path))


def test_abort_ends_the_daemon_and_the_mount(served: DeviceServed, connections: Path) -> None:
    entry = mount_at(served.merged)
    assert entry is not None
    (connections / str(entry.device[1]) / "abort").write_text("1")
    served.wait()
    assert mount_at(served.merged) is None


def test_kill_leaves_a_dead_mount_and_whole_layers(served: DeviceServed, layers: Layers) -> None:
    (served.merged / "new").write_bytes(b"x")
    os.kill(served.pid, signal.SIGKILL)
    assert served.process is not None
    served.process.wait()
    with pytest.raises(OSError, match="not connected"):
        os.stat(served.merged / "file")
    assert unmount_all(served.merged) == 1
    again = DeviceServed(layers).start()
    assert (again.merged / "new").read_bytes() == b"x"
    again.finish()


def test_signal_under_load(served: DeviceServed) -> None:
    """Requests of clients that go on and on do not keep the daemon from ending."""
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            try:
                os.stat(served.merged / f"none-{hammering[0]}")
                hammering[0] += 1
            except OSError:
                hammering[0] += 1

    hammering = [0]
    threads = [threading.Thread(target=hammer) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: hammering[0] > 100, "the load is on")
    os.kill(served.pid, signal.SIGTERM)
    served.wait()
    stop.set()
    for thread in threads:
        thread.join()


def test_idle_daemon_uses_no_processor(served: DeviceServed) -> None:
    """Under 0.1 % of a CPU: in two seconds at rest less than a tick, after a burst of work."""
    for number in range(200):
        (served.merged / f"{number}").write_bytes(b"x")
    served.settled()

    def used() -> int:
        fields = Path(f"/proc/{served.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = used()
    idle = threading.Event()
    idle.wait(2.0)
    assert used() - before <= 1


# -- beginnings that fail


def test_mount_point_that_is_not_there(layers: Layers) -> None:
    session = SessionConfig(mountpoint=bytes(layers.root / "none"))
    with pytest.raises(UnionError, match=r"cannot mount on .*/none: No such file or directory"):
        mounting.mount(session)


def test_mount_point_that_is_a_file(layers: Layers) -> None:
    (layers.root / "plain").write_bytes(b"")
    session = SessionConfig(mountpoint=bytes(layers.root / "plain"))
    with pytest.raises(UnionError, match=r"cannot mount on .*/plain: Not a directory"):
        mounting.mount(session)


# -- ordinary users


def test_ordinary_user(users: Layers, start: Start) -> None:
    served = start(users, user=USER, config={"userxattr": True})
    entry = mount_at(users.merged)
    assert entry is not None
    assert entry.fstype == "fuse.lamina"
    assert {"nosuid", "nodev"} <= entry.options
    assert f"user_id={USER}" in entry.super_options

    def work() -> None:
        merged = users.merged
        assert (merged / "file").read_bytes() == b"lower"
        (merged / "file").write_bytes(b"edited")
        (merged / "new").write_bytes(b"x" * 300_000)
        assert (merged / "new").read_bytes() == b"x" * 300_000
        os.mkdir(merged / "d")
        os.rename(merged / "new", merged / "d/new")
        os.unlink(merged / "file")
        assert sorted(os.listdir(merged)) == ["d"]

    as_user(USER, work)
    state = served.settled()
    assert not state.passthrough
    assert state["READ"] > 0
    os.kill(served.pid, signal.SIGTERM)
    served.wait()
    assert mount_at(users.merged) is None
    assert (users.upper / "d/new").read_bytes() == b"x" * 300_000


def test_ordinary_user_while_the_mount_is_in_use(users: Layers, start: Start) -> None:
    served = start(users, user=USER, config={"userxattr": True})

    daemon = served.pid

    def hold() -> None:
        fd = os.open(users.merged / "file", os.O_RDONLY)
        os.kill(daemon, signal.SIGTERM)
        wait_gone(daemon)
        with contextlib.suppress(OSError):
            os.close(fd)

    as_user(USER, hold)
    assert mount_at(users.merged) is None
    served.wait()


def test_refusal_of_fusermount3_is_passed_on(users: Layers) -> None:
    """A directory that the user may not write to cannot be mounted on (fusermount3(1))."""
    layers = users
    os.chown(layers.merged, 0, 0)

    def attempt() -> str:
        session = SessionConfig(mountpoint=bytes(layers.merged), allow_other=False)
        try:
            mounting.mount(session)
        except UnionError as error:
            return str(error)
        return "mounted"

    message = as_user(USER, attempt)
    assert message.startswith(f"cannot mount on {layers.merged}: ")
    assert "no write access" in message
    assert "\n" not in message


def test_no_fusermount3(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "_helper", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    session = SessionConfig(mountpoint=bytes(layers.merged))
    with pytest.raises(UnionError, match="fusermount3 is not installed"):
        mounting.mount(session)


def test_option_values_with_commas_reach_fusermount3(users: Layers, start: Start) -> None:
    start(
        users,
        user=USER,
        config={"userxattr": True},
        session={"fsname": "a,b\\c"},
    )
    entry = mount_at(users.merged)
    assert entry is not None
    assert entry.source == b"a,b\\c"


def test_importing_has_no_side_effects() -> None:
    """No thread, no descriptor, no signal handler, and nothing that only some need."""
    code = """
import os, signal, sys, threading
before = set(os.listdir("/proc/self/fd"))
import unionfs.fuse.device
assert set(os.listdir("/proc/self/fd")) == before
assert threading.active_count() == 1
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert not {"pyfuse3", "trio", "subprocess", "socket", "asyncio"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
