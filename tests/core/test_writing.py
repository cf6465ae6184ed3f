# SPDX-License-Identifier: GPL-3.0-or-later
"""The write side: what lands in upper for each change, and what the merged tree shows then."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.conftest import ROOT, Bench
from unionfs import acl
from unionfs.node import Caller
from unionfs.sys import calls

NOREPLACE, EXCHANGE = calls.RENAME_NOREPLACE, calls.RENAME_EXCHANGE


def is_whiteout(path: bytes) -> bool:
    found = os.lstat(path)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def xattr(path: bytes, name: str) -> bytes | None:
    try:
        return os.getxattr(path, "trusted.overlay." + name, follow_symlinks=False)
    except OSError:
        return None


def refused(number: int, attempt: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        attempt()
    assert caught.value.errno == number, errno.errorcode[caught.value.errno or 0]


@pytest.fixture(params=["overlay", "aufs"])
def form(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_delete_leaves_a_whiteout_only_where_it_is_needed(bench: Bench, form: str) -> None:
    bench.lower(0, {"d/low": b"", "d/both": b""})
    bench.mount(format=form)
    bench.write("d/new", b"")
    bench.write("d/both", b"now in upper")
    for name in ("d/low", "d/new", "d/both"):
        bench.unlink(name)
    assert bench.names("d") == set()
    left = set(os.listdir(bench.path("upper", "d")))
    if form == "overlay":
        assert left == {b"low", b"both"}
        assert all(is_whiteout(bench.path("upper", "d") + b"/" + name) for name in left)
    else:
        assert left == {b".wh.low", b".wh.both"}
    bench.mount(format=form)
    assert bench.names("d") == set()


def test_create_over_a_whiteout(bench: Bench, form: str) -> None:
    bench.lower(0, {"a": b"old", "d/x": b"", "e": b""})
    bench.mount(format=form)
    bench.unlink("a")
    bench.unlink("d/x")
    bench.rmdir("d")
    bench.unlink("e")
    bench.write("a", b"new")
    bench.mkdir("d")
    bench.mounted.symlink(bench.mounted.root, b"e", b"there", ROOT)
    for _ in range(2):
        assert bench.names() == {b"a", b"d", b"e"}
        assert bench.read("a") == b"new"
        assert bench.names("d") == set()
        bench.mount(format=form)
    bench.unlink("a")
    bench.rmdir("d")
    bench.unlink("e")
    assert bench.names() == set()
    bench.mount(format=form)
    assert bench.names() == set()


def test_removed_and_made_again_many_times(bench: Bench, form: str) -> None:
    bench.lower(0, {"d/a": b"low", "d/s/t": b""})
    bench.lower(1, {"d/a": b"lower", "d/s/u": b""})
    bench.mount(2, format=form)
    for turn in range(4):
        bench.unlink("d/a")
        assert bench.find("d/a") is None
        bench.write("d/a", b"%d" % turn)
        for name in bench.names("d/s"):
            bench.unlink("d/s/" + name.decode())
        bench.rmdir("d/s")
        assert bench.find("d/s") is None
        bench.mkdir("d/s")
        bench.write("d/s/new", b"")
        assert bench.names("d/s") == {b"new"}
        if turn % 2:
            bench.mount(2, format=form)
    assert bench.read("d/a") == b"3"


def test_rmdir_wants_an_empty_directory(bench: Bench, form: str) -> None:
    bench.lower(0, {"d/a": b"", "d/b": b""})
    bench.mount(format=form)
    refused(errno.ENOTEMPTY, lambda: bench.rmdir("d"))
    bench.unlink("d/a")
    refused(errno.ENOTEMPTY, lambda: bench.rmdir("d"))
    bench.unlink("d/b")
    bench.rmdir("d")
    assert bench.find("d") is None
    bench.mount(format=form)
    assert bench.find("d") is None


def test_errors_of_making_and_removing(bench: Bench) -> None:
    bench.lower(0, {"file": b"", "dir/x": b""})
    union = bench.mount()
    root = union.root
    refused(errno.EEXIST, lambda: bench.mkdir("file"))
    refused(errno.EEXIST, lambda: bench.mkdir("dir"))
    refused(errno.EEXIST, lambda: union.symlink(root, b"file", b"x", ROOT))
    refused(errno.EEXIST, lambda: bench.link("dir/x", "file"))
    refused(errno.EPERM, lambda: bench.link("dir", "again"))
    refused(errno.ENOENT, lambda: bench.unlink("nothing"))
    refused(errno.EISDIR, lambda: bench.unlink("dir"))
    refused(errno.ENOTDIR, lambda: bench.rmdir("file"))
    refused(errno.EINVAL, lambda: union.rmdir(root, b"."))
    refused(errno.ENAMETOOLONG, lambda: union.mkdir(root, b"n" * 256, 0o755, ROOT))
    refused(errno.EPERM, lambda: union.mknod(root, b"wh", stat.S_IFCHR | 0o600, 0, ROOT))
    refused(errno.EISDIR, lambda: bench.open("dir", os.O_RDONLY))
    refused(
        errno.EEXIST,
        lambda: union.create(root, b"file", 0o644, os.O_RDWR | os.O_EXCL, ROOT),
    )
    assert os.listdir(bench.path("upper")) == []


@pytest.mark.parametrize("flags", [0, NOREPLACE])
def test_rename_of_a_lower_file(bench: Bench, form: str, flags: int) -> None:
    bench.lower(0, {"d/a": b"content", "e/x": b""})
    bench.mount(format=form)
    number = bench.stat("d/a").ino
    bench.rename("d/a", "e/b", flags)
    for _ in range(2):
        assert bench.names("d") == set()
        assert bench.names("e") == {b"b", b"x"}
        assert bench.read("e/b") == b"content"
        bench.mount(format=form)
    if form == "overlay":
        assert bench.stat("e/b").ino == number


def test_rename_over_what_is_there(bench: Bench, form: str) -> None:
    bench.lower(0, {"a": b"A", "b": b"B", "c": b"C"})
    bench.mount(format=form)
    bench.rename("a", "b")
    assert bench.names() == {b"b", b"c"}
    assert bench.read("b") == b"A"
    bench.rename("b", "c")
    bench.rename("c", "a")
    for _ in range(2):
        assert bench.names() == {b"a"}
        assert bench.read("a") == b"A"
        bench.mount(format=form)


def test_rename_errors(bench: Bench) -> None:
    bench.lower(0, {"f": b"", "d/x": b"", "e/y": b"", "d/sub/z": b""})
    bench.mount()
    refused(errno.ENOENT, lambda: bench.rename("nothing", "g"))
    refused(errno.ENOTDIR, lambda: bench.rename("d", "f"))
    refused(errno.EISDIR, lambda: bench.rename("f", "d"))
    refused(errno.ENOTEMPTY, lambda: bench.rename("d", "e"))
    refused(errno.EINVAL, lambda: bench.rename("d", "d/sub/in"))
    refused(errno.EEXIST, lambda: bench.rename("f", "d", NOREPLACE))
    refused(errno.ENOENT, lambda: bench.rename("f", "g", EXCHANGE))
    refused(errno.EINVAL, lambda: bench.rename("d/sub", "d", EXCHANGE))
    refused(errno.EINVAL, lambda: bench.rename("f", "g", NOREPLACE | EXCHANGE))
    refused(errno.EINVAL, lambda: bench.rename("f", "g", calls.RENAME_WHITEOUT))
    assert os.listdir(bench.path("upper")) == []


def test_directory_with_lower_content_takes_a_redirect_along(bench: Bench) -> None:
    bench.lower(0, {"a/d/x": b"1", "a/d/s/y": b"2", "b/z": b""})
    bench.lower(1, {"a/d/w": b"3"})
    bench.mount(2)
    number = bench.stat("a/d").ino
    bench.rename("a/d", "a/e")
    assert xattr(bench.path("upper", "a/e"), "redirect") == b"d"
    bench.rename("a/e", "b/f")
    assert xattr(bench.path("upper", "b/f"), "redirect") == b"/a/d"
    bench.rename("b/f", "b/g")
    bench.rename("b", "c")
    bench.rename("c/g/s", "c/g/t")
    for _ in range(2):
        assert bench.names() == {b"a", b"c"}
        assert bench.names("a") == set()
        assert bench.names("c") == {b"g", b"z"}
        assert bench.names("c/g") == {b"x", b"t", b"w"}
        assert bench.read("c/g/t/y") == b"2"
        assert bench.stat("c/g").ino == number
        bench.mount(2)
    bench.rename("c/g/t", "t")
    bench.mount(2)
    assert bench.read("t/y") == b"2"


def test_pure_directory_moved_over_lower_content_is_opaque(bench: Bench, form: str) -> None:
    bench.lower(0, {"old/x": b"", "place/y": b""})
    bench.mount(format=form)
    bench.mkdir("pure")
    bench.write("pure/p", b"")
    bench.unlink("place/y")
    bench.rename("pure", "place")
    for _ in range(2):
        assert bench.names("place") == {b"p"}
        assert bench.names() == {b"old", b"place"}
        bench.mount(format=form)


def test_directory_renamed_over_a_whiteout(bench: Bench, form: str) -> None:
    bench.lower(0, {"gone/x": b""})
    bench.mount(format=form)
    bench.unlink("gone/x")
    bench.rmdir("gone")
    bench.mkdir("d")
    bench.write("d/new", b"")
    bench.rename("d", "gone")
    for _ in range(2):
        assert bench.names("gone") == {b"new"}
        assert bench.find("d") is None
        bench.mount(format=form)
    bench.unlink("gone/new")
    bench.rmdir("gone")
    bench.mount(format=form)
    assert bench.names() == set()


def test_lower_directory_renamed_over_an_emptied_one(bench: Bench) -> None:
    bench.lower(0, {"a/x": b"1", "b/y": b"2"})
    bench.mount()
    bench.unlink("b/y")
    bench.rename("a", "b")
    for _ in range(2):
        assert bench.names() == {b"b"}
        assert bench.names("b") == {b"x"}
        bench.mount()


@pytest.mark.parametrize("options", [{"redirect_dir": False}, {"format": "aufs"}])
def test_without_redirects_lower_directories_stay(bench: Bench, options: dict[str, Any]) -> None:
    bench.lower(0, {"d/x": b""})
    bench.mount(**options)
    refused(errno.EXDEV, lambda: bench.rename("d", "e"))
    assert os.listdir(bench.path("upper")) == []
    bench.mkdir("pure")
    bench.rename("pure", "moved")
    assert bench.names() == {b"d", b"moved"}


@pytest.mark.parametrize("pair", [("a", "b"), ("a", "d"), ("d", "e"), ("d", "new"), ("n", "new")])
def test_exchange(bench: Bench, pair: tuple[str, str]) -> None:
    bench.lower(0, {"a": b"A", "b": b"B", "d/x": b"", "e/y": b""})
    bench.mount()
    bench.mkdir("new")
    bench.write("new/n", b"")
    bench.write("n", b"N")

    def shape(name: str) -> object:
        found = bench.find(name)
        assert found is not None
        return bench.names(name) if found[0].is_dir else bench.read(name)

    before = [shape(name) for name in pair]
    bench.rename(*pair, EXCHANGE)
    for _ in range(2):
        assert [shape(name) for name in pair] == before[::-1]
        bench.mount()


def test_open_files_outlive_their_names(bench: Bench) -> None:
    bench.lower(0, {"low": b"L", "over": b""})
    bench.mount()
    bench.write("up", b"U")
    files = {name: bench.open(name, os.O_RDONLY) for name in ("low", "up")}
    bench.unlink("low")
    bench.rename("over", "up")
    for name, file in files.items():
        assert file.read(9, 0) == name[0].upper().encode()
        assert bench.mounted.stat(file.node).nlink == 0
        bench.mounted.release(file)


def test_other_name_of_a_removed_one(bench: Bench) -> None:
    bench.mount()
    bench.write("a", b"x")
    node = bench.node("a")
    node.nlookup += 1
    bench.link("a", "b")
    bench.unlink("a")
    assert bench.mounted.stat(node).nlink == 1
    assert bench.node("b") is node
    assert node.fd < 0
    bench.rename("b", "c")
    assert bench.read("c") == b"x"


def test_new_objects_belong_to_the_caller(bench: Bench) -> None:
    bench.lower(0, {"d/x": b"", "gone": b""})
    union = bench.mount()
    bench.unlink("gone")
    who = Caller(1234, 5678, 0o027)
    root = union.root
    made = {
        b"dir": union.mkdir(root, b"dir", 0o777, who)[1],
        b"fifo": union.mknod(root, b"fifo", stat.S_IFIFO | 0o666, 0, who)[1],
        b"node": union.mknod(root, b"node", stat.S_IFBLK | 0o666, os.makedev(7, 1), who)[1],
        b"link": union.symlink(root, b"link", b"to", who)[1],
    }
    for name in (b"file", b"gone"):
        _, status, file = union.create(root, name, 0o666, os.O_RDWR, who)
        union.release(file)
        made[name] = status
    modes = {b"dir": 0o750, b"link": 0o777}
    for name, status in made.items():
        assert (status.uid, status.gid) == (1234, 5678), name
        assert stat.S_IMODE(status.mode) == modes.get(name, 0o640), name
    assert os.getresuid() == (0, 0, 0)


def test_setgid_directory_and_default_acl_are_inherited(bench: Bench) -> None:
    def entry(tag: int, perm: int, who: int = 0xFFFFFFFF) -> bytes:
        return struct.pack("<HHI", tag, perm, who)

    default = struct.pack("<I", 2) + b"".join(
        (entry(1, 7), entry(2, 5, 4321), entry(4, 5), entry(0x10, 7), entry(0x20, 0))
    )
    bench.lower(0, {"d/old": b"", "d/olddir/x": b""})
    top = bench.path("low0", "d")
    os.chown(top, 0, 99)
    os.chmod(top, 0o2777)
    os.setxattr(top, "system.posix_acl_default", default)
    union = bench.mount()
    bench.unlink("d/old")
    bench.unlink("d/olddir/x")
    bench.rmdir("d/olddir")
    parent = bench.node("d")
    who = Caller(1234, 5678, 0o077)
    for name in (b"new", b"old"):
        node, status, file = union.create(parent, name, 0o666, os.O_RDWR, who)
        union.release(file)
        assert (status.uid, status.gid) == (1234, 99)
        status = union.stat(node)
        assert stat.S_IMODE(status.mode) == 0o660, name
        assert union.getxattr(node, b"system.posix_acl_access")
    for name in (b"newdir", b"olddir"):
        node, status = union.mkdir(parent, name, 0o755, who)
        status = union.stat(node)
        assert status.gid == 99
        assert stat.S_IMODE(status.mode) == 0o2750, name
        assert union.getxattr(node, b"system.posix_acl_default") == default
    shapes = [
        (union.stat(bench.node("d/" + a)).mode, union.stat(bench.node("d/" + b)).mode)
        for a, b in (("new", "old"), ("newdir", "olddir"))
    ]
    assert all(a == b for a, b in shapes)


def test_inheritance_without_a_mask() -> None:
    def entry(tag: int, perm: int) -> bytes:
        return struct.pack("<HHI", tag, perm, 0xFFFFFFFF)

    default = struct.pack("<I", 2) + entry(1, 6) + entry(4, 5) + entry(0x20, 1)
    assert acl.inherit(default, 0o100777) == (None, 0o100651)
    assert acl.inherit(b"junk", 0o777) is None


def test_private_names_are_escaped(bench: Bench) -> None:
    bench.lower(0, {"a": b"", "d/x": b""})
    union = bench.mount()
    node = bench.node("a")
    mine = b"trusted.overlay.opaque"
    refused(errno.ENODATA, lambda: union.getxattr(node, mine))
    union.setxattr(node, mine, b"y")
    union.setxattr(node, b"user.plain", b"1")
    assert union.getxattr(node, mine) == b"y"
    assert set(union.listxattr(node)) == {mine, b"user.plain"}
    directory = bench.node("d")
    union.setxattr(directory, mine, b"y")
    bench.mount()
    assert bench.names("d") == {b"x"}
    assert bench.mounted.getxattr(bench.node("d"), mine) == b"y"
    bench.mounted.removexattr(bench.node("d"), mine)
    assert bench.mounted.listxattr(bench.node("d")) == []
    refused(
        errno.EPERM,
        lambda: bench.mounted.setxattr(bench.node("d"), b"user.fuseoverlayfs.opaque", b"y"),
    )


@pytest.mark.parametrize("name", ["a", "d"])
def test_xattrs_show_though_their_absence_was_known(bench: Bench, name: str) -> None:
    bench.lower(0, {"a": b"", "d/x": b""})
    union = bench.mount()
    node = bench.node(name)
    capability = b"security.capability"
    refused(errno.ENODATA, lambda: union.getxattr(node, capability))
    assert union.listxattr(node) == []
    value = struct.pack("<5I", 0x02000001, 1, 0, 0, 0)
    union.setxattr(node, capability, value)
    assert union.getxattr(node, capability) == value
    assert union.listxattr(node) == [capability]
    union.removexattr(node, capability)
    refused(errno.ENODATA, lambda: union.getxattr(node, capability))


def test_xattr_flags(bench: Bench) -> None:
    bench.lower(0, {"a": b""})
    union = bench.mount()
    node = bench.node("a")
    refused(errno.ENODATA, lambda: union.setxattr(node, b"user.x", b"", os.XATTR_REPLACE))
    refused(errno.ENODATA, lambda: union.removexattr(node, b"user.x"))
    assert os.listdir(bench.path("upper")) == []
    union.setxattr(node, b"user.x", b"1", os.XATTR_CREATE)
    refused(errno.EEXIST, lambda: union.setxattr(node, b"user.x", b"2", os.XATTR_CREATE))
    bench.mount(xattrs=False)
    refused(errno.ENOTSUP, lambda: bench.mounted.getxattr(bench.node("a"), b"user.x"))


def test_marks_by_name_are_refused_and_never_shown(bench: Bench) -> None:
    bench.lower(0, {"a": b"", "b": b"", ".wh.b": b""})
    union = bench.mount(format="aufs")
    assert bench.names() == {b"a", b"b"}
    refused(errno.EPERM, lambda: bench.mkdir(".wh.a"))
    refused(errno.EPERM, lambda: bench.rename("a", ".wh.a"))
    refused(errno.EPERM, lambda: bench.link("a", ".wh..wh..opq"))
    assert union.lookup(union.root, b".wh.b") is None


def test_times_and_truncation(bench: Bench) -> None:
    bench.lower(0, {"a": b"123456"})
    union = bench.mount()
    node = bench.node("a")
    status = union.setattr(node, atime_ns=1_000_000_001, mtime_ns=-5)
    assert (status.atime_ns, status.mtime_ns) == (1_000_000_001, -5)
    status = union.setattr(node, size=3)
    assert status.size == 3
    assert status.atime_ns == 1_000_000_001
    assert status.mtime_ns > 0
    refused(errno.EISDIR, lambda: union.setattr(union.root, size=0))
    refused(errno.EINVAL, lambda: union.setattr(node, size=-1))


def test_nameless_file_gets_a_name(bench: Bench) -> None:
    bench.lower(0, {"d/x": b""})
    union = bench.mount()
    node, status, file = union.tmpfile(bench.node("d"), 0o640, os.O_RDWR, Caller(11, 22))
    assert status.nlink == 0
    node.nlookup += 1
    file.write(b"content", 0)
    union.link(node, bench.node("d"), b"named")
    union.release(file)
    assert bench.read("d/named") == b"content"
    assert bench.stat("d/named").uid == 11
    assert bench.node("d/named") is node


def test_ids_are_mapped_in_both_directions(bench: Bench) -> None:
    bench.lower(0, {"a": b"", "b": b""})
    os.chown(bench.path("low0", "a"), 100_005, 100_006)
    union = bench.mount(uidmapping=((0, 100_000, 1000),), gidmapping=((0, 100_000, 1000),))
    assert (bench.stat("a").uid, bench.stat("a").gid) == (5, 6)
    assert bench.stat("b").uid == 65534
    _, status = union.mkdir(union.root, b"new", 0o755, Caller(7, 8))
    assert (status.uid, status.gid) == (7, 8)
    assert os.stat(bench.path("upper", "new")).st_uid == 100_007
    union.setattr(bench.node("a"), uid=9)
    assert os.stat(bench.path("upper", "a")).st_uid == 100_009
