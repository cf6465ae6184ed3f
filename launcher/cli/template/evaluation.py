# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying out a template on a value."""

from __future__ import annotations

from collections.abc import Iterable

from launcher.cli.template.functions import FUNCTIONS, Implementation, truth
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
from launcher.cli.template.printing import named, plain
from launcher.cli.template.tokens import mistake
from launcher.documents import MISSING, Absent, GoMap, Row
from launcher.errors import LaunchError
from launcher.typed import Final

__all__ = ["render"]

_DEEPEST: Final = 100  # of templates that include themselves
_NOTHING: Final = object()  # nothing was piped in


def render(
    template: Template, value: object, functions: dict[str, Implementation] = FUNCTIONS
) -> str:
    """The text that a template gives for a value, which is `.` and `$`.

    Raises LaunchError that says where in the template the value does not fit.
    """
    evaluation = _Evaluation(template, functions)
    evaluation.walk(template.body, value, [("", value)], 0)
    return "".join(evaluation.written)


class _Jumped(Exception):
    """`break` or `continue` on its way to the `range`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


# Variables by name, the innermost last. A scope ends by cutting the list back.
_Variables = list[tuple[str, object]]


class _Evaluation:
    __slots__ = ("_functions", "_template", "written")

    def __init__(self, template: Template, functions: dict[str, Implementation]) -> None:
        self._template = template
        self._functions = functions
        self.written: list[str] = []

    def _mistake(self, at: int, reason: str) -> LaunchError:
        return mistake(self._template.text, at, reason)

    # -- nodes ------------------------------------------------------------------------------------

    def walk(self, nodes: tuple[Node, ...], dot: object, variables: _Variables, depth: int) -> None:
        for node in nodes:
            if isinstance(node, Text):
                self.written.append(node.text)
            elif isinstance(node, Action):
                value = self._pipe(node.pipe, dot, variables)
                if not node.pipe.declared:
                    self.written.append(plain(value))
            elif isinstance(node, Block):
                scope = len(variables)
                if node.kind == "range":
                    self._range(node, dot, variables, depth)
                else:
                    self._choose(node, dot, variables, depth)
                del variables[scope:]
            elif isinstance(node, Jump):
                raise _Jumped(node.kind)
            else:
                self._include(node, dot, variables, depth)

    def _choose(self, node: Block, dot: object, variables: _Variables, depth: int) -> None:
        value = self._pipe(node.pipe, dot, variables)
        if truth(value):
            self.walk(node.body, value if node.kind == "with" else dot, variables, depth)
        else:
            self.walk(node.otherwise, dot, variables, depth)

    def _range(self, node: Block, dot: object, variables: _Variables, depth: int) -> None:
        value = self._pipe(node.pipe, dot, variables, declare=False)
        scope = len(variables)
        empty = True
        for key, each in self._pairs(node.pipe, value):
            empty = False
            names = node.pipe.declared
            given = (key, each) if len(names) == 2 else (each,)
            for name, one in zip(names, given, strict=False):
                self._set(name, one, variables, node.pipe.assign)
            try:
                self.walk(node.body, each, variables, depth)
            except _Jumped as jump:
                if jump.kind == "break":
                    break
            finally:
                del variables[scope:]
        if empty:
            self.walk(node.otherwise, dot, variables, depth)

    def _pairs(self, pipe: Pipe, value: object) -> Iterable[tuple[object, object]]:
        if isinstance(value, GoMap):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, (list, tuple)):
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            return ((number, number) for number in range(value))
        if value is None or isinstance(value, Absent):
            return ()
        raise self._mistake(pipe.at, f"range cannot go over {named(value)}")

    def _include(self, node: Include, dot: object, variables: _Variables, depth: int) -> None:
        body = self._template.defined.get(node.name)
        if body is None:
            raise self._mistake(node.at, f"there is no template {node.name}")
        if depth >= _DEEPEST:
            raise self._mistake(node.at, f"template {node.name} includes itself without end")
        value = None if node.pipe is None else self._pipe(node.pipe, dot, variables)
        self.walk(body, value, [("", value)], depth + 1)

    # -- values -----------------------------------------------------------------------------------

    def _pipe(self, pipe: Pipe, dot: object, variables: _Variables, declare: bool = True) -> object:
        value: object = _NOTHING
        for command in pipe.commands:
            value = self._command(command, dot, variables, value)
        if declare:
            for name in pipe.declared:
                self._set(name, value, variables, pipe.assign)
        return value

    def _set(self, name: str, value: object, variables: _Variables, assign: bool) -> None:
        if not assign:
            variables.append((name, value))
            return
        for index in range(len(variables) - 1, -1, -1):
            if variables[index][0] == name:
                variables[index] = (name, value)
                return

    def _command(
        self, command: Command, dot: object, variables: _Variables, piped: object
    ) -> object:
        first, arguments = command.words[0], command.words[1:]
        if isinstance(first, Function):
            return self._call(first, arguments, dot, variables, piped)
        if isinstance(first, Nil):
            raise self._mistake(first.at, "nil alone is nothing to be done")
        values = [self._operand(each, dot, variables) for each in arguments]
        if piped is not _NOTHING:
            values.append(piped)
        if not values:
            return self._operand(first, dot, variables)
        if isinstance(first, (Field, Variable, Chain)) and first.names:
            above = self._operand(first._replace(names=first.names[:-1]), dot, variables)
            name = first.names[-1]
            method = above.methods.get(name) if isinstance(above, Row) else None
            if method is not None:
                try:
                    return method(*values)
                except (TypeError, ValueError, AttributeError):
                    raise self._mistake(first.at, f"{name} takes one name") from None
            self._field(above, name, first.at)
            raise self._mistake(first.at, f"{name} takes no arguments")
        raise self._mistake(first.at, "only functions take arguments")

    def _call(
        self,
        function: Function,
        arguments: tuple[Operand, ...],
        dot: object,
        variables: _Variables,
        piped: object,
    ) -> object:
        name = function.name
        least, most, implementation = self._functions[name]
        given = len(arguments) + (piped is not _NOTHING)
        if given < least or (most is not None and given > most):
            wanted = str(least) if most == least else f"at least {least}"
            if most is not None and most != least:
                wanted = f"{least} to {most}"
            reason = f"{name} takes {wanted} argument{'s' * (wanted != '1')}, not {given}"
            raise self._mistake(function.at, reason)
        if name in ("and", "or"):
            value: object = piped
            for each in arguments:
                value = self._operand(each, dot, variables)
                if truth(value) == (name == "or"):
                    return value
            return value if piped is _NOTHING else piped
        values = [self._operand(each, dot, variables) for each in arguments]
        if piped is not _NOTHING:
            values.append(piped)
        try:
            return implementation(*values)
        except ValueError as error:
            raise self._mistake(function.at, f"{name}: {error}") from None

    def _operand(self, operand: Operand, dot: object, variables: _Variables) -> object:
        if isinstance(operand, Constant):
            return operand.value
        if isinstance(operand, Field):
            return self._fields(dot, operand.names, operand.at)
        if isinstance(operand, Variable):
            value = next(each for name, each in reversed(variables) if name == operand.name)
            return self._fields(value, operand.names, operand.at)
        if isinstance(operand, Chain):
            value = self._pipe(operand.pipe, dot, variables)
            return self._fields(value, operand.names, operand.at)
        if isinstance(operand, Pipe):
            return self._pipe(operand, dot, variables)
        if isinstance(operand, Function):
            return self._call(operand, (), dot, variables, _NOTHING)
        return None

    def _fields(self, value: object, names: tuple[str, ...], at: int) -> object:
        for name in names:
            value = self._field(value, name, at)
        return value

    def _field(self, value: object, name: str, at: int) -> object:
        if isinstance(value, GoMap):
            return value.get(name, MISSING)
        if isinstance(value, Absent) and value.text == "map[]":
            return MISSING
        if isinstance(value, dict):
            if name in value:
                found: object = value[name]
                return found
            known = ", ".join(value)
        elif isinstance(value, Row):
            if name in value.fields:
                return value.get(name)
            if name in value.methods:
                raise self._mistake(at, f"{name} needs an argument")
            known = ", ".join(sorted({*value.fields, *value.methods}))
        elif value is None or isinstance(value, Absent):
            raise self._mistake(at, f"nil has no field {name}")
        else:
            raise self._mistake(at, f"{named(value)} has no field {name}")
        raise self._mistake(at, f"there is no field {name} (there are {known})")
