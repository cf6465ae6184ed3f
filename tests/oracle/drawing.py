# SPDX-License-Identifier: GPL-3.0-or-later
"""Random operations, drawn with a view of the model so that most of them hit something.

Each function gives a strategy for one kind of operation on the tree as it is now. Paths are mostly
ones that exist or could be made, sometimes ones that cannot.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.oracle import operations as op
from tests.oracle.deviations import Opened
from tests.oracle.layers import EPOCH, SECOND
from tests.oracle.stacks import CONTENTS, NAMES
from tests.oracle.targets import Plain, Where
from tests.oracle.values import (
    ACL_BROKEN,
    ACL_DEFAULT,
    ACL_MINIMAL,
    ACL_NAMED,
    CAPABILITY,
    NOW,
    OMIT,
    Fill,
    Octal,
    OpenFlags,
    Time,
)

_DEEPEST = 4
_LONG = b"n" * 255
_TOO_LONG = b"n" * 256
_FAR_FUTURE = 4_102_444_800 * SECOND  # 2100-01-01

FILE, DIRECTORY, SYMLINK, SPECIAL = "file", "directory", "symlink", "special"
_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}


@dataclass(frozen=True)
class View:
    """What is there: paths with their kinds, open descriptors, the next free slot."""

    model: Plain
    objects: tuple[tuple[bytes, str], ...]
    opened: dict[int, Opened]
    slot: int

    @classmethod
    def of(cls, model: Plain, opened: dict[int, Opened], slot: int) -> View:
        objects = tuple(
            (path, _KINDS.get(stat.S_IFMT(found.st_mode), SPECIAL)) for path, found in model.walk()
        )
        return cls(model, objects, opened, slot)

    def of_kind(self, kinds: Collection[str]) -> list[bytes]:
        """Existing paths, without the root."""
        return [path for path, kind in self.objects if kind in kinds and path != b"."]

    def is_special(self, path: bytes) -> bool:
        """Whether opening the path would open a device, FIFO or socket."""
        try:
            mode = self.model.stat(path, True).mode
        except OSError:
            return False
        return stat.S_IFMT(mode) not in (stat.S_IFREG, stat.S_IFDIR)

    def slots(self, directories: bool) -> list[int]:
        return [slot for slot, opened in self.opened.items() if opened.directory <= directories]


Draw = Callable[[View], st.SearchStrategy[op.AnyOperation]]

_EVERY = (FILE, DIRECTORY, SYMLINK, SPECIAL)
_names = st.sampled_from((*NAMES, *NAMES, _LONG))


def _fresh(view: View) -> st.SearchStrategy[bytes]:
    """A name in an existing directory; it may be taken."""
    above = [b"", *view.of_kind((DIRECTORY,))]
    shallow = [path for path in above if path.count(b"/") < _DEEPEST - 1]
    return st.builds(op_join, st.sampled_from(shallow), _names)


def op_join(above: bytes, name: bytes) -> bytes:
    return above + b"/" + name if above else name


def _odd(view: View) -> st.SearchStrategy[bytes]:
    """Paths that lead nowhere: below what is no directory, without a parent, too long."""
    above = [b"nowhere", *view.of_kind((FILE, SYMLINK, SPECIAL))]
    below = st.builds(op_join, st.sampled_from(above), st.sampled_from(NAMES))
    directories = [b"", *view.of_kind((DIRECTORY,))]
    long = st.builds(op_join, st.sampled_from(directories), st.just(_TOO_LONG))
    return st.one_of(below, below, long)


def _existing(view: View, kinds: Collection[str] = _EVERY) -> st.SearchStrategy[bytes]:
    paths = view.of_kind(kinds)
    return st.sampled_from(paths) if paths else _fresh(view)


def _mostly(
    often: st.SearchStrategy[bytes], view: View, *others: st.SearchStrategy[bytes]
) -> st.SearchStrategy[bytes]:
    """`often` in about nine of ten draws."""
    rare = st.one_of(_existing(view), _fresh(view), _odd(view), *others)
    return st.integers(0, 9).flatmap(lambda dice: rare if dice == 9 else often)


def _some(view: View, *kinds: str) -> st.SearchStrategy[bytes]:
    return _mostly(_existing(view, kinds or _EVERY), view)


def _new(view: View) -> st.SearchStrategy[bytes]:
    return _mostly(_fresh(view), view)


def _where(view: View, *kinds: str, directories: bool = True) -> st.SearchStrategy[Where]:
    """An existing path, the root, or an open descriptor."""
    paths: st.SearchStrategy[Where] = _some(view, *kinds)
    slots = view.slots(directories)
    either: list[st.SearchStrategy[Where]] = [paths, paths, paths]
    if slots:
        either.append(st.sampled_from(slots))
    if directories:
        either.append(st.just(b"."))
    return st.one_of(either)


_modes = st.sampled_from((0o644, 0o600, 0o755, 0o700, 0o4755, 0o2775, 0o1777, 0)).map(Octal)
_ids = st.sampled_from((-1, 0, 1000, 12345))
_times: st.SearchStrategy[Time] = st.one_of(
    st.just(NOW),
    st.just(OMIT),
    st.integers(0, 9).map(lambda number: EPOCH + (100 + number) * SECOND + number * 111_111_111),
    st.just(_FAR_FUTURE),
    st.just(0),
)
_sizes = st.sampled_from((0, 1, 6, 4096, 5000, 70_000, 1_000_000))
_data = st.one_of(
    st.sampled_from((b"", b"y", b"hello")),
    st.builds(Fill, st.sampled_from((10, 4095, 4097, 70_001)), st.integers(0, 99)),
)
_access = st.sampled_from((os.O_RDONLY, os.O_WRONLY, os.O_RDWR))
_further = st.lists(
    st.sampled_from(
        (
            os.O_CREAT,
            os.O_CREAT,
            os.O_EXCL | os.O_CREAT,
            os.O_TRUNC,
            os.O_APPEND,
            os.O_NOFOLLOW,
            os.O_DIRECTORY,
        )
    ),
    max_size=3,
)


def _flags(access: int, further: list[int]) -> OpenFlags:
    for flag in further:
        access |= flag
    if access & os.O_CREAT and access & os.O_DIRECTORY:
        access &= ~os.O_DIRECTORY  # EINVAL or not, by kernel version (open(2), BUGS)
    return OpenFlags(access)


_open_flags = st.builds(_flags, _access, _further)
_save_flags = st.builds(_flags, st.sampled_from((os.O_WRONLY, os.O_RDWR)), _further)


def _openable(view: View) -> st.SearchStrategy[bytes]:
    """Special files are left out: what opening one does is not the filesystem's matter."""
    path = st.one_of(_existing(view, (FILE, FILE, SYMLINK, DIRECTORY)), _existing(view, (FILE,)))
    return st.one_of(path, path, _new(view)).filter(lambda path: not view.is_special(path))


