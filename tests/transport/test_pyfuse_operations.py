# SPDX-License-Identifier: GPL-3.0-or-later
"""Every operation that pyfuse3 offers, from a system call through the kernel to the layers."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support.clock import tick
from tests.support.layers import Layers
from tests.support.mounttable import mount_at
from tests.support.syscall import renameat2
from tests.support.user import as_user, in_child
from tests.transport.conftest import Serve


def raises(number: int) -> pytest.RaisesExc[OSError]:
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == number)


@pytest.fixture
def merged(layers: Layers, serve: Serve) -> Path:
    (layers.lower / "file").write_bytes(b"lower")
    (layers.lower / "dir").mkdir()
    (layers.lower / "dir/inner").write_bytes(b"inner")
    os.symlink("file", layers.lower / "link")
    serve()
    return layers.merged


def test_cd_example(merged: Path, layers: Layers) -> None:
    assert (merged / "file").read_bytes() == b"lower"
    (merged / "file").write_bytes(b"edited")
    assert (merged / "file").read_bytes() == b"edited"
    assert (layers.lower / "file").read_bytes() == b"lower"
    assert (layers.upper / "file").read_bytes() == b"edited"


def test_make_objects_of_all_kinds(merged: Path, layers: Layers) -> None:
    os.mkdir(merged / "d", 0o750)
    os.mkfifo(merged / "f", 0o640)
    os.mknod(merged / "c", stat.S_IFCHR | 0o600, os.makedev(259, 70000))
    os.mknod(merged / "r", stat.S_IFREG | 0o604)
    os.symlink(b"to\xff", merged / "s")
    os.close(os.open(merged / "o", os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o444))
    os.link(merged / "file", merged / "dir/hard")
    assert stat.filemode(os.stat(merged / "d").st_mode) == "drwxr-x---"
    assert stat.S_ISFIFO(os.stat(merged / "f").st_mode)
    assert os.stat(merged / "c").st_rdev == os.makedev(259, 70000)
    assert os.stat(layers.upper / "c").st_rdev == os.makedev(259, 70000)
    assert stat.filemode(os.stat(merged / "r").st_mode) == "-rw----r--"
    assert os.readlink(os.fsencode(merged / "s")) == b"to\xff"
    assert stat.filemode(os.stat(merged / "o").st_mode) == "-r--r--r--"
    assert os.stat(merged / "file").st_nlink == 2
    assert os.path.samefile(merged / "file", merged / "dir/hard")


def test_new_objects_belong_to_the_caller(merged: Path, layers: Layers) -> None:
    os.chmod(merged, 0o777)

    def make() -> None:
        os.umask(0o027)
        (merged / "theirs").write_bytes(b"")
        os.mkdir(merged / "theirs.d")

    as_user(1234, make, gid=4321)
    for name, mode in (("theirs", 0o640), ("theirs.d", 0o750)):
        found = os.stat(layers.upper / name)
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, mode)


def test_create_opens_what_is_there(merged: Path) -> None:
    with raises(errno.EEXIST):
        os.open(merged / "file", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    fd = os.open(merged / "file", os.O_CREAT | os.O_RDWR)
    assert os.read(fd, 10) == b"lower"
    os.close(fd)


def test_remove_and_rename(merged: Path) -> None:
    with raises(errno.ENOTEMPTY):
        os.rmdir(merged / "dir")
    os.unlink(merged / "dir/inner")
    os.rmdir(merged / "dir")
    os.rename(merged / "file", merged / "moved")
    os.unlink(merged / "link")
    assert os.listdir(merged) == ["moved"]
    with raises(errno.ENOENT):
        os.stat(merged / "file")
    assert (merged / "moved").read_bytes() == b"lower"


@pytest.mark.parametrize(("flags", "number"), [(1, errno.EEXIST), (2, 0), (4, errno.EINVAL)])
def test_rename_flags(merged: Path, flags: int, number: int) -> None:
    with raises(number) if number else nullcontext():
        renameat2(str(merged / "file"), str(merged / "link"), flags)
    assert os.path.islink(merged / ("file" if number == 0 else "link"))


def test_attributes(merged: Path, layers: Layers) -> None:
    path = merged / "file"
    before = os.stat(path)
    os.chmod(path, 0o4751)
    os.chown(path, 1, 2)
    os.utime(path, ns=(1_000_000_007, -5_000_000_003))
    os.truncate(path, 3)
    os.utime(path, ns=(1_000_000_007, -5_000_000_003))
    for found in (os.stat(path), os.stat(layers.upper / "file")):
        assert stat.S_IMODE(found.st_mode) == 0o751  # chown(2) took setuid away
        assert (found.st_uid, found.st_gid, found.st_size) == (1, 2, 3)
        assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_007, -5_000_000_003)
    assert os.stat(path).st_ino == before.st_ino
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, 100_000)
    os.fchmod(fd, 0o600)
    assert os.fstat(fd).st_size == 100_000
    os.close(fd)
    assert (layers.upper / "file").read_bytes() == b"low" + bytes(99_997)


def test_touch_sets_the_present(merged: Path) -> None:
    tick()
    before = time.time_ns()
    tick()
    os.utime(merged / "file")
    found = os.stat(merged / "file")
    assert before <= found.st_mtime_ns == found.st_atime_ns <= time.time_ns()


def test_statfs(merged: Path, layers: Layers) -> None:
    shown, real = os.statvfs(merged), os.statvfs(layers.upper)
    assert shown.f_blocks == real.f_blocks
    assert (shown.f_bsize, shown.f_files, shown.f_namemax) == (
        real.f_bsize,
        real.f_files,
        real.f_namemax,
    )


def test_xattrs(merged: Path) -> None:
    path = merged / "file"
    with raises(errno.ENODATA):
        os.getxattr(path, "trusted.x")
    os.setxattr(path, "trusted.x", b"1", os.XATTR_CREATE)
    with raises(errno.EEXIST):
        os.setxattr(path, "trusted.x", b"2", os.XATTR_CREATE)
    with raises(errno.ENODATA):
        os.setxattr(path, "trusted.y", b"2", os.XATTR_REPLACE)
    os.setxattr(path, "trusted.x", b"\0\xff" * 300, os.XATTR_REPLACE)
    assert os.getxattr(path, "trusted.x") == b"\0\xff" * 300
    assert os.listxattr(path) == ["trusted.x"]
    assert as_user(1234, lambda: os.listxattr(path)) == []
    os.removexattr(path, "trusted.x")
    assert os.listxattr(path) == []


def test_without_xattrs_the_kernel_answers_by_itself(layers: Layers, serve: Serve) -> None:
    (layers.lower / "file").touch()
    served = serve(config={"xattrs": False})
    for _ in range(2):
        with raises(errno.EOPNOTSUPP):
            os.getxattr(layers.merged / "file", "trusted.x")
        with raises(errno.EOPNOTSUPP):
            os.setxattr(layers.merged / "file", "trusted.x", b"")
        with raises(errno.EOPNOTSUPP):
            os.listxattr(layers.merged / "file")
    assert served.state()["open"] == 0


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX ACL as the kernel's xattr has it: (tag, permissions, id), acl(5)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY_ELSE = 0xFFFFFFFF


def test_acl_is_obeyed(merged: Path) -> None:
    path = merged / "file"
    os.chmod(path, 0o600)
    with raises(errno.EACCES):
        as_user(1234, path.read_bytes)
    os.setxattr(
        path,
        "system.posix_acl_access",
        acl(
            (1, 6, NOBODY_ELSE),
            (2, 4, 1234),
            (4, 0, NOBODY_ELSE),
            (16, 4, NOBODY_ELSE),
            (32, 0, NOBODY_ELSE),
        ),
    )
    assert as_user(1234, path.read_bytes) == b"lower"
    with raises(errno.EACCES):
        as_user(1235, path.read_bytes)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


@pytest.mark.parametrize("member", [False, True])
def test_acl_of_a_stranger_drops_setgid(merged: Path, member: bool) -> None:
    path = merged / "file"
    os.chown(path, 1234, 4321)
    os.chmod(path, 0o2770)
    new = acl(
        (1, 7, NOBODY_ELSE),
        (2, 4, 7),
        (4, 5, NOBODY_ELSE),
        (16, 5, NOBODY_ELSE),
        (32, 0, NOBODY_ELSE),
    )
    groups = [4321] if member else []
    as_user(1234, lambda: os.setxattr(path, "system.posix_acl_access", new), groups=groups)
    assert stat.S_IMODE(os.stat(path).st_mode) == (0o2750 if member else 0o750)


def test_umask_and_default_acl(merged: Path) -> None:
    """umask(2): the umask is not looked at where the directory has a default ACL."""
    os.mkdir(merged / "plain")
    os.mkdir(merged / "acl")
    default = acl(
        (1, 7, NOBODY_ELSE), (4, 7, NOBODY_ELSE), (16, 7, NOBODY_ELSE), (32, 5, NOBODY_ELSE)
    )
    os.setxattr(merged / "acl", "system.posix_acl_default", default)

    def make() -> None:
        os.umask(0o027)
        for name in ("plain", "acl"):
            os.close(os.open(merged / name / "file", os.O_CREAT | os.O_WRONLY, 0o666))
            os.mkdir(merged / name / "dir", 0o777)
            os.mkfifo(merged / name / "fifo", 0o666)

    in_child(make)
    expected = {"plain": (0o640, 0o750, 0o640), "acl": (0o664, 0o775, 0o664)}
    for name, numbers in expected.items():
        for made, mode in zip(("file", "dir", "fifo"), numbers, strict=True):
            assert stat.S_IMODE(os.stat(merged / name / made).st_mode) == mode


@pytest.mark.parametrize("change", ["write", "truncate", "O_TRUNC", "chown"])
def test_changes_by_others_take_setuid_away(merged: Path, layers: Layers, change: str) -> None:
    """write(2), truncate(2), open(2) and chown(2): for callers without CAP_FSETID."""
    path = merged / "file"
    os.chown(path, 1234, 1234)
    os.chmod(path, 0o6777)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o6777

    def act() -> None:
        match change:
            case "write":
                fd = os.open(path, os.O_WRONLY)
                os.write(fd, b"x")
                os.close(fd)
            case "truncate":
                os.truncate(path, 1)
            case "O_TRUNC":
                os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
            case "chown":
                os.chown(path, 1234, 1234)

    as_user(1234, act)
    for shown in (path, layers.upper / "file"):
        assert stat.S_IMODE(os.stat(shown).st_mode) == 0o777


def test_root_keeps_setuid_when_truncating(merged: Path) -> None:
    path = merged / "file"
    os.chmod(path, 0o4755)
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o4755


def test_append_and_sparse_writes(merged: Path, layers: Layers) -> None:
    with open(merged / "file", "ab") as stream:
        stream.write(b"+1")
        stream.flush()
        stream.write(b"+2")
    fd = os.open(merged / "file", os.O_WRONLY)
    os.pwrite(fd, b"end", 1 << 33)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    found = os.stat(layers.upper / "file")
    assert found.st_size == (1 << 33) + 3
    assert found.st_blocks * 512 < 1 << 20
    with open(merged / "file", "rb") as stream:
        assert stream.read(12) == b"lower+1+2\0\0\0"


def test_large_writes_and_reads(merged: Path, layers: Layers) -> None:
    size = 3 << 20
    for flags in (0, os.O_SYNC, os.O_DSYNC, os.O_DIRECT):
        data = mmap.mmap(-1, size)
        data.write(os.urandom(size))
        fd = os.open(merged / "big", os.O_CREAT | os.O_RDWR | flags)
        assert os.write(fd, data) == size
        back = mmap.mmap(-1, size)
        assert os.preadv(fd, [back], 0) == size
        os.close(fd)
        assert back[:] == data[:]
        assert (layers.upper / "big").read_bytes() == data[:]


def test_mapped_files(merged: Path, layers: Layers) -> None:
    with open(merged / "file", "r+b") as stream:
        shared = mmap.mmap(stream.fileno(), 5)
        assert shared[:] == b"lower"
        shared[0:1] = b"L"
        shared.flush()
        assert (layers.upper / "file").read_bytes() == b"Lower"
        shared.close()


def test_unlinked_file_stays_usable(merged: Path) -> None:
    fd = os.open(merged / "file", os.O_RDWR)
    os.unlink(merged / "file")
    os.write(fd, b"gone")
    os.fchmod(fd, 0o611)
    os.ftruncate(fd, 3)
    found = os.fstat(fd)
    assert (found.st_nlink, found.st_size, stat.S_IMODE(found.st_mode)) == (0, 3, 0o611)
    assert os.pread(fd, 9, 0) == b"gon"
    os.close(fd)


def test_reader_from_before_sees_the_copy(merged: Path) -> None:
    reader = os.open(merged / "file", os.O_RDONLY)
    assert os.pread(reader, 9, 0) == b"lower"
    (merged / "file").write_bytes(b"written since")
    assert os.pread(reader, 99, 0) == b"written since"
    os.close(reader)


def test_listing(merged: Path) -> None:
    for number in range(500):
        os.mkdir(merged / f"dir/{number:04}-{'x' * 200}")
    expected = sorted(["inner", *(f"{number:04}-{'x' * 200}" for number in range(500))])
    assert sorted(os.listdir(merged / "dir")) == expected
    with os.scandir(merged / "dir") as found:
        for entry in found:
            assert entry.inode() == os.lstat(entry.path).st_ino
            assert entry.is_dir(follow_symlinks=False) == (entry.name != "inner")


def test_listing_rewinds_and_seeks(merged: Path) -> None:
    fd = os.open(merged, os.O_RDONLY | os.O_DIRECTORY)
    assert sorted(os.listdir(fd)) == ["dir", "file", "link"]
    (merged / "new").touch()
    os.unlink(merged / "link")
    os.lseek(fd, 0, os.SEEK_SET)
    assert sorted(os.listdir(fd)) == ["dir", "file", "new"]
    os.fsync(fd)
    os.close(fd)


def test_listing_shows_what_was_made_since_the_open(merged: Path) -> None:
    fd = os.open(merged / "dir", os.O_RDONLY | os.O_DIRECTORY)
    (merged / "dir/new").touch()
    assert sorted(os.listdir(fd)) == ["inner", "new"]
    os.fsync(fd)
    os.close(fd)


def test_listing_while_names_go(merged: Path) -> None:
    for number in range(300):
        (merged / f"dir/{number:03}").touch()
    seen = []
    with os.scandir(merged / "dir") as found:
        for entry in found:
            seen.append(entry.name)
            if entry.name != "inner":
                os.unlink(entry.path)
    assert sorted(seen) == sorted(["inner", *(f"{number:03}" for number in range(300))])
    assert os.listdir(merged / "dir") == ["inner"]


def test_dot_and_dotdot(merged: Path) -> None:
    shown = subprocess.run(
        ["ls", "-afi", str(merged / "dir")], capture_output=True, text=True, check=True
    ).stdout
    numbers = {name: int(number) for number, name in (row.split() for row in shown.splitlines())}
    assert numbers["."] == os.stat(merged / "dir").st_ino
    assert numbers[".."] == os.stat(merged).st_ino


def test_names_are_bytes(merged: Path, layers: Layers) -> None:
    name = bytes(sorted(set(range(1, 256)) - {0x2F}))
    path = os.path.join(os.fsencode(merged), name)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    assert name in os.listdir(os.fsencode(merged))
    assert name in os.listdir(os.fsencode(layers.upper))
    os.rename(path, path[:-2] + b"zz")
    with raises(errno.ENAMETOOLONG):
        os.stat(path + b"longer")


def test_read_only_union(layers: Layers, serve: Serve) -> None:
    (layers.lower / "file").write_bytes(b"lower")
    serve(config={"upper": None, "work": None})
    entry = mount_at(layers.merged)
    assert entry is not None
    assert "ro" in entry.options
    assert (layers.merged / "file").read_bytes() == b"lower"
    with raises(errno.EROFS):
        os.unlink(layers.merged / "file")
    with raises(errno.EROFS):
        (layers.merged / "new").touch()


def test_mount_is_shown_as_asked(layers: Layers, serve: Serve) -> None:
    serve(
        session={
            "fsname": "a, b\\c é",
            "nosuid": True,
            "nodev": True,
            "noexec": True,
            "noatime": True,
        }
    )
    entry = mount_at(layers.merged)
    assert entry is not None
    assert entry.fstype == "fuse.lamina"
    assert entry.source == "a, b\\c é".encode()
    assert {"rw", "nosuid", "nodev", "noexec", "noatime"} <= entry.options
    assert {"default_permissions", "allow_other"} <= entry.super_options


def test_mount_allows_what_is_not_forbidden(layers: Layers, serve: Serve) -> None:
    serve()
    entry = mount_at(layers.merged)
    assert entry is not None
    assert entry.options == {"rw", "relatime"}
