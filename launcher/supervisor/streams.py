# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's standard streams between its pipes or terminal, its log and its clients.

A client that reads slowly holds the container's writing up as a pipe would, and loses nothing; when
the container has ended, what is left in the pipes is taken in any case.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import struct

from launcher.supervisor import frames
from launcher.supervisor.log import Log
from launcher.supervisor.loop import READ, WRITE, Loop
from launcher.supervisor.peers import Peer
from launcher.typed import Callable, Final, Iterable
from unionfs.light import contextlib

__all__ = ["Input", "Output", "Streams", "resize"]

_PORTION: Final = 1 << 16
_TIOCSWINSZ: Final = 0x5414  # ioctl_tty(2)
_NAMES: Final = {frames.STDOUT: "stdout", frames.STDERR: "stderr"}


def resize(terminal: int, rows: int, columns: int) -> None:
    """Tell a terminal how large its window is."""
    fcntl.ioctl(terminal, _TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))


class Output:
    """What the container writes: one pipe's end, or a terminal's master. Owns the descriptor."""

    __slots__ = ("_fd", "_kind", "_log", "_loop", "_on_end", "_peers", "_watching")

    def __init__(
        self,
        fd: int,
        kind: int,
        loop: Loop,
        log: Log,
        peers: Iterable[Peer],
        on_end: Callable[[], None],
    ) -> None:
        """`peers` are looked through anew for each portion. `on_end` is called at its end."""
        os.set_blocking(fd, False)
        self._fd = fd
        self._kind = kind
        self._loop = loop
        self._log = log
        self._peers = peers
        self._on_end = on_end
        self._watching = False
        self.go_on()

    @property
    def ended(self) -> bool:
        return self._fd < 0

    def go_on(self) -> None:
        """Read again, where slow clients held it up, if none does now."""
        if self._fd >= 0 and not self._watching and not self._held_up():
            self._watching = True
            self._loop.watch(self._fd, READ, self._ready)

    def _held_up(self) -> bool:
        return any(peer.full for peer in self._peers if self._kind in peer.streams)

    def _ready(self) -> None:
        if not self._read():
            return
        if self._held_up():
            # A descriptor that is registered reports its hang-up whatever it is asked for.
            self._watching = False
            self._loop.forget(self._fd)

    def _read(self) -> bool:
        """Take one portion; False if there was none."""
        try:
            content = os.read(self._fd, _PORTION)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the terminal open any more
            content = b""
        if not content:
            self.close()
            return False
        self._log.write(_NAMES[self._kind], content)
        frame = b""
        for peer in list(self._peers):
            if self._kind in peer.streams:
                frame = frame or frames.pack(self._kind, content)
                peer.send(frame)
        return True

    def drain(self) -> None:
        """Take all there is, however slow the clients are: the container has ended."""
        while self._fd >= 0 and self._read():
            pass
        self.go_on()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._on_end()


class Input:
    """The container's standard input: a pipe's end, or a terminal's master. Owns the descriptor.

    once -- the first client that feeds it is the only one: with it gone, input ends
    """

    __slots__ = ("_ending", "_fd", "_loop", "_terminal", "_waiting", "once")

    def __init__(self, fd: int, loop: Loop, *, once: bool, terminal: bool) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = loop
        self._terminal = terminal
        self._waiting: list[tuple[Peer, bytes]] = []
        self._ending = False
        self.once = once

    def feed(self, peer: Peer, content: bytes) -> None:
        """Pass on what a client sent; it is told when the container has taken it."""
        self._waiting.append((peer, content))
        self._push()

    def end(self) -> None:
        """No more will come: the container reads its end. A terminal knows no such thing."""
        if not self._terminal:
            self._ending = True
            self._push()

    def _push(self) -> None:
        while self._waiting:
            peer, content = self._waiting[0]
            taken = len(content)
            if self._fd >= 0:
                try:
                    taken = os.write(self._fd, content)
                except BlockingIOError:
                    self._loop.watch(self._fd, WRITE, self._push)
                    return
                except OSError:  # the container reads no more
                    self.close()
            if taken < len(content):
                self._waiting[0] = (peer, content[taken:])
            else:
                self._waiting.pop(0)
            peer.send(frames.pack(frames.TAKEN, struct.pack("!I", taken)))
        if self._fd >= 0:
            self._loop.forget(self._fd)
            if self._ending:
                self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1


