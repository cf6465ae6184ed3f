# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's FUSE protocol: numbers, flags and the layout of messages, 7.31 to 7.45.

Names are those of the kernel's UAPI header <linux/fuse.h> (a `fuse_x_in` there is `X_IN` here).
Byte order and alignment are the machine's own: the protocol never leaves it. Replies that are
sent by the thousand have a layout of their own that includes the header, so that one `pack` makes
the whole message. What the numbers mean for a union is in the neighbouring modules.
"""

from __future__ import annotations

from struct import Struct

from unionfs.typed import Callable, Final

MAJOR: Final = 7
MINOR: Final = 45  # the newest that is understood
OLDEST_MINOR: Final = 31  # Linux 5.4

ROOT_ID: Final = 1
MIN_READ_BUFFER: Final = 8192
NAME_MAX: Final = 1024  # FUSE_NAME_MAX


class Opcode:
    """enum fuse_opcode, as plain numbers."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


OPCODE_NAMES: Final = {
    number: name for name, number in vars(Opcode).items() if not name.startswith("_")
}
OPCODES: Final = max(OPCODE_NAMES) + 1  # length of a table indexed by opcode


def opcode_name(number: int) -> str:
    """What a request is called, also one that is not known."""
    return OPCODE_NAMES.get(number, f"opcode {number}")


# -- enum fuse_notify_code
NOTIFY_INVAL_INODE: Final = 2
NOTIFY_INVAL_ENTRY: Final = 3
NOTIFY_DELETE: Final = 6

# -- INIT flags; bits 32 and up travel in flags2
ASYNC_READ: Final = 1 << 0
POSIX_LOCKS: Final = 1 << 1
FILE_OPS: Final = 1 << 2
ATOMIC_O_TRUNC: Final = 1 << 3
EXPORT_SUPPORT: Final = 1 << 4
BIG_WRITES: Final = 1 << 5
DONT_MASK: Final = 1 << 6
SPLICE_WRITE: Final = 1 << 7
SPLICE_MOVE: Final = 1 << 8
SPLICE_READ: Final = 1 << 9
FLOCK_LOCKS: Final = 1 << 10
HAS_IOCTL_DIR: Final = 1 << 11
AUTO_INVAL_DATA: Final = 1 << 12
DO_READDIRPLUS: Final = 1 << 13
READDIRPLUS_AUTO: Final = 1 << 14
ASYNC_DIO: Final = 1 << 15
WRITEBACK_CACHE: Final = 1 << 16
NO_OPEN_SUPPORT: Final = 1 << 17
PARALLEL_DIROPS: Final = 1 << 18
HANDLE_KILLPRIV: Final = 1 << 19
POSIX_ACL: Final = 1 << 20
ABORT_ERROR: Final = 1 << 21
MAX_PAGES: Final = 1 << 22
CACHE_SYMLINKS: Final = 1 << 23
NO_OPENDIR_SUPPORT: Final = 1 << 24
EXPLICIT_INVAL_DATA: Final = 1 << 25
MAP_ALIGNMENT: Final = 1 << 26
SUBMOUNTS: Final = 1 << 27
HANDLE_KILLPRIV_V2: Final = 1 << 28
SETXATTR_EXT: Final = 1 << 29
INIT_EXT: Final = 1 << 30
SECURITY_CTX: Final = 1 << 32
HAS_INODE_DAX: Final = 1 << 33
CREATE_SUPP_GROUP: Final = 1 << 34
HAS_EXPIRE_ONLY: Final = 1 << 35
DIRECT_IO_ALLOW_MMAP: Final = 1 << 36
PASSTHROUGH: Final = 1 << 37
NO_EXPORT_SUPPORT: Final = 1 << 38
HAS_RESEND: Final = 1 << 39
ALLOW_IDMAP: Final = 1 << 40
OVER_IO_URING: Final = 1 << 41
REQUEST_TIMEOUT: Final = 1 << 42

# -- SETATTR valid
FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2
FATTR_SIZE: Final = 1 << 3
FATTR_ATIME: Final = 1 << 4
FATTR_MTIME: Final = 1 << 5
FATTR_FH: Final = 1 << 6
FATTR_ATIME_NOW: Final = 1 << 7
FATTR_MTIME_NOW: Final = 1 << 8
FATTR_LOCKOWNER: Final = 1 << 9
FATTR_CTIME: Final = 1 << 10
FATTR_KILL_SUIDGID: Final = 1 << 11

# -- OPEN and CREATE replies
FOPEN_DIRECT_IO: Final = 1 << 0
FOPEN_KEEP_CACHE: Final = 1 << 1
FOPEN_NONSEEKABLE: Final = 1 << 2
FOPEN_CACHE_DIR: Final = 1 << 3
FOPEN_STREAM: Final = 1 << 4
FOPEN_NOFLUSH: Final = 1 << 5
FOPEN_PARALLEL_DIRECT_WRITES: Final = 1 << 6
FOPEN_PASSTHROUGH: Final = 1 << 7

# -- flags of single requests
GETATTR_FH: Final = 1 << 0
OPEN_KILL_SUIDGID: Final = 1 << 0
WRITE_CACHE: Final = 1 << 0
WRITE_KILL_SUIDGID: Final = 1 << 2
FSYNC_FDATASYNC: Final = 1 << 0
SETXATTR_ACL_KILL_SGID: Final = 1 << 0
IOCTL_COMPAT: Final = 1 << 0
IOCTL_32BIT: Final = 1 << 3
IOCTL_DIR: Final = 1 << 4
EXPIRE_ONLY: Final = 1 << 0
EXT_GROUPS: Final = 32

# -- ioctls on the session's descriptor (ioctl-number.rst: magic 229)
DEV_IOC_BACKING_OPEN: Final = 0x4010E501
DEV_IOC_BACKING_CLOSE: Final = 0x4004E502

