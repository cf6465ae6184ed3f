# SPDX-License-Identifier: GPL-3.0-or-later
"""What a try changed, as a tree for people: a line for each change, below its directories.

    etc/
    ├─ ~ motd                  412 B (was 286 B)
    └─ ~ shadow                mode
    usr/share/doc/
    └─ + hello/                directory
       └─ + copyright          1.2 kB

A chain of directories in which nothing else was changed is one line.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.cli.sizes import decimal_size
from launcher.errors import shown
from launcher.trial.changes import Item
from launcher.trial.record import Trial
from launcher.typed import Final, NamedTuple

__all__ = ["coloured_diff", "difference_lines", "summary", "tree"]

_SIGNS: Final = {"A": "+", "C": "~", "D": "-", "R": ">"}
_COLOURS: Final = {"A": "32", "C": "33", "D": "31", "R": "36"}
_WORDS: Final = {"A": "added", "C": "changed", "D": "deleted", "R": "renamed"}
_COLUMN: Final = 44


class _Node:
    """A directory of the tree: what was done to it, and what is in it, by name."""

    __slots__ = ("inner", "items")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.inner: dict[bytes, _Node] = {}


class _Line(NamedTuple):
    branch: str
    sign: str
    name: str
    about: str
    kind: str


def summary(items: list[Item]) -> str:
    """One line: "3 added, 1 deleted"."""
    counts = {kind: sum(item.kind == kind for item in items) for kind in "ACDR"}
    parts = [f"{counts[kind]} {_WORDS[kind]}" for kind in "ACDR" if counts[kind]]
    new = sum(item.size for item in items if item.kind in "AC" and item.type == "file")
    text = ", ".join(parts) or "nothing"
    return text + (f" ({decimal_size(new)} of new content)" if new else "")


def tree(trial: Trial, items: list[Item], *, colour: bool) -> Iterator[str]:
    """The lines of the tree, without their ends."""
    top = _Node()
    for item in items:
        node = top
        path = trial.places[item.place].mountpoint.rstrip(b"/") + item.path
        for name in path.strip(b"/").split(b"/"):
            node = node.inner.setdefault(name, _Node())
        node.items.append(item)
    for line in _lines(trial, top, ""):
        yield _painted(line, colour=colour)


def _lines(trial: Trial, node: _Node, indent: str, *, root: bool = True) -> Iterator[_Line]:
    entries = sorted(node.inner.items())
    for index, (name, inner) in enumerate(entries):
        label = shown(name)
        # A chain without changes of its own is one line.
        while not inner.items and len(inner.inner) == 1:
            ((below, following),) = inner.inner.items()
            if following.items and not following.inner:
                break
            label += "/" + shown(below)
            inner = following
        last = index == len(entries) - 1
        branch = indent + ("" if root else "└─ " if last else "├─ ")
        deeper = indent + ("" if root else "   " if last else "│  ")
        if root:
            label = "/" + label
        if not inner.items:
            yield _Line(branch, "", label + "/", "", "")
        for item in sorted(inner.items, key=lambda each: each.kind != "D"):
            slash = "/" if item.type == "directory" else ""
            about = _about(trial, item)
            yield _Line(branch, _SIGNS[item.kind], label + slash, about, item.kind)
        yield from _lines(trial, inner, deeper, root=False)


def _about(trial: Trial, item: Item) -> str:
    """What there is to say of a change beside its name."""
    words = []
    if item.kind == "R" and item.source is not None:
        top = trial.places[item.place].mountpoint.rstrip(b"/")
        words.append("from " + shown(top + item.source))
    if item.kind in "CR":
        other = [each for each in item.what if each != "content"]
        if "content" in item.what:
            was = f" (was {decimal_size(item.was)})" if item.kind == "C" else ""
            words.append(decimal_size(item.size) + was)
            other = [each for each in other if each != "times"]
        elif "type" in item.what:
            words.append("now " + _a(item.type))
            other = [each for each in other if each != "type"]
        if other:
            words.append(", ".join(other))
    elif item.type == "file" or (item.kind == "D" and item.size):
        words.append(decimal_size(item.size))
    elif item.type != "directory":
        words.append(item.type)
    if item.stale:
        words.append("(the host changed it meanwhile)")
    return ", ".join(words)


def _a(type_: str) -> str:
    return f"a {type_}"


def _painted(line: _Line, *, colour: bool) -> str:
    if not line.sign:
        return line.branch + line.name
    name = f"{line.sign} {line.name}"
    room = max(1, _COLUMN - len(line.branch) - len(name))
    about = (" " * room + " " + line.about) if line.about else ""
    if colour:
        name = f"\x1b[{_COLOURS[line.kind]}m{name}\x1b[0m"
    return line.branch + name + about


def difference_lines(lines: Iterator[str], *, colour: bool) -> Iterator[str]:
    """Lines of a diff as they can be shown: nothing in them reaches the terminal as a command."""
    for line in lines:
        plain = "".join(each if _harmless(each) else _escaped(each) for each in line)
        yield coloured_diff(plain) if colour else plain


def coloured_diff(line: str) -> str:
    """A line of a diff in the colours that git(1) has made common."""
    if line.startswith(("---", "+++", "Binary files", "Files ")):
        return f"\x1b[1m{line}\x1b[0m"
    colour = {"+": "32", "-": "31", "@": "36"}.get(line[:1])
    return f"\x1b[{colour}m{line}\x1b[0m" if colour else line


def _harmless(character: str) -> bool:
    return character.isprintable() or character == "\t"


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]