def open_(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Open, st.just(view.slot), _openable(view), _open_flags, _modes)


def close(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Close, st.sampled_from(view.slots(True)))


def read_at(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(
        op.ReadAt, st.sampled_from(view.slots(True)), st.just(1 << 21), st.sampled_from((0, 3))
    )


def write_at(view: View) -> st.SearchStrategy[op.AnyOperation]:
    places = st.sampled_from((0, 2, 4090, 100_000))
    return st.builds(op.WriteAt, st.sampled_from(view.slots(True)), _data, places)


def fsync(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Fsync, st.sampled_from(view.slots(True)), st.booleans())


def read(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Read, _openable(view))


def save(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Save, _openable(view), _data, _save_flags, _modes)


def truncate(view: View) -> st.SearchStrategy[op.AnyOperation]:
    where = _where(view, FILE, FILE, SYMLINK, DIRECTORY)
    return st.builds(op.Truncate, where, st.one_of(_sizes, st.just(-1)))


def mkdir(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Mkdir, _new(view), _modes)


def mknod(view: View) -> st.SearchStrategy[op.AnyOperation]:
    kind = st.sampled_from((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFCHR, stat.S_IFBLK))
    mode = st.builds(lambda kind, mode: Octal(kind | mode), kind, _modes)
    return st.builds(op.Mknod, _new(view), mode, st.sampled_from(((1, 3), (0, 0), (300, 70_000))))


def symlink(view: View) -> st.SearchStrategy[op.AnyOperation]:
    content = st.sampled_from((*CONTENTS, b"t" * 4095, b""))
    return st.builds(op.Symlink, content, _new(view))


def link(view: View) -> st.SearchStrategy[op.AnyOperation]:
    source: st.SearchStrategy[Where] = _some(view, FILE, FILE, SYMLINK, SPECIAL)
    slots = view.slots(True)
    if slots:
        source = st.one_of(source, source, st.sampled_from(slots))
    return st.builds(op.Link, source, _new(view), st.booleans())


def unlink(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Unlink, _some(view, FILE, SYMLINK, SPECIAL))


def rmdir(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Rmdir, _some(view, DIRECTORY))


def rename(view: View) -> st.SearchStrategy[op.AnyOperation]:
    new = st.one_of(_new(view), _some(view))
    return st.builds(op.Rename, _some(view), new, st.sampled_from((0, 0, 0, 1, 2, 3)))


def rename_directory(view: View) -> st.SearchStrategy[op.AnyOperation]:
    new = st.one_of(_new(view), _some(view, DIRECTORY))
    return st.builds(op.Rename, _some(view, DIRECTORY), new, st.sampled_from((0, 0, 2)))


def chmod(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Chmod, _where(view), _modes)


def chown(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Chown, _where(view), _ids, _ids, st.booleans())


def utimens(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Utimens, _where(view), _times, _times, st.booleans())


_xattr_names = st.sampled_from(
    (
        b"user.one",
        b"user.two",
        b"user.overlay.opaque",
        b"trusted.one",
        b"trusted.overlay.opaque",
        b"trusted.overlay.redirect",
        b"trusted.overlay.overlay.x",
        b"security.capability",
        b"bogus.name",
        b"user.",
        b"user." + b"l" * 251,
    )
)
_xattr_values = st.one_of(
    st.sampled_from((b"", b"y", b"value")), st.just(Fill(3000, 1)), st.just(Fill(65537, 1))
)


def setxattr(view: View) -> st.SearchStrategy[op.AnyOperation]:
    flags = st.sampled_from((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))
    plain = st.builds(
        op.Setxattr, _where(view), _xattr_names, _xattr_values, flags, st.booleans()
    )
    capability = st.builds(
        op.Setxattr, _where(view, FILE), st.just(b"security.capability"), st.just(CAPABILITY)
    )
    return st.one_of(plain, plain, capability)


def setacl(view: View) -> st.SearchStrategy[op.AnyOperation]:
    names = st.sampled_from((b"system.posix_acl_access", b"system.posix_acl_default"))
    values = st.sampled_from((ACL_NAMED, ACL_DEFAULT, ACL_MINIMAL, ACL_BROKEN, b""))
    return st.builds(op.Setxattr, _where(view), names, values)


def removexattr(view: View) -> st.SearchStrategy[op.AnyOperation]:
    acls = st.sampled_from((b"system.posix_acl_access", b"system.posix_acl_default"))
    names = st.one_of(_xattr_names, acls)
    return st.builds(op.Removexattr, _where(view), names, st.booleans())


def getxattr(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Getxattr, _where(view), _xattr_names, st.booleans())


def readlink(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.Readlink, _some(view, SYMLINK))


def stat_(view: View) -> st.SearchStrategy[op.AnyOperation]:
    where: st.SearchStrategy[Where] = st.one_of(_where(view), _fresh(view), _odd(view))
    return st.builds(op.Stat, where, st.booleans())


def list_(view: View) -> st.SearchStrategy[op.AnyOperation]:
    return st.builds(op.List, _where(view, DIRECTORY))