# -- statx(2), as STATX replies carry it
STATX_BASIC_STATS: Final = 0x7FF
STATX_BTIME: Final = 0x800

# -- requests
IN_HEADER: Final = Struct("=IIQQIIIHH")  # len opcode unique nodeid uid gid pid extlen pad
IN_SIZE: Final = 40

INIT_IN: Final = Struct("=IIII")  # major minor max_readahead flags
INIT_IN_EXT: Final = Struct("=I")  # flags2, at 16 where INIT_EXT is offered
FORGET_IN: Final = Struct("=Q")
BATCH_FORGET_IN: Final = Struct("=II")  # count, pad; then count times
FORGET_ONE: Final = Struct("=QQ")  # nodeid nlookup
GETATTR_IN: Final = Struct("=IIQ")  # flags, pad, fh
SETATTR_IN: Final = Struct("=IIQQQqqqIIIIIIII")
MKNOD_IN: Final = Struct("=IIII")  # mode rdev umask pad
MKDIR_IN: Final = Struct("=II")  # mode umask
RENAME_IN: Final = Struct("=Q")  # newdir
RENAME2_IN: Final = Struct("=QII")  # newdir flags pad
LINK_IN: Final = Struct("=Q")  # oldnodeid
OPEN_IN: Final = Struct("=II")  # flags open_flags
CREATE_IN: Final = Struct("=IIII")  # flags mode umask open_flags
RELEASE_IN: Final = Struct("=QIIQ")  # fh flags release_flags lock_owner
READ_IN: Final = Struct("=QQIIQII")  # fh offset size read_flags lock_owner flags pad
WRITE_IN: Final = Struct("=QQIIQII")  # fh offset size write_flags lock_owner flags pad
FSYNC_IN: Final = Struct("=QII")  # fh flags pad
SETXATTR_IN: Final = Struct("=IIII")  # size flags setxattr_flags pad
SETXATTR_COMPAT_IN: Final = Struct("=II")  # without SETXATTR_EXT
GETXATTR_IN: Final = Struct("=II")  # size pad
INTERRUPT_IN: Final = Struct("=Q")
IOCTL_IN: Final = Struct("=QIIQII")  # fh flags cmd arg in_size out_size
FALLOCATE_IN: Final = Struct("=QQQII")  # fh offset length mode pad
LSEEK_IN: Final = Struct("=QQII")  # fh offset whence pad
COPY_FILE_RANGE_IN: Final = Struct("=QQQQQQQ")  # fh_in off_in nodeid_out fh_out off_out len flags
STATX_IN: Final = Struct("=IIQII")  # getattr_flags pad fh sx_flags sx_mask
EXT_HEADER: Final = Struct("=II")  # size type
SUPP_GROUPS: Final = Struct("=I")  # nr_groups, then as many u32

# -- replies; OUT_HEADER is len, error, unique
OUT_HEADER: Final = Struct("=IiQ")
OUT_SIZE: Final = 16
_ATTR: Final = "QQQqqqIIIIIIIIII"
# nodeid generation entry_valid attr_valid entry_nsec attr_nsec, then fuse_attr
ENTRY_OUT: Final = Struct("=QQQQII" + _ATTR)
ENTRY_REPLY: Final = Struct("=IiQ" + "QQQQII" + _ATTR)
# attr_valid nsec pad, then fuse_attr
ATTR_REPLY: Final = Struct("=IiQ" + "QII" + _ATTR)
CREATE_REPLY: Final = Struct("=IiQ" + "QQQQII" + _ATTR + "QIi")
OPEN_OUT: Final = Struct("=QIi")  # fh open_flags backing_id
OPEN_REPLY: Final = Struct("=IiQ" + "QIi")
WRITE_REPLY: Final = Struct("=IiQ" + "II")  # size pad
STATFS_REPLY: Final = Struct("=IiQ" + "QQQQQIIII24x")
GETXATTR_REPLY: Final = Struct("=IiQ" + "II")  # size pad
LSEEK_REPLY: Final = Struct("=IiQ" + "Q")
IOCTL_REPLY: Final = Struct("=IiQ" + "iIII")  # result flags in_iovs out_iovs
COPY_FILE_RANGE_REPLY: Final = Struct("=IiQ" + "Q")  # of COPY_FILE_RANGE_64
INIT_OUT: Final = Struct("=IIIIHHIIHHIIH22x")
_SX_TIME: Final = "qI4x"
STATX_REPLY: Final = Struct("=IiQ" + "QII16x" + "IIQIIIH2xQQQQ" + _SX_TIME * 4 + "IIII" + "112x")

DIRENT: Final = Struct("=QQII")  # ino off namelen type, then the name, padded to 8
DIRENTPLUS: Final = Struct("=QQQQII" + _ATTR + "QQII")

# -- notifications: OUT_HEADER with unique 0 and the code in place of the error
INVAL_INODE: Final = Struct("=IiQ" + "Qqq")  # ino off len
INVAL_ENTRY: Final = Struct("=IiQ" + "QII")  # parent namelen flags, then the name and a NUL

BACKING_MAP: Final = Struct("=iIQ")  # fd flags pad
BACKING_ID: Final = Struct("=I")


class Records(dict[int, Callable[..., bytes]]):
    """Length of a name → what packs (ino, off, namelen, type, name) to a record of a listing.

    before -- bytes of zeros in front: READDIRPLUS without attributes
    """

    __slots__ = ("_before",)

    def __init__(self, before: int) -> None:
        self._before = before

    def __missing__(self, length: int) -> Callable[..., bytes]:
        packed = Struct(f"={self._before}xQQII{length}s{-length & 7}x").pack
        self[length] = packed
        return packed
