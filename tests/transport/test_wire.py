# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout of messages, held against the kernel's own header where this machine has it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from struct import Struct

import pytest

from unionfs.fuse import replies, wire
from unionfs.node import Stat

HEADER = Path("/usr/include/linux/fuse.h")
SIZES = {"uint64_t": 8, "int64_t": 8, "uint32_t": 4, "int32_t": 4, "uint16_t": 2, "uint8_t": 1}

# Structure of the header -> what it is here, and what comes before it in a message.
LAYOUTS = {
    "fuse_in_header": (wire.IN_HEADER, 0),
    "fuse_out_header": (wire.OUT_HEADER, 0),
    "fuse_init_out": (wire.INIT_OUT, 0),
    "fuse_entry_out": (wire.ENTRY_OUT, 0),
    "fuse_forget_in": (wire.FORGET_IN, 0),
    "fuse_forget_one": (wire.FORGET_ONE, 0),
    "fuse_batch_forget_in": (wire.BATCH_FORGET_IN, 0),
    "fuse_getattr_in": (wire.GETATTR_IN, 0),
    "fuse_setattr_in": (wire.SETATTR_IN, 0),
    "fuse_attr_out": (wire.ATTR_REPLY, wire.OUT_SIZE),
    "fuse_mknod_in": (wire.MKNOD_IN, 0),
    "fuse_mkdir_in": (wire.MKDIR_IN, 0),
    "fuse_rename_in": (wire.RENAME_IN, 0),
    "fuse_rename2_in": (wire.RENAME2_IN, 0),
    "fuse_link_in": (wire.LINK_IN, 0),
    "fuse_open_in": (wire.OPEN_IN, 0),
    "fuse_create_in": (wire.CREATE_IN, 0),
    "fuse_open_out": (wire.OPEN_OUT, 0),
    "fuse_release_in": (wire.RELEASE_IN, 0),
    "fuse_read_in": (wire.READ_IN, 0),
    "fuse_write_in": (wire.WRITE_IN, 0),
    "fuse_write_out": (wire.WRITE_REPLY, wire.OUT_SIZE),
    "fuse_statfs_out": (wire.STATFS_REPLY, wire.OUT_SIZE),
    "fuse_fsync_in": (wire.FSYNC_IN, 0),
    "fuse_setxattr_in": (wire.SETXATTR_IN, 0),
    "fuse_getxattr_in": (wire.GETXATTR_IN, 0),
    "fuse_getxattr_out": (wire.GETXATTR_REPLY, wire.OUT_SIZE),
    "fuse_interrupt_in": (wire.INTERRUPT_IN, 0),
    "fuse_ioctl_in": (wire.IOCTL_IN, 0),
    "fuse_ioctl_out": (wire.IOCTL_REPLY, wire.OUT_SIZE),
    "fuse_fallocate_in": (wire.FALLOCATE_IN, 0),
    "fuse_lseek_in": (wire.LSEEK_IN, 0),
    "fuse_lseek_out": (wire.LSEEK_REPLY, wire.OUT_SIZE),
    "fuse_copy_file_range_in": (wire.COPY_FILE_RANGE_IN, 0),
    "fuse_dirent": (wire.DIRENT, 0),
    "fuse_notify_inval_inode_out": (wire.INVAL_INODE, wire.OUT_SIZE),
    "fuse_ext_header": (wire.EXT_HEADER, 0),
    # Newer than the headers of some distributions, where they are passed over.
    "fuse_statx_in": (wire.STATX_IN, 0),
    "fuse_statx_out": (wire.STATX_REPLY, wire.OUT_SIZE),
    "fuse_copy_file_range_out": (wire.COPY_FILE_RANGE_REPLY, wire.OUT_SIZE),
    "fuse_backing_map": (wire.BACKING_MAP, 0),
}
MAY_BE_MISSING = {
    "fuse_statx_in",
    "fuse_statx_out",
    "fuse_copy_file_range_out",
    "fuse_backing_map",
    "fuse_ext_header",
}


