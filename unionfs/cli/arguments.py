# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the words of a command: flags and operands in any order, as GNU tools take them.

The launcher's verbs are read by it too. A flag without a value may be given one after all, as
docker's may: `--rm=false` takes an earlier `--rm` back.

Words are bytes, since most of them are paths. The whole of argparse would cost a mount more time
than the rest of its start, and says in several lines what ought to be one.
"""

from __future__ import annotations

import sys

from unionfs.errors import UsageError, shown
from unionfs.typed import Final, Iterator, NamedTuple

__all__ = ["DEBUG", "HELP", "JSON", "Arguments", "Command", "Flag", "parse"]


class Flag(NamedTuple):
    """One flag: its spellings, the last of which names it; `value` names what it takes, if any.

    `empty`: the value may be empty. `standing`: a flag without a value that is there unless
    `--flag=false` takes it back.
    """

    names: tuple[str, ...]
    value: str | None
    help: str
    empty: bool = False
    standing: bool = False

    @property
    def key(self) -> str:
        return self.names[-1]


class Command(NamedTuple):
    """A verb: how it is called, what it does, and its flags.

    `ordered`: flags stand before the first operand; what follows that is not looked at, since it
    is another command's (`lamina run IMAGE ls -l`). A verb without any flags gets its words as they
    are.
    """

    name: str
    usage: str
    about: str
    flags: tuple[Flag, ...]
    ordered: bool = False

    def help(self) -> str:
        lines = [f"usage: {self.name} {self.usage}", "", self.about, ""]
        for flag in self.flags:
            spelling = ", ".join(flag.names) + (f" {flag.value}" if flag.value else "")
            lines.append(f"  {spelling:<24} {flag.help}")
        return "\n".join(lines)


class Arguments(NamedTuple):
    """What was said: each flag's values in order (b"" for a flag without one), and the rest."""

    flags: dict[str, list[bytes]]
    operands: list[bytes]

    def has(self, key: str) -> bool:
        return key in self.flags

    def one(self, key: str) -> bytes | None:
        """The value of a flag; of several the last."""
        return self.flags[key][-1] if key in self.flags else None

    def all(self, key: str) -> list[bytes]:
        return self.flags.get(key, [])


HELP = Flag(("-h", "--help"), None, "show this text")
DEBUG = Flag(("--debug",), None, "tell more, with tracebacks where something fails")
JSON = Flag(("--json",), None, "print JSON")

_TRUE: Final = (b"true", b"True", b"TRUE", b"t", b"1")
_FALSE: Final = (b"false", b"False", b"FALSE", b"f", b"0")


def parse(command: Command, words: list[bytes]) -> Arguments | None:
    """Read the words after a verb; None if they ask for help, which is then printed.

    Raises UsageError for a word that does not fit.
    """
    if not command.flags:
        return Arguments({}, words)
    known = {name.encode(): flag for flag in command.flags for name in flag.names}
    found = Arguments({each.key: [b""] for each in command.flags if each.standing}, [])
    rest = iter(words)
    for word in rest:
        if word == b"--":
            found.operands.extend(rest)
        elif word.startswith(b"--"):
            name, equals, value = word.partition(b"=")
            flag = _known(command, known, name)
            if equals and flag.value is None:
                _switch(command, found, flag, name, value)
                continue
            _add(command, found, flag, name, value if equals else None, rest)
        elif word.startswith(b"-") and word != b"-":
            _read_short(command, known, found, word, rest)
        else:
            found.operands.append(word)
            if command.ordered:
                found.operands.extend(rest)
    if HELP.key in found.flags:
        sys.stdout.write(command.help() + "\n")
        return None
    return found


def _switch(command: Command, found: Arguments, flag: Flag, name: bytes, value: bytes) -> None:
    if value in _TRUE:
        found.flags[flag.key] = [b""]
    elif value in _FALSE:
        found.flags.pop(flag.key, None)
    else:
        raise _misunderstood(command, name, f"it is true or false, not {shown(value)}")


def _read_short(
    command: Command,
    known: dict[bytes, Flag],
    found: Arguments,
    word: bytes,
    rest: Iterator[bytes],
) -> None:
    """A group of single letters; the value of the last may follow without a space, or after "="."""
    at = 1
    while at < len(word):
        name = b"-" + word[at : at + 1]
        flag = _known(command, known, name)
        at += 1
        if flag.value is None and word[at : at + 1] == b"=":
            _switch(command, found, flag, name, word[at + 1 :])
            return
        follows = flag.value is not None and at < len(word)
        attached = word[at:].removeprefix(b"=") if follows else None
        _add(command, found, flag, name, attached, rest)
        if attached is not None:
            return


def _known(command: Command, known: dict[bytes, Flag], name: bytes) -> Flag:
    try:
        return known[name]
    except KeyError:
        raise _misunderstood(command, name, "there is no such option") from None


def _add(
    command: Command,
    found: Arguments,
    flag: Flag,
    name: bytes,
    value: bytes | None,
    rest: Iterator[bytes],
) -> None:
    if flag.value is None:
        found.flags[flag.key] = [b""]
        return
    if value is None:
        value = next(rest, None)
    if value is None or not (value or flag.empty):
        raise _misunderstood(command, name, f"it needs a value, {flag.value}")
    found.flags.setdefault(flag.key, []).append(value)


def _misunderstood(command: Command, word: bytes, reason: str) -> UsageError:
    return UsageError("understand", shown(word), f"{reason} (see {command.name} --help)")
