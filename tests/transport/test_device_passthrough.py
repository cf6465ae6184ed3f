# SPDX-License-Identifier: GPL-3.0-or-later
"""Passthrough: who reads which file, before and after a copy-up, and where it cannot be had."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from tests.support.clock import tick, wait_until
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, run, unmount_all
from tests.transport.device_served import DeviceServed, Start


def raises(number: int) -> pytest.RaisesExc[OSError]:
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == number)


@pytest.fixture
def served(layers: Layers, start: Start) -> DeviceServed:
    (layers.lower / "file").write_bytes(b"lower")
    (layers.lower / "other").write_bytes(b"other")
    os.link(layers.lower / "other", layers.lower / "hard")
    for number in range(30):
        (layers.lower / f"many{number}").write_bytes(b"lower")
    return start(layers)


@pytest.fixture
def merged(served: DeviceServed) -> Path:
    return served.merged


def test_opens_share_an_id_that_is_kept_warm(served: DeviceServed, merged: Path) -> None:
    with open(merged / "file", "rb") as first, open(merged / "file", "rb") as second:
        assert first.read() == second.read() == b"lower"
        assert served.state().backings == 1
    assert served.settled().backings == 1
    assert (merged / "file").read_bytes() == b"lower"
    state = served.settled()
    assert state.backings == 1
    assert state["READ"] == 0


def test_warm_id_does_not_outlive_its_file(served: DeviceServed, merged: Path) -> None:
    """The space of a deleted file must come back (unlink(2))."""
    (merged / "large").write_bytes(b"x" * (4 << 20))
    used = os.statvfs(merged).f_bfree
    os.unlink(merged / "large")
    wait_until(lambda: served.state().nodes == 1, "the kernel has forgotten the file")
    assert served.last_state().backings == 0
    assert os.statvfs(merged).f_bfree >= used + (4 << 20) // os.statvfs(merged).f_frsize


def test_copy_up_under_a_reader(served: DeviceServed, merged: Path, layers: Layers) -> None:
    """The reader goes on with the old content, as on kernel overlayfs; everybody else gets the
    new, and the file is the same all along."""
    ino = os.stat(merged / "file").st_ino
    with open(merged / "file", "rb", 0) as reader:
        assert reader.read(1) == b"l"
        with open(merged / "file", "r+b", 0) as writer:
            writer.write(b"UPPER and more")
            assert os.fstat(writer.fileno()).st_ino == ino
            assert (merged / "file").read_bytes() == b"UPPER and more"
            assert reader.read() == b"ower"
            assert os.stat(merged / "file").st_size == 14
            assert os.stat(merged / "file").st_ino == ino == os.fstat(reader.fileno()).st_ino
        assert (merged / "file").read_bytes() == b"UPPER and more"
        assert (layers.upper / "file").read_bytes() == b"UPPER and more"
    assert (merged / "file").read_bytes() == b"UPPER and more"
    assert (layers.lower / "file").read_bytes() == b"lower"
    assert served.state()["READ"] == 0


def test_copy_up_by_a_change_of_mode_under_a_reader(merged: Path) -> None:
    with open(merged / "file", "rb", 0) as reader:
        os.chmod(merged / "file", 0o600)
        assert os.fstat(reader.fileno()).st_mode & 0o777 == 0o600
        assert (merged / "file").read_bytes() == b"lower"
        with open(merged / "file", "ab", 0) as writer:
            writer.write(b"+")
        assert os.stat(merged / "file").st_size == 6
        assert (merged / "file").read_bytes() == b"lower+"
        os.chmod(merged / "file", 0o640)
        assert os.stat(merged / "file").st_mode & 0o777 == 0o640


def test_file_lives_on_after_its_node_was_renewed(merged: Path, layers: Layers) -> None:
    """Every way to the file leads to the same one: rename, chmod, link, unlink, attributes."""
    with open(merged / "file", "rb", 0) as reader:
        with open(merged / "file", "r+b", 0) as writer:
            writer.write(b"UPPER")
        os.rename(merged / "file", merged / "renamed")
        os.chmod(merged / "renamed", 0o611)
        os.link(merged / "renamed", merged / "linked")
        assert os.stat(merged / "linked").st_nlink == 2
        assert os.fstat(reader.fileno()).st_mode & 0o777 == 0o611
        os.fchmod(reader.fileno(), 0o622)
        assert os.stat(merged / "renamed").st_mode & 0o777 == 0o622
        os.unlink(merged / "renamed")
        os.unlink(merged / "linked")
        assert reader.read() == b"lower"
        os.fstat(reader.fileno())
    assert not (merged / "file").exists()
    assert "renamed" not in os.listdir(merged)


def test_other_names_of_a_file_copied_up_under_a_reader(merged: Path) -> None:
    with open(merged / "hard", "rb", 0) as reader:
        assert reader.read() == b"other"
        os.stat(merged / "other")
        with open(merged / "other", "r+b", 0) as writer:
            writer.write(b"OTHERS")
        for name in ("other", "hard"):
            assert (merged / name).read_bytes() == b"OTHERS"
            assert os.stat(merged / name).st_size == 6
            assert os.stat(merged / name).st_nlink == 2
        with open(merged / "hard", "ab", 0) as writer:
            writer.write(b"!")
        assert os.stat(merged / "other").st_size == 7
        assert os.stat(merged / "hard").st_size == 7
        assert os.path.samefile(merged / "other", merged / "hard")


def test_reopen_by_descriptor_gets_what_the_descriptor_has(merged: Path) -> None:
    with open(merged / "file", "rb", 0) as reader:
        with open(merged / "file", "r+b", 0) as writer:
            writer.write(b"UPPER")
        again = os.open(f"/proc/self/fd/{reader.fileno()}", os.O_RDONLY)
        assert os.read(again, 10) == b"lower"
        os.close(again)
        assert (merged / "file").read_bytes() == b"UPPER"
    # With the last reader gone nothing is bound to the old content any more.
    assert (merged / "file").read_bytes() == b"UPPER"


def test_mapping_of_the_lower_file_survives_a_copy_up(merged: Path) -> None:
    with open(merged / "file", "rb") as reader:
        mapped = mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ)
    (merged / "file").write_bytes(b"UPPER")
    assert mapped[:] == b"lower"
    mapped.close()
    assert (merged / "file").read_bytes() == b"UPPER"


def test_many_switches_leave_nothing_behind(served: DeviceServed, merged: Path) -> None:
    for number in range(30):
        name = merged / f"many{number}"
        with open(name, "rb", 0) as reader:
            with open(name, "r+b", 0) as writer:
                writer.write(b"UPPER")
            assert reader.read() == b"lower"
        os.unlink(name)
    wait_until(lambda: served.state().nodes == 1, "the kernel has forgotten all but the root")
    state = served.last_state()
    assert (state.backings, state.files, state.lookups) == (0, 0, 0)


def test_reader_of_an_upper_file_sees_every_write(merged: Path) -> None:
    (merged / "upper").write_bytes(b"one")
    with open(merged / "upper", "rb", 0) as reader:
        with open(merged / "upper", "ab", 0) as writer:
            writer.write(b"two")
        assert reader.read() == b"onetwo"
        os.truncate(merged / "upper", 2)
        assert os.pread(reader.fileno(), 10, 0) == b"on"


def test_metadata_only_copy_keeps_the_lower_content(layers: Layers, start: Start) -> None:
    (layers.lower / "file").write_bytes(b"lower")
    merged = start(layers, config={"metacopy": True}).merged
    with open(merged / "file", "rb", 0) as reader:
        os.chmod(merged / "file", 0o600)
        assert (merged / "file").read_bytes() == b"lower"
        assert reader.read() == b"lower"
        with open(merged / "file", "ab", 0) as writer:
            writer.write(b"!")
        assert (merged / "file").read_bytes() == b"lower!"


def test_written_times_and_sizes_are_never_stale(merged: Path) -> None:
    with open(merged / "file", "r+b", 0) as stream:
        for _ in range(5):
            before = os.stat(merged / "file")
            tick()
            os.lseek(stream.fileno(), 0, os.SEEK_END)
            stream.write(b"more")
            after = os.stat(merged / "file")
            assert after.st_size == before.st_size + 4
            assert after.st_mtime_ns > before.st_mtime_ns


# -- where it cannot be had


def test_lower_on_overlayfs_takes_two_levels(layers: Layers, start: Start) -> None:
    stack = layers.more("stack")
    for name in ("l", "u", "w", "m"):
        (stack / name).mkdir()
    (stack / "l/file").write_bytes(b"deep")
    options = f"lowerdir={stack}/l,upperdir={stack}/u,workdir={stack}/w"
    run("mount", "-t", "overlay", "-o", options, "overlay", str(stack / "m"))
    try:
        served = start(layers, config={"lower": [str(stack / "m")]})
        assert (layers.merged / "file").read_bytes() == b"deep"
        state = served.settled()
        assert state.stack_depth == 2
        assert state["READ"] == 0
        (layers.merged / "file").write_bytes(b"edited")
        assert (layers.merged / "file").read_bytes() == b"edited"
        served.finish()
    finally:
        unmount_all(stack / "m")


def test_too_deep_a_stack_is_read_by_messages(layers: Layers, start: Start) -> None:
    """Two overlays below: the kernel refuses (ELOOP) for those files and no others."""
    below = layers.lower
    mounted = []
    try:
        for level in range(2):
            stack = layers.more(f"stack{level}")
            for name in ("l", "m"):
                (stack / name).mkdir()
            (stack / "l" / f"level{level}").write_bytes(b"%d" % level)
            run(
                "mount", "-t", "overlay", "-o", f"lowerdir={below}:{stack}/l", "overlay",
                str(stack / "m"),
            )  # fmt: skip
            mounted.append(stack / "m")
            below = stack / "m"
        served = start(layers, config={"lower": [str(below)]})
        assert (layers.merged / "level0").read_bytes() == b"0"
        assert (layers.merged / "level1").read_bytes() == b"1"
        with open(layers.merged / "level1", "rb", 0) as reader:
            with open(layers.merged / "level1", "r+b", 0) as writer:
                writer.write(b"edited")
            # Nothing is bound to the lower file: the reader sees what is written.
            assert reader.read() == b"edited"
        (layers.merged / "new").write_bytes(b"new")
        assert (layers.merged / "level1").read_bytes() == b"edited"
        state = served.settled()
        assert state["READ"] >= 2
        assert state.passthrough
        served.finish()
    finally:
        for path in reversed(mounted):
            unmount_all(path)


def test_union_over_a_union(layers: Layers, start: Start) -> None:
    (layers.lower / "file").write_bytes(b"lower")
    start(layers)
    upper_layers = Layers(layers.more("second"), layers.filesystem)
    for path in (upper_layers.upper, upper_layers.work, upper_layers.merged):
        path.mkdir()
    served = start(upper_layers, config={"lower": [str(layers.merged)]})
    assert served.state().stack_depth == 2
    assert (upper_layers.merged / "file").read_bytes() == b"lower"
    (upper_layers.merged / "file").write_bytes(b"edited")
    assert (upper_layers.merged / "file").read_bytes() == b"edited"
    assert (layers.merged / "file").read_bytes() == b"lower"


def test_overlayfs_on_top(layers: Layers, start: Start) -> None:
    """A plain stack leaves room for one overlay on top of the mount."""
    (layers.lower / "file").write_bytes(b"lower")
    start(layers)
    top = layers.more("top")
    run("mount", "-t", "overlay", "-o", f"lowerdir={layers.merged}:{layers.lower}", "o", str(top))
    try:
        assert (top / "file").read_bytes() == b"lower"
    finally:
        run("umount", str(top))
    assert mount_at(top) is None


def test_direct_io_where_the_layer_has_none(layers: Layers, start: Start) -> None:
    """ramfs takes no O_DIRECT: such an open is served by messages, as long as no other is not."""
    plain = layers.more("plain")
    run("mount", "-t", "ramfs", "ramfs", str(plain))
    try:
        (plain / "file").write_bytes(b"d" * 8192)
        served = start(layers, config={"lower": [str(plain)]})
        page = mmap.mmap(-1, 4096)
        fd = os.open(layers.merged / "file", os.O_RDONLY | os.O_DIRECT)
        assert os.preadv(fd, [page], 4096) == 4096
        assert (layers.merged / "file").read_bytes() == b"d" * 8192
        os.close(fd)
        wait_until(lambda: served.state().handles == 0, "it is released")
        with open(layers.merged / "file", "rb") as stream:
            assert stream.read() == b"d" * 8192
            with raises(errno.EINVAL):
                os.open(layers.merged / "file", os.O_RDONLY | os.O_DIRECT)
        served.finish()
    finally:
        unmount_all(plain)
