# SPDX-License-Identifier: GPL-3.0-or-later
"""Every request of the protocol, from a system call through the kernel to the layers and back."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import tick
from tests.support.layers import Layers
from tests.support.syscall import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    STATX_BTIME,
    DirectoryStream,
    fallocate,
    linkat,
    renameat2,
    statx,
    syncfs,
)
from tests.support.user import as_user, in_child
from tests.transport.device_modes import MODES
from tests.transport.device_served import DeviceServed, Start

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FSSETXATTR = 0x401C5820
FS_NODUMP_FL = 0x40
FS_XFLAG_NODUMP = 0x80


def raises(number: int) -> pytest.RaisesExc[OSError]:
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == number)


@pytest.fixture
def served(layers: Layers, start: Start, mode: dict[str, Any]) -> DeviceServed:
    (layers.lower / "file").write_bytes(b"lower")
    (layers.lower / "dir").mkdir()
    (layers.lower / "dir/inner").write_bytes(b"inner")
    os.symlink("file", layers.lower / "link")
    return start(layers, **mode)


@pytest.fixture
def merged(served: DeviceServed) -> Path:
    return served.merged


def test_passthrough_is_used_where_it_should_be(served: DeviceServed, mode: dict[str, Any]) -> None:
    (served.merged / "file").read_bytes()
    (served.merged / "new").write_bytes(b"x" * 10000)
    state = served.settled()
    passthrough = mode is MODES["passthrough"]
    assert state.passthrough is passthrough
    assert (state["READ"] == 0) is passthrough
    assert (state["WRITE"] == 0) is passthrough
    assert state.backings == (2 if passthrough else 0)


def test_cd_example(merged: Path, layers: Layers) -> None:
    assert (merged / "file").read_bytes() == b"lower"
    (merged / "file").write_bytes(b"edited")
    assert (merged / "file").read_bytes() == b"edited"
    assert (layers.lower / "file").read_bytes() == b"lower"
    assert (layers.upper / "file").read_bytes() == b"edited"


# -- names


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
    assert os.readlink(merged / "link") == "file"
    assert stat.filemode(os.stat(merged / "o").st_mode) == "-r--r--r--"
    assert os.stat(merged / "file").st_nlink == 2
    assert os.path.samefile(merged / "file", merged / "dir/hard")


def test_new_objects_belong_to_the_caller(merged: Path, layers: Layers) -> None:
    os.chmod(merged, 0o777)

    def make() -> None:
        os.umask(0o027)
        (merged / "theirs").write_bytes(b"")
        os.mkdir(merged / "theirs.d")
        os.mkfifo(merged / "theirs.f")

    as_user(1234, make, gid=4321)
    for name, mode in (("theirs", 0o640), ("theirs.d", 0o750), ("theirs.f", 0o640)):
        found = os.stat(layers.upper / name)
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, mode)


def test_setgid_directory_with_a_supplementary_group(merged: Path, layers: Layers) -> None:
    (merged / "shared").mkdir()
    os.chown(merged / "shared", 0, 77)
    os.chmod(merged / "shared", 0o2777)

    def make() -> None:
        os.mkdir(merged / "shared/d")
        os.close(os.open(merged / "shared/f", os.O_CREAT | os.O_WRONLY, 0o2755))

    as_user(1234, make, gid=4321, groups=[77])
    assert os.stat(merged / "shared/d").st_gid == 77
    assert os.stat(merged / "shared/d").st_mode & stat.S_ISGID
    assert os.stat(layers.upper / "shared/f").st_gid == 77


def test_default_acl_takes_the_place_of_the_umask(merged: Path) -> None:
    (merged / "d").mkdir()
    # version 2; user::rwx, group::rwx, other::r-x (acl(5), posix_acl_xattr.h)
    entries = [(1, 7), (4, 7), (32, 5)]
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, perm, 0xFFFFFFFF) for tag, perm in entries
    )
    os.setxattr(merged / "d", "system.posix_acl_default", acl)

    def make() -> None:
        os.umask(0o077)
        os.close(os.open(merged / "d/f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(merged / "d/sub", 0o777)

    in_child(make)
    assert stat.S_IMODE(os.stat(merged / "d/f").st_mode) == 0o664
    assert stat.S_IMODE(os.stat(merged / "d/sub").st_mode) == 0o775


def test_unlink_rmdir_and_their_refusals(merged: Path, layers: Layers) -> None:
    with raises(errno.ENOTEMPTY):
        os.rmdir(merged / "dir")
    with raises(errno.EISDIR):
        os.unlink(merged / "dir")
    with raises(errno.ENOTDIR):
        os.rmdir(merged / "file")
    os.unlink(merged / "dir/inner")
    os.rmdir(merged / "dir")
    os.unlink(merged / "file")
    assert sorted(os.listdir(merged)) == ["link"]
    assert not (merged / "file").exists()
    assert stat.S_ISCHR(os.lstat(layers.upper / "file").st_mode)


def test_rename_with_its_flags(merged: Path) -> None:
    (merged / "a").write_bytes(b"a")
    (merged / "b").write_bytes(b"b")
    with raises(errno.EEXIST):
        renameat2(bytes(merged / "a"), bytes(merged / "b"), RENAME_NOREPLACE)
    renameat2(bytes(merged / "a"), bytes(merged / "b"), RENAME_EXCHANGE)
    assert (merged / "a").read_bytes() == b"b"
    assert (merged / "b").read_bytes() == b"a"
    os.rename(merged / "a", merged / "dir/a")
    os.rename(merged / "file", merged / "b")
    assert (merged / "b").read_bytes() == b"lower"
    with raises(errno.EINVAL):
        renameat2(bytes(merged / "b"), bytes(merged / "c"), RENAME_WHITEOUT)
    os.rename(merged / "dir", merged / "moved")
    assert (merged / "moved/inner").read_bytes() == b"inner"
    assert (merged / "moved/a").read_bytes() == b"b"


def test_names_up_to_their_limits(merged: Path) -> None:
    longest = b"\xff" * 255
    path = os.fsencode(merged) + b"/" + longest
    with open(path, "wb") as stream:
        stream.write(b"x")
    assert longest in os.listdir(os.fsencode(merged))
    with raises(errno.ENAMETOOLONG):
        os.stat(path + b"x")


def test_unlinked_file_stays_usable(merged: Path) -> None:
    with open(merged / "file", "r+b") as stream:
        os.unlink(merged / "file")
        assert os.fstat(stream.fileno()).st_nlink == 0
        stream.write(b"written after")
        stream.flush()
        stream.seek(0)
        assert stream.read() == b"written after"


def test_tmpfile_can_be_given_a_name(merged: Path, layers: Layers) -> None:
    fd = os.open(merged, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"nameless")
    assert sorted(os.listdir(merged)) == ["dir", "file", "link"]
    assert os.fstat(fd).st_nlink == 0
    linkat(fd, bytes(merged / "named"))
    os.close(fd)
    assert (merged / "named").read_bytes() == b"nameless"
    assert (layers.upper / "named").read_bytes() == b"nameless"


# -- attributes


def test_setattr_in_all_its_parts(merged: Path) -> None:
    file = merged / "file"
    os.chmod(file, 0o604)
    os.chown(file, 5, 6)
    os.truncate(file, 3)
    os.utime(file, ns=(1_000_000_001, -1_000_000_002))
    found = os.stat(file)
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o604, 5, 6)
    assert (found.st_size, found.st_atime_ns, found.st_mtime_ns) == (
        3,
        1_000_000_001,
        -1_000_000_002,
    )
    assert file.read_bytes() == b"low"
    with open(file, "r+b") as stream:
        os.ftruncate(stream.fileno(), 10)
        os.fchmod(stream.fileno(), 0o600)
        assert os.fstat(stream.fileno()).st_size == 10
    assert file.read_bytes() == b"low" + bytes(7)
    os.utime(file)
    assert os.stat(file).st_mtime_ns > 1_000_000_000


def test_owner_change_takes_privileges_away(merged: Path) -> None:
    for number, (uid, gid) in enumerate(((1, -1), (-1, 1), (-1, -1))):
        path = merged / f"suid{number}"
        path.write_bytes(b"")
        os.chmod(path, 0o6755)
        os.chown(path, uid, gid)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o755, (uid, gid)


@pytest.mark.parametrize("how", ["write", "append", "truncate", "open"])
def test_change_by_others_takes_privileges_away(merged: Path, how: str) -> None:
    path = merged / "suid"
    path.write_bytes(b"content")
    os.chmod(path, 0o6777)
    os.chmod(merged, 0o777)

    def change() -> None:
        if how == "write":
            with open(path, "r+b") as stream:
                stream.write(b"x")
        elif how == "append":
            with open(path, "ab") as stream:
                stream.write(b"x")
        elif how == "truncate":
            os.truncate(path, 1)
        else:
            path.write_bytes(b"")

    as_user(1234, change)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o777


def test_change_by_root_leaves_privileges(merged: Path) -> None:
    path = merged / "suid"
    path.write_bytes(b"content")
    os.chmod(path, 0o6777)
    with open(path, "ab") as stream:
        stream.write(b"x")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o6777


def test_write_takes_file_capabilities_away(merged: Path) -> None:
    path = merged / "capable"
    path.write_bytes(b"content")
    capability = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)  # cap_net_bind_service=ep
    os.setxattr(path, "security.capability", capability)
    with open(path, "ab") as stream:
        stream.write(b"x")
    with raises(errno.ENODATA):
        os.getxattr(path, "security.capability")


def test_attributes_follow_what_is_written(merged: Path) -> None:
    """The kernel may keep attributes only as long as they are true."""
    path = merged / "grows"
    with open(path, "wb", buffering=0) as stream:
        for size in (10, 5000, 200_000):
            before = os.stat(path)
            tick()
            os.pwrite(stream.fileno(), b"x" * size, 0)
            found = os.stat(path)
            assert found.st_size == size
            assert found.st_mtime_ns > before.st_mtime_ns
            assert found.st_blocks > 0


def test_birth_time(merged: Path, layers: Layers) -> None:
    (merged / "born").write_bytes(b"x")
    real = statx(bytes(layers.upper / "born"), STATX_BTIME)
    if real.mask & STATX_BTIME:
        shown = statx(bytes(merged / "born"), STATX_BTIME)
        assert shown.mask & STATX_BTIME
        assert shown.btime_ns == real.btime_ns


def test_statfs_is_that_of_the_upper(merged: Path, layers: Layers) -> None:
    shown, real = os.statvfs(merged), os.statvfs(layers.upper)
    assert (shown.f_bsize, shown.f_frsize) == (real.f_bsize, real.f_frsize)
    assert (shown.f_blocks, shown.f_files) == (real.f_blocks, real.f_files)
    assert shown.f_namemax == 255


def test_access_is_checked_by_the_kernel(merged: Path) -> None:
    os.chmod(merged / "file", 0o640)

    def look() -> tuple[bool, bool]:
        return os.access(merged / "file", os.R_OK), os.access(merged / "link", os.F_OK)

    assert as_user(1234, look) == (False, True)
    with raises(errno.EACCES):
        as_user(1234, lambda: (merged / "file").read_bytes())


# -- content


def test_read_and_write_at_all_sizes(merged: Path, layers: Layers) -> None:
    model = bytearray()
    path = merged / "data"
    with open(path, "w+b", buffering=0) as stream:
        fd = stream.fileno()
        for offset, size in ((0, 1), (1, 4096), (5000, 130_000), (100, 3_000_000), (4_000_000, 7)):
            data = os.urandom(size)
            model.extend(bytes(max(0, offset + size - len(model))))
            model[offset : offset + size] = data
            assert os.pwrite(fd, data, offset) == size
            assert os.pread(fd, size + 10, offset) == model[offset : offset + size + 10]
        assert os.pread(fd, 10, 10_000_000) == b""
    assert path.read_bytes() == model
    assert (layers.upper / "data").read_bytes() == model


def test_append_by_several_descriptors(merged: Path) -> None:
    with open(merged / "log", "ab", 0) as first, open(merged / "log", "ab", 0) as second:
        for number in range(10):
            (first, second)[number % 2].write(b"%d\n" % number)
    assert (merged / "log").read_bytes() == b"".join(b"%d\n" % number for number in range(10))


def test_truncating_open_copies_nothing(merged: Path, layers: Layers) -> None:
    os.close(os.open(merged / "file", os.O_WRONLY | os.O_TRUNC))
    assert os.stat(merged / "file").st_size == 0
    assert (layers.upper / "file").read_bytes() == b""
    assert (layers.lower / "file").read_bytes() == b"lower"


def test_write_seen_by_another_descriptor(merged: Path) -> None:
    with open(merged / "shared", "w+b", 0) as writer, open(merged / "shared", "rb", 0) as reader:
        writer.write(b"one")
        assert reader.read() == b"one"
        writer.write(b"two")
        assert reader.read() == b"two"
        assert os.fstat(reader.fileno()).st_size == 6


def test_private_and_shared_mappings(merged: Path, layers: Layers) -> None:
    path = merged / "mapped"
    path.write_bytes(b"a" * 8192)
    with open(path, "r+b") as stream:
        with mmap.mmap(stream.fileno(), 0, mmap.MAP_SHARED) as shared:
            shared[4096:4100] = b"bbbb"
            shared.flush()
            assert (layers.upper / "mapped").read_bytes()[4096:4100] == b"bbbb"
            assert os.pread(stream.fileno(), 4, 4096) == b"bbbb"
            os.pwrite(stream.fileno(), b"cccc", 0)
            assert shared[:4] == b"cccc"
        with mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE) as private:
            private[:4] = b"dddd"
    assert path.read_bytes()[:4] == b"cccc"
    with (
        open(merged / "file", "rb") as below,
        mmap.mmap(below.fileno(), 0, prot=mmap.PROT_READ) as lower,
    ):
        assert lower[:] == b"lower"


def test_modification_time_follows_a_mapping(merged: Path) -> None:
    """mmap(2): st_mtime is marked between the write and the next msync(2)."""
    path = merged / "mapped"
    path.write_bytes(b"a" * 4096)
    before = os.stat(path).st_mtime_ns
    with open(path, "r+b") as stream:
        os.stat(path)
        with mmap.mmap(stream.fileno(), 0, mmap.MAP_SHARED) as shared:
            tick()
            shared[0:1] = b"b"
            shared.flush()
            during = os.stat(path).st_mtime_ns
            assert during > before
            tick()
            shared[0:1] = b"c"
            shared.flush()
    assert os.stat(path).st_mtime_ns >= during


def test_run_a_program_from_the_mount(merged: Path) -> None:
    script = merged / "run"
    script.write_text("#!/bin/sh\necho ran\n")
    os.chmod(script, 0o755)
    assert subprocess.check_output([script]) == b"ran\n"
    binary = merged / "true"
    binary.write_bytes(Path("/bin/true").read_bytes())
    os.chmod(binary, 0o755)
    subprocess.check_call([binary])


def test_direct_io(merged: Path, layers: Layers) -> None:
    page = mmap.mmap(-1, 8192)
    page.write(b"d" * 8192)
    fd = os.open(merged / "direct", os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600)
    try:
        assert os.pwritev(fd, [page], 0) == 8192
        assert (layers.upper / "direct").read_bytes() == b"d" * 8192
        into = mmap.mmap(-1, 4096)
        assert os.preadv(fd, [into], 4096) == 4096
        assert into[:] == b"d" * 4096
    finally:
        os.close(fd)
    assert (merged / "direct").read_bytes() == b"d" * 8192


def test_fsync_fdatasync_syncfs(merged: Path) -> None:
    with open(merged / "synced", "wb") as stream:
        stream.write(b"x")
        stream.flush()
        os.fsync(stream.fileno())
        os.fdatasync(stream.fileno())
        syncfs(stream.fileno())
    with open(merged / "file", "rb") as stream:
        os.fsync(stream.fileno())
    for path in (merged, merged / "dir"):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)


def test_read_what_is_not_in_memory(
    layers_ext4: Layers, start: Start, mode: dict[str, Any]
) -> None:
    """A read that has to wait for a disc is done elsewhere and comes out the same."""
    data = os.urandom(3 << 20)
    (layers_ext4.lower / "cold").write_bytes(data)
    merged = start(layers_ext4, **mode).merged
    with open(layers_ext4.lower / "cold", "rb") as real:
        os.fsync(real.fileno())
        for _ in range(3):
            os.posix_fadvise(real.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with open(merged / "cold", "rb", 0) as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                assert stream.read() == data
                assert os.pread(stream.fileno(), 10, len(data) - 5) == data[-5:]


def test_repeated_fsync_on_a_disc(layers_ext4: Layers, start: Start, mode: dict[str, Any]) -> None:
    """Whether it is done at once or elsewhere depends on how long it took before."""
    merged = start(layers_ext4, **mode).merged
    fd = os.open(merged, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(20):
        with open(merged / f"{number}", "wb", 0) as stream:
            stream.write(b"x" * 1000 * number)
            os.fsync(stream.fileno())
            os.fdatasync(stream.fileno())
        os.fsync(fd)
        os.fdatasync(fd)
    os.close(fd)
    assert [os.stat(merged / f"{number}").st_size for number in range(20)] == [
        1000 * number for number in range(20)
    ]


def test_fallocate_and_holes(merged: Path, layers: Layers) -> None:
    path = merged / "holes"
    with open(path, "w+b", 0) as stream:
        fd = stream.fileno()
        os.posix_fallocate(fd, 0, 4096)
        assert os.stat(path).st_size == 4096
        fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192)
        assert os.stat(path).st_size == 4096
        os.pwrite(fd, b"x" * 12288, 0)
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096)
        assert os.pread(fd, 12288, 0) == b"x" * 4096 + bytes(4096) + b"x" * 4096
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 4096
        assert os.lseek(fd, 4096, os.SEEK_DATA) == 8192
        with raises(errno.ENXIO):
            os.lseek(fd, 12288, os.SEEK_DATA)
        fallocate(fd, 0, 1 << 20, 4 << 20)
        assert os.stat(path).st_size == 5 << 20
    assert (layers.upper / "holes").stat().st_size == 5 << 20


def test_copy_file_range(merged: Path) -> None:
    size = 3 << 20
    data = os.urandom(size)
    (merged / "from").write_bytes(data)
    with open(merged / "from", "rb") as source, open(merged / "to", "w+b") as target:
        done = 0
        while done < size:
            step = os.copy_file_range(source.fileno(), target.fileno(), size - done, done, done)
            assert step > 0
            done += step
        assert os.copy_file_range(source.fileno(), target.fileno(), 10, size, 0) == 0
        assert os.fstat(target.fileno()).st_size == size
    assert (merged / "to").read_bytes() == data
    with open(merged / "file", "rb") as source, open(merged / "to", "r+b") as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), 5, 0, 2) == 5
    assert (merged / "to").read_bytes()[:8] == data[:2] + b"lower" + data[7:8]


def test_locks(merged: Path) -> None:
    with open(merged / "file", "r+b") as first, open(merged / "file", "r+b") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        with raises(errno.EAGAIN):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(first, fcntl.LOCK_UN)
        fcntl.lockf(first, fcntl.LOCK_EX, 3, 1)

        def contend() -> None:
            with open(merged / "file", "r+b") as third:
                fcntl.lockf(third, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
                fcntl.lockf(third, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2)

        with raises(errno.EAGAIN):
            in_child(contend)


# -- xattrs and inode flags


def test_xattrs(merged: Path, layers: Layers) -> None:
    path = merged / "file"
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    with raises(errno.EEXIST):
        os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)
    os.setxattr(path, "user.a", b"\0" * 1000, os.XATTR_REPLACE)
    os.setxattr(path, "user.empty", b"")
    assert os.getxattr(path, "user.a") == b"\0" * 1000
    assert sorted(os.listxattr(path)) == ["user.a", "user.empty"]
    os.removexattr(path, "user.a")
    with raises(errno.ENODATA):
        os.getxattr(path, "user.a")
    assert os.listxattr(layers.lower / "file") == []
    assert os.listxattr(path) == ["user.empty"]


def test_setting_an_acl_takes_setgid_from_a_foreign_group(
    merged: Path, mode: dict[str, Any]
) -> None:
    path = merged / "file"
    os.chown(path, 1234, 77)
    os.chmod(path, 0o2755)
    entries = [(1, 7), (4, 5), (32, 5)]
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, perm, 0xFFFFFFFF) for tag, perm in entries
    )
    as_user(1234, lambda: os.setxattr(path, "system.posix_acl_access", acl), gid=4321)
    if "SETXATTR_EXT" not in mode.get("withhold", ()):  # without it the kernel does not tell
        assert not os.stat(path).st_mode & stat.S_ISGID


def flags_of(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        buffer = bytearray(8)
        fcntl.ioctl(fd, FS_IOC_GETFLAGS, buffer)
        return int(struct.unpack_from("i", buffer)[0])
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["file", "dir"])
def test_inode_flags(layers_ext4: Layers, start: Start, mode: dict[str, Any], name: str) -> None:
    (layers_ext4.lower / "file").write_bytes(b"lower")
    (layers_ext4.lower / "dir").mkdir()
    merged = start(layers_ext4, **mode).merged
    path = merged / name
    before = flags_of(path)
    fd = os.open(path, os.O_RDONLY)
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", before | FS_NODUMP_FL))
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    extended = bytearray(28)
    fcntl.ioctl(fd, FS_IOC_FSGETXATTR, extended)
    assert struct.unpack_from("I", extended)[0] & FS_XFLAG_NODUMP
    assert flags_of(path) == before | FS_NODUMP_FL
    assert flags_of(layers_ext4.upper / name) & FS_NODUMP_FL
    assert not flags_of(layers_ext4.lower / name) & FS_NODUMP_FL
    fcntl.ioctl(fd, FS_IOC_FSSETXATTR, bytes(28))
    assert not flags_of(path) & FS_NODUMP_FL
    with raises(errno.ENOTTY):
        fcntl.ioctl(fd, 0x5401, bytes(64))  # TCGETS
    os.close(fd)


# -- directories


def test_listing_agrees_with_stat(merged: Path) -> None:
    (merged / "new").write_bytes(b"")
    with DirectoryStream(bytes(merged)) as stream:
        rows = stream.rest()
    names = [name for name, _, _ in rows]
    assert sorted(names) == [b".", b"..", b"dir", b"file", b"link", b"new"]
    for name, ino, kind in rows:
        if name != b"..":
            found = os.lstat(os.fsencode(merged) + b"/" + name)
            assert (ino, kind) == (found.st_ino, found.st_mode >> 12), name


def test_listing_in_pieces_while_it_changes(merged: Path) -> None:
    """readdir(3): what is there all the time is told exactly once."""
    big = merged / "big"
    big.mkdir()
    names = {b"%04d-%s" % (number, b"x" * 60) for number in range(2000)}
    for name in names:
        os.mknod(os.fsencode(big) + b"/" + name)
    told: list[bytes] = []
    removed: set[bytes] = set()
    with DirectoryStream(bytes(big)) as stream:
        while (entry := stream.read()) is not None:
            told.append(entry[0])
            if len(told) % 50 == 0:
                victim = min(names - removed - set(told), default=None)
                if victim is not None:
                    os.unlink(os.fsencode(big) + b"/" + victim)
                    removed.add(victim)
                os.mknod(os.fsencode(big) + b"/added-%d" % len(told))
                os.listdir(big)
    for name in names - removed:
        assert told.count(name) == 1
    assert len(set(told)) == len(told)
    assert set(map(os.fsencode, os.listdir(big))) >= names - removed


def test_remove_while_reading(merged: Path) -> None:
    big = merged / "big"
    big.mkdir()
    for number in range(1500):
        os.mknod(big / f"{number}")
    with DirectoryStream(bytes(big)) as stream:
        while (entry := stream.read()) is not None:
            if entry[0] not in (b".", b".."):
                os.unlink(os.fsencode(big) + b"/" + entry[0])
    os.rmdir(big)


def test_telldir_seekdir_rewinddir(merged: Path) -> None:
    big = merged / "big"
    big.mkdir()
    for number in range(300):
        os.mknod(big / f"{number}")
    with DirectoryStream(bytes(big)) as stream:
        places = []
        names = []
        while True:
            places.append(stream.tell())
            entry = stream.read()
            if entry is None:
                break
            names.append(entry[0])
        for index in (250, 3, 100):
            stream.seek(places[index])
            assert [name for name, _, _ in stream.rest()] == names[index:]
        os.mknod(big / "late")
        stream.rewind()
        assert b"late" in [name for name, _, _ in stream.rest()]


def test_listing_is_cached_until_it_changes(
    served: DeviceServed, merged: Path, mode: dict[str, Any]
) -> None:
    os.listdir(merged)
    before = served.state()
    for _ in range(5):
        assert sorted(os.listdir(merged)) == ["dir", "file", "link"]
    after = served.state()
    assert after["READDIRPLUS"] == before["READDIRPLUS"]
    os.unlink(merged / "link")
    assert sorted(os.listdir(merged)) == ["dir", "file"]


def test_what_the_kernel_remembers(served: DeviceServed, merged: Path) -> None:
    """What was looked up once is known; misses and symlinks are remembered too."""
    assert not (merged / "none").exists()
    assert os.readlink(merged / "link") == "file"
    for name in ("file", "dir", "link"):  # reading a link may change its st_atime
        os.lstat(merged / name)
    before = served.state()
    for _ in range(10):
        for name in ("file", "dir", "link"):
            os.lstat(merged / name)
        assert not (merged / "none").exists()
        assert os.readlink(merged / "link") == "file"
    after = served.state()
    for opcode in ("LOOKUP", "GETATTR", "READLINK"):
        assert after[opcode] == before[opcode], opcode


def test_forgotten_nodes_are_dropped(served: DeviceServed, merged: Path) -> None:
    for number in range(200):
        (merged / f"{number}").write_bytes(b"x")
    assert served.state().nodes > 200
    for number in range(200):
        os.unlink(merged / f"{number}")
    state = served.state()
    assert state.nodes < 20
    assert state.backings < 20
    assert state["FORGET"] + state["BATCH_FORGET"] > 0


# -- errors


def test_errors_reach_the_caller(layers: Layers, start: Start) -> None:
    (layers.lower / "hidden").mkdir()
    for name in ("broken", "hidden/buggy", "fine"):
        (layers.lower / name).write_bytes(b"x")
    served = start(
        layers,
        faults={"broken": str(errno.EUCLEAN), "buggy": "a mistake"},
        expected_log=("unexpected ValueError in LOOKUP", "Traceback", "ValueError: a mistake"),
    )
    with raises(errno.EUCLEAN):
        os.stat(layers.merged / "broken")
    with raises(errno.EIO):
        os.stat(layers.merged / "hidden/buggy")
    assert (layers.merged / "fine").read_bytes() == b"x"
    assert sorted(os.listdir(layers.merged)) == ["broken", "fine", "hidden"]
    assert "ValueError: a mistake" in served.log()


def test_read_only_union(layers: Layers, start: Start, mode: dict[str, Any]) -> None:
    (layers.lower / "file").write_bytes(b"lower")
    merged = start(layers, config={"upper": None, "work": None}, **mode).merged
    assert (merged / "file").read_bytes() == b"lower"
    with raises(errno.EROFS):
        (merged / "new").write_bytes(b"")
    with raises(errno.EROFS):
        os.open(merged / "file", os.O_RDWR)
    with raises(errno.EROFS):
        os.unlink(merged / "file")
    with raises(errno.EROFS):
        os.setxattr(merged / "file", "user.a", b"")


def test_no_xattrs(layers: Layers, start: Start) -> None:
    (layers.lower / "file").write_bytes(b"lower")
    served = start(layers, config={"xattrs": False})
    for _ in range(3):
        with raises(errno.EOPNOTSUPP):
            os.getxattr(layers.merged / "file", "user.a")
        with raises(errno.EOPNOTSUPP):
            os.listxattr(layers.merged / "file")
        with raises(errno.EOPNOTSUPP):
            os.setxattr(layers.merged / "file", "user.a", b"")
    state = served.state()
    assert state["GETXATTR"] <= 1
    assert state["LISTXATTR"] == state["SETXATTR"] == 1
