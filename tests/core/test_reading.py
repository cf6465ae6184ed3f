# SPDX-License-Identifier: GPL-3.0-or-later
"""The read side: what a name stands for in a stack of layers."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.conftest import ROOT, Bench
from unionfs.errors import UnionError
from unionfs.sys import calls


def whiteout(path: bytes) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, 0)


def opaque(path: bytes) -> None:
    os.makedirs(path, exist_ok=True)
    os.setxattr(path, b"trusted.overlay.opaque", b"y")


def redirect(to: bytes):  # type: ignore[no-untyped-def]
    def make(path: bytes) -> None:
        os.makedirs(path, exist_ok=True)
        os.setxattr(path, b"trusted.overlay.redirect", to)

    return make


def test_topmost_file_wins_and_directories_merge(bench: Bench) -> None:
    bench.lower(0, {"d/both": b"top", "d/top": b"1"})
    bench.lower(1, {"d/both": b"bottom", "d/bottom": b"2"})
    bench.mount(2)
    assert bench.names("d") == {b"both", b"top", b"bottom"}
    assert bench.read("d/both") == b"top"
    assert bench.read("d/bottom") == b"2"


def test_whiteout_hides_in_lookup_and_listing(bench: Bench) -> None:
    bench.lower(0, {"d/gone": whiteout, "keep": b""})
    bench.lower(1, {"d/gone": b"x", "d/there": b"y"})
    bench.mount(2)
    assert bench.find("d/gone") is None
    assert bench.names("d") == {b"there"}


def test_whiteout_in_the_middle_ends_the_merge(bench: Bench) -> None:
    bench.lower(0, {"d/a": b""})
    bench.lower(1, {"d": whiteout})
    bench.lower(2, {"d/b": b""})
    bench.mount(3)
    assert bench.names("d") == {b"a"}


def test_file_below_a_directory_ends_the_merge(bench: Bench) -> None:
    bench.lower(0, {"d/a": b""})
    bench.lower(1, {"d": b"a file"})
    bench.lower(2, {"d/b": b""})
    bench.mount(3)
    assert bench.names("d") == {b"a"}


def test_opaque_directory_hides_what_is_below(bench: Bench) -> None:
    bench.lower(0, {"d": opaque, "d/a": b""})
    bench.lower(1, {"d/b": b"", "d/sub/c": b""})
    bench.mount(2)
    assert bench.names("d") == {b"a"}
    assert bench.find("d/b") is None


def test_relative_redirect_seeks_another_name_below(bench: Bench) -> None:
    bench.lower(0, {"new": redirect(b"old"), "new/a": b"", "old": whiteout})
    bench.lower(1, {"old/b": b"", "new/hidden": b""})
    bench.mount(2)
    assert bench.names() == {b"new"}
    assert bench.names("new") == {b"a", b"b"}


def test_absolute_redirect_is_followed_from_the_root_of_each_layer(
    bench: Bench,
) -> None:
    bench.lower(0, {"x/new": redirect(b"/a/old"), "a/old": whiteout})
    bench.lower(1, {"a": redirect(b"z"), "z": whiteout})
    bench.lower(2, {"z/old/deep": b"found", "a/old/wrong": b""})
    bench.mount(3)
    assert bench.names("x/new") == {b"deep"}
    assert bench.read("x/new/deep") == b"found"


@pytest.mark.parametrize("value", [b"", b"..", b"a/b", b"/a/../b", b"//", b"/nowhere"])
def test_damaged_redirect_is_served_as_none(
    bench: Bench, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bench.lower(0, {"d": redirect(value), "d/a": b""})
    bench.lower(1, {"other/b": b""})
    bench.mount(2)
    for _ in range(3):
        node = bench.node("d")
        assert bench.names("d") == {b"a"}
        bench.mounted.forget(node, 0)
    # A path that leads nowhere is not damaged: its directory may just be gone from below.
    assert len(caplog.records) == (0 if value == b"/nowhere" else 1)


@pytest.mark.parametrize("value", [b"old", b"/old"])
def test_redirects_that_are_not_followed(bench: Bench, value: bytes) -> None:
    """overlayfs.rst, "redirect_dir=nofollow": what needs a redirect is refused."""
    bench.lower(0, {"new": redirect(value), "new/a": b"", "plain/a": b"", "d": redirect(b"/none")})
    bench.lower(1, {"old/b": b"", "plain/b": b""})
    bench.mount(2, redirect_dir=False, follow=False)
    with pytest.raises(PermissionError):
        bench.find("new")
    assert b"new" in {name for name, _ in bench.mounted.opendir(bench.mounted.root).entries}
    assert bench.names("plain") == {b"a", b"b"}
    assert bench.names("d") == set()


def test_content_of_data_only_layers(bench: Bench) -> None:
    """Seen as the content of a file with an absolute redirect, and nowhere else."""

    def points(where: bytes) -> Callable[[bytes], None]:
        def make(path: bytes) -> None:
            with open(path, "wb") as file:
                file.truncate(4)
            os.chmod(path, 0o640)
            os.setxattr(path, b"trusted.overlay.metacopy", b"")
            os.setxattr(path, b"trusted.overlay.redirect", where)

        return make

    bench.lower(
        0,
        {"a": points(b"/00/one"), "b": points(b"/two"), "c": points(b"/gone"), "d": points(b"one")},
    )
    bench.lower(1, {"00/one": b"data", "link": lambda path: os.symlink("two", path), "one": b"x"})
    bench.lower(2, {"00/one": b"less", "two": b"more", "00/hidden": b""})
    data = (bench.path("low1"), bench.path("low2"))
    bench.mount(1, data=data)
    assert (bench.read("a"), bench.read("b")) == (b"data", b"more")
    assert bench.find("00") is None
    assert (bench.stat("a").mode & 0o777, bench.stat("a").size) == (0o640, 4)
    for name in ("c", "d"):
        with pytest.raises(OSError, match="Input/output error"):
            bench.find(name)
    writer = bench.open("a", os.O_WRONLY)
    writer.write(b"D", 0)
    bench.mounted.release(writer)
    bench.mount()
    assert bench.read("a") == b"Data"
    assert Path(os.fsdecode(bench.path("low1", "00/one"))).read_bytes() == b"data"


def test_xwhiteout_hides_only_where_the_directory_allows_it(bench: Bench) -> None:
    def xwhiteout(path: bytes) -> None:
        with open(path, "wb"):
            pass
        os.setxattr(path, b"trusted.overlay.whiteout", b"")

    def allows(path: bytes) -> None:
        os.makedirs(path)
        os.setxattr(path, b"trusted.overlay.opaque", b"x")

    bench.lower(0, {"d": allows, "d/gone": xwhiteout, "e/kept": xwhiteout})
    bench.lower(1, {"d/gone": b"1", "d/there": b"2", "e/kept": b"3"})
    bench.mount(2)
    assert bench.names("d") == {b"there"}
    assert bench.find("d/gone") is None
    assert bench.read("e/kept") == b""


def test_xwhiteouts_in_the_root_of_a_layer(bench: Bench) -> None:
    bench.lower(0, {"gone": b""})
    os.setxattr(bench.path("low0"), b"trusted.overlay.opaque", b"x")
    os.setxattr(bench.path("low0", "gone"), b"trusted.overlay.whiteout", b"")
    bench.lower(1, {"gone": b"1", "there": b"2"})
    bench.mount(2)
    assert bench.names() == {b"there"}


def test_metacopy_shows_the_content_from_below(bench: Bench) -> None:
    bench.lower(1, {"sub/data": b"the content"})
    bench.lower(0, {"sub/data": b"", "moved": b""})
    for name, target in (("sub/data", b""), ("moved", b"/sub/data")):
        path = bench.path("low0", name)
        os.truncate(path, 11)
        os.chmod(path, 0o600)
        os.setxattr(path, b"trusted.overlay.metacopy", b"")
        if target:
            os.setxattr(path, b"trusted.overlay.redirect", target)
    bench.mount(2)
    for name in ("sub/data", "moved"):
        assert bench.read(name) == b"the content"
        assert bench.stat(name).mode & 0o777 == 0o600


def test_names_that_are_not_utf8_and_of_255_bytes(bench: Bench) -> None:
    odd = b"\xff\xfe\x80"
    long = b"n" * 255
    os.makedirs(bench.path("low0"))
    for name in (odd, long):
        with open(bench.path("low0") + b"/" + name, "wb") as file:
            file.write(name)
    bench.mount(1)
    assert bench.names() == {odd, long}
    assert bench.read(odd) == odd
    assert bench.read(long) == long
    with pytest.raises(OSError, match="too long") as caught:
        bench.mounted.lookup(bench.mounted.root, b"n" * 256)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_dot_and_dotdot(bench: Bench) -> None:
    bench.lower(0, {"a/b/c": b""})
    union = bench.mount(1)
    inner = bench.node("a/b")
    here, above = union.lookup(inner, b"."), union.lookup(inner, b"..")
    assert here is not None
    assert here[0] is inner
    assert above is not None
    assert above[0] is bench.node("a")
    top = union.lookup(union.root, b"..")
    assert top is not None
    assert top[0] is union.root


def test_numbers_are_equal_in_stat_and_after_remount(bench: Bench) -> None:
    bench.lower(0, {"d/a": b"", "d/b": b""})
    bench.mount(1)
    first = {name: bench.stat(name).ino for name in ("", "d", "d/a", "d/b")}
    assert len(set(first.values())) == 4
    bench.mount(1)
    assert {name: bench.stat(name).ino for name in first} == first


def test_two_hundred_layers(bench: Bench) -> None:
    for index in range(200):
        bench.lower(index, {f"d/only{index}": b"%d" % index, "d/all": b"%d" % index})
    bench.mount(200)
    assert len(bench.names("d")) == 201
    assert bench.read("d/all") == b"0"
    assert bench.read("d/only199") == b"199"


def test_more_directories_than_descriptors(bench: Bench) -> None:
    bench.lower(0, {f"d{index}/e/f": b"%d" % index for index in range(300)})
    union = bench.mount(1)
    keeper = union._stack.descriptors
    keeper.limit = 64
    for index in range(300):
        assert bench.read(f"d{index}/e/f") == b"%d" % index
        assert len(keeper) <= 64 + 4
    assert bench.read("d0/e/f") == b"0"


def test_a_tree_deeper_than_any_path(bench: Bench) -> None:
    union = bench.mount(1)
    name = b"n" * 200
    node = union.root
    for _ in range(60):
        node, _ = union.mkdir(node, name, 0o755, ROOT)
    made, _, file = union.create(node, b"leaf", 0o644, os.O_WRONLY, ROOT)
    file.write(b"deep", 0)
    union.release(file)
    union._stack.descriptors.limit = 0
    union._stack.descriptors.trim()
    assert union.stat(made).size == 4
    while node is not union.root:
        above = union.lookup(node, b"..")
        assert above is not None
        if union.lookup(node, b"leaf"):
            union.unlink(node, b"leaf")
        union.rmdir(above[0], name)
        node = above[0]


def test_read_only_without_upper(bench: Bench) -> None:
    bench.lower(0, {"a": b"1", "d/b": b""})
    union = bench.mount(1, upper=False)
    assert bench.read("a") == b"1"
    for attempt in (
        lambda: bench.unlink("a"),
        lambda: bench.rmdir("d"),
        lambda: bench.mkdir("e"),
        lambda: bench.write("f", b""),
        lambda: bench.rename("a", "g"),
        lambda: bench.link("a", "h"),
        lambda: union.setattr(bench.node("a"), mode=0o600),
        lambda: union.setxattr(bench.node("a"), b"user.x", b""),
        lambda: bench.open("a", os.O_RDWR),
    ):
        with pytest.raises(OSError, match="Read-only") as caught:
            attempt()
        assert caught.value.errno == errno.EROFS


def test_forgotten_nodes_leave_the_table(bench: Bench) -> None:
    bench.lower(0, {f"d/e/{index}": b"" for index in range(50)})
    union = bench.mount(1)
    nodes = [bench.node(f"d/e/{index}") for index in range(50)]
    for node in nodes:
        node.nlookup += 1
    assert len(union.nodes) == 53
    for node in nodes:
        union.forget(node, 1)
    assert list(union.nodes.values()) == [union.root]


def test_what_is_mounted_in_a_layer_is_not_part_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lower(0, {"d/x": b"", "e": b""})
    place = os.fsdecode(bench.path("low0", "d"))
    subprocess.run(["mount", "-t", "tmpfs", "lamina-test", place], check=True)
    try:
        with open(os.path.join(place, "mounted"), "wb"):
            pass
        bench.mount()
        assert bench.names("d") == {b"x"}
        bench.mounted.refuse_mountpoint(bench.path("low0", "d"))

        def forbidden(path: bytes, *, read_only: bool) -> int:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)

        monkeypatch.setattr(calls, "clone_mount", forbidden)
        bench.mount()
        assert bench.names() == {b"d", b"e"}
        assert bench.names("d") == set()
        assert bench.find("d/mounted") is None
        with pytest.raises(UnionError, match="inside the layer"):
            bench.mounted.refuse_mountpoint(bench.path("low0", "d"))
    finally:
        bench.close()
        subprocess.run(["umount", place], check=True)
