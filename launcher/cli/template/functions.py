# SPDX-License-Identifier: GPL-3.0-or-later
"""The functions of templates: those of Go's text/template, and those that docker adds.

A function raises ValueError with the reason where its arguments do not fit. `and` and `or` stop
early, so `evaluation` does them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sized

from launcher.cli.template.printing import formatted, named, plain, printed, printed_line
from launcher.documents import MISSING, Absent, GoMap, Row, json_text
from launcher.typed import Any, Final

__all__ = ["FUNCTIONS", "HEADER_FUNCTIONS", "Implementation", "truth"]

# How many arguments it takes at least and at most (None: any number), and what does it.
Implementation = tuple[int, int | None, Callable[..., object]]


def truth(value: object) -> bool:
    """What `if` takes for true: anything but false, 0, nil and what is empty. A struct is true."""
    if isinstance(value, GoMap):
        return len(value) > 0
    if isinstance(value, (dict, Row)):
        return True
    if isinstance(value, Absent):
        return False
    return bool(value)


# -- comparisons ----------------------------------------------------------------------------------


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float, str)):
        return type(value).__name__
    if value is None or isinstance(value, Absent):
        return "nil"
    raise ValueError(f"{named(value)} cannot be compared")


def _equal(first: object, *others: object) -> bool:
    kind = _kind(first)
    for other in others:
        against = _kind(other)
        if "nil" in (kind, against):
            if kind == against:
                return True
        elif kind != against:
            raise ValueError(f"{named(first)} cannot be compared with {named(other)}")
        elif first == other:
            return True
    return False


def _unequal(first: object, second: object) -> bool:
    return not _equal(first, second)


def _less(first: Any, second: Any) -> bool:
    kind = _kind(first)
    if kind != _kind(second):
        raise ValueError(f"{named(first)} cannot be compared with {named(second)}")
    if kind in ("bool", "nil"):
        raise ValueError(f"{named(first)} is neither less nor more")
    return bool(first < second)


# -- collections ----------------------------------------------------------------------------------


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, Absent) and value is not MISSING and not value.omitted:
        return 0
    if isinstance(value, (GoMap, list, tuple)):
        return len(value)
    raise ValueError(f"{named(value)} has no length")


def _index(value: Any, *keys: Any) -> object:
    for key in keys:
        if isinstance(value, GoMap) or (isinstance(value, Absent) and value.text == "map[]"):
            if not isinstance(key, str):
                raise ValueError(f"the keys of a map are strings, not {named(key)}")
            found = value.get(key, MISSING) if isinstance(value, GoMap) else MISSING
            value = _zero(value) if found is MISSING else found
        elif isinstance(value, (list, tuple, str)) or _is_slice(value):
            if not isinstance(key, int) or isinstance(key, bool):
                raise ValueError(f"an index is a number, not {named(key)}")
            content = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            size = len(content) if isinstance(content, Sized) else 0
            if not 0 <= key < size:
                raise ValueError(f"there is no element {key}, only {size}")
            value = content[key]
        else:
            raise ValueError(f"{named(value)} has no elements")
    return value


def _is_slice(value: object) -> bool:
    return isinstance(value, Absent) and value.text == "[]"


def _zero(value: object) -> object:
    """What a map gives for a key that it lacks: the zero value of its elements."""
    if isinstance(value, GoMap) and not all(isinstance(each, str) for each in value.values()):
        return None
    return ""


def _slice(value: Any, *bounds: Any) -> object:
    if _is_slice(value):
        value = []
    if not isinstance(value, (str, list, tuple)):
        raise ValueError(f"{named(value)} cannot be cut")
    content = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    for each in bounds:
        if not isinstance(each, int) or isinstance(each, bool):
            raise ValueError(f"an index is a number, not {named(each)}")
        if not 0 <= each <= len(content):
            raise ValueError(f"there is no element {each}, only {len(content)}")
    start = bounds[0] if bounds else 0
    end = bounds[1] if len(bounds) > 1 else len(content)
    if start > end:
        raise ValueError(f"{start} is behind {end}")
    part = content[start:end]
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part


# -- text -----------------------------------------------------------------------------------------


def _html(*values: object) -> str:
    text = _joined(values)
    for plain_text, escape in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ('"', "&#34;"),
        ("'", "&#39;"),
    ):
        text = text.replace(plain_text, escape)
    return text


def _js(*values: object) -> str:
    result = ""
    for each in _joined(values):
        if each in "\\'\"":
            result += "\\" + each
        elif each in "<>&=" or each < " ":
            result += f"\\u{ord(each):04X}"
        else:
            result += each
    return result


def _url_query(*values: object) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_joined(values), safe="", errors="surrogateescape")


def _joined(values: tuple[object, ...]) -> str:
    return values[0] if len(values) == 1 and isinstance(values[0], str) else printed(values)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{named(value)} is no string")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{named(value)} is no number")
    return value


def _join(values: object, separator: object) -> str:
    if isinstance(values, Absent) and values.text == "[]":
        return ""
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"{named(values)} is no list")
    return _text(separator).join(_text(each) for each in values)


def _split(text: object, separator: object) -> list[str]:
    by = _text(separator)
    return _text(text).split(by) if by else list(_text(text))


def _title(text: object) -> str:
    previous = " "
    result = ""
    for each in _text(text):
        inside = previous.isalnum() or previous == "_"
        result += each if inside else each.title()
        previous = each
    return result


def _pad(text: object, before: object, behind: object) -> str:
    inner = _text(text)
    return " " * _count(before) + inner + " " * _count(behind) if inner else ""


def _truncate(text: object, width: object) -> str:
    return _text(text)[: max(_count(width), 0)]


def _printf(text: object, *values: object) -> str:
    return formatted(_text(text), values)


FUNCTIONS: Final[dict[str, Implementation]] = {
    # Go's
    "and": (1, None, lambda *values: values[-1]),
    "or": (1, None, lambda *values: values[-1]),
    "not": (1, 1, lambda value: not truth(value)),
    "eq": (2, None, _equal),
    "ne": (2, 2, _unequal),
    "lt": (2, 2, _less),
    "le": (2, 2, lambda first, second: not _less(second, first)),
    "gt": (2, 2, lambda first, second: _less(second, first)),
    "ge": (2, 2, lambda first, second: not _less(first, second)),
    "len": (1, 1, _length),
    "index": (1, None, _index),
    "slice": (1, 3, _slice),
    "print": (0, None, lambda *values: printed(values)),
    "printf": (1, None, _printf),
    "println": (0, None, lambda *values: printed_line(values)),
    "html": (0, None, _html),
    "js": (0, None, _js),
    "urlquery": (0, None, _url_query),
    # docker's
    "json": (1, 1, json_text),
    "join": (2, 2, _join),
    "split": (2, 2, _split),
    "lower": (1, 1, lambda text: _text(text).lower()),
    "upper": (1, 1, lambda text: _text(text).upper()),
    "title": (1, 1, _title),
    "pad": (3, 3, _pad),
    "truncate": (2, 2, _truncate),
}

# In the line of headers these leave a column's title as it is.
HEADER_FUNCTIONS: Final[dict[str, Implementation]] = {
    **FUNCTIONS,
    "json": (1, 1, plain),
    "lower": (1, 1, plain),
    "upper": (1, 1, plain),
    "title": (1, 1, plain),
    "truncate": (2, 2, lambda text, width: plain(text)),
    "join": (2, 2, lambda text, separator: plain(text)),
    "split": (2, 2, lambda text, separator: [plain(text)]),
}
