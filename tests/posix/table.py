# SPDX-License-Identifier: GPL-3.0-or-later
"""What a conformance case is, and how the table of them is put together.

A case is a generator function without arguments that yields once. It runs with a directory of its
own as the working directory and speaks in relative names only. What stands before the `yield`
makes the objects; what stands after it is the test. On a kind of tree whose objects exist in a
lower layer, the first part runs in that layer before the union is mounted, the second part in the
merged tree: so the first part may keep names and numbers in variables, but no descriptors.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

Steps = Iterator[None]


class Facility(enum.Enum):
    """What not every kind of tree offers; a kind lists those that it lacks."""

    FALLOCATE = "fallocate(2)"
    SEEK_HOLE = "lseek(2) with SEEK_HOLE and SEEK_DATA"
    TMPFILE = "open(2) with O_TMPFILE"
    BIRTH_TIME = "statx(2) with a birth time"
    COHERENT_READER = "a descriptor opened before a copy-up sees what is written after it"
    UNION = "the marks of a union are out of reach"
    PLAIN = "any name may be created"


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    function: Callable[[], Steps]
    needs: frozenset[Facility]
    nightly: bool


def needs(*facilities: Facility) -> Callable[[Callable[[], Steps]], Callable[[], Steps]]:
    """Mark a case that only some kinds of tree can run."""

    def mark(function: Callable[[], Steps]) -> Callable[[], Steps]:
        function.__dict__["needs"] = frozenset(facilities)
        return function

    return mark


def nightly(function: Callable[[], Steps]) -> Callable[[], Steps]:
    """Mark a case that takes many seconds."""
    function.__dict__["nightly"] = True
    return function


def case(name: str, function: Callable[[], Steps]) -> Case:
    """A row from a marked generator function."""
    marks = function.__dict__
    return Case(name, function, marks.get("needs", frozenset()), marks.get("nightly", False))


def cases_of(module: ModuleType) -> list[Case]:
    """The public generator functions of `module`, and what its `more_cases` gives, in order."""
    short = module.__name__.rpartition(".")[2].strip("_")
    rows = [
        case(f"{short}.{name}", function)
        for name, function in vars(module).items()
        if inspect.isgeneratorfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
        and name != "more_cases"
    ]
    more = vars(module).get("more_cases")
    if more is not None:
        rows += [case(f"{short}.{name}", function) for name, function in more()]
    return rows
