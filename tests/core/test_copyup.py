# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy-up: what it keeps, when it happens, and that a lower layer never changes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.core.conftest import ROOT, Bench
from unionfs import content, diff
from unionfs.copyup import INLINE


def in_upper(bench: Bench, path: str) -> bool:
    return os.path.lexists(bench.path("upper", path))


def test_reading_copies_nothing_up(bench: Bench) -> None:
    bench.lower(0, {"d/a": b"1"})
    bench.mount()
    bench.read("d/a")
    bench.names("d")
    assert bench.mounted.listxattr(bench.node("d/a")) == []
    assert os.listdir(bench.path("upper")) == []


def test_opening_for_write_keeps_all_attributes(bench: Bench) -> None:
    def make(path: bytes) -> None:
        with open(path, "wb") as file:
            file.write(b"content")
        os.chown(path, 12, 34)
        os.setxattr(path, b"user.colour", b"blue")
        os.setxattr(path, b"trusted.secret", b"s")
        os.chmod(path, 0o4751)
        os.utime(path, ns=(123456789, 987654321))

    bench.lower(0, {"d/sub/a": make})
    os.chmod(bench.path("low0", "d/sub"), 0o2770)
    os.utime(bench.path("low0", "d/sub"), ns=(5, 7))
    bench.mount()
    before = bench.stat("d/sub/a")
    directory = bench.stat("d/sub")
    file = bench.open("d/sub/a", os.O_WRONLY)
    after = bench.stat("d/sub/a")
    bench.mounted.release(file)
    assert in_upper(bench, "d/sub/a")
    assert after._replace(ctime_ns=0, blocks=0) == before._replace(ctime_ns=0, blocks=0)
    now = bench.stat("d/sub")
    assert now._replace(ctime_ns=0, size=0, blocks=0, nlink=0) == directory._replace(
        ctime_ns=0, size=0, blocks=0, nlink=0
    )
    assert bench.mounted.getxattr(bench.node("d/sub/a"), b"user.colour") == b"blue"
    assert bench.mounted.getxattr(bench.node("d/sub/a"), b"trusted.secret") == b"s"
    bench.mount()
    assert bench.stat("d/sub/a").ino == before.ino
    assert bench.stat("d/sub").ino == directory.ino


def test_open_descriptor_sees_what_is_written_later(bench: Bench) -> None:
    bench.lower(0, {"a": b"old content"})
    bench.mount()
    reader = bench.open("a", os.O_RDONLY)
    writer = bench.open("a", os.O_WRONLY)
    writer.write(b"NEW", 0)
    assert reader.read(100, 0) == b"NEW content"
    for file in (reader, writer):
        bench.mounted.release(file)
    assert Path(os.fsdecode(bench.path("low0", "a"))).read_bytes() == b"old content"


def test_truncating_open_copies_no_content(bench: Bench) -> None:
    bench.lower(0, {"big": b"x" * (INLINE * 3)})
    union = bench.mount()
    assert union.copy_up_job(bench.node("big"), 0) is None
    union.release(bench.open("big", os.O_WRONLY | os.O_TRUNC))
    assert bench.stat("big").size == 0


@pytest.mark.parametrize("size", [0, 3, 4096, 100_000, 300_000])
def test_truncate_keeps_the_head(bench: Bench, size: int) -> None:
    content = bytes(range(256)) * 800
    bench.lower(0, {"a": content})
    bench.mount()
    bench.mounted.setattr(bench.node("a"), size=size)
    assert bench.read("a") == content[:size].ljust(size, b"\0")


def test_holes_stay_holes(bench: Bench) -> None:
    def sparse(path: bytes) -> None:
        with open(path, "wb") as file:
            file.truncate(64 << 20)
            file.seek(32 << 20)
            file.write(b"island")

    bench.lower(0, {"sparse": sparse})
    bench.mount()
    bench.mounted.release(bench.open("sparse", os.O_RDWR))
    copy = os.stat(bench.path("upper", "sparse"))
    assert copy.st_size == 64 << 20
    assert copy.st_blocks * 512 <= 1 << 20
    file = bench.open("sparse", os.O_RDONLY)
    assert file.read(6, 32 << 20) == b"island"
    bench.mounted.release(file)


