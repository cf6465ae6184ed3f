# SPDX-License-Identifier: GPL-3.0-or-later
"""Long copy-ups hold up nobody but those who need them, and can be left by dying processes."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.clock import scaled, wait_until
from tests.support.layers import Layers
from tests.transport.device_served import DeviceServed, Start
from unionfs.fuse.workers import Pace, Workers

SIZE = 4 << 20


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "held"
    os.mkfifo(path)
    return path


@pytest.fixture
def served(layers: Layers, start: Start, fifo: Path) -> DeviceServed:
    (layers.lower / "large").write_bytes(b"x" * SIZE)
    (layers.lower / "dir").mkdir()
    (layers.lower / "elsewhere").mkdir()
    (layers.lower / "elsewhere/small").write_bytes(b"small")
    return start(layers, held=fifo)


def copies(served: DeviceServed) -> list[Path]:
    """What the work directory holds but for the whiteout that is kept there to be linked."""
    work = served.layers.work / "work"
    return [path for path in work.iterdir() if path.name != "whiteout"]


def let_go(fifo: Path) -> None:
    """Let one copy that waits, or is about to, run."""
    with open(fifo, "wb"):
        pass


def begin(pool: ThreadPoolExecutor, served: DeviceServed, work: Callable[[], None]) -> Future[None]:
    """Start a change that copies up, and wait until the copy is under way."""
    future = pool.submit(work)
    wait_until(lambda: bool(copies(served)), "the copy-up has begun")
    return future


CHANGES: dict[str, Callable[[Path], None]] = {
    "write": lambda merged: (merged / "large").open("r+b").close(),
    "chmod": lambda merged: os.chmod(merged / "large", 0o600),
    "truncate": lambda merged: os.truncate(merged / "large", SIZE - 1),
    "setxattr": lambda merged: os.setxattr(merged / "large", "user.a", b"1"),
    "link": lambda merged: os.link(merged / "large", merged / "dir/linked"),
    "rename": lambda merged: os.rename(merged / "large", merged / "dir/renamed"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_others_are_served_meanwhile(served: DeviceServed, fifo: Path, change: str) -> None:
    merged = served.merged
    # While a rename is under way the VFS lets nobody look up new names in its directories.
    elsewhere = merged / "elsewhere"
    os.lstat(elsewhere / "small")
    with ThreadPoolExecutor(1) as pool:
        future = begin(pool, served, lambda: CHANGES[change](merged))
        try:
            (elsewhere / "small").write_bytes(b"changed")
            assert (elsewhere / "small").read_bytes() == b"changed"
            os.mkdir(elsewhere / "made")
            assert not future.done()
        finally:
            let_go(fifo)
        future.result(scaled(20))
    assert not copies(served)


def test_others_are_served_while_a_metadata_only_copy_is_completed(
    layers: Layers, start: Start, fifo: Path
) -> None:
    (layers.lower / "large").write_bytes(b"x" * SIZE)
    os.utime(layers.lower / "large", (1, 2))
    served = start(layers, held=fifo, config={"metacopy": True})
    large = served.merged / "large"
    os.chmod(large, 0o600)
    with ThreadPoolExecutor(2) as pool:
        opening = pool.submit(lambda: os.open(large, os.O_RDWR))
        wait_until(lambda: served.state()["OPEN"] >= 1, "the open has come")
        touching = pool.submit(os.utime, large, (3, 4))
        os.mkdir(served.merged / "made")
        assert large.read_bytes() == b"x" * SIZE
        assert not opening.done()
        let_go(fifo)
        fd = opening.result(scaled(20))
        touching.result(scaled(20))
    assert os.stat(large).st_mtime == 4
    os.pwrite(fd, b"y", 0)
    os.close(fd)
    assert large.read_bytes() == b"y" + b"x" * (SIZE - 1)
    assert os.stat(large).st_mode & 0o777 == 0o600
    assert (layers.upper / "large").stat().st_blocks * 512 >= SIZE
    assert "trusted.overlay.metacopy" not in os.listxattr(layers.upper / "large")


def test_all_who_need_the_copy_wait_for_the_one(served: DeviceServed, fifo: Path) -> None:
    merged = served.merged

    def append(number: int) -> None:
        fd = os.open(merged / "large", os.O_WRONLY)
        os.pwrite(fd, b"%d" % number, SIZE + number)
        os.close(fd)

    with ThreadPoolExecutor(5) as pool:
        futures = [begin(pool, served, lambda: append(0))]
        futures += [pool.submit(append, number) for number in range(1, 4)]
        futures.append(pool.submit(os.chmod, merged / "large", 0o640))
        wait_until(lambda: served.state()["OPEN"] >= 4, "all have asked")
        let_go(fifo)
        for future in futures:
            future.result(scaled(20))
    found = os.stat(merged / "large")
    assert (found.st_size, found.st_mode & 0o777) == (SIZE + 4, 0o640)
    with open(merged / "large", "rb") as stream:
        stream.seek(SIZE)
        assert stream.read() == b"0123"


def test_truncating_open_does_not_wait_for_content(served: DeviceServed) -> None:
    (served.merged / "large").write_bytes(b"new")
    assert (served.merged / "large").read_bytes() == b"new"


@pytest.mark.parametrize("how", ["unlink", "replace"])
def test_file_that_is_removed_while_it_is_copied(
    served: DeviceServed, fifo: Path, how: str
) -> None:
    merged = served.merged
    written: list[bytes] = []

    def change() -> None:
        with open(merged / "large", "r+b", 0) as stream:
            stream.write(b"mine")
            written.append(os.pread(stream.fileno(), 6, 0))

    with ThreadPoolExecutor(1) as pool:
        future = begin(pool, served, change)
        if how == "unlink":
            os.unlink(merged / "large")
        else:
            (merged / "other").write_bytes(b"other")
            os.rename(merged / "other", merged / "large")
        let_go(fifo)
        future.result(scaled(20))
    assert written == [b"minexx"]
    if how == "unlink":
        assert not (merged / "large").exists()
        assert "large" not in os.listdir(merged)
    else:
        assert (merged / "large").read_bytes() == b"other"
    assert not copies(served)


def opener(served: DeviceServed) -> int:
    """A process that waits in open(2) for a copy-up; it ends with status 7 if that succeeds."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        try:
            os.close(os.open(served.merged / "large", os.O_RDWR))
            os._exit(7)
        finally:
            os._exit(1)
    wait_until(lambda: bool(copies(served)), "the copy-up has begun")
    return pid


