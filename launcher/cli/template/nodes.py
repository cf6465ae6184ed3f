# SPDX-License-Identifier: GPL-3.0-or-later
"""What a template consists of once it is read. `at` is an offset into its text."""

from __future__ import annotations

from launcher.typed import NamedTuple

__all__ = [
    "Action",
    "Block",
    "Chain",
    "Command",
    "Constant",
    "Field",
    "Function",
    "Include",
    "Jump",
    "Nil",
    "Node",
    "Operand",
    "Pipe",
    "Template",
    "Text",
    "Variable",
]


class Constant(NamedTuple):
    value: object
    at: int


class Nil(NamedTuple):
    at: int


class Field(NamedTuple):
    """`.A.B`: fields of the dot; without names, the dot."""

    names: tuple[str, ...]
    at: int


class Variable(NamedTuple):
    """`$x.A.B`; the name "" is `$`."""

    name: str
    names: tuple[str, ...]
    at: int


class Chain(NamedTuple):
    """`(…).A.B`"""

    pipe: Pipe
    names: tuple[str, ...]
    at: int


class Function(NamedTuple):
    name: str
    at: int


class Command(NamedTuple):
    """One part of a pipeline: an operand, and the arguments behind it."""

    words: tuple[Operand, ...]
    at: int


class Pipe(NamedTuple):
    """`declared` are the variables in front, `assign` whether by `=` and not by `:=`."""

    declared: tuple[str, ...]
    assign: bool
    commands: tuple[Command, ...]
    at: int


class Text(NamedTuple):
    text: str


class Action(NamedTuple):
    """A pipeline whose value is printed, unless it only sets a variable."""

    pipe: Pipe


class Block(NamedTuple):
    """`if`, `with` or `range`: the word is `kind`."""

    kind: str
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    at: int


class Jump(NamedTuple):
    """`break` or `continue`."""

    kind: str
    at: int


class Include(NamedTuple):
    """`{{template "name" value}}`"""

    name: str
    pipe: Pipe | None
    at: int


Operand = Constant | Nil | Field | Variable | Chain | Function | Pipe
Node = Text | Action | Block | Jump | Include


class Template(NamedTuple):
    """A template that was read: its nodes, those of what it defines, and its text."""

    text: str
    body: tuple[Node, ...]
    defined: dict[str, tuple[Node, ...]]