class Streams:
    """All standard streams of a container, from run to run.

    size -- rows and columns of its terminal; (0, 0): not known
    """

    def __init__(self, loop: Loop, peers: Iterable[Peer], on_end: Callable[[], None]) -> None:
        """`peers` as for `Output`. `on_end` is called at the end of each output."""
        self.size = (0, 0)
        self._loop = loop
        self._peers = peers
        self._on_end = on_end
        self._outputs: list[Output] = []
        self._input: Input | None = None
        self._terminal = -1
        self._ours: list[int] = []
        self._channel: _socket.socket | None = None
        self._interactive = False
        self._once = False

    def make(self, *, tty: bool, interactive: bool, once: bool) -> tuple[int, ...]:
        """Make the ends of a run, and return the container's, which the caller closes: three
        standard descriptors, and with `tty` a socket over which it sends its terminal.

        `once`: its input ends with that of the client that gives it.
        """
        self._interactive, self._once = interactive, once
        if tty:
            self._channel, inside = _socket.socketpair()
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            return null, null, null, inside.detach()
        theirs = []
        if interactive:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self._ours.append(writer)
            theirs.append(reader)
        else:
            theirs.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self._ours.append(reader)
            theirs.append(writer)
        return tuple(theirs)

    def give_up(self) -> None:
        """Close what `make` made: the run does not come about."""
        for fd in self._ours:
            os.close(fd)
        self._ours.clear()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def connect(self, log: Log) -> None:
        """Read the container's pipes, and write to its standard input if that is one."""
        rest, self._ours = self._ours, []
        if rest and self._interactive:
            self._input = Input(rest.pop(0), self._loop, once=self._once, terminal=False)
        for fd, kind in zip(rest, (frames.STDOUT, frames.STDERR), strict=False):
            self._outputs.append(Output(fd, kind, self._loop, log, self._peers, self._on_end))

    def connect_terminal(self, log: Log) -> None:
        """Take the terminal that the container has sent, if it was to have one."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        _, rights, _, _ = channel.recvmsg(1, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        channel.close()
        (master,) = struct.unpack("=i", rights[0][2])
        self._terminal = master
        if self._interactive:
            self._input = Input(os.dup(master), self._loop, once=self._once, terminal=True)
        output = os.dup(master)
        self._outputs.append(
            Output(output, frames.STDOUT, self._loop, log, self._peers, self._on_end)
        )
        self._resize()

    def resize(self, rows: int, columns: int) -> bool:
        """Have the terminal so large, now or when there is one; whether there is one."""
        self.size = (rows, columns)
        self._resize()
        return self._terminal >= 0

    def _resize(self) -> None:
        if self._terminal >= 0 and self.size != (0, 0):
            with contextlib.suppress(OSError):
                resize(self._terminal, *self.size)

    def feed(self, peer: Peer, content: bytes) -> None:
        """Pass on what a client has for the container's input."""
        if self._input is not None:
            self._input.feed(peer, content)

    def end_input(self) -> None:
        """A client gives no more: where it alone was to, that is the end of the input."""
        if self._input is not None and self._input.once:
            self._input.end()

    @property
    def ended(self) -> bool:
        """Whether all output has come."""
        return all(output.ended for output in self._outputs)

    def go_on(self) -> None:
        """A client takes more again."""
        for output in self._outputs:
            output.go_on()

    def drain(self) -> None:
        """Take what is there, whether clients take it or not."""
        for output in list(self._outputs):
            output.drain()

    def cut(self) -> None:
        """Take what is there, and wait for no more."""
        for output in list(self._outputs):
            output.drain()
            output.close()

    def close_outputs(self) -> None:
        for output in list(self._outputs):
            output.close()

    def close(self) -> None:
        """Close what is left of a run, of which all output has come."""
        self._outputs.clear()
        if self._input is not None:
            self._input.close()
            self._input = None
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1
