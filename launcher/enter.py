# SPDX-License-Identifier: GPL-3.0-or-later
"""A further command in a running container, from the side of who asks for it (`exec`).

The command's standard streams are pipes to this process, or with `terminal` a terminal of the
container's whose other side comes here; nothing of what it reads and writes goes through the
supervisor. This process's own streams are not handed in: through /proc/self/fd whoever is inside
could open a file anew, and write to what is only to be read.
"""

from __future__ import annotations

import _socket
import _thread
import os
import select
import struct
import time

from launcher import console, control
from launcher.control import Connection, failure
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.state import Entry
from launcher.supervisor import frames
from launcher.supervisor.streams import resize
from launcher.typed import Any, NamedTuple
from unionfs.light import contextlib, json, signal

__all__ = ["Command", "Ended", "enter"]

_PORTION = 1 << 16
_KILLED = 137
# After the command's end, how long somebody else may keep its output open (seconds); as docker.
_LAST_OUTPUT = 2.0


class Command(NamedTuple):
    """What is to be run; what is None is as the container's own process has it."""

    args: tuple[bytes, ...]
    env: tuple[bytes, ...] = ()
    cwd: bytes | None = None
    user: str | None = None
    privileged: bool = False


class Ended(NamedTuple):
    """Its exit status, 0 if it was left running; and what it had to do without."""

    code: int
    warnings: list[str]


def enter(
    paths: Paths,
    entry: Entry,
    command: Command,
    *,
    detach: bool = False,
    interactive: bool = False,
    terminal: bool = False,
    keys: bytes | None = None,
) -> Ended:
    """Run a command in a container; returns when it has ended, or runs with `detach`.

    Raises LaunchError, with the status that docker gives for it.
    """
    if terminal and interactive and not detach and not os.isatty(0):
        name = entry.row.name
        raise LaunchError("execute in container", name, "the input is not a terminal", 1)
    typed = console.parse_keys(os.fsdecode(keys or b"") or console.DETACH_KEYS)
    with control.connect(paths, entry.row.id) as connection, contextlib.ExitStack() as ends:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        ends.callback(os.close, null)
        streams = _Streams()
        fds = [null, null, null]
        channel: _socket.socket | None = None
        if terminal:
            channel, inside = _socket.socketpair()
            ends.callback(channel.close)
            fds.append(inside.fileno())
        elif not detach:
            fds = [streams.input() if interactive else null, streams.output(1), streams.output(2)]
        connection.ask(
            "exec",
            tuple(fds),
            args=[os.fsdecode(each) for each in command.args],
            env=[os.fsdecode(each) for each in command.env],
            cwd=None if command.cwd is None else os.fsdecode(command.cwd),
            user=command.user,
            privileged=command.privileged,
            terminal=terminal,
        )
        if channel is not None:
            inside.close()
        streams.given()
        started = connection.answer()
        if detach:
            return Ended(0, started["warnings"])
        if channel is not None:
            streams.take_terminal(channel, interactive=interactive, keys=typed)
        return Ended(streams.run(connection), started["warnings"])


class _Streams:
    """This process's side of the command's streams."""

    def __init__(self) -> None:
        self._given: list[int] = []
        self._outputs: dict[int, int] = {}  # where it comes from → where it goes
        self._input = -1  # where it goes
        self._master = -1
        self._keys = console.Detacher(b"")

    def input(self) -> int:
        reader, self._input = os.pipe2(os.O_CLOEXEC)
        self._given.append(reader)
        return reader

    def output(self, fd: int) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._given.append(writer)
        self._outputs[reader] = fd
        return writer

    def given(self) -> None:
        """The other ends are the command's now."""
        for fd in self._given:
            os.close(fd)
        self._given.clear()

    def take_terminal(self, channel: _socket.socket, *, interactive: bool, keys: bytes) -> None:
        _, rights, _, _ = channel.recvmsg(1, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        (self._master,) = struct.unpack("=i", rights[0][2])
        self._outputs[self._master] = 1
        if interactive:
            self._input = self._master
            self._keys = console.Detacher(keys)

    def run(self, connection: Connection) -> int:
        """Pump until the command has ended and its output is complete, or is kept open by others
        for too long; its exit status.
        """
        with contextlib.ExitStack() as ends:
            if self._master >= 0:
                before = signal.signal(signal.SIGWINCH, lambda *_: self._resize())
                ends.callback(signal.signal, signal.SIGWINCH, before)
                self._resize()
                if self._input >= 0:
                    ends.enter_context(console.raw(0))
            return self._pump(connection)

    def _resize(self) -> None:
        rows, columns = console.window_size(1 if os.isatty(1) else 0)
        if rows or columns:
            with contextlib.suppress(OSError):
                resize(self._master, rows, columns)

    def _pump(self, connection: Connection) -> int:
        poll = select.poll()
        talking = connection.fileno()
        poll.register(talking, select.POLLIN)
        for fd in self._outputs:
            poll.register(fd, select.POLLIN)
        if self._input >= 0 and self._input == self._master:
            poll.register(0, select.POLLIN)
        elif self._input >= 0:
            # Of its own accord: the command may wait for its output to be taken before it reads.
            _thread.start_new_thread(_feed, (self._input,))
        code: int | None = None
        last = None
        while code is None or self._outputs:
            ready = poll.poll(None if last is None else max(0, 1000 * (last - time.monotonic())))
            if code is not None and not ready:
                break
            for fd, _ in ready:
                if fd == talking:
                    code = _exit_status(connection)
                    last = time.monotonic() + _LAST_OUTPUT
                    poll.unregister(talking)
                elif fd == 0:
                    if not self._type():
                        poll.unregister(0)
                    elif self._keys.found:
                        return 0
                elif not self._pass_on(fd):
                    poll.unregister(fd)
                    del self._outputs[fd]
        return code

    def _type(self) -> bool:
        typed = os.read(0, _PORTION)
        if typed:
            passed = self._keys.feed(typed)
            try:
                console.write(self._input, passed)
            except OSError:  # it reads no more
                typed = b""
        return bool(typed)

    def _pass_on(self, fd: int) -> bool:
        try:
            content = os.read(fd, _PORTION)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        try:
            console.write(self._outputs[fd], content)
        except BrokenPipeError:
            content = b""
        if not content and fd != self._master:
            # Where nobody reads any more the command is to hear of it.
            os.close(fd)
        return bool(content)


def _feed(writer: int) -> None:
    """Pass this process's standard input on to its end, or until nobody reads it."""
    with contextlib.suppress(OSError):
        while content := os.read(0, _PORTION):
            console.write(writer, content)
    os.close(writer)


def _exit_status(connection: Connection) -> int:
    frame = connection.receive()
    if frame is None:
        return _KILLED  # the container's end was its end
    fields: dict[str, Any] = json.loads(frame[1])
    if frame[0] == frames.REPLY and "error" in fields:
        raise failure(fields["error"])
    return int(fields["exit"])
