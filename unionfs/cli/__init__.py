# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the union: one module a verb, loaded only when that verb runs.

What a person reads on failure is decided here: one line that begins with "lamina: cannot", exit
status 2 where the request was malformed and 1 where it could not be done. A traceback appears with
`--debug` only.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module

from unionfs.errors import UnionError, UsageError, shown
from unionfs.typed import Callable, Final, Sequence

__all__ = ["VERBS", "command_line", "complain", "mount_helper_main"]

VERBS: Final = {
    "mount": "show layers as one directory",
    "umount": "take such a directory down again, or repair it",
    "mounts": "list what is mounted",
    "diff": "list what was added, changed, deleted and renamed",
    "explain": "say where an object comes from, and why",
}


def command_line(words: Sequence[str] | None = None) -> int:
    """Run `lamina WORDS` (by default those of this process); returns the exit status."""
    given = [os.fsencode(word) for word in (sys.argv[1:] if words is None else words)]
    return _guarded(lambda: _dispatch(given), b"--debug" in given)


def mount_helper_main() -> int:
    """Run `mount.fuse.lamina` with the words of this process; returns the exit status."""
    given = [os.fsencode(word) for word in sys.argv[1:]]
    return _guarded(lambda: _run("helper", given), False)


def complain(error: UnionError) -> None:
    """Tell a person, in one line."""
    sys.stderr.write(f"lamina: {error}\n")


def _dispatch(words: list[bytes]) -> int:
    if not words:
        raise UsageError("begin", "", f"no command is given, such as {_known_verbs()}")
    verb = os.fsdecode(words[0])
    if verb in VERBS:
        return _run(verb, words[1:])
    if verb in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if verb in ("-V", "--version"):
        from importlib.metadata import PackageNotFoundError, version

        try:
            sys.stdout.write(f"lamina {version('lamina')}\n")
        except PackageNotFoundError:
            sys.stdout.write("lamina (not installed)\n")
        return 0
    if any(word.startswith(b"-o") for word in words):
        # mount.fuse(8) runs `lamina SOURCE TARGET -o …` where no helper of ours is installed.
        return _run("helper", words)
    raise UsageError("run", f"lamina {shown(words[0])}", f"the commands are {_known_verbs()}")


def _run(module: str, words: list[bytes]) -> int:
    run: Callable[[list[bytes]], int] = import_module(f"unionfs.cli.{module}").run
    return run(words)


def _known_verbs() -> str:
    *most, last = VERBS
    return f"{', '.join(most)} and {last}"


def _help() -> str:
    lines = ["usage: lamina COMMAND …", "", "A union filesystem. Commands:", ""]
    lines += [f"  {verb:<10} {about}" for verb, about in VERBS.items()]
    lines += ["", "lamina COMMAND --help tells more of each.", ""]
    return "\n".join(lines)


def _guarded(work: Callable[[], int], debug: bool) -> int:
    """Run, and turn whatever is raised into one line and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = work()
        sys.stdout.flush()
    except UnionError as error:
        if debug:
            _print_traceback()
        complain(error)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # the reader of our output has gone, as in `lamina diff | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the edge of the program
        if debug:
            _print_traceback()
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        complain(UnionError("go on", "", f"{shown(what)} (--debug tells more)"))
        return 1
    return status


def _print_traceback() -> None:
    import traceback  # a mount that succeeds has no use for it

    traceback.print_exc()