@pytest.mark.parametrize("size", [6, 4096, 20_000])
def test_a_small_hole_stays_a_hole(bench: Bench, size: int) -> None:
    """As with kernel overlayfs, lseek(2) tells of no data in it."""
    bench.lower(0, {"hole": lambda path: Path(os.fsdecode(path)).touch()})
    os.truncate(bench.path("low0", "hole"), size)
    bench.mount()
    bench.mounted.release(bench.open("hole", os.O_RDWR))
    copy = os.stat(bench.path("upper", "hole"))
    assert (copy.st_size, copy.st_blocks) == (size, 0)
    assert bench.read("hole") == bytes(size)


def test_long_copy_is_a_job_that_may_run_elsewhere(bench: Bench) -> None:
    bench.lower(0, {"big": os.urandom(3 * INLINE)})
    union = bench.mount()
    node = bench.node("big")
    before = bench.stat("big")
    job = union.copy_up_job(node)
    assert job is not None
    job.copy()
    assert os.listdir(bench.path("upper")) == []
    job.publish()
    assert os.listdir(bench.path("upper")) == [b"big"]
    assert union.copy_up_job(node) is None
    assert bench.stat("big").ino == before.ino
    assert bench.read("big") == Path(os.fsdecode(bench.path("low0", "big"))).read_bytes()


def test_job_whose_file_was_deleted_meanwhile_brings_nothing_back(bench: Bench) -> None:
    bench.lower(0, {"big": os.urandom(3 * INLINE)})
    union = bench.mount()
    node = bench.node("big")
    node.nlookup += 1
    job = union.copy_up_job(node)
    assert job is not None
    job.copy()
    bench.unlink("big")
    job.publish()
    assert bench.find("big") is None
    assert bench.names() == set()
    assert union.stat(node).nlink == 0
    union.forget(node, 1)


def test_job_whose_file_was_renamed_meanwhile_lands_where_it_is(bench: Bench) -> None:
    bench.lower(0, {"d/big": os.urandom(3 * INLINE)})
    union = bench.mount()
    node = bench.node("d/big")
    job = union.copy_up_job(node)
    assert job is not None
    job.copy()
    bench.rename("d/big", "d/elsewhere")
    job.publish()
    assert bench.names("d") == {b"elsewhere"}
    assert len(bench.read("d/elsewhere")) == 3 * INLINE


def test_given_up_job_leaves_nothing(bench: Bench) -> None:
    bench.lower(0, {"big": os.urandom(3 * INLINE)})
    union = bench.mount()
    job = union.copy_up_job(bench.node("big"))
    assert job is not None
    job.copy()
    job.abandon()
    assert os.listdir(bench.path("upper")) == []


