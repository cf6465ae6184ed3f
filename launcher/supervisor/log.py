# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a container's log, in docker's json-file format, with rotation.

One JSON object a line of output, `{"log":"…\\n","stream":"stdout","time":"…"}`, the time as in
RFC 3339, in UTC. A line longer than 16 KiB becomes several, of which only the last ends in a
newline. `log.1` is the file before the current one. Reading is in `launcher.logs`.
"""

from __future__ import annotations

import os
import time

from launcher.record import LogOptions
from launcher.typed import Final
from unionfs.light import contextlib, json

__all__ = ["Log"]

# docker's: the longest piece of a line.
_LONGEST: Final = 16384


class Log:
    """The log of one container. With the driver none nothing is kept."""

    __slots__ = ("_fd", "_options", "_partial", "_path", "_size")

    def __init__(self, path: bytes, options: LogOptions) -> None:
        self._path = path
        self._options = options
        self._partial: dict[str, bytes] = {}
        self._size = 0
        self._fd = -1
        if options.driver != "none":
            self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: str, content: bytes) -> None:
        """Note what came on a stream; an unfinished line waits for its rest."""
        if self._fd < 0:
            return
        content = self._partial.pop(stream, b"") + content
        lines = content.split(b"\n")
        rest = lines.pop()
        pieces: list[bytes] = []
        for line in lines:
            line += b"\n"
            while len(line) > _LONGEST:
                pieces.append(line[:_LONGEST])
                line = line[_LONGEST:]
            pieces.append(line)
        while len(rest) >= _LONGEST:
            pieces.append(rest[:_LONGEST])
            rest = rest[_LONGEST:]
        if rest:
            self._partial[stream] = rest
        self._put(stream, pieces)

    def flush(self) -> None:
        """Write what is unfinished too: no more will come."""
        for stream, rest in list(self._partial.items()):
            self._put(stream, [rest])
        self._partial.clear()

    def _put(self, stream: str, pieces: list[bytes]) -> None:
        if not pieces:
            return
        now = time.time_ns()
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
        tail = f',"stream":"{stream}","time":"{seconds}.{now % 1_000_000_000:09}Z"}}\n'
        batch = bytearray()
        most = self._options.max_size
        for piece in pieces:
            text = json.encoder.encode_basestring(piece.decode("utf-8", "replace"))
            line = f'{{"log":{text}{tail}'.encode()
            if most and self._size and self._size + len(line) > most:
                self._append(batch)
                batch = bytearray()
                self._rotate()
            batch += line
            self._size += len(line)
        self._append(batch)

    def _append(self, batch: bytearray) -> None:
        # A full disc costs the log, never the container.
        with contextlib.suppress(OSError):
            while batch:
                del batch[: os.write(self._fd, batch)]

    def _rotate(self) -> None:
        os.close(self._fd)
        kept = max(self._options.max_file, 1)
        for number in range(kept - 1, 0, -1):
            older = self._path + b".%d" % number
            newer = self._path + (b".%d" % (number - 1) if number > 1 else b"")
            with contextlib.suppress(FileNotFoundError):
                os.rename(newer, older)
        if kept == 1:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        self._open()

    def close(self) -> None:
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1
