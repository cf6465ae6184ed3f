# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's end of a container's streams: what `run`, `start -a`, `attach` and `exec` do while
they are attached.

Output is passed on as it comes; a terminal of the user's is raw meanwhile and has its modes back
afterwards, whatever happens; signals go to the container. The keys that detach are looked for in
what is typed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios

from launcher.control import Connection
from launcher.errors import LaunchError
from launcher.supervisor import frames
from launcher.typed import Any, Callable, Final, FrameType, Iterator, NamedTuple
from unionfs.light import contextlib, json, signal

__all__ = [
    "DETACH_KEYS",
    "Detacher",
    "Ended",
    "attend",
    "parse_keys",
    "raw",
    "window_size",
    "write",
]

DETACH_KEYS: Final = "ctrl-p,ctrl-q"
_PORTION: Final = 1 << 15
_NOT_FORWARDED: Final = frozenset(
    {
        signal.SIGCHLD,
        signal.SIGPIPE,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGKILL,
        signal.SIGSTOP,
        # The interpreter's own mistakes.
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGABRT,
    }
)
_TERMINAL: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class Ended(NamedTuple):
    """How attending ended: the container's exit as its supervisor told, or None: detached.

    `lost`: the supervisor went without a word.
    """

    exit: dict[str, Any] | None
    lost: bool = False


def parse_keys(text: str) -> bytes:
    """What is typed to detach, from docker's notation: letters, and ctrl- with a to z or @[\\]^_.

    Raises LaunchError.
    """
    typed = bytearray()
    for word in text.split(",") if text else ():
        if len(word) == 1 and word.isascii():
            typed += word.encode()
            continue
        name = word.removeprefix("ctrl-")
        if name == word or len(name) != 1 or not ("@" <= name <= "_" or "a" <= name <= "z"):
            raise LaunchError("use detach keys", text, f"{word!r} is no key or ctrl-KEY")
        typed.append(ord(name.upper()) & 0x1F)
    return bytes(typed)


def window_size(fd: int) -> tuple[int, int]:
    """Rows and columns of a terminal; (0, 0) for what is none."""
    try:
        packed = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return 0, 0
    rows, columns, _, _ = struct.unpack("=4H", packed)
    return rows, columns


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """A terminal that passes every key on; as it was before afterwards. See cfmakeraw(3)."""
    try:
        before = termios.tcgetattr(fd)
    except termios.error:
        yield
        return
    modes = termios.tcgetattr(fd)
    modes[0] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    modes[1] &= ~termios.OPOST
    modes[2] = modes[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    modes[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    # Set before the modes are changed: a signal that ends this process comes by here.
    previous = {}

    def end(number: int, frame: FrameType | None) -> None:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in _TERMINAL:
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, end)
    try:
        termios.tcsetattr(fd, termios.TCSADRAIN, modes)
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in previous.items():
            signal.signal(number, handler)


class Detacher:
    """Looks for the keys in what is typed; holds a beginning of them back until it is clear.

    found -- whether they were typed
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = b""
        self.found = False

    def feed(self, typed: bytes) -> bytes:
        """What of it goes on to the container."""
        if not self._keys:
            return typed
        passed = bytearray()
        for index in range(len(typed)):
            self._seen += typed[index : index + 1]
            while self._seen and not self._keys.startswith(self._seen):
                passed += self._seen[:1]
                self._seen = self._seen[1:]
            if self._seen == self._keys:
                self.found = True
                break
        return bytes(passed)


class _Attending:
    """One attached client's traffic."""

    def __init__(self, connection: Connection, *, stdin: bool, terminal: bool, keys: bytes) -> None:
        self._connection = connection
        self._keys = Detacher(keys if terminal else b"")
        self._window = frames.WINDOW
        self._reading = stdin
        self._sending = False
        self._waiting: list[bytes] = []
        self._exit: dict[str, Any] | None = None

    def send(self, frame: bytes) -> None:
        """Send a frame; also from a signal handler, which may come in the middle of another."""
        self._waiting.append(frame)
        if self._sending:
            return
        self._sending = True
        try:
            while self._waiting:
                self._connection.send(self._waiting.pop(0))
        except (BrokenPipeError, ConnectionResetError):
            self._waiting.clear()
            self._reading = False
        finally:
            self._sending = False

    def forward(self, number: int, frame: FrameType | None) -> None:
        self.send(frames.pack(frames.SIGNAL, bytes([number])))

    def resize(self, number: int = 0, frame: FrameType | None = None) -> None:
        rows, columns = window_size(1 if os.isatty(1) else 0)
        if rows or columns:
            self.send(frames.pack(frames.RESIZE, struct.pack("!HH", rows, columns)))

    def run(self) -> Ended:
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        watching = False
        # What came together with the last answer is here already.
        if self._connection.has_more and not self._receive():
            return Ended(self._exit, lost=self._exit is None)
        while True:
            wanted = self._reading and self._window > 0
            if wanted != watching:
                watching = wanted
                if wanted:
                    poll.register(0, select.POLLIN)
                else:
                    poll.unregister(0)
            for fd, _ in poll.poll():
                if fd == 0:
                    self._read()
                    if self._keys.found:
                        return Ended(None)
                elif not self._receive():
                    return Ended(self._exit, lost=self._exit is None)

    def _read(self) -> None:
        try:
            typed = os.read(0, min(_PORTION, self._window))
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EAGAIN):
                raise
            if error.errno == errno.EAGAIN:
                return
            typed = b""
        if not typed:
            self._reading = False
            self.send(frames.pack(frames.STDIN_END))
            return
        passed = self._keys.feed(typed)
        if passed:
            self._window -= len(passed)
            self.send(frames.pack(frames.STDIN, passed))

    def _receive(self) -> bool:
        """Take what has come; False when the run has ended, or the supervisor has."""
        while True:
            frame = self._connection.receive()
            if frame is None:
                return False
            kind, content = frame
            if kind == frames.STDOUT:
                write(1, content)
            elif kind == frames.STDERR:
                write(2, content)
            elif kind == frames.TAKEN:
                self._window += struct.unpack("!I", content)[0]
            elif kind == frames.EXIT:
                self._exit = json.loads(content)
                return False
            if not self._connection.has_more:
                return True


def attend(
    connection: Connection,
    *,
    stdin: bool,
    tty: bool,
    sig_proxy: bool,
    keys: bytes,
    begin: Callable[[], None] | None = None,
) -> Ended:
    """Be the user's end of an attached connection until the run ends or the keys are typed.

    `begin` is called once signals are taken care of; it lets the container go. With `tty` the
    user's terminal is raw, and signals are this command's own: the keys reach the container.
    """
    attending = _Attending(connection, stdin=stdin, terminal=tty and os.isatty(0), keys=keys)
    previous: dict[int, Any] = {}
    with contextlib.ExitStack() as ends:

        def put_back() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        ends.callback(put_back)
        if sig_proxy and not tty:
            for number in signal.valid_signals() - _NOT_FORWARDED:
                handler = signal.getsignal(number)
                if handler is not None and handler is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, attending.forward)
        if begin is not None:
            begin()
        if tty:
            previous[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, attending.resize)
            attending.resize()
            if stdin:
                ends.enter_context(raw(0))
        return attending.run()


def write(fd: int, content: bytes) -> None:
    """All of it, also where somebody has made the descriptor non-blocking."""
    view = memoryview(content)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
