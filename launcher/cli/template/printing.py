# SPDX-License-Identifier: GPL-3.0-or-later
"""How values print: Go's fmt, with the verbs that have a meaning for what templates hold."""

from __future__ import annotations

import re

from launcher.cli.quoting import quoted
from launcher.documents import ABSENT_STRUCT, Absent, GoMap, Row, json_text
from launcher.typed import Final

__all__ = ["formatted", "named", "plain", "printed", "printed_line", "type_name"]

_VERB: Final = re.compile(r"%([-+# 0]*)(\*|[0-9]+)?(?:\.(\*|[0-9]*))?(.)?", re.DOTALL)
_INTEGER_BASES: Final = {"d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES: Final = {"b": "0b", "o": "0", "O": "0o", "x": "0x", "X": "0X"}


def plain(value: object) -> str:
    """A value as `%v` prints it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value, "g", None)
    if isinstance(value, Absent):
        return value.text
    if isinstance(value, GoMap):
        return "map[" + " ".join(f"{key}:{plain(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, dict):
        return "{" + " ".join(plain(each) for each in value.values()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(plain(each) for each in value) + "]"
    if isinstance(value, Row):
        return json_text(value)
    return str(value)


def printed(values: tuple[object, ...]) -> str:
    """`print`: a space between two values neither of which is a string."""
    text = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            text += " "
        text += plain(value)
    return text


def printed_line(values: tuple[object, ...]) -> str:
    """`println`"""
    return " ".join(plain(value) for value in values) + "\n"


def type_name(value: object) -> str:
    """The kind of a value, for `%T` and errors."""
    if value is None or value is ABSENT_STRUCT:
        return "<nil>"
    if isinstance(value, GoMap):
        return "map"
    if isinstance(value, (dict, Row)):
        return "struct"
    if isinstance(value, (list, tuple)):
        return "[]string" if value and all(isinstance(each, str) for each in value) else "slice"
    if isinstance(value, Absent):
        return {"[]": "slice", "map[]": "map"}.get(value.text, "<nil>")
    return {str: "string", bool: "bool", int: "int", float: "float64"}.get(type(value), "value")


def named(value: object) -> str:
    """The kind of a value with its article, for errors."""
    name = type_name(value)
    return "nil" if name == "<nil>" else f"{'an' if name == 'int' else 'a'} {name}"


def formatted(text: str, values: tuple[object, ...]) -> str:
    """`printf`. What does not fit is said in the text, as Go says it."""
    rest = list(values)

    def count(word: str | None) -> int | None:
        if word == "*":
            value = rest.pop(0) if rest else 0
            return value if isinstance(value, int) else 0
        return int(word) if word else None

    def replace(match: re.Match[str]) -> str:
        flags, width_word, precision_word, verb = match.groups()
        width = count(width_word)
        precision = None if precision_word is None else count(precision_word) or 0
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        if verb == "%":
            return "%"
        if verb is None:
            return "%!(NOVERB)"
        if not rest:
            return f"%!{verb}(MISSING)"
        return _one(rest.pop(0), verb, flags, width, precision)

    result = _VERB.sub(replace, text)
    if rest:
        extra = ", ".join(f"{type_name(value)}={plain(value)}" for value in rest)
        result += f"%!(EXTRA {extra})"
    return result


def _one(value: object, verb: str, flags: str, width: int | None, precision: int | None) -> str:
    if isinstance(value, (list, tuple)) and verb not in "vT":
        parts = (_one(each, verb, flags, width, precision) for each in value)
        return "[" + " ".join(parts) + "]"
    if verb == "T":
        text: str | None = type_name(value)
    elif verb == "v":
        text = quoted(value) if "#" in flags and isinstance(value, str) else plain(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            text = _signed(text, flags.replace("+", ""))
    elif isinstance(value, bool):
        text = plain(value) if verb == "t" else None
    elif isinstance(value, int):
        text = _integer(value, verb, flags, precision)
    elif isinstance(value, float):
        text = _signed(_float(value, verb, precision), flags) if verb in "eEfFgG" else None
    elif isinstance(value, str):
        text = _string(value, verb, flags, precision)
    else:
        text = None
    if text is None:
        return f"%!{verb}({type_name(value)}={plain(value)})"
    if width is None or len(text) >= width:
        return text
    if "-" in flags:
        return text.ljust(width)
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if "0" in flags and numeric and verb not in "cqUT":
        return text.zfill(width)
    return text.rjust(width)


def _integer(value: int, verb: str, flags: str, precision: int | None) -> str | None:
    if verb in _INTEGER_BASES:
        digits = format(abs(value), _INTEGER_BASES[verb]).rjust(precision or 0, "0")
        prefix = _PREFIXES.get(verb, "") if "#" in flags or verb == "O" else ""
        return _signed(("-" if value < 0 else "") + prefix + digits, flags)
    if verb in "cqU" and 0 <= value <= 0x10FFFF:
        character = chr(value)
        if verb == "U":
            return f"U+{value:04X}"
        return character if verb == "c" else "'" + quoted(character)[1:-1] + "'"
    return None


def _string(value: str, verb: str, flags: str, precision: int | None) -> str | None:
    if precision is not None:
        value = value[:precision]
    if verb == "s":
        return value
    if verb == "q":
        return quoted(value)
    if verb in "xX":
        digits = value.encode("utf-8", "surrogateescape").hex(*(" " if " " in flags else ""))
        return digits if verb == "x" else digits.upper()
    return None


def _signed(text: str, flags: str) -> str:
    if text.startswith("-"):
        return text
    return "+" + text if "+" in flags else " " + text if " " in flags else text


def _float(value: float, verb: str, precision: int | None) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    if precision is not None or verb not in "gG":
        return format(value, f".{6 if precision is None else precision}{verb}")
    # The fewest digits that give the same number back, with an exponent below -4 and from 6 on.
    sign = "-" if repr(value).startswith("-") else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0") or "0"
    if value == 0:
        return sign + "0"
    if -4 <= point - 1 < 6:
        if point <= 0:
            return sign + "0." + "0" * -point + digits
        whole = digits[:point].ljust(point, "0")
        return sign + whole + ("." + digits[point:] if digits[point:] else "")
    fraction = "." + digits[1:] if digits[1:] else ""
    return f"{sign}{digits[0]}{fraction}{'E' if verb == 'G' else 'e'}{point - 1:+03d}"
