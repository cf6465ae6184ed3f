# SPDX-License-Identifier: GPL-3.0-or-later
"""Random operations, drawn with a view of the model so that most of them hit something.

Each function draws one operation (or a few that mean more together) for the tree as it is now.
Paths are mostly ones that exist or could be made, sometimes ones that cannot.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias, TypeVar

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
    Bytes,
    Fill,
    Octal,
    OpenFlags,
    Time,
)
from tests.support import syscall

T = TypeVar("T")
Operations: TypeAlias = tuple[op.AnyOperation, ...]
Draw: TypeAlias = st.DrawFn

NOREPLACE, EXCHANGE = 1, 2
FILE, DIRECTORY, SYMLINK, SPECIAL = "file", "directory", "symlink", "special"

_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}
_EVERY = (FILE, DIRECTORY, SYMLINK, SPECIAL)
_DEEPEST = 4
_FAR_FUTURE = 4_102_444_800 * SECOND  # 2100-01-01

_LONG = b"n" * 255
_NEW_NAMES = (*NAMES, *NAMES, _LONG)
_MODES = (0o644, 0o600, 0o755, 0o700, 0o4755, 0o2775, 0o1777, 0)
_NODES = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFCHR, stat.S_IFBLK)
_DEVICES = ((1, 3), (0, 0), (300, 70_000))
_IDS = (-1, 0, 1000, 12345)
_TIMES: tuple[Time, ...] = (
    NOW,
    OMIT,
    EPOCH + 100 * SECOND,
    EPOCH + 101 * SECOND + 111_111_111,
    EPOCH + 102 * SECOND + 999_999_999,
    _FAR_FUTURE,
    0,
)
_SIZES = (0, 1, 6, 4096, 5000, 70_000, 1_000_000, -1)
_LENGTHS = (10, 4095, 4097, 70_001)
_TEXTS = (b"", b"y", b"hello")
_ACCESS = (os.O_RDWR, os.O_RDONLY, os.O_WRONLY)
_FURTHER = (
    0,
    os.O_CREAT,
    os.O_CREAT,
    os.O_EXCL | os.O_CREAT,
    os.O_TRUNC,
    os.O_APPEND,
    os.O_NOFOLLOW,
    os.O_DIRECTORY,
)
_LINK_CONTENTS = (*CONTENTS, *CONTENTS, b"t" * 4095, b"")
_XATTR_NAMES = (
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
_XATTR_VALUES: tuple[Bytes, ...] = (b"", b"y", b"value", Fill(3000, 1), Fill(65537, 1))
_XATTR_FLAGS = (0, 0, os.XATTR_CREATE, os.XATTR_REPLACE)
_ACL_NAMES = (b"system.posix_acl_access", b"system.posix_acl_default")
_ACLS = (ACL_NAMED, ACL_DEFAULT, ACL_MINIMAL, ACL_BROKEN, b"")


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
        """Whether opening it opens a device, FIFO or socket, which is no filesystem's matter."""
        try:
            mode = self.model.stat(path, True).mode
        except OSError:
            return False
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@cache
def _below(number: int) -> st.SearchStrategy[int]:
    return st.integers(0, number - 1)


def pick(draw: Draw, choices: Sequence[T]) -> T:
    """One of some; the first is what shrinking arrives at."""
    return choices[draw(_below(len(choices)))]


# -- paths


def join(above: bytes, name: bytes) -> bytes:
    return above + b"/" + name if above else name


def _fresh(draw: Draw, view: View) -> bytes:
    """A name in an existing directory; it may be taken."""
    above = [b"", *view.of_kind((DIRECTORY,))]
    shallow = [path for path in above if path.count(b"/") < _DEEPEST - 1]
    return join(pick(draw, shallow), pick(draw, _NEW_NAMES))


def _odd(draw: Draw, view: View) -> bytes:
    """A path that leads nowhere: below what is no directory, without a parent, too long."""
    if pick(draw, (True, True, False)):
        above = [b"nowhere", *view.of_kind((FILE, SYMLINK, SPECIAL))]
        return join(pick(draw, above), pick(draw, NAMES))
    return join(pick(draw, [b"", *view.of_kind((DIRECTORY,))]), _LONG + b"n")


def _short(path: bytes) -> bytes:
    """The same for a directory: kernel overlayfs writes no redirect beyond 256 bytes, but EXDEV."""
    return path.replace(_LONG, b"c")


def _existing(draw: Draw, view: View, kinds: Collection[str] = _EVERY) -> bytes:
    paths = view.of_kind(kinds)
    return pick(draw, paths) if paths else _fresh(draw, view)


