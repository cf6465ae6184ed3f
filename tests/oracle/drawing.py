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

    def opens(self, operation: op.Open | op.Save | op.Read) -> bool:
        """Whether it opens nothing special: what that does is not the filesystem's matter."""
        try:
            mode = self.model.stat(operation.path, True).mode
        except OSError:
            return True
        return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


Operations = st.SearchStrategy[op.AnyOperation]
Draw = Callable[[View], Operations]

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


def _where(view: View, *kinds: str) -> st.SearchStrategy[Where]:
    """An existing path, or sometimes the root."""
    paths = _some(view, *kinds)
    return st.integers(0, 7).flatmap(lambda dice: st.just(b".") if dice == 7 else paths)


def _slot(view: View) -> st.SearchStrategy[int]:
    return st.sampled_from(sorted(view.opened))


_modes = st.sampled_from((0o644, 0o600, 0o755, 0o700, 0o4755, 0o2775, 0o1777, 0)).map(Octal)
_ids = st.sampled_from((-1, 0, 1000, 12345))
_times: st.SearchStrategy[Time] = st.one_of(
    st.just(NOW),
    st.just(OMIT),
    st.integers(0, 9).map(lambda number: EPOCH + (100 + number) * SECOND + number * 111_111_111),
    st.just(_FAR_FUTURE),
    st.just(0),
)
_sizes = st.sampled_from((0, 1, 6, 4096, 5000, 70_000, 1_000_000, -1))
_data = st.one_of(
    st.sampled_from((b"", b"y", b"hello")),
    st.builds(Fill, st.sampled_from((10, 4095, 4097, 70_001)), st.integers(0, 99)),
)
_access = st.sampled_from((os.O_RDWR, os.O_RDONLY, os.O_WRONLY))
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
_create_flags = _save_flags.map(lambda flags: OpenFlags((flags | os.O_CREAT) & ~os.O_DIRECTORY))
_devices = st.sampled_from(((1, 3), (0, 0), (300, 70_000)))
_link_contents = st.sampled_from((*CONTENTS, *CONTENTS, b"t" * 4095, b""))
NOREPLACE, EXCHANGE = 1, 2


def _openable(view: View) -> st.SearchStrategy[bytes]:
    files = _existing(view, (FILE,))
    choices = [files, files, _existing(view, (FILE, SYMLINK, DIRECTORY)), _new(view)]
    read_only = [opened.path for opened in view.opened.values() if opened.content is not None]
    if read_only:
        # Files that somebody reads already: what they see of a change is worth knowing.
        choices.append(st.sampled_from(read_only))
    return st.one_of(choices)


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
_xattr_flags = st.sampled_from((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))
_acl_names = st.sampled_from((b"system.posix_acl_access", b"system.posix_acl_default"))
_acls = st.sampled_from((ACL_NAMED, ACL_DEFAULT, ACL_MINIMAL, ACL_BROKEN, b""))
_node_kinds = st.sampled_from((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFCHR, stat.S_IFBLK))
_node_modes = st.builds(lambda kind, mode: Octal(kind | mode), _node_kinds, _modes)


def _attributes(where: st.SearchStrategy[Where]) -> list[Operations]:
    """Whatever can be done to an object by path or by descriptor."""
    follow = st.booleans()
    return [
        st.builds(op.Chmod, where, _modes),
        st.builds(op.Chown, where, _ids, _ids, follow),
        st.builds(op.Utimens, where, _times, _times, follow),
        st.builds(op.Setxattr, where, _xattr_names, _xattr_values, _xattr_flags, follow),
        st.builds(op.Setxattr, where, _acl_names, _acls),
        st.builds(op.Setxattr, where, st.just(b"security.capability"), st.just(CAPABILITY)),
        st.builds(op.Removexattr, where, st.one_of(_xattr_names, _acl_names), follow),
        st.builds(op.Getxattr, where, _xattr_names, follow),
        st.builds(op.Truncate, where, _sizes),
    ]


def making(view: View) -> Operations:
    return st.one_of(
        st.builds(op.Mkdir, _new(view), _modes),
        st.builds(op.Save, _new(view), _data, _create_flags, _modes).filter(view.opens),
        st.builds(op.Mknod, _new(view), _node_modes, _devices),
        st.builds(op.Symlink, _link_contents, _new(view)),
        st.builds(op.Link, _some(view, FILE, FILE, SYMLINK, SPECIAL), _new(view), st.booleans()),
    )


