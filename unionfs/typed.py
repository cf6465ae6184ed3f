# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver takes from `typing`, without loading it.

A checker sees the names of `typing` itself. At run time `typing` and what it loads are a third of
the time and a quarter of the memory that a serving process needs to start, and thousands of such
processes may live on one machine; annotations are never evaluated, so next to nothing is needed.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Final, Literal, NamedTuple, NoReturn, Protocol, TextIO
else:
    from collections import namedtuple

    Final = NoReturn = TextIO = None  # only ever found in annotations

    class Protocol:
        """A base without behaviour."""

        __slots__ = ()

    class Literal:
        """`Literal["a", "b"]` outside of an annotation is the type of its words."""

        def __class_getitem__(cls, words: object) -> type:
            return type(words[0]) if isinstance(words, tuple) else type(words)

    class _Tuples(type):
        """Makes of each class below `NamedTuple` a tuple with the fields that it annotates."""

        def __new__(meta, name, bases, space):
            if not bases:
                return super().__new__(meta, name, bases, space)
            fields = tuple(space.get("__annotations__", ()))
            defaults = [space.pop(field) for field in fields if field in space]
            module = space["__module__"]
            fielded = namedtuple(name, fields, defaults=defaults, module=module)
            return type(name, (fielded,), {"__slots__": (), **space})

    class NamedTuple(metaclass=_Tuples):
        """As `typing.NamedTuple` in its class form."""


__all__ = ["TYPE_CHECKING", "Final", "Literal", "NamedTuple", "NoReturn", "Protocol", "TextIO"]