def read_structs() -> dict[str, int]:
    """Structure name → size, from the text of the header."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    sizes = dict(SIZES)
    found = {}
    for name, body in re.findall(r"struct (\w+) \{(.*?)\n\};", text, flags=re.S):
        total = 0
        for kind, array in re.findall(r"(?:struct )?(\w+)\s+\w+(\[\d*\])?;", body):
            count = int(array[1:-1] or 0) if array else 1  # [] at the end has no size
            total += sizes.get(kind, 0) * count
        sizes[name] = found[name] = total
    return found


def test_sizes_are_those_of_the_header() -> None:
    if not HEADER.exists():
        pytest.fail(f"{HEADER} is missing: install linux-libc-dev")
    sizes = read_structs()
    for name, (layout, before) in LAYOUTS.items():
        if name not in sizes and name in MAY_BE_MISSING:
            continue
        assert layout.size - before == sizes[name], name


def test_numbers_are_those_of_the_header() -> None:
    text = HEADER.read_text()
    numbers = dict(re.findall(r"^\s*(FUSE_[A-Z0-9_]+)\s*= (\d+),", text, flags=re.M))
    checked = 0
    for opcode, name in wire.OPCODE_NAMES.items():
        if f"FUSE_{name}" in numbers:
            assert opcode == int(numbers[f"FUSE_{name}"]), name
            checked += 1
    assert checked >= 48
    for name, bit in re.findall(r"^#define (\w+)\s+\(1(?:ULL)? << (\d+)\)", text, flags=re.M):
        ours = getattr(wire, name.removeprefix("FUSE_"), None)
        if ours is not None:
            assert ours == 1 << int(bit), name


def test_sizes_of_what_headers_may_lack() -> None:
    assert wire.IN_HEADER.size == wire.IN_SIZE == 40
    assert wire.OUT_HEADER.size == wire.OUT_SIZE == 16
    assert wire.INIT_OUT.size == 64
    assert wire.STATX_IN.size == 24
    assert wire.STATX_REPLY.size == 16 + 288
    assert wire.COPY_FILE_RANGE_REPLY.size == 16 + 8
    assert wire.BACKING_MAP.size == 16
    assert wire.BACKING_MAP.size == wire.DEV_IOC_BACKING_OPEN >> 16 & 0x3FFF
    assert wire.BACKING_ID.size == wire.DEV_IOC_BACKING_CLOSE >> 16 & 0x3FFF


EXAMPLE = Stat(
    ino=7,
    mode=0o100644,
    nlink=2,
    uid=1000,
    gid=1001,
    rdev=0,
    size=(1 << 40) + 5,
    blocks=9,
    blksize=4096,
    atime_ns=1_700_000_000_000_000_001,
    mtime_ns=-1,
    ctime_ns=-1_500_000_000,
)


def fields(layout: Struct, message: bytes) -> tuple[int, ...]:
    return layout.unpack_from(message)


def test_entry_round_trip() -> None:
    message = replies.entry(99, 7, EXAMPLE, 5)
    length, error, unique, node, generation, entry_for, attr_for, *_ = fields(
        wire.ENTRY_REPLY, message
    )
    assert (length, error, unique) == (len(message), 0, 99)
    assert (node, generation, entry_for, attr_for) == (7, 0, replies.FOREVER, 5)
    attributes = fields(wire.ENTRY_REPLY, message)[9:]
    ino, size, blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, nlink = attributes[
        :11
    ]
    assert (ino, size, blocks, mode, nlink) == (7, EXAMPLE.size, 9, 0o100644, 2)
    assert (atime, atime_ns) == (1_700_000_000, 1)
    # Times before 1970: the seconds are rounded down, the nanoseconds count up from there.
    assert (mtime, mtime_ns) == (-1, 999_999_999)
    assert (ctime, ctime_ns) == (-2, 500_000_000)


def test_attributes_are_the_same_in_every_message() -> None:
    entry = fields(wire.ENTRY_REPLY, replies.entry(1, 7, EXAMPLE, 5))[9:]
    assert fields(wire.ATTR_REPLY, replies.attributes(1, EXAMPLE, 5))[6:] == entry
    created = replies.created(1, 7, EXAMPLE, 5, 3, wire.FOPEN_PASSTHROUGH, 12)
    assert fields(wire.ENTRY_REPLY, created)[9:] == entry
    assert wire.OPEN_OUT.unpack_from(created, wire.ENTRY_REPLY.size) == (3, 1 << 7, 12)
    assert wire.OUT_HEADER.unpack_from(created) == (len(created), 0, 1)
    plus = replies.direntplus(7, EXAMPLE, 5, 2, b"name")
    assert fields(wire.DIRENTPLUS, plus)[6:22] == entry
    assert fields(wire.DIRENTPLUS, plus)[22:] == (7, 2, 4, 0o10)


def test_statx_carries_birth_time_only_where_there_is_one() -> None:
    layout = wire.STATX_REPLY
    with_birth = fields(layout, replies.statx(1, EXAMPLE, 3_000_000_004, 5))
    without = fields(layout, replies.statx(1, EXAMPLE, None, 5))
    assert with_birth[6] & wire.STATX_BTIME
    assert not without[6] & wire.STATX_BTIME
    assert with_birth[19:21] == (3, 4)


@pytest.mark.parametrize("length", range(1, 18))
def test_directory_records_are_aligned(length: int) -> None:
    name = b"n" * length
    for record in (
        replies.BARE[len(name)](1, 1, len(name), 8, name),
        replies.direntplus(7, EXAMPLE, 5, 2, name),
        replies.bare_direntplus(1, 8, 1, name),
    ):
        assert len(record) % 8 == 0
        assert name in record
        assert record.rstrip(b"\0").endswith(name)


def test_no_entry_is_a_lasting_answer() -> None:
    _, error, _, node, _, entry_for, *_ = fields(wire.ENTRY_REPLY, replies.no_entry(4))
    assert (error, node, entry_for) == (0, 0, replies.FOREVER)


@pytest.mark.parametrize("major", [0, 1, 8, 259, 4095])
@pytest.mark.parametrize("minor", [0, 1, 255, 256, 70000, (1 << 20) - 1])
def test_device_numbers_round_trip(major: int, minor: int) -> None:
    number = os.makedev(major, minor)
    assert replies.decode_dev(replies.encode_dev(number)) == number
