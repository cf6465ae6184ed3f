# SPDX-License-Identifier: GPL-3.0-or-later
"""The `lamina` command: from its first word to the code that does it, and from errors to a line.

    lamina [--root DIR] [--debug] VERB …

The verbs of containers and images are the modules of `cli.verbs`; all others (mount, umount,
mounts, explain …) are those of `unionfs`. A person reads one line that begins with "lamina:
cannot" on failure, and the exit status is 1, or 2 where the request was malformed; for run, create
and exec it is docker's 125, 126 or 127. A traceback appears with `--debug` only.
"""

from __future__ import annotations

import gc
import os
import sys

import unionfs
from launcher.typed import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from types import ModuleType

    from launcher.starting import Starting

__all__ = ["command", "main"]

# As docker: whatever is wrong before the container's own command runs is 125.
_DOCKERS: Final = frozenset({"run", "create", "exec", "try"})
_STARTERS: Final = frozenset({"run", "start"})
_INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 141


def command() -> NoReturn:
    """Run the words of this process, and end it without taking apart what ends with it anyway."""
    # What is loaded stays: searching it for garbage again and again is a twentieth of a start.
    gc.disable()
    kept: list[object] = []
    status = main(kept)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(kept: list[object] | None = None) -> int:
    """Run the words of this process; returns the exit status.

    What need not be closed before the process ends goes into `kept`.
    """
    kept = [] if kept is None else kept
    words = sys.argv[1:]
    root: bytes | None = None
    debug = False
    while words[:1] and words[0].startswith("--"):
        name, equals, value = words[0].partition("=")
        if name == "--debug" and not equals:
            debug = True
        elif name == "--root" and (equals or len(words) > 1):
            if not equals:
                value = words.pop(1)
            root = os.fsencode(value)
        else:
            break
        words.pop(0)
    verb = words[0] if words else ""
    if verb in _STARTERS:
        # The very first act: it loads what it needs on another processor meanwhile.
        from launcher.starting import begin

        starting = begin()
        try:
            module = _load(verb)
            assert module is not None
            return _run(module, verb, words[1:], root, debug, kept, starting)
        finally:
            starting.connection.close()
    module = _load(verb)
    if module is None:
        gc.enable()
        status = unionfs.command_line(words)
        if verb in ("-h", "--help", "help"):
            _print_help()
        return status
    return _run(module, verb, words[1:], root, debug, kept)


def _run(
    module: ModuleType,
    verb: str,
    words: list[str],
    root: bytes | None,
    debug: bool,
    kept: list[object],
    starting: Starting | None = None,
) -> int:
    """Run one verb, and turn whatever is raised into one line and an exit status."""
    from launcher.cli.context import Context
    from launcher.errors import LaunchError
    from launcher.paths import chosen

    misused = 125 if verb in _DOCKERS else 2
    gc.freeze()
    gc.enable()
    try:
        arguments = unionfs.parse_words(module.COMMAND, [os.fsencode(word) for word in words])
        if arguments is None:
            return 0
        debug = debug or arguments.has("--debug")
        status = module.run(arguments, Context(chosen(root), debug, starting, kept))
        sys.stdout.flush()
    except LaunchError as error:
        status = error.status if verb in _DOCKERS else 1
        _complain(error, debug)
    except unionfs.UsageError as error:
        status = misused
        _complain(error, debug)
    except unionfs.UnionError as error:
        status = 125 if verb in _DOCKERS else 1
        _complain(error, debug)
    except BrokenPipeError:
        # Who read the output has gone; nothing is to be said to anybody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = _BROKEN_PIPE
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except Exception as error:
        # The command's edge: a mistake of lamina's own still is one line.
        status = 125 if verb in _DOCKERS else 1
        reason = f"{type(error).__name__}: {error}"
        sys.stderr.write(f"lamina: cannot {verb}: {reason} (--debug tells where)\n")
        _trace(debug)
    return int(status)


def _complain(error: Exception, debug: bool) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"lamina: {error}\n")
    _trace(debug)


def _trace(debug: bool) -> None:
    if debug:
        from traceback import print_exc

        print_exc()


def _load(verb: str) -> ModuleType | None:
    """The module of a verb of the launcher's, if it is one."""
    if not verb.isidentifier():
        return None
    from importlib import import_module

    name = f"launcher.cli.verbs.{verb}{'_' if verb in ('import', 'try') else ''}"
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


def _print_help() -> None:
    from importlib import import_module

    print("Containers and images:\n")
    directory = os.path.join(os.path.dirname(__file__), "verbs")
    for file in sorted(os.listdir(directory)):
        name, dot, _ = file.partition(".py")
        if dot and not name.startswith("_"):
            command = import_module(f"launcher.cli.verbs.{name}").COMMAND
            print(f"  {name.rstrip('_'):<10} {command.about}")
    print()
