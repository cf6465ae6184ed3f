# SPDX-License-Identifier: GPL-3.0-or-later
"""Cutting the text of a template into words, and saying where in it something is wrong."""

from __future__ import annotations

import re

from launcher.errors import LaunchError
from launcher.typed import Final, NamedTuple

__all__ = ["SPACE", "Token", "cut", "mistake", "number", "unquoted"]

# What Go's templates count as space, in an action and where they trim.
SPACE: Final = " \t\r\n"

_WORD: Final = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<declare>:=)
      | (?P<string>"(?:[^"\\\n]|\\[^\n])*")
      | (?P<raw>`[^`]*`)
      | (?P<char>'(?:[^'\\\n]|\\[^\n])+')
      | (?P<number>[+-]?(?:\.?[0-9])(?:[0-9A-Za-z_.]|(?<=[eEpP])[+-])*)
      | (?P<variable>\$(?:[^\W\d]\w*)?)
      | (?P<field>\.[^\W\d]\w*)
      | (?P<dot>\.)
      | (?P<word>[^\W\d]\w*)
      | (?P<mark>[|(),=])""",
    re.VERBOSE,
)
_ESCAPES: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
}
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)


class Token(NamedTuple):
    """`kind` is text, open, close, or a group of `_WORD`; `spaced` whether space stands before."""

    kind: str
    text: str
    at: int
    spaced: bool = False


def mistake(text: str, at: int, reason: str) -> LaunchError:
    """The error for what stands at an offset of a template."""
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    place = f"line {line}, column {column}" if "\n" in text.rstrip("\n") else f"column {column}"
    return LaunchError("use format", text, f"{place}: {reason}")


def cut(text: str) -> list[Token]:
    """The words of a template, the text between its actions among them. Raises LaunchError."""
    found: list[Token] = []
    at = 0
    trim = False
    while True:
        start = text.find("{{", at)
        between = text[at:] if start < 0 else text[at:start]
        if trim:
            between = between.lstrip(SPACE)
        if start < 0:
            if between:
                found.append(Token("text", between, at))
            return found
        inside = start + 2
        if text.startswith("-", inside) and text[inside + 1 : inside + 2] in tuple(SPACE):
            between = between.rstrip(SPACE)
            inside += 1
        if between:
            found.append(Token("text", between, at))
        comment = inside + len(text[inside:]) - len(text[inside:].lstrip(SPACE))
        if text.startswith("/*", comment):
            at, trim = _after_comment(text, start, comment)
        else:
            found.append(Token("open", "{{", start))
            at, trim = _cut_action(text, start, inside, found)


def _after_comment(text: str, start: int, comment: int) -> tuple[int, bool]:
    end = text.find("*/", comment)
    if end < 0:
        raise mistake(text, start, "the comment has no end")
    end += 2
    trim = bool(re.match(r"[ \t\r\n]+-\}\}", text[end:]))
    if trim:
        end = text.index("-}}", end) + 1
    if not text.startswith("}}", end):
        raise mistake(text, start, "a comment fills the whole of its {{ }}")
    return end + 2, trim


def _cut_action(text: str, start: int, at: int, found: list[Token]) -> tuple[int, bool]:
    """The words up to the closing braces; where these end, and whether they trim what follows."""
    spaced = False
    while True:
        if spaced and text.startswith("-}}", at):
            found.append(Token("close", "-}}", at))
            return at + 3, True
        if text.startswith("}}", at):
            found.append(Token("close", "}}", at))
            return at + 2, False
        if at >= len(text):
            raise mistake(text, start, "this {{ has no }}")
        match = _WORD.match(text, at)
        if match is None:
            rest = text[at]
            if rest in "\"`'":
                raise mistake(text, at, "this quote has no end")
            raise mistake(text, at, f"unexpected {rest!r}")
        kind = str(match.lastgroup)
        if kind == "space":
            spaced = True
        else:
            found.append(Token(kind, match.group(), at, spaced))
            spaced = False
        at = match.end()


def unquoted(text: str, token: Token) -> str:
    """The string that a quoted word, or a character in single quotes, stands for."""
    if token.kind == "raw":
        return token.text[1:-1]

    def replace(match: re.Match[str]) -> str:
        digits = match.group(1) or match.group(2) or match.group(3)
        if digits:
            return _character(text, token, int(digits, 16))
        if match.group(4):
            return _character(text, token, int(match.group(4), 8))
        plain = _ESCAPES.get(match.group(5))
        if plain is None:
            raise mistake(text, token.at, f"there is no escape {match.group()}")
        return plain

    return _ESCAPE.sub(replace, token.text[1:-1])


def _character(text: str, token: Token, code: int) -> str:
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise mistake(text, token.at, f"there is no character {code:#x}")
    return chr(code)


def number(text: str, token: Token) -> int | float:
    """The value of a numeric word, in any notation of Go's."""
    word = token.text
    digits = word.lstrip("+-").lower()
    try:
        if digits.startswith("0x") and ("p" in digits or "." in digits):
            return float.fromhex(word.replace("_", ""))
        if re.fullmatch(r"0_?[0-9][0-9_]*", digits):  # an octal number of old
            return int(word.replace("_", ""), 8)
        if digits.startswith(("0x", "0b", "0o")):
            return int(word, 0)
        if re.fullmatch(r"[0-9_]+", digits):
            return int(word)
        if "_" in word and not re.fullmatch(r"[+-]?[0-9]+(_[0-9]+)*[0-9.eE+-]*", word):
            raise ValueError
        return float(word)
    except ValueError:
        raise mistake(text, token.at, f"{word} is no number") from None