def removing(view: View) -> Operations:
    return st.one_of(
        st.builds(op.Unlink, _some(view, FILE, SYMLINK, SPECIAL)),
        st.builds(op.Rmdir, _some(view, DIRECTORY)),
    )


def renaming(view: View) -> Operations:
    flags = st.sampled_from((0, 0, 0, NOREPLACE, EXCHANGE, NOREPLACE | EXCHANGE))
    return st.one_of(
        st.builds(op.Rename, _some(view), st.one_of(_new(view), _some(view)), flags),
        st.builds(op.Rename, _some(view, DIRECTORY), _new(view)),
        st.builds(
            op.Rename,
            _some(view, DIRECTORY),
            _some(view, DIRECTORY),
            st.sampled_from((0, EXCHANGE)),
        ),
    )


def content(view: View) -> Operations:
    return st.one_of(
        st.builds(op.Save, _openable(view), _data, _save_flags, _modes).filter(view.opens),
        st.builds(op.Truncate, _where(view, FILE), _sizes),
    )


def opening(view: View) -> Operations:
    slot = st.just(view.slot)
    return st.builds(op.Open, slot, _openable(view), _open_flags, _modes).filter(view.opens)


def sharing(view: View) -> Operations:
    """What descriptors that are open already show of each other and of the path; see above."""
    slot = _slot(view)
    paths = st.sampled_from(sorted({opened.path for opened in view.opened.values()}))
    reads = st.builds(op.ReadAt, slot, st.just(1 << 21), st.sampled_from((0, 3)))
    writes = st.builds(op.WriteAt, slot, _data, st.sampled_from((0, 2, 4090, 100_000)))
    return st.one_of(
        reads,
        reads,
        writes,
        writes,
        st.builds(op.Save, paths, _data, _save_flags, _modes).filter(view.opens),
        st.builds(op.Truncate, st.one_of(slot, paths), _sizes),
        st.builds(op.Unlink, paths),
        st.builds(op.Rename, _some(view, FILE), paths),
    )


def _reader_and_change(view: View) -> st.SearchStrategy[tuple[op.AnyOperation, ...]]:
    """A file is opened, changed or removed through its path, and read through the descriptor."""
    path = _existing(view, (FILE,))

    def history(path: bytes) -> st.SearchStrategy[tuple[op.AnyOperation, ...]]:
        at = st.just(path)
        change = st.one_of(
            st.builds(op.Save, at, _data, _save_flags),
            st.builds(op.Truncate, at, _sizes),
            st.builds(op.Chmod, at, _modes),
            st.builds(op.Unlink, at),
            st.builds(op.Rename, _some(view, FILE), at),
            st.builds(op.Rename, at, _new(view)),
            st.builds(op.Link, at, _new(view)),
        )
        flags = st.sampled_from((os.O_RDONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC)).map(OpenFlags)
        opened = st.builds(op.Open, st.just(view.slot), at, flags)
        read = st.just(op.ReadAt(view.slot, 1 << 21, 0))
        written = st.builds(op.WriteAt, st.just(view.slot), _data, st.just(2))
        return st.one_of(
            st.tuples(opened, change, read),
            st.tuples(opened, change, change, read),
            st.tuples(opened, change, written, read, change),
        )

    return path.flatmap(history)


def scenes(view: View) -> st.SearchStrategy[tuple[op.AnyOperation, ...]]:
    """Several operations that mean more together."""
    return _reader_and_change(view)


def descriptors(view: View) -> Operations:
    """What is done through descriptors that are open already; there must be one."""
    slot = _slot(view)
    return st.one_of(
        st.builds(op.Fsync, slot, st.booleans()),
        st.builds(op.Close, slot),
        st.builds(op.Stat, slot),
        st.builds(op.List, slot),
        st.builds(op.Link, slot, _new(view)),
        *_attributes(slot),
    )


def attributes(view: View) -> Operations:
    return st.one_of(_attributes(_where(view)))


def looking(view: View) -> Operations:
    anywhere = st.one_of(_where(view), _fresh(view), _odd(view))
    return st.one_of(
        st.builds(op.Stat, anywhere, st.booleans()),
        st.builds(op.List, _where(view, DIRECTORY)),
        st.builds(op.Readlink, _some(view, SYMLINK)),
        st.builds(op.Read, _openable(view)).filter(view.opens),
        st.builds(op.Getxattr, anywhere, _xattr_names, st.booleans()),
    )
