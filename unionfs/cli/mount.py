# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina mount`: from words to a mounted union."""

from __future__ import annotations

import errno
import os
import stat

from unionfs.cli.arguments import DEBUG, HELP, Arguments, Command, Flag, parse
from unionfs.errors import UnionError, UsageError, reason_of, shown
from unionfs.options import Choices, OptionError, apply_options
from unionfs.typed import Final

__all__ = ["COMMAND", "absolute", "beside", "mount", "privileged", "run"]

COMMAND: Final = Command(
    "lamina mount",
    "--lower CD [--lower CD …] [--upper EDITS] MERGED",
    "Show the read-only CD and the changes in EDITS as one directory, MERGED. What is changed\n"
    "there lands in EDITS. Without --upper, MERGED is read-only.",
    (
        Flag(("--lower",), "CD", "a read-only layer; of several, the topmost first"),
        Flag(("--upper",), "EDITS", "the directory that takes the changes"),
        Flag(("--work",), "DIR", "empty directory on the filesystem of EDITS (made beside it)"),
        Flag(("-o",), "OPTIONS", "options as of mount(8): lowerdir=A:B,upperdir=C,workdir=D,…"),
        Flag(("-r", "--read-only"), None, "refuse changes"),
        Flag(("--format",), "NAME", "marks on the layers: overlay (default) or aufs"),
        Flag(("--transport",), "NAME", "how to speak to the kernel: auto, device or pyfuse3"),
        Flag(("-f", "--foreground"), None, "serve in this process until unmounted"),
        Flag(("--ready-fd",), "N", "write a byte to descriptor N once it is mounted"),
        Flag(("--log",), "FILE", "where the daemon writes what goes wrong (syslog)"),
        DEBUG,
        HELP,
    ),
)


