# SPDX-License-Identifier: GPL-3.0-or-later
"""One layer on its way in: a thread keeps and hashes the bytes while another unpacks them.

The bytes are first written to a file of the store's own, and everything else reads them from there:
so what is unpacked is what was hashed, whatever happens to the file they came from.
"""

from __future__ import annotations

import os

from launcher.image import compression
from launcher.image.limits import Limits
from launcher.image.tar import Damaged
from launcher.sys import files
from launcher.typed import Callable, Final, Iterator, NamedTuple

__all__ = ["Arrival", "Arrived"]

_PIECE: Final = 1 << 20
_WRITEBACK: Final = 16 << 20


class Arrived(NamedTuple):
    """What came: digests in hex of the bytes as they are kept, and of them decompressed.

    compression -- of what is kept: "", "gzip" or "zstd"
    """

    digest: str
    size: int
    diff_id: str
    plain_size: int
    compression: str


class Arrival:
    """The source (`tarread.Source`) of an archive that is arriving.

    read -- gives up to so many bytes, b"" at the end; called by the thread
    blob -- descriptor of an empty file, for what is kept; the caller's
    fd   -- the archive, decompressed: `blob`, or a nameless file of this object
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        blob: int,
        directory: bytes,
        limits: Limits,
        size: int | None = None,
    ) -> None:
        from threading import Condition, Thread  # not for those who only need `Arrived`

        self._read = read
        self._blob = blob
        self._limits = limits
        self._expected = size
        self._changed = Condition()
        self._there = 0
        self._over = False
        self._stopped = False
        self._error: BaseException | None = None
        self._arrived: Arrived | None = None
        self._own = -1
        head = self._fill(6)
        self._compression = compression.kind_of(head)
        if self._compression in ("gzip", "zstd"):
            flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
            self._own = os.open(directory, flags, 0o600)
        self.fd = blob if self._own < 0 else self._own
        self._thread = Thread(target=self._run, args=(head,), daemon=True)
        self._flusher = Thread(target=self._flush, daemon=True)
        self._thread.start()
        self._flusher.start()

    def wait(self, end: int) -> int:
        """See `tarread.Source`. Raises what went wrong in the thread."""
        if self._there >= end:
            return self._there
        with self._changed:
            while self._there < end and not self._over:
                self._changed.wait()
        if self._error is not None:
            raise self._error
        return self._there

    def finish(self) -> Arrived:
        """Wait for the last byte; raises what went wrong in the thread."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._arrived is not None
        return self._arrived

    def close(self) -> None:
        """Stop the thread, if it still runs, and give the descriptor back."""
        self._stopped = True
        self._thread.join()
        self._flusher.join()
        if self._own >= 0:
            os.close(self._own)
            self._own = -1

    # -- the thread -------------------------------------------------------------------------------

    def _run(self, head: bytes) -> None:
        try:
            self._arrived = self._receive(head)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _flush(self) -> None:
        """Let the disc begin early: at the end all of this has to be on it. In a thread of its own,
        for even a hint waits where the disc has much to do.
        """
        begun = 0
        while not self._over:
            with self._changed:
                while self._there - begun < _WRITEBACK and not self._over:
                    self._changed.wait()
                there = self._there
            files.start_writeback(self._blob, begun, there - begun)
            begun = there

    def _receive(self, head: bytes) -> Arrived:
        from hashlib import sha256

        pieces = self._pieces(head)
        plain_hash = sha256()
        kind = self._compression
        if kind in ("xz", "bzip2"):
            # No media type stands for these: what is kept is their content.
            for piece in compression.decompressed(kind, pieces):
                self._arrive(piece, self._blob)
                plain_hash.update(piece)
            digest = plain_hash.hexdigest()
            return Arrived(digest, self._there, digest, self._there, "")
        if not kind:
            for piece in pieces:
                self._arrive(piece, self._blob)
                plain_hash.update(piece)
            digest = plain_hash.hexdigest()
            return Arrived(digest, self._there, digest, self._there, "")
        blob_hash = sha256()
        kept = 0

        def keep() -> Iterator[bytes]:
            nonlocal kept
            for piece in pieces:
                blob_hash.update(piece)
                _write(self._blob, piece)
                kept += len(piece)
                yield piece

        for piece in compression.decompressed(kind, keep()):
            self._arrive(piece, self._own)
            plain_hash.update(piece)
        return Arrived(blob_hash.hexdigest(), kept, plain_hash.hexdigest(), self._there, kind)

    def _pieces(self, head: bytes) -> Iterator[bytes]:
        """What is read, as far as it may be."""
        total = 0
        piece = head
        while piece:
            total += len(piece)
            if self._expected is not None and total > self._expected:
                raise Damaged(f"it is longer than the {self._expected} bytes that it should have")
            if self._stopped:
                raise Damaged("it was given up")
            yield piece
            piece = self._read(_PIECE)
        if self._expected is not None and total < self._expected:
            raise Damaged(f"it has {total} of the {self._expected} bytes that it should have")

    def _arrive(self, piece: bytes, fd: int) -> None:
        """A piece of the archive is there for who unpacks."""
        if self._there + len(piece) > self._limits.size:
            reason = f"it unpacks to more than {self._limits.size} bytes (LAMINA_MAX_LAYER_SIZE)"
            raise Damaged(reason)
        _write(fd, piece)
        self._there += len(piece)
        with self._changed:
            self._changed.notify_all()

    def _fill(self, least: int) -> bytes:
        head = b""
        while len(head) < least and (piece := self._read(_PIECE)):
            head += piece
        return head


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
