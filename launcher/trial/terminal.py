# SPDX-License-Identifier: GPL-3.0-or-later
"""The caller's terminal and that of the container: what is typed goes in, what is shown comes out.

The container has a terminal of its own, so that its shells have job control and nothing in it can
put words into the caller's; this one is raw meanwhile, and keys like Ctrl-C are the container's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import tty
from collections.abc import Iterator

from launcher.typed import Final

__all__ = ["converse"]

_PORTION: Final = 1 << 16
_SIZE: Final = struct.pack("=4H", 0, 0, 0, 0)


def converse(channel: socket.socket) -> None:
    """Receive the container's terminal over a socket and pass both ways until it is closed.

    Returns at once if none comes: the container could not be made.
    """
    try:
        _, fds, _, _ = socket.recv_fds(channel, 1, 1)
    except ConnectionResetError:
        return
    if not fds:
        return
    master = fds[0]
    try:
        with _raw(0), _following_size(master):
            _pass(master)
    finally:
        os.close(master)


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _following_size(master: int) -> Iterator[None]:
    def resize(*_: object) -> None:
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, _SIZE)
            fcntl.ioctl(master, termios.TIOCSWINSZ, size)

    resize()
    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _pass(master: int) -> None:
    poll = select.poll()
    poll.register(master, select.POLLIN)
    poll.register(0, select.POLLIN)
    while True:
        for fd, events in poll.poll():
            if fd == master:
                try:
                    part = os.read(master, _PORTION)
                except OSError:  # EIO: nobody has it open any more
                    return
                if not part:
                    return
                _write(1, part)
            elif events & select.POLLIN:
                part = os.read(0, _PORTION)
                if part:
                    _write(master, part)
                else:
                    poll.unregister(0)
            else:
                poll.unregister(0)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
