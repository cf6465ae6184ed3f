# SPDX-License-Identifier: GPL-3.0-or-later
"""Text made safe and short for a line of output, as docker does it."""

from __future__ import annotations

from launcher.typed import Final

__all__ = ["ellipsis", "quoted"]

_ESCAPED: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quoted(text: str) -> str:
    """`text` in double quotes, what does not print escaped: Go's strconv.Quote."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_quoted_character(each) for each in text) + '"'


def _quoted_character(character: str) -> str:
    escape = _ESCAPED.get(character)
    if escape is not None:
        return escape
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def ellipsis(text: str, width: int) -> str:
    """`text` if it is at most `width` columns wide, else as much of it as fits before a "…"."""
    if text.isascii():
        return text if len(text) <= width else text[: width - 1] + "…"
    from unicodedata import east_asian_width

    widths = [2 if east_asian_width(each) in "WF" else 1 for each in text]
    if sum(widths) <= width:
        return text
    used = 0
    for index, each in enumerate(widths):
        used += each
        if used > width - 1:
            return text[:index] + "…"
    return text