def test_job_stops_at_its_next_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the daemon is to end: a copy of any length does not hold it up."""
    bench.lower(0, {"big": os.urandom(3 * INLINE)})
    monkeypatch.setattr(content, "_CHUNK", INLINE)
    union = bench.mount()
    job = union.copy_up_job(bench.node("big"))
    assert job is not None
    copied: list[int] = []
    move = os.copy_file_range

    def stopped(*arguments: int) -> int:
        copied.append(move(*arguments))
        job.stop()
        return copied[-1]

    monkeypatch.setattr(os, "copy_file_range", stopped)
    with pytest.raises(OSError, match="canceled"):
        job.copy()
    assert copied == [INLINE]
    assert os.listdir(bench.path("upper")) == []
    assert os.listdir(bench.path("work", "work")) == []


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK, stat.S_IFLNK])
def test_special_files_come_up_as_they_are(bench: Bench, kind: int) -> None:
    def make(path: bytes) -> None:
        if kind == stat.S_IFLNK:
            os.symlink("target", path)
        else:
            os.mknod(path, kind | 0o640, os.makedev(7, 3) if kind == stat.S_IFBLK else 0)

    bench.lower(0, {"special": make})
    union = bench.mount()
    before = bench.stat("special")
    union.setattr(bench.node("special"), uid=77)
    after = bench.stat("special")
    assert in_upper(bench, "special")
    assert after._replace(ctime_ns=0, uid=0) == before._replace(ctime_ns=0)
    assert after.uid == 77
    if kind == stat.S_IFLNK:
        assert union.readlink(bench.node("special")) == b"target"


def test_hard_links_stay_one_file(bench: Bench) -> None:
    bench.lower(0, {"a": b"shared", "d/other": b""})
    for name in ("b", "d/c"):
        os.link(bench.path("low0", "a"), bench.path("low0", name))
    bench.mount()
    number = bench.stat("a").ino
    file = bench.open("b", os.O_WRONLY)
    file.write(b"SHARED", 0)
    bench.mounted.release(file)
    for name in ("a", "b", "d/c"):
        assert bench.read(name) == b"SHARED"
        assert bench.stat(name).ino == number
        assert bench.stat(name).nlink == 3
    bench.mount()
    for name in ("a", "b", "d/c"):
        assert bench.read(name) == b"SHARED"
        assert bench.stat(name).ino == number
        assert bench.stat(name).nlink == 3
    bench.unlink("a")
    assert bench.stat("d/c").nlink == 2
    bench.link("d/c", "new")
    assert bench.stat("b").nlink == 3
    bench.rename("d/c", "moved")
    bench.mount()
    assert bench.stat("moved").nlink == 3
    assert {bench.stat(name).ino for name in ("b", "moved", "new")} == {number}
    for name in ("b", "moved", "new"):
        bench.unlink(name)
    assert os.listdir(bench.path("work", "index")) == []


def test_hard_links_of_which_the_kernel_copied_metadata_alone(bench: Bench) -> None:
    """With index=on and metacopy=on the kernel does so to files with several names too."""
    bench.lower(0, {"a": b"shared", "d/other": b""})
    for name in ("b", "d/c"):
        os.link(bench.path("low0", "a"), bench.path("low0", name))
    bench.mount()
    bench.mounted.setattr(bench.node("b"), mode=0o600)
    bench.close()
    copied = bench.path("upper", "b")
    found = os.stat(copied)
    os.truncate(copied, 0)
    os.truncate(copied, 6)
    os.utime(copied, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.setxattr(copied, b"trusted.overlay.metacopy", b"")
    for names in (("a", "b", "d/c"), ("d/c", "b", "a"), ("b", "a", "d/c")):
        bench.mount()
        for name in names:
            assert bench.read(name) == b"shared"
            assert bench.stat(name).mode & 0o777 == 0o600
    changes = diff(bench.path("upper"), (bench.path("low0"),), work=bench.path("work"))
    assert {change.what for change in changes if change.path == b"/a"} == {("mode",)}
    # Any change makes it whole: a further name would have to say where the content lies.
    bench.link("d/c", "new")
    for name in ("a", "b", "d/c"):
        bench.unlink(name)
    bench.mount()
    assert bench.read("new") == b"shared"
    assert bench.stat("new").nlink == 1


def test_without_index_the_names_part(bench: Bench) -> None:
    bench.lower(0, {"a": b"shared"})
    os.link(bench.path("low0", "a"), bench.path("low0", "b"))
    bench.mount(index=False)
    file = bench.open("b", os.O_WRONLY)
    file.write(b"SHARED", 0)
    bench.mounted.release(file)
    bench.mount(index=False)
    assert bench.read("a") == b"shared"
    assert bench.read("b") == b"SHARED"
    assert bench.stat("a").ino != bench.stat("b").ino


def test_names_of_a_lower_file_are_counted_down(bench: Bench) -> None:
    bench.lower(0, {"a": b"shared"})
    for name in ("b", "c"):
        os.link(bench.path("low0", "a"), bench.path("low0", name))
    bench.mount()
    bench.unlink("a")
    assert bench.stat("b").nlink == 2
    bench.unlink("c")
    assert bench.stat("b").nlink == 1
    bench.mounted.setattr(bench.node("b"), mode=0o600)
    assert bench.stat("b").nlink == 1
    bench.mount()
    assert bench.stat("b").nlink == 1


def test_metadata_only_copy(bench: Bench) -> None:
    content = os.urandom(300_000)
    bench.lower(0, {"d/big": content})
    bench.mount(metacopy=True)
    bench.mounted.setattr(bench.node("d/big"), mode=0o600)
    assert os.stat(bench.path("upper", "d/big")).st_blocks == 0
    assert bench.stat("d/big").blocks > 0
    assert bench.read("d/big") == content
    bench.rename("d/big", "moved")
    bench.mount(metacopy=True)
    assert bench.read("moved") == content
    reader = bench.open("moved", os.O_RDONLY)
    writer = bench.open("moved", os.O_WRONLY)
    writer.write(b"head", 0)
    assert reader.read(300_000, 0) == b"head" + content[4:]
    for file in (reader, writer):
        bench.mounted.release(file)
    bench.mount()
    assert bench.read("moved") == b"head" + content[4:]
    assert bench.stat("moved").mode & 0o777 == 0o600


def test_completing_a_metadata_only_copy_keeps_capabilities(bench: Bench) -> None:
    """That content is brought up is no write to the file: only a write takes them away."""
    capability = b"\x01\x00\x00\x02" + b"\x00\x04" + b"\x00" * 14
    bench.lower(0, {"tool": b"program"})
    os.setxattr(bench.path("low0", "tool"), b"security.capability", capability)
    bench.mount(metacopy=True)
    bench.mounted.setattr(bench.node("tool"), mode=0o4755)
    # A chmod keeps them.
    assert bench.mounted.getxattr(bench.node("tool"), b"security.capability") == capability
    assert os.stat(bench.path("upper", "tool")).st_blocks == 0
    bench.mounted.release(bench.open("tool", os.O_WRONLY))
    assert os.stat(bench.path("upper", "tool")).st_blocks > 0
    assert bench.mounted.getxattr(bench.node("tool"), b"security.capability") == capability
    assert bench.stat("tool").mode & 0o7777 == 0o4755


def test_link_of_a_metadata_only_copy_finds_its_content(bench: Bench) -> None:
    """Nothing below has the second name, so the file itself says what it stands for."""
    content = os.urandom(300_000)
    bench.lower(0, {"d/big": content, "e/other": b""})
    bench.mount(metacopy=True)
    bench.mounted.setattr(bench.node("d/big"), mode=0o600)
    bench.link("d/big", "e/second")
    bench.unlink("d/big")
    assert os.stat(bench.path("upper", "e/second")).st_blocks == 0
    assert bench.read("e/second") == content
    bench.mount(metacopy=True)
    assert bench.read("e/second") == content
    bench.rename("e", "f")
    bench.link("f/second", "third")
    bench.mount(metacopy=True)
    for name in ("f/second", "third"):
        assert bench.read(name) == content
    assert bench.stat("third").nlink == 2


def test_open_file_without_a_name_is_copied_up_too(bench: Bench) -> None:
    bench.lower(0, {"a": b"content"})
    union = bench.mount()
    node = bench.node("a")
    reader = bench.open("a", os.O_RDONLY)
    bench.unlink("a")
    assert union.stat(node).nlink == 0
    union.setattr(node, mode=0o600)
    assert union.stat(node).mode & 0o777 == 0o600
    writer = union.open(node, os.O_RDWR, ROOT)
    writer.write(b"C", 0)
    assert reader.read(10, 0) == b"Content"
    for file in (reader, writer):
        union.release(file)
    assert bench.names() == set()