def _rarely(draw: Draw) -> bool:
    return draw(_below(12)) == 11


def _any(draw: Draw, view: View) -> bytes:
    return pick(draw, (_existing, _fresh, _odd))(draw, view)


def _some(draw: Draw, view: View, *kinds: str) -> bytes:
    """Mostly an existing path of some kinds."""
    return _any(draw, view) if _rarely(draw) else _existing(draw, view, kinds or _EVERY)


def _new(draw: Draw, view: View) -> bytes:
    """Mostly a path where something could be made."""
    return _any(draw, view) if _rarely(draw) else _fresh(draw, view)


def _openable(draw: Draw, view: View) -> bytes:
    """Mostly a file, or one that is read already: what its readers see of a change matters."""
    read = [opened.path for opened in view.opened.values() if opened.content is not None]
    which = draw(_below(5 if read else 4))
    if which == 4:
        path = pick(draw, read)
    elif which == 3:
        path = _new(draw, view)
    elif which == 2:
        path = _existing(draw, view, (FILE, SYMLINK, DIRECTORY))
    else:
        path = _existing(draw, view, (FILE,))
    return b"nowhere" if view.is_special(path) else path


def _where(draw: Draw, view: View) -> Where:
    """Mostly an existing path, sometimes the root."""
    return b"." if _rarely(draw) else _some(draw, view)


# -- values


def _mode(draw: Draw) -> Octal:
    return Octal(pick(draw, _MODES))


def _data(draw: Draw) -> Bytes:
    which = draw(_below(len(_TEXTS) + len(_LENGTHS)))
    if which < len(_TEXTS):
        return _TEXTS[which]
    return Fill(_LENGTHS[which - len(_TEXTS)], draw(_below(100)))


def _flags(draw: Draw, access: int) -> OpenFlags:
    flags = access | pick(draw, _FURTHER) | pick(draw, _FURTHER)
    if flags & os.O_CREAT:
        flags &= ~os.O_DIRECTORY  # together EINVAL or not, by kernel version (open(2), BUGS)
    return OpenFlags(flags)


def _flag(draw: Draw) -> bool:
    return pick(draw, (False, True))


# -- operations


def _save(draw: Draw, view: View, path: bytes) -> op.Save:
    flags = _flags(draw, pick(draw, (os.O_WRONLY, os.O_RDWR)))
    return op.Save(path, _data(draw), flags, _mode(draw))


def making(draw: Draw, view: View) -> Operations:
    which = draw(_below(5))
    path = _new(draw, view)
    if which == 0:
        return (op.Mkdir(_short(path), _mode(draw)),)
    if which == 1:
        if view.is_special(path):
            path = b"nowhere"
        saved = _save(draw, view, path)
        flags = OpenFlags((saved.flags | os.O_CREAT) & ~os.O_DIRECTORY)
        return (op.Save(path, saved.data, flags, saved.mode),)
    if which == 2:
        mode = Octal(pick(draw, _NODES) | _mode(draw))
        return (op.Mknod(path, mode, pick(draw, _DEVICES)),)
    if which == 3:
        return (op.Symlink(pick(draw, _LINK_CONTENTS), path),)
    return (op.Link(_some(draw, view, FILE, FILE, SYMLINK, SPECIAL), path, _flag(draw)),)


def removing(draw: Draw, view: View) -> Operations:
    if _flag(draw):
        return (op.Rmdir(_some(draw, view, DIRECTORY)),)
    return (op.Unlink(_some(draw, view, FILE, SYMLINK, SPECIAL)),)


def renaming(draw: Draw, view: View) -> Operations:
    which = draw(_below(4))
    if which == 0:
        return (op.Rename(_some(draw, view, DIRECTORY), _short(_new(draw, view))),)
    if which == 1:
        old, new = _some(draw, view, DIRECTORY), _some(draw, view, DIRECTORY)
        return (op.Rename(old, new, pick(draw, (0, EXCHANGE))),)
    old = _some(draw, view)
    new = _new(draw, view) if which == 2 else _some(draw, view)
    if {old, new} & set(view.of_kind((DIRECTORY,))):
        old, new = _short(old), _short(new)
    return (op.Rename(old, new, pick(draw, (0, 0, 0, NOREPLACE, EXCHANGE, 3))),)


def content(draw: Draw, view: View) -> Operations:
    if _flag(draw):
        return (op.Truncate(_some(draw, view, FILE), pick(draw, _SIZES)),)
    return (_save(draw, view, _openable(draw, view)),)


