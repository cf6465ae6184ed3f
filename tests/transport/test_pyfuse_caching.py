# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel keeps of a union served over pyfuse3, and what the daemon gets back."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from tests.conftest import LayersFactory
from tests.support.clock import wait_until
from tests.support.layers import Filesystem, Layers
from tests.transport.conftest import Serve
from tests.transport.pyfuse_served import Served, State


def drop_dentries() -> None:
    """Let the kernel forget all unused dentries and inodes (vm.rst, drop_caches)."""
    Path("/proc/sys/vm/drop_caches").write_text("2")


def settled(served: Served, nodes: int = 1) -> State:
    """The daemon's state when so many nodes are left; the kernel sends forgets after the fact."""
    state = served.state()

    def reached() -> bool:
        nonlocal state
        state = served.state()
        return state.nodes <= nodes

    wait_until(reached, f"{nodes} nodes left")
    return state


def make_tree(top: Path, directories: int, files: int) -> None:
    for number in range(directories):
        (top / f"d{number}").mkdir()
        for name in range(files):
            (top / f"d{number}/f{name}").write_bytes(b"x" * name)


def walk(top: Path) -> int:
    return sum(len(names) + len(files) for _, names, files in os.walk(top))


def test_lookup_counts_go_back_to_zero(layers: Layers, serve: Serve) -> None:
    make_tree(layers.lower, 10, 40)
    make_tree(layers.upper, 3, 45)
    served = serve()
    drop_dentries()
    before = settled(served)
    assert walk(layers.merged) == 10 + 10 * 40 + 3 * 5
    for directory in layers.merged.iterdir():
        assert (directory / "f7").read_bytes() == b"x" * 7
    during = served.state()
    assert during.nodes == 1 + 425
    assert during.lookups >= 425
    drop_dentries()
    after = settled(served)
    assert (after.nodes, after.lookups, after.files) == (1, 0, 0)
    assert after.descriptors <= before.descriptors + 4  # parts of the root's directories


def test_counts_of_names_that_are_made(layers: Layers, serve: Serve) -> None:
    served = serve()
    drop_dentries()
    settled(served)
    top = layers.merged
    (top / "file").write_bytes(b"x")
    (top / "dir").mkdir()
    os.mkfifo(top / "fifo")
    os.symlink("file", top / "link")
    os.link(top / "file", top / "hard")
    os.rename(top / "hard", top / "harder")
    assert served.state().nodes == 5
    for name in os.listdir(top):
        if name != "dir":
            os.unlink(top / name)
    os.rmdir(top / "dir")
    drop_dentries()
    assert settled(served).lookups == 0


def test_known_names_cost_no_request(layers: Layers, serve: Serve) -> None:
    (layers.lower / "file").write_bytes(b"x")
    served = serve()
    os.stat(layers.merged / "file")
    before = served.state()
    for _ in range(50):
        os.stat(layers.merged / "file")
    after = served.state()
    assert (after["lookup"], after["stat"]) == (before["lookup"], before["stat"])


def test_missing_names_cost_one_request(layers: Layers, serve: Serve) -> None:
    served = serve()
    before = served.state()
    for _ in range(50):
        assert not (layers.merged / "missing").exists()
    assert served.state()["lookup"] == before["lookup"] + 1
    (layers.merged / "missing").write_bytes(b"x")
    assert (layers.merged / "missing").exists()
    os.rename(layers.merged / "missing", layers.merged / "other")
    for _ in range(50):
        assert not (layers.merged / "missing").exists()
    assert (layers.merged / "other").exists()


def test_a_listing_fills_the_caches(layers: Layers, serve: Serve) -> None:
    make_tree(layers.lower, 1, 200)
    served = serve()
    directory = layers.merged / "d0"
    names = os.listdir(directory)
    before = served.state()
    for name in names:
        os.stat(directory / name)
    after = served.state()
    assert (after["lookup"], after["stat"]) == (before["lookup"], before["stat"])


def test_changes_are_seen_at_once(layers: Layers, serve: Serve) -> None:
    make_tree(layers.lower, 1, 2)
    serve()
    top = layers.merged / "d0"
    assert os.stat(top / "f1").st_size == 1
    before = os.stat(top).st_mtime_ns
    (top / "f1").write_bytes(b"longer")
    (top / "new").touch()
    assert os.stat(top / "f1").st_size == 6
    assert os.stat(top).st_mtime_ns > before
    os.link(top / "f1", top / "hard")
    assert os.stat(top / "f1").st_nlink == 2
    os.chmod(top / "hard", 0o601)
    assert os.stat(top / "f1").st_mode & 0o777 == 0o601
    os.unlink(top / "f1")
    assert os.stat(top / "hard").st_nlink == 1
    os.mkdir(top / "sub")
    os.rmdir(top / "sub")
    with pytest.raises(FileNotFoundError):
        os.stat(top / "sub")


def test_cached_pages_survive_a_reopen(layers: Layers, serve: Serve) -> None:
    data = os.urandom(1 << 20)
    (layers.lower / "file").write_bytes(data)
    served = serve()
    assert (layers.merged / "file").read_bytes() == data
    before = served.state()
    assert before["read"] > 0
    assert (layers.merged / "file").read_bytes() == data
    after = served.state()
    assert after["open"] == before["open"] + 1
    assert after["read"] == before["read"]