def run(words: list[bytes]) -> int:
    """The verb; returns the exit status."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        return 0
    if len(arguments.operands) != 1:
        what = "no directory to mount on" if not arguments.operands else "more than one directory"
        raise UsageError("mount", b" ".join(arguments.operands[:2]), f"{what} (see --help)")
    merged = arguments.operands[0]
    choices = _choices(merged, arguments)
    ready_fd = _ready_fd(arguments.one("--ready-fd"))
    log = arguments.one("--log")
    mount(
        merged,
        choices,
        foreground=arguments.has("--foreground"),
        ready_fd=ready_fd,
        log=None if log is None else absolute(log),
    )
    return 0


def mount(
    merged: bytes,
    choices: Choices,
    *,
    foreground: bool = False,
    ready_fd: int | None = None,
    log: bytes | None = None,
) -> None:
    """Mount what was chosen on `merged`; in the foreground, return when it is unmounted again.

    Fills in what was left open: the work directory beside the upper one, which is made and, if
    mounting fails, removed again. Raises UnionError.
    """
    if not choices.lower:
        reason = "no lower layer is named (--lower DIR, or -o lowerdir=DIR)"
        raise UsageError("mount", merged, reason)
    choices.lower = [absolute(path) for path in choices.lower]
    choices.data = [absolute(path) for path in choices.data]
    mountpoint = _mountpoint(merged)
    made: bytes | None = None
    if choices.upper is None:
        choices.work = None
        choices.read_only = True
    else:
        choices.upper = absolute(choices.upper)
        if choices.work is None:
            choices.work, made = _default_work(choices.upper)
        else:
            choices.work = absolute(choices.work)
    try:
        session = choices.session(mountpoint, root=os.geteuid() == 0)
        config = choices.union(userxattr=not privileged())
        if foreground:
            from unionfs.fuse import daemon
            from unionfs.fuse import session as session_room

            session_room.run(config, session, daemon.announcer(ready_fd))
        else:
            from unionfs.fuse import daemon

            daemon.start(config, session, log=log, ready_fd=ready_fd)
    except OptionError as error:
        _remove_work(made)
        raise UsageError("mount", merged, str(error)) from error
    except BaseException:
        _remove_work(made)
        raise


def _choices(merged: bytes, arguments: Arguments) -> Choices:
    """What the flags say, those of `-o` first."""
    choices = Choices()
    lists = list(arguments.all("-o"))
    for key, name in (("--format", b"format="), ("--transport", b"transport=")):
        lists += [name + value.replace(b",", b"\\,") for value in arguments.all(key)]
    try:
        for text in lists:
            apply_options(text, choices)
    except OptionError as error:
        raise UsageError("mount", merged, str(error)) from error
    lowers = arguments.all("--lower")
    if lowers and choices.lower:
        raise UsageError("mount", merged, "--lower and -o lowerdir= are both given: use one")
    choices.lower += lowers
    choices.upper = arguments.one("--upper") or choices.upper
    choices.work = arguments.one("--work") or choices.work
    if arguments.has("--work") and choices.upper is None:
        raise UsageError("mount", merged, "--work is of no use without --upper")
    choices.read_only = choices.read_only or arguments.has("--read-only")
    choices.debug = choices.debug or arguments.has("--debug")
    return choices


def _ready_fd(text: bytes | None) -> int | None:
    if text is None:
        return None
    try:
        number = int(text)
        os.fstat(number)
    except (ValueError, OverflowError, OSError):
        reason = "it is not the number of an open descriptor"
        raise UsageError("use --ready-fd", text, reason) from None
    return number


def absolute(path: bytes) -> bytes:
    """An absolute path to the same object; symbolic links in it stay unless .. makes them count."""
    path = os.path.join(os.getcwdb(), path)
    return os.path.realpath(path) if b".." in path.split(b"/") else os.path.normpath(path)


def privileged() -> bool:
    """Whether trusted.* xattrs can be used: root in the initial user namespace (xattr(7))."""
    if os.geteuid() != 0:
        return False
    try:
        with open("/proc/self/uid_map", "rb") as stream:
            return stream.read().split() == [b"0", b"0", b"4294967295"]
    except OSError:
        return True


def _mountpoint(merged: bytes) -> bytes:
    """The resolved mount point, if it is a directory that answers."""
    try:
        mode = os.stat(merged).st_mode
        os.statvfs(merged)  # attributes may be cached: only this asks the daemon of a mount there
    except OSError as error:
        reason = reason_of(error)
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            reason = f"the daemon of a mount there has died; run: lamina umount {shown(merged)}"
        raise UnionError("mount on", merged, reason) from error
    if not stat.S_ISDIR(mode):
        raise UnionError("mount on", merged, os.strerror(errno.ENOTDIR))
    return os.path.realpath(merged)


def beside(upper: bytes) -> bytes:
    """Where the work directory of an upper is, if it is not named: its hidden sibling."""
    directory, name = os.path.split(os.path.realpath(upper))
    return b"%s/.%s.work" % (directory.rstrip(b"/"), name)


def _default_work(upper: bytes) -> tuple[bytes, bytes | None]:
    """The work directory of an upper for which none was named, and the same again if just made."""
    try:
        found = os.stat(upper)
    except OSError as error:
        raise UnionError("use upper directory", upper, error) from error
    if not stat.S_ISDIR(found.st_mode):
        raise UnionError("use upper directory", upper, os.strerror(errno.ENOTDIR))
    directory, name = os.path.split(os.path.realpath(upper))
    if not name or os.stat(directory).st_dev != found.st_dev:
        reason = "it is the top of its filesystem, so its work directory cannot be beside it"
        raise UnionError("use upper directory", upper, f"{reason}: name one with --work")
    work = beside(upper)
    try:
        os.mkdir(work, 0o700)
    except FileExistsError:
        return work, None
    except OSError as error:
        reason = f"{reason_of(error)} (name another with --work)"
        raise UnionError("make work directory", work, reason) from error
    return work, work


def _remove_work(made: bytes | None) -> None:
    if made is not None:
        import shutil

        shutil.rmtree(made, ignore_errors=True)
