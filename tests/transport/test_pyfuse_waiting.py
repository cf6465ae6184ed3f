# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that takes long keeps nobody else waiting, and is done once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clock import wait_until
from tests.support.layers import Layers
from tests.transport.aside import Aside
from tests.transport.conftest import Serve

LARGE = 3 << 20


@pytest.fixture
def fifo(layers: Layers) -> Path:
    path = layers.root / "held"
    os.mkfifo(path)
    return path


def let_go(fifo: Path, times: int = 1) -> None:
    """Let that many waiting copies or syncs run, one after another."""
    for _ in range(times):
        os.close(os.open(fifo, os.O_WRONLY))


def append(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, data)
    os.close(fd)


def test_large_copy_up_keeps_nobody_waiting(layers: Layers, serve: Serve, fifo: Path) -> None:
    data = os.urandom(LARGE)
    (layers.lower / "large").write_bytes(data)
    (layers.lower / "other").write_bytes(b"other")
    served = serve(held=fifo)
    large = layers.merged / "large"
    writers = [Aside(lambda: append(large, b"+")), Aside(lambda: append(large, b"-"))]
    wait_until(lambda: served.state()["copy"] == 1, "the copy has begun")
    assert (layers.merged / "other").read_bytes() == b"other"
    (layers.merged / "other").write_bytes(b"changed")
    assert large.read_bytes() == data
    assert not any(writer.done for writer in writers)
    let_go(fifo)
    for writer in writers:
        writer.join()
    assert served.state()["copy"] == 1
    merged = large.read_bytes()
    assert merged[:LARGE] == data
    assert sorted(merged[LARGE:]) == sorted(b"+-")
    assert (layers.upper / "large").read_bytes() == merged


@pytest.mark.parametrize("change", ["chmod", "rename", "link", "setxattr", "truncate"])
def test_every_change_copies_off_the_loop(
    layers: Layers, serve: Serve, fifo: Path, change: str
) -> None:
    data = os.urandom(LARGE)
    (layers.lower / "large").write_bytes(data)
    (layers.lower / "elsewhere").mkdir()
    served = serve(held=fifo)
    large, other = layers.merged / "large", layers.merged / "other"
    elsewhere = layers.merged / "elsewhere"
    assert elsewhere.is_dir()  # the kernel itself locks a directory in which it renames
    changes: dict[str, Callable[[], object]] = {
        "chmod": lambda: os.chmod(large, 0o640),
        "rename": lambda: os.rename(large, other),
        "link": lambda: os.link(large, other),
        "setxattr": lambda: os.setxattr(large, "trusted.x", b"1"),
        "truncate": lambda: os.truncate(large, LARGE - 1),
    }
    work = Aside(changes[change])
    wait_until(lambda: served.state()["copy"] == 1, "the copy has begun")
    (elsewhere / "file").write_bytes(b"x")
    assert os.listdir(elsewhere) == ["file"]
    let_go(fifo)
    work.join()
    assert served.state()["copy"] == 1
    path = other if change == "rename" else large
    assert path.read_bytes() == data[: LARGE - 1 if change == "truncate" else LARGE]


def test_truncating_open_copies_nothing(layers: Layers, serve: Serve, fifo: Path) -> None:
    (layers.lower / "large").write_bytes(os.urandom(LARGE))
    served = serve(held=fifo)
    (layers.merged / "large").write_bytes(b"new")
    assert (layers.upper / "large").read_bytes() == b"new"
    assert served.state()["copy"] == 0


def test_file_removed_while_it_is_copied(layers: Layers, serve: Serve, fifo: Path) -> None:
    data = os.urandom(LARGE)
    (layers.lower / "large").write_bytes(data)
    served = serve(held=fifo)
    large = layers.merged / "large"
    opened: list[int] = []
    work = Aside(lambda: opened.append(os.open(large, os.O_RDWR)))
    wait_until(lambda: served.state()["copy"] == 1, "the copy has begun")
    os.unlink(large)
    assert os.listdir(layers.merged) == []
    let_go(fifo)
    wait_until(lambda: served.state()["copy"] == 2 or work.done, "the open goes on")
    if not work.done:
        let_go(fifo)
    work.join()
    (fd,) = opened
    os.pwrite(fd, b"+", LARGE)
    assert os.pread(fd, LARGE + 1, 0) == data + b"+"
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert os.listdir(layers.merged) == []


def test_failed_copy_up_tells_and_leaves_nothing(
    new_layers: Callable[..., Layers], serve: Serve
) -> None:
    small = new_layers("tmpfs", "8m")
    (small.lower / "large").write_bytes(os.urandom(6 << 20))
    served = serve(small)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            os.chmod(small.merged / "large", 0o600)
    assert os.listdir(small.upper) == []
    assert os.stat(small.merged / "large").st_mode & 0o777 == 0o644
    assert served.state().files == 0


def test_fsync_keeps_nobody_waiting(layers: Layers, serve: Serve, fifo: Path) -> None:
    served = serve(held=fifo)
    with open(layers.merged / "file", "wb") as stream:
        stream.write(b"x")
        stream.flush()
        work = Aside(lambda: os.fsync(stream.fileno()))
        wait_until(lambda: served.state()["fsync"] == 1, "the sync has begun")
        (layers.merged / "other").write_bytes(b"y")
        assert not work.done
        let_go(fifo)
        work.join()


def test_volatile_union_does_not_leave_the_loop(layers: Layers, serve: Serve) -> None:
    served = serve(config={"volatile": True})
    with open(layers.merged / "file", "wb") as stream:
        stream.write(b"x")
        stream.flush()
        os.fsync(stream.fileno())
    assert served.process is not None
    threads = len(os.listdir(f"/proc/{served.process.pid}/task"))
    assert threads <= 2  # the one that saw the mount answer, and the serving one
