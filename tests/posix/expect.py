# SPDX-License-Identifier: GPL-3.0-or-later
"""What a case expects: an errno, or which timestamps move."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tests.support.clock import tick

FIELDS = {"m": "st_mtime_ns", "c": "st_ctime_ns"}

# True where a change may cost a copy-up of the object or of its parents: the copy is a new object
# of the upper layer, and no call can give it an old change time.
copy_up_moves_ctime: ContextVar[bool] = ContextVar("copy_up_moves_ctime", default=False)


def _name(number: int | None) -> str:
    return "success" if number is None else errno.errorcode.get(number, str(number))


@contextmanager
def fails(*errnos: int, what: str = "") -> Iterator[None]:
    """The block must raise OSError with one of `errnos`."""
    got: int | None = None
    try:
        yield
    except OSError as error:
        got = error.errno
    wanted = " or ".join(_name(number) for number in errnos)
    assert got in errnos, f"{what} {_name(got)}, wanted {wanted}"


@contextmanager
def times(**moves: str) -> Iterator[None]:
    """Which times the block moves: keywords are names, values are letters of "mc".

    A time whose letter is given must grow, one whose letter is missing must stay (but for the
    change time where `copy_up_moves_ctime`). The keyword `here` stands for the working directory;
    others are file names, looked at with lstat(2).
    """
    with moving({"." if name == "here" else name: letters for name, letters in moves.items()}):
        yield


@contextmanager
def moving(moves: dict[str | int, str]) -> Iterator[None]:
    """As `times`, for names that are no keywords and for descriptors."""
    before = {name: _stat(name) for name in moves}
    tick()
    yield
    for name, letters in moves.items():
        after = _stat(name)
        for letter, field in FIELDS.items():
            old, new = getattr(before[name], field), getattr(after, field)
            if letter in letters:
                assert new > old, f"{field} of {name} did not move"
            elif letter != "c" or not copy_up_moves_ctime.get():
                assert new == old, f"{field} of {name} moved"


def _stat(name: str | int) -> os.stat_result:
    return os.fstat(name) if isinstance(name, int) else os.lstat(name)


@contextmanager
def unchanged(*names: str) -> Iterator[None]:
    """The block changes nothing that lstat(2) tells of these names, access times aside.

    It must not even copy up: so no opening for writing inside.
    """
    before = [_facts(name) for name in names]
    tick()
    yield
    for name, old in zip(names, before, strict=True):
        assert _facts(name) == old, f"{name} changed"


def _facts(name: str) -> tuple[int, ...]:
    found = os.lstat(name)
    return (
        found.st_ino,
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def mode(name: str | int) -> int:
    """The permission bits with set-id and sticky bits."""
    return stat.S_IMODE(_stat(name).st_mode)


def owner(name: str) -> tuple[int, int]:
    """(uid, gid) of the object itself."""
    found = os.lstat(name)
    return found.st_uid, found.st_gid


def listing(name: str | bytes = ".") -> list[str]:
    """The sorted names in a directory."""
    return sorted(os.fsdecode(entry) for entry in os.listdir(name))


def content(name: str | bytes) -> bytes:
    """All bytes of a file."""
    with open(name, "rb") as stream:
        return stream.read()


def exists(name: str | bytes) -> bool:
    """Whether the name is there, dangling links included."""
    return os.path.lexists(name)
