# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents: what is told of containers and images, to templates and as JSON.

str, bool, int, float, None     themselves
list, tuple                     a slice
dict                            a struct: a field that it lacks is an error
GoMap                           a map: a key that it lacks is no error; walked in order of keys
Row                             one line of a listing
Absent                          nil of a type that prints in its own way
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from launcher.typed import Any, Final

__all__ = [
    "ABSENT_LIST",
    "ABSENT_MAP",
    "ABSENT_STRUCT",
    "MISSING",
    "Absent",
    "GoMap",
    "Row",
    "json_text",
]


class GoMap(dict[str, Any]):
    """A map: what has keys that people choose, like labels."""

    __slots__ = ()


class Absent:
    """A nil. `text` is how it prints; `omitted`: an object that has it does not show it in JSON."""

    __slots__ = ("omitted", "text")

    def __init__(self, text: str, omitted: bool = False) -> None:
        self.text = text
        self.omitted = omitted


ABSENT_LIST: Final = Absent("[]")
ABSENT_MAP: Final = Absent("map[]")
# Of a field such as State.Health, which docker leaves out where there is none.
ABSENT_STRUCT: Final = Absent("<nil>", omitted=True)
MISSING: Final = Absent("<no value>")


class Row:
    """One line of a listing.

    fields  -- by name, the value or what finds it out once it is asked for
    methods -- what takes an argument: `{{.Label "name"}}`
    as_json -- what it is as JSON, if not simply its fields
    """

    __slots__ = ("as_json", "fields", "methods")

    def __init__(
        self,
        fields: Mapping[str, object],
        methods: Mapping[str, Callable[..., object]] | None = None,
        as_json: object = None,
    ) -> None:
        self.fields = fields
        self.methods = methods or {}
        self.as_json = as_json

    def get(self, name: str) -> object:
        """The value of a field. KeyError if there is no such."""
        value = self.fields[name]
        return value() if callable(value) else value


def json_text(value: object, indent: int | None = None) -> str:
    """JSON as docker writes it: structs in their order, maps and rows in the order of keys."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(_plain(value), ensure_ascii=False, separators=separators, indent=indent)
    # Bytes that are no UTF-8 came in as surrogates; Go writes U+FFFD for each.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _plain(value: object) -> object:
    if isinstance(value, GoMap):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, dict):
        return {
            key: _plain(each)
            for key, each in value.items()
            if not (isinstance(each, Absent) and each.omitted)
        }
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Row):
        if value.as_json is not None:
            return _plain(value.as_json)
        return {key: _plain(value.get(key)) for key in sorted(value.fields)}
    if isinstance(value, Absent):
        return None
    return value
