# SPDX-License-Identifier: GPL-3.0-or-later
"""From the words of a template to its nodes. What can be wrong without any data is found here."""

from __future__ import annotations

from launcher.cli.template.functions import FUNCTIONS
from launcher.cli.template.nodes import (
    Action,
    Block,
    Chain,
    Command,
    Constant,
    Field,
    Function,
    Include,
    Jump,
    Nil,
    Node,
    Operand,
    Pipe,
    Template,
    Text,
    Variable,
)
from launcher.cli.template.tokens import Token, cut, mistake, number, unquoted
from launcher.errors import LaunchError
from launcher.typed import Final

__all__ = ["parse"]

_BLOCKS: Final = ("if", "with", "range")
_JUMPS: Final = ("break", "continue")
_DEFINITIONS: Final = ("define", "template", "block")
_KEYWORDS: Final = frozenset(
    ("else", "end", "nil", "true", "false", *_BLOCKS, *_JUMPS, *_DEFINITIONS)
)


def parse(text: str) -> Template:
    """Read a template. Raises LaunchError that says where it is wrong."""
    reader = _Reader(text)
    body, _ = reader.nodes(())
    return Template(text, body, reader.defined)


class _Reader:
    """A walk over the words.

    text      -- the template, for errors
    defined   -- what `define` and `block` have made so far
    variables -- those in scope, innermost last
    loops     -- how many `range` are open
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.defined: dict[str, tuple[Node, ...]] = {}
        self.variables = [""]
        self.loops = 0
        self._tokens = cut(text)
        self._next = 0

    # -- words ------------------------------------------------------------------------------------

    def _peek(self) -> Token:
        if self._next < len(self._tokens):
            return self._tokens[self._next]
        return Token("end of text", "", len(self.text))

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        return token

    def _close(self) -> None:
        token = self._take()
        if token.kind != "close":
            raise self._unexpected(token)

    def _unexpected(self, token: Token, where: str = "here") -> LaunchError:
        what = {"close": "}}", "end of text": "the end"}.get(token.kind, token.text)
        return mistake(self.text, token.at, f"{what} is not expected {where}")

    # -- nodes ------------------------------------------------------------------------------------

    def nodes(
        self, enders: tuple[str, ...], opener: Token | None = None
    ) -> tuple[tuple[Node, ...], Token]:
        """Nodes up to one of the words `enders`, or to the end if there are none of these."""
        found: list[Node] = []
        while True:
            token = self._take()
            if token.kind == "text":
                found.append(Text(token.text))
            elif token.kind == "open":
                word = self._peek()
                if word.kind == "word" and word.text in ("end", "else"):
                    if word.text not in enders:
                        raise mistake(self.text, word.at, f"there is nothing to {word.text}")
                    return tuple(found), self._take()
                node = self._action(word)
                if node is not None:
                    found.append(node)
            elif opener is not None:
                raise mistake(self.text, opener.at, f"this {opener.text} has no end")
            else:
                return tuple(found), token

    def _action(self, word: Token) -> Node | None:
        if word.kind == "word" and word.text in _BLOCKS:
            return self._block(self._take())
        if word.kind == "word" and word.text in _DEFINITIONS:
            return self._definition(self._take())
        if word.kind == "word" and word.text in _JUMPS:
            if not self.loops:
                raise mistake(self.text, word.at, f"{word.text} outside of range")
            self._take()
            self._close()
            return Jump(word.text, word.at)
        pipe = self._pipe("close")
        if not pipe.commands:
            raise mistake(self.text, word.at, "there is nothing between {{ and }}")
        return Action(pipe)

    def _block(self, word: Token) -> Block:
        depth = len(self.variables)
        pipe = self._pipe("close", ranging=word.text == "range")
        if not pipe.commands:
            raise mistake(self.text, word.at, f"{word.text} needs a value")
        self.loops += word.text == "range"
        body, ender = self.nodes(("else", "end"), word)
        self.loops -= word.text == "range"
        otherwise: tuple[Node, ...] = ()
        if ender.text == "else":
            chained = self._peek()
            # {{else if}} is an if in the else, and its end is the end of both; so is {{else with}}.
            if chained.text == word.text and chained.kind == "word" and word.text != "range":
                otherwise = (self._block(self._take()),)
                del self.variables[depth:]
                return Block(word.text, pipe, body, otherwise, word.at)
            self._close()
            otherwise, _ = self.nodes(("end",), word)
        self._close()
        del self.variables[depth:]
        return Block(word.text, pipe, body, otherwise, word.at)

    def _definition(self, word: Token) -> Include | None:
        """`define`, `template` and `block`, which is both."""
        token = self._take()
        if token.kind not in ("string", "raw"):
            raise mistake(self.text, token.at, f"{word.text} needs a name in quotes")
        name = unquoted(self.text, token)
        pipe = None
        if word.text != "define":
            pipe = self._pipe("close")
            pipe = pipe if pipe.commands else None
        else:
            self._close()
        if word.text == "template":
            return Include(name, pipe, word.at)
        outer, self.variables = self.variables, [""]
        loops, self.loops = self.loops, 0
        self.defined[name], _ = self.nodes(("end",), word)
        self._close()
        self.variables, self.loops = outer, loops
        return None if word.text == "define" else Include(name, pipe, word.at)

    # -- pipelines --------------------------------------------------------------------------------

    def _pipe(self, ender: str, ranging: bool = False) -> Pipe:
        """A pipeline and what ends it, which is `close` or a parenthesis."""
        start = self._peek().at
        declared, assign = self._declaration(ranging)
        commands: list[Command] = []
        while True:
            command = self._command()
            if command.words:
                commands.append(command)
            token = self._take()
            if token.text == "|" and token.kind == "mark" and command.words:
                continue
            if token.kind == ender or (token.text == ")" and ender == "parenthesis"):
                break
            if ender == "parenthesis" and token.kind in ("close", "end of text"):
                raise mistake(self.text, start, "this parenthesis is not closed")
            raise self._unexpected(token)
        if declared and not commands:
            raise mistake(self.text, start, "a variable needs a value")
        for command in commands[1:]:
            first = command.words[0]
            if isinstance(first, (Constant, Nil)):
                reason = "nothing can be piped into what is no function"
                raise mistake(self.text, first.at, reason)
        if not assign:
            self.variables += declared
        return Pipe(declared, assign, tuple(commands), start)

    def _declaration(self, ranging: bool) -> tuple[tuple[str, ...], bool]:
        """The variables before `:=` or `=`, if that is how a pipeline begins."""
        ahead = self._tokens[self._next : self._next + 4]
        kinds = [token.text if token.kind == "mark" else token.kind for token in ahead]
        if kinds[:1] != ["variable"]:
            return (), False
        if kinds[1:2] in (["declare"], ["="]):
            count = 1
        elif ranging and kinds[1:3] == [",", "variable"] and kinds[3:] in (["declare"], ["="]):
            count = 2
        else:
            return (), False
        names = tuple(token.text[1:] for token in ahead[0 : 2 * count : 2])
        assign = kinds[2 * count - 1] == "="
        self._next += 2 * count
        if assign:
            for token in ahead[0 : 2 * count : 2]:
                self._check_variable(token)
        return names, assign

    def _check_variable(self, token: Token) -> None:
        if token.text[1:] not in self.variables:
            raise mistake(self.text, token.at, f"there is no variable {token.text}")

    def _command(self) -> Command:
        start = self._peek().at
        words: list[Operand] = []
        while True:
            token = self._peek()
            ends = token.kind in ("close", "end of text")
            if ends or (token.kind == "mark" and token.text in "|)"):
                return Command(tuple(words), start)
            if words and not token.spaced:
                raise self._unexpected(token, "without a space before it")
            words.append(self._operand())

    def _operand(self) -> Operand:
        token = self._take()
        kind = token.kind
        if kind in ("string", "raw"):
            return self._without_fields(Constant(unquoted(self.text, token), token.at))
        if kind == "char":
            character = unquoted(self.text, token)
            if len(character) != 1:
                raise mistake(self.text, token.at, f"{token.text} is not one character")
            return Constant(ord(character), token.at)
        if kind == "number":
            return Constant(number(self.text, token), token.at)
        if kind == "dot":
            return self._without_fields(Field((), token.at))
        if kind == "field":
            return Field((token.text[1:], *self._fields()), token.at)
        if kind == "variable":
            self._check_variable(token)
            return Variable(token.text[1:], self._fields(), token.at)
        if kind == "word":
            return self._word(token)
        if token.text == "(":
            depth = len(self.variables)
            pipe = self._pipe("parenthesis")
            del self.variables[depth:]
            if not pipe.commands:
                raise mistake(self.text, token.at, "there is nothing between ( and )")
            names = self._fields()
            return Chain(pipe, names, token.at) if names else pipe
        raise self._unexpected(token)

    def _word(self, token: Token) -> Operand:
        if token.text in ("true", "false"):
            return self._without_fields(Constant(token.text == "true", token.at))
        if token.text == "nil":
            return Nil(token.at)
        if token.text in _KEYWORDS:
            raise self._unexpected(token)
        if token.text not in FUNCTIONS:
            raise mistake(self.text, token.at, f"there is no function {token.text}")
        return self._without_fields(Function(token.text, token.at))

    def _without_fields(self, operand: Operand) -> Operand:
        token = self._peek()
        if token.kind == "field" and not token.spaced:
            raise self._unexpected(token)
        return operand

    def _fields(self) -> tuple[str, ...]:
        """The fields that follow an operand without a space."""
        names = []
        while self._peek().kind == "field" and not self._peek().spaced:
            names.append(self._take().text[1:])
        return tuple(names)
