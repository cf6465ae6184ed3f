# SPDX-License-Identifier: GPL-3.0-or-later
"""A served mount in the background: a process of its own, known to be ready before one goes on.

The daemon tells its parent over a pipe how the mounting went, with one byte when the mount answers
or with the line of an error. The parent waits for that and for nothing else.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable

from unionfs.config import MountConfig, SessionConfig
from unionfs.errors import UnionError
from unionfs.typed import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from unionfs.typed import NoReturn

__all__ = ["announcer", "start"]

_READY: Final = b"\0"
_LOG_LIMIT: Final = 1 << 20  # bytes


def start(
    config: MountConfig,
    session: SessionConfig,
    *,
    log: bytes | None = None,
    ready_fd: int | None = None,
) -> int:
    """Mount in the background and return the daemon's process id once the mount answers.

    The daemon is a forked child in a session of its own, with / as its directory. What goes wrong
    in it is written to the file `log`, or to syslog(3) if none is named. `ready_fd`: see
    `announcer`; it stays the caller's. Raises UnionError if the mount did not come about. Call it
    from a process with no other threads: it forks.
    """
    # Loaded before the fork, so that a module that is missing is noticed by whoever asked.
    from unionfs.fuse import session as _session

    log_fd = _open_log(log)
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _become_daemon(log_fd, (writer, ready_fd))
        _serve(_session.run, config, session, log, writer, ready_fd)
    try:
        os.close(writer)
        if log_fd is not None:
            os.close(log_fd)
        with open(reader, "rb") as stream:
            answer = stream.read()
    except BaseException:  # a Ctrl-C at any instant ends the daemon too
        os.kill(pid, signal.SIGTERM)
        raise
    if answer == _READY:
        return pid
    _, status = os.waitpid(pid, 0)
    if answer:
        what, thing, reason = answer.split(b"\0")
        raise UnionError(os.fsdecode(what), thing, os.fsdecode(reason))
    ended = os.waitstatus_to_exitcode(status)
    how = f"was killed by {signal.Signals(-ended).name}" if ended < 0 else f"ended with {ended}"
    raise UnionError("mount", session.mountpoint, f"the daemon {how} before it had mounted")


def announcer(ready_fd: int | None) -> Callable[[], None]:
    """What to call when the mount answers: it writes one byte to `ready_fd` and closes it."""

    def announce() -> None:
        if ready_fd is not None:
            try:
                os.write(ready_fd, b"\n")
            except BrokenPipeError:  # whoever wanted to know has gone
                pass
            finally:
                os.close(ready_fd)

    return announce


def _serve(
    run: Callable[..., None],
    config: MountConfig,
    session: SessionConfig,
    log: bytes | None,
    writer: int,
    ready_fd: int | None,
) -> NoReturn:
    """The daemon's whole life; ends the process."""
    announce = announcer(ready_fd)
    mounted = False

    def ready() -> None:
        nonlocal mounted
        mounted = True
        announce()
        os.write(writer, _READY)
        os.close(writer)

    status = 1
    try:
        run(config, session, ready, log)
        status = 0
    except UnionError as error:
        if mounted or session.debug:
            _print_traceback()
        if not mounted:
            thing = error.thing if isinstance(error.thing, bytes) else os.fsencode(error.thing)
            parts = (os.fsencode(error.what), thing, os.fsencode(error.reason))
            os.write(writer, b"\0".join(parts))
    except BaseException as error:
        # The daemon's edge: whatever it is, the log gets all of it and the parent one line.
        _print_traceback()
        if not mounted:
            reason = f"{type(error).__name__}: {error}"
            parts = (b"mount", session.mountpoint, reason.encode(errors="surrogateescape"))
            os.write(writer, b"\0".join(part.replace(b"\0", b"") for part in parts))
    finally:
        os._exit(status)


def _print_traceback() -> None:
    import traceback  # a mount that succeeds has no use for it

    traceback.print_exc()


def _open_log(log: bytes | None) -> int | None:
    if log is None:
        return None
    try:
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnionError("open log file", log, error) from error


def _become_daemon(log_fd: int | None, kept: tuple[int | None, ...]) -> None:
    """Leave the terminal, the directory and every open file of whoever started it (daemon(7))."""
    os.setsid()
    os.chdir(b"/")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null if log_fd is None else log_fd, 1)
    os.dup2(null if log_fd is None else log_fd, 2)
    low = 3
    for fd in sorted(fd for fd in kept if fd is not None):
        os.closerange(low, fd)
        low = max(low, fd + 1)
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
    sys.stdout = sys.stderr = _text(_to_syslog if log_fd is None else _file_writer(2))


class _Sink(io.RawIOBase):
    """What the daemon writes to sys.stderr, handed on line by line."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._put(piece)
        return len(piece)


def _file_writer(fd: int) -> Callable[[bytes], None]:
    """Writes to a log file until that is full, lest an error that repeats fill the disc."""
    left = _LOG_LIMIT

    def put(data: bytes) -> None:
        nonlocal left
        if left > 0:
            left -= len(data)
            os.write(fd, data if left > 0 else data + b"lamina: the log is full\n")

    return put


def _to_syslog(data: bytes) -> None:
    import syslog

    syslog.openlog("lamina", syslog.LOG_PID, syslog.LOG_DAEMON)
    for line in data.decode(errors="backslashreplace").splitlines():
        syslog.syslog(syslog.LOG_ERR, line)


def _text(put: Callable[[bytes], None]) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Sink(put)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
