# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher takes from `typing`, without loading it; and named tuples that cost little.

A checker sees the names of `typing` itself. Every start of a container defines a hundred kinds of
values and makes a few of each: `collections.namedtuple` compiles code for each kind, which would be
a third of the time that a supervisor takes to load. Annotations are never evaluated.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, Final, NamedTuple, NoReturn, Protocol
else:
    from _collections import _tuplegetter

    Any = Final = NoReturn = None  # only ever found in annotations

    class Protocol:
        """A base without behaviour."""

        __slots__ = ()

    def _new(cls, *values, **named):
        fields = cls._fields
        if len(values) < len(fields) or named:
            values = _filled(cls, values, named)
        elif len(values) > len(fields):
            raise TypeError(f"{cls.__name__} takes {len(fields)} values, not {len(values)}")
        return tuple.__new__(cls, values)

    def _filled(cls, values, named):
        defaults = cls._field_defaults
        whole = list(values)
        for field in cls._fields[len(values) :]:
            if field in named:
                whole.append(named.pop(field))
            elif field in defaults:
                whole.append(defaults[field])
            else:
                raise TypeError(f"{cls.__name__} lacks {field}")
        if named:
            raise TypeError(f"{cls.__name__} takes no {next(iter(named))}, or takes it once")
        return whole

    def _make(cls, values):
        return cls(*values)

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

    _COMMON = {
        "__slots__": (),
        "__new__": _new,
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
            described = {"_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
            return type(name, (tuple,), {**_COMMON, **space, **described, **getters})

    class NamedTuple(metaclass=_Tuples):
        """As `typing.NamedTuple` in its class form."""


__all__ = ["TYPE_CHECKING", "Any", "Final", "NamedTuple", "NoReturn", "Protocol"]