def test_cached_pages_survive_a_copy_up(layers: Layers, serve: Serve) -> None:
    data = os.urandom(2 << 20)
    (layers.lower / "file").write_bytes(data)
    served = serve()
    with open(layers.merged / "file", "rb") as stream:
        assert stream.read() == data
        before = served.state()
        os.chmod(layers.merged / "file", 0o600)
        stream.seek(0)
        assert stream.read() == data
    assert served.state()["read"] == before["read"]


def test_cached_pages_survive_a_write(layers: Layers, serve: Serve) -> None:
    data = os.urandom(1 << 20)
    (layers.lower / "file").write_bytes(data)
    served = serve()
    with open(layers.merged / "file", "r+b") as stream:
        assert stream.read() == data
        before = served.state()
        stream.seek(4096)
        stream.write(b"changed")
        stream.flush()
        os.fstat(stream.fileno())
        stream.seek(0)
        assert stream.read() == data[:4096] + b"changed" + data[4103:]
    assert served.state()["read"] == before["read"]


def test_symlinks_are_read_once(layers: Layers, serve: Serve) -> None:
    os.symlink("target", layers.lower / "link")
    served = serve()
    for _ in range(20):
        assert os.readlink(layers.merged / "link") == "target"
    assert served.state()["readlink"] == 1


@pytest.mark.parametrize("name", ["broken", "buggy"])
def test_one_bad_object_does_not_spoil_a_listing(layers: Layers, serve: Serve, name: str) -> None:
    for other in ("a", "broken", "z"):
        (layers.lower / other).touch()
    served = serve(
        faults={"broken": str(errno.EIO), "buggy": "a bug"},
        expected_log=("ERROR:", "Traceback", "ValueError: a bug"),
    )
    assert sorted(os.listdir(layers.merged)) == ["a", "broken", "z"]
    with pytest.raises(OSError, match="Input/output error"):
        os.stat(layers.merged / name)
    os.stat(layers.merged / "z")
    assert ("ValueError: a bug" in served.log()) == (name == "buggy")
    drop_dentries()
    assert settled(served).lookups == 0


def test_numbers_that_are_no_node_ids(layers: Layers, serve: Serve) -> None:
    """Without an index several nodes may share the number of the file they were links of."""
    (layers.lower / "a").write_bytes(b"x")
    for name in ("b", "c"):
        os.link(layers.lower / "a", layers.lower / name)
    served = serve(config={"index": False})
    (layers.merged / "a").write_bytes(b"changed")
    (layers.merged / "b").write_bytes(b"other")
    known = os.open(layers.merged / "a", os.O_PATH)
    for _ in range(3):
        os.listdir(layers.merged)
    os.chmod(f"/proc/self/fd/{known}", 0o600)
    os.close(known)
    for _ in range(2):
        with os.scandir(layers.merged) as found:
            listed = {entry.name: entry.inode() for entry in found}
        shown = {name: os.stat(layers.merged / name).st_ino for name in ("a", "b", "c")}
        assert listed == shown
        drop_dentries()
        assert settled(served).lookups == 0
    content = {path.name: path.read_bytes() for path in layers.merged.iterdir()}
    assert content == {"a": b"changed", "b": b"other", "c": b"x"}


def test_enosys_of_a_layer_does_not_end_an_operation(layers: Layers, serve: Serve) -> None:
    served = serve(faults={"strange": str(errno.ENOSYS)})
    for _ in range(2):
        with pytest.raises(OSError, match="not supported") as caught:
            os.stat(layers.merged / "strange")
        assert caught.value.errno == errno.EOPNOTSUPP
    assert served.state()["lookup"] >= 2


SIZES = (0, 1, 4095, 4096, 131072, 131073, (3 << 20) + 17)


@pytest.mark.parametrize("filesystem", ["tmpfs", "ext4"])
def test_reads_are_whole(serve: Serve, new_layers: LayersFactory, filesystem: Filesystem) -> None:
    layers = new_layers(filesystem, "64m")
    contents = {f"{size}": os.urandom(size) for size in SIZES}
    for name, data in contents.items():
        (layers.lower / name).write_bytes(data)
    os.sync()
    serve(layers)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    for name, data in contents.items():
        assert (layers.merged / name).read_bytes() == data
        fd = os.open(layers.merged / name, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, 4 << 20)
        assert os.readv(fd, [buffer]) == len(data)
        assert buffer[: len(data)] == data
        os.close(fd)


def test_reads_of_half_cached_files_are_whole(layers_ext4: Layers, serve: Serve) -> None:
    """What the page cache of a layer holds only in part is not taken for the end of the file."""
    data = os.urandom(8 << 20)
    path = layers_ext4.lower / "file"
    path.write_bytes(data)
    os.sync()
    serve(layers_ext4)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    with open(path, "rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for offset in range(0, len(data), 64 << 10):
            assert os.pread(stream.fileno(), 4096, offset) == data[offset : offset + 4096]
    assert (layers_ext4.merged / "file").read_bytes() == data
