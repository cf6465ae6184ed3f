# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken from `typing`, without loading it; and named tuples that cost little.

A checker sees the names of `typing` itself. At run time `typing` and what it loads are a third of
the time and a quarter of the memory that a serving process needs to start, and thousands of such
processes may live on one machine; annotations are never evaluated, so next to nothing is needed.
`collections.namedtuple` compiles code for each kind of value. Every start defines a hundred kinds
and makes some of a few, so here code is compiled when the first of its kind is made.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Generator,
        Iterable,
        Iterator,
        Mapping,
        MutableMapping,
        Sequence,
    )
    from types import FrameType, ModuleType
    from typing import Any, Final, Literal, NamedTuple, NoReturn, Protocol, TextIO
else:
    from _collections import _tuplegetter

    # only ever found in annotations
    Any = Final = NoReturn = TextIO = None

    class Callable:
        """`Callable[[int], bytes]` outside of an annotation is the name of a type."""

        def __class_getitem__(cls, words):
            return cls

    Collection = Generator = Iterable = Iterator = Mapping = MutableMapping = Sequence = None
    FrameType = ModuleType = None

    class Protocol:
        """A base without behaviour."""

        __slots__ = ()

    class Literal:
        """`Literal["a", "b"]` outside of an annotation is the type of its words."""

        def __class_getitem__(cls, words: object) -> type:
            return type(words[0]) if isinstance(words, tuple) else type(words)

    def _replace(self, **named):
        whole = [named.pop(field, value) for field, value in zip(self._fields, self, strict=True)]
        if named:
            raise ValueError(f"{type(self).__name__} has no {next(iter(named))}")
        return tuple.__new__(type(self), whole)

    def _asdict(self):
        return dict(zip(self._fields, self, strict=True))

    def _repr(self):
        pairs = (f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({', '.join(pairs)})"

    def _getnewargs(self):
        return tuple(self)

    def _make(cls, values):
        return cls(*values)

    _COMMON = {
        "__slots__": (),
        "__repr__": _repr,
        "__getnewargs__": _getnewargs,
        "_make": classmethod(_make),
        "_replace": _replace,
        "_asdict": _asdict,
    }

    class _Tuples(type):
        """Makes of each class below `NamedTuple` a tuple with the fields that it annotates."""

        def __new__(meta, name, bases, space):
            if not bases:
                return super().__new__(meta, name, bases, space)
            fields = tuple(space.get("__annotations__", ()))
            defaults = {field: space[field] for field in fields if field in space}
            getters = {field: _tuplegetter(at, field) for at, field in enumerate(fields)}

            def make(cls, /, *values, **named):
                # The first of its kind. A call of compiled code is what costs least from here on.
                row = "".join(f"{each}, " for each in fields)
                # No field begins with an underscore.
                words = f"lambda _cls, {row}: _new(_cls, ({row}))"
                compiled = eval(words, {"_new": tuple.__new__, "__builtins__": {}})
                compiled.__name__ = "__new__"
                compiled.__qualname__ = f"{name}.__new__"
                compiled.__defaults__ = tuple(defaults.values())
                kind.__new__ = compiled
                return compiled(cls, *values, **named)

            described = {
                "__new__": make,
                "_fields": fields,
                "_field_defaults": defaults,
                "__match_args__": fields,
            }
            kind = type(name, (tuple,), {**_COMMON, **space, **described, **getters})
            return kind

    class NamedTuple(metaclass=_Tuples):
        """As `typing.NamedTuple` in its class form."""


__all__ = [
    "TYPE_CHECKING",
    "Any",
    "Callable",
    "Collection",
    "Final",
    "FrameType",
    "Generator",
    "Iterable",
    "Iterator",
    "Literal",
    "Mapping",
    "ModuleType",
    "MutableMapping",
    "NamedTuple",
    "NoReturn",
    "Protocol",
    "Sequence",
    "TextIO",
]