def opening(draw: Draw, view: View) -> Operations:
    path, flags = _openable(draw, view), _flags(draw, pick(draw, _ACCESS))
    return (op.Open(view.slot, path, flags, _mode(draw)),)


def _read(slot: int) -> op.ReadAt:
    return op.ReadAt(slot, 1 << 21, 0)


def sharing(draw: Draw, view: View) -> Operations:
    """What open descriptors show of each other and of the path."""
    slot = pick(draw, sorted(view.opened))
    path = pick(draw, sorted({opened.path for opened in view.opened.values()}))
    which = draw(_below(7))
    change: op.AnyOperation
    if which <= 1:
        change = op.WriteAt(slot, _data(draw), pick(draw, (0, 2, 4090, 100_000)))
    elif which == 2 and not view.is_special(path):
        change = _save(draw, view, path)
    elif which == 3:
        by: tuple[int | bytes, ...] = (slot, path)
        change = op.Truncate(pick(draw, by), pick(draw, _SIZES))
    elif which == 4:
        change = op.Unlink(path)
    elif which == 5:
        change = op.Rename(_some(draw, view, FILE), path)
    else:
        return (_read(slot),)
    return (change, _read(pick(draw, sorted(view.opened))))


def descriptors(draw: Draw, view: View) -> Operations:
    """What is done through descriptors that are open already."""
    slot = pick(draw, sorted(view.opened))
    which = draw(_below(8))
    if which == 0:
        return (op.Fsync(slot, _flag(draw)),)
    if which == 1:
        return (op.Close(slot),)
    if which == 2:
        return (op.List(slot),)
    if which == 3:
        return (op.Link(slot, _new(draw, view)),)
    return _attribute(draw, slot)


def attributes(draw: Draw, view: View) -> Operations:
    return _attribute(draw, _where(draw, view))


def _attribute(draw: Draw, where: Where) -> Operations:
    """Whatever can be done to an object by path or by descriptor."""
    which = draw(_below(8))
    follow = _flag(draw)
    if which == 0:
        return (op.Chmod(where, _mode(draw)),)
    if which == 1:
        return (op.Chown(where, pick(draw, _IDS), pick(draw, _IDS), follow),)
    if which <= 3:
        return (op.Utimens(where, pick(draw, _TIMES), pick(draw, _TIMES), follow),)
    if which == 4:
        name, value = pick(draw, _XATTR_NAMES), pick(draw, _XATTR_VALUES)
        if name == b"security.capability" and not bytes(value):
            value = b"y"  # an empty one can be set but not read, nor copied up by the kernel
        return (op.Setxattr(where, name, value, pick(draw, _XATTR_FLAGS), follow),)
    if which == 5:
        return (op.Setxattr(where, pick(draw, _ACL_NAMES), pick(draw, _ACLS)),)
    if which == 6:
        return (op.Setxattr(where, b"security.capability", CAPABILITY),)
    return (op.Removexattr(where, pick(draw, (*_XATTR_NAMES, *_ACL_NAMES)), follow),)


def looking(draw: Draw, view: View) -> Operations:
    which = draw(_below(5))
    if which == 0:
        return (op.Stat(_any(draw, view), _flag(draw)),)
    if which == 1:
        return (op.List(_some(draw, view, DIRECTORY)),)
    if which == 2:
        return (op.Readlink(_some(draw, view, SYMLINK)),)
    if which == 3:
        return (op.Read(_openable(draw, view)),)
    return (op.Getxattr(_where(draw, view), pick(draw, _XATTR_NAMES), _flag(draw)),)


def watching(draw: Draw, view: View) -> Operations:
    """A file is opened, changed or removed by its path, and read through the descriptor."""
    path = pick(draw, view.of_kind((FILE,)))
    slot = view.slot
    flags = pick(draw, (os.O_RDONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC))
    history: list[op.AnyOperation] = [op.Open(slot, path, OpenFlags(flags))]
    for _ in range(pick(draw, (1, 2))):
        which = draw(_below(7))
        if which == 0:
            history.append(_save(draw, view, path))
        elif which == 1:
            history.append(op.Truncate(path, pick(draw, _SIZES)))
        elif which == 2:
            history.append(op.Chmod(path, _mode(draw)))
        elif which == 3:
            history.append(op.Unlink(path))
        elif which == 4:
            history.append(op.Rename(_some(draw, view, FILE), path))
        elif which == 5:
            history.append(op.Rename(path, _fresh(draw, view)))
        else:
            history.append(op.Link(path, _fresh(draw, view)))
    if _flag(draw):
        history.append(op.WriteAt(slot, _data(draw), 2))
    return (*history, _read(slot))