def test_dying_process_does_not_wait(served: DeviceServed, fifo: Path) -> None:
    pid = opener(served)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)  # while the copy is still held
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert served.state()["INTERRUPT"] == 1
    let_go(fifo)
    wait_until(lambda: not copies(served), "the copy is done with")
    assert os.stat(served.merged / "large").st_size == SIZE


def test_signal_that_is_not_fatal_interrupts_nothing(served: DeviceServed, fifo: Path) -> None:
    """As on other filesystems (signal(7)): programs do not expect EINTR from open(2) of a file."""
    pid = opener(served)
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: served.state()["INTERRUPT"] == 1, "the kernel has told of the signal")
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    let_go(fifo)
    _, status = os.waitpid(pid, 0)
    assert os.WEXITSTATUS(status) == 7


def test_full_disc_while_copying(new_layers: Callable[..., Layers], start: Start) -> None:
    layers = new_layers("tmpfs", "8m")
    (layers.lower / "large").write_bytes(b"x" * (5 << 20))
    served = start(layers)
    with pytest.raises(OSError, match="No space left") as caught:
        os.open(layers.merged / "large", os.O_RDWR)
    assert caught.value.errno == errno.ENOSPC
    assert not list((layers.work / "work").iterdir())
    assert (layers.merged / "large").read_bytes() == b"x" * (5 << 20)
    assert served.settled().nodes < 5


def test_end_while_copying(served: DeviceServed, fifo: Path) -> None:
    """The daemon ends with the step the copy is at; nothing half is left."""
    merged = served.merged
    with ThreadPoolExecutor(1) as pool:
        future = begin(pool, served, lambda: (merged / "large").open("r+b").close())
        os.kill(served.pid, signal.SIGTERM)
        time.sleep(0.05)
        let_go(fifo)
        served.wait()
        assert isinstance(future.exception(scaled(20)), OSError | None)
    assert not copies(served)
    upper = served.layers.upper / "large"
    assert not upper.exists() or upper.stat().st_size == SIZE


# -- the pool


def test_workers_run_all_jobs_and_end() -> None:
    workers = Workers()
    done: list[int] = []
    for number in range(100):
        workers.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    workers.close()
    assert sorted(done) == list(range(100))
    assert threading.active_count() == 1


def test_workers_start_no_thread_before_there_is_work() -> None:
    before = threading.active_count()
    workers = Workers()
    assert threading.active_count() == before
    workers.close()


def test_workers_run_jobs_at_the_same_time() -> None:
    workers = Workers()
    barrier = threading.Barrier(3)
    for _ in range(3):
        workers.submit(lambda: [barrier.wait(scaled(10))].clear())
    workers.close()
    assert not barrier.broken


def test_pace_follows_what_work_takes() -> None:
    pace = Pace(1000)
    seen = [pace.slow]
    for step, times in ((5000, 10), (10, 30)):
        for _ in range(times):
            pace.took(step)
        seen.append(pace.slow)
    assert seen == [False, True, False]