def replacing(draw: Draw, view: View) -> Operations:
    """A name becomes free, and something else gets it."""
    path = pick(draw, view.of_kind(_EVERY))
    history: list[op.AnyOperation] = []
    if _flag(draw):
        history.append(op.Rename(path, _short(_fresh(draw, view))))
    else:
        for below, kind in reversed(view.objects):
            if below == path or below.startswith(path + b"/"):
                history.append(op.Rmdir(below) if kind == DIRECTORY else op.Unlink(below))
    which = draw(_below(5))
    if which <= 1:
        history.append(op.Mkdir(_short(path), _mode(draw)))
    elif which == 2:
        history.append(op.Rename(_existing(draw, view, (DIRECTORY,)), _short(path)))
    elif which == 3:
        history.append(op.Rename(_existing(draw, view), path))
    else:
        history.append(op.Save(path, _data(draw)))
    return (*history, op.List(path))


def inheriting(draw: Draw, view: View) -> Operations:
    """A directory hands down its group, or an ACL, to what is made in it."""
    above = pick(draw, view.of_kind((DIRECTORY,)))
    if _flag(draw):
        prepare: Operations = (
            op.Chown(above, pick(draw, _IDS), 12345),
            op.Chmod(above, Octal(0o2777)),
        )
    else:
        prepare = (op.Setxattr(above, b"system.posix_acl_default", ACL_DEFAULT),)
    name = above + b"/" + pick(draw, NAMES)
    file = b"nowhere" if view.is_special(name) else name
    makers: tuple[op.AnyOperation, ...] = (
        op.Mkdir(_short(name), Octal(0o777)),
        op.Save(file, b"", OpenFlags(os.O_WRONLY | os.O_CREAT), Octal(0o666)),
        op.Mknod(name, Octal(stat.S_IFIFO | 0o666)),
        op.Symlink(b"a", name),
    )
    return (*prepare, pick(draw, makers))


def nameless(draw: Draw, view: View) -> Operations:
    """A file is made without a name, written, and perhaps given one (open(2), O_TMPFILE)."""
    above = pick(draw, [b".", *view.of_kind((DIRECTORY,))])
    flags = os.O_TMPFILE | pick(draw, (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_EXCL))
    history: list[op.AnyOperation] = [op.Open(view.slot, above, OpenFlags(flags), _mode(draw))]
    if _flag(draw):
        history.append(op.WriteAt(view.slot, _data(draw), 0))
    if _flag(draw):
        history += _attribute(draw, view.slot)
    for _ in range(draw(_below(3))):
        history.append(op.Link(view.slot, _new(draw, view)))
    if _flag(draw):
        history.append(op.Close(view.slot))
    return tuple(history)


def _hole(draw: Draw, view: View, slot: int) -> op.AnyOperation:
    if _flag(draw):
        return op.Seek(
            slot, pick(draw, (0, 4096, 50_000)), pick(draw, (os.SEEK_DATA, os.SEEK_HOLE))
        )
    keep, punch = syscall.FALLOC_FL_KEEP_SIZE, syscall.FALLOC_FL_PUNCH_HOLE
    mode = pick(draw, (0, keep, keep | punch, punch))
    return op.Allocate(slot, mode, pick(draw, (0, 4096, 10_000)), pick(draw, (1, 8192, 100_000, 0)))


def holes(draw: Draw, view: View) -> Operations:
    """A file gets holes, is changed in another way, and is asked for them (lseek(2))."""
    path, slot = pick(draw, view.of_kind((FILE,))), view.slot
    changes: tuple[op.AnyOperation, ...] = (
        op.Truncate(path, 70_000),
        op.Chmod(path, Octal(0o600)),
        op.Read(path),
    )
    return (
        op.Open(slot, path, OpenFlags(pick(draw, (os.O_RDWR, os.O_RDONLY)))),
        _hole(draw, view, slot),
        pick(draw, changes),
        _hole(draw, view, slot),
        _hole(draw, view, slot),
    )


# What libfuse's old interface, and so pyfuse3, does not pass on.
EXTENDED = (nameless, holes)

Drawing: TypeAlias = Callable[[Draw, View], Operations]


def sensible(drawing: Drawing, view: View) -> bool:
    """Whether what a kind of operations works on is there."""
    if drawing in (sharing, descriptors):
        return bool(view.opened)
    if drawing in (watching, holes):
        return bool(view.of_kind((FILE,)))
    if drawing is inheriting:
        return bool(view.of_kind((DIRECTORY,)))
    return drawing is not replacing or bool(view.of_kind(_EVERY))
