# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed streams: which kind one is, what is in it, and making them. gzip, zstd, xz, bzip2.

zstd is read and written by zstd(1), since Python has no module for it; the others by the standard
library, which works outside of the interpreter lock.
"""

from __future__ import annotations

import os

from launcher.image.tar import Damaged
from launcher.typed import Callable, Final, Iterator, Protocol
from unionfs.light import contextlib

__all__ = ["compressed", "decompressed", "kind_of"]

Read = Callable[[int], bytes]

_MAGIC: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
)
_PIECE: Final = 1 << 20


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def kind_of(head: bytes) -> str:
    """`gzip`, `zstd`, `xz`, `bzip2`, or "" by the first bytes of a stream."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return ""


def decompressed(kind: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The content of a compressed stream, in pieces of at most a few megabytes.

    All of `pieces` is consumed. `Damaged` where it is not what it seems or ends too early.
    """
    if kind == "zstd":
        return _through_zstd("-dcqq --memory=256MB", pieces, "its zstd stream is damaged")
    return _from_library(kind, pieces)


def compressed(kind: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A stream compressed by gzip or zstd (or not at all: ""), the same always for the same bytes.

    gzip in pieces on all cores at once, each of them knowing the end of the one before it, as
    pigz(1) does it; so the stream is one member, and nearly as short as gzip's.
    """
    if kind == "gzip":
        return _gzip(pieces)
    if kind == "zstd":
        return _through_zstd("-cqq3", pieces, "it cannot be compressed")
    return pieces


def _gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    import zlib
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    def deflate(data: bytes, before: bytes) -> bytes:
        if before:
            engine = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, before)
        else:
            engine = zlib.compressobj(6, zlib.DEFLATED, -15)
        return engine.compress(data) + engine.flush(zlib.Z_SYNC_FLUSH)

    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no time, no system (RFC 1952)
    checksum = size = 0
    before = b""
    workers = len(os.sched_getaffinity(0))
    ahead: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for piece in pieces:
            checksum = zlib.crc32(piece, checksum)
            size += len(piece)
            ahead.append(pool.submit(deflate, piece, before))
            before = piece[-32768:]
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    yield b"\x03\0" + checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def _from_library(kind: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Streams that may follow one another, as all these formats allow, and zeros behind them."""
    decoder = None
    for piece in pieces:
        data = piece
        while data:
            if decoder is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                decoder = _Step(kind)
            while True:
                produced, data = decoder(data)
                if produced:
                    yield produced
                if not decoder.more:
                    break
            if decoder.eof:
                decoder = None
            elif data:
                raise Damaged(f"it is no {kind} stream")
    if decoder is not None:
        raise Damaged(f"its {kind} stream ends too early")


class _Step:
    """One stream of any of the three formats: give it bytes, get some of what they stand for."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.more = False
        if kind == "gzip":
            import zlib

            self._zlib = zlib.decompressobj(wbits=31)
        elif kind == "xz":
            import lzma

            self._lzma = lzma.LZMADecompressor(memlimit=256 << 20)
        else:
            import bz2

            self._bz2 = bz2.BZ2Decompressor()

    @property
    def eof(self) -> bool:
        return self._engine().eof

    def _engine(self) -> _Decompressor:
        engine: _Decompressor
        if self.kind == "gzip":
            engine = self._zlib
        elif self.kind == "xz":
            engine = self._lzma
        else:
            engine = self._bz2
        return engine

    def __call__(self, data: bytes) -> tuple[bytes, bytes]:
        """At most `_PIECE` bytes, and what of `data` lies behind the stream's end.

        `more`: call again with b"" or the rest before new data is given.
        """
        try:
            if self.kind == "gzip":
                produced = self._zlib.decompress(data, _PIECE)
                rest = self._zlib.unconsumed_tail
                self.more = bool(rest) or len(produced) == _PIECE
                if self.more and not self._zlib.eof:
                    return produced, rest
            else:
                engine = self._lzma if self.kind == "xz" else self._bz2
                produced = engine.decompress(data, _PIECE)
                self.more = not engine.needs_input and not engine.eof
                if self.more:
                    return produced, b""
        except Exception as error:  # each of the libraries has its own
            raise Damaged(f"its {self.kind} stream is damaged ({error})") from error
        self.more = False
        return produced, self._engine().unused_data if self.eof else b""


def _through_zstd(options: str, pieces: Iterator[bytes], failure: str) -> Iterator[bytes]:
    """What zstd(1) makes of a stream; `Damaged`, saying `failure`, if it fails."""
    import subprocess
    from threading import Thread

    try:
        process = subprocess.Popen(
            ("zstd", *options.split()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise Damaged("zstd is not installed (Debian: zstd)") from None
    assert process.stdin is not None
    assert process.stdout is not None
    failed: list[BaseException] = []
    sink = process.stdin

    def feed() -> None:
        try:
            for piece in pieces:
                sink.write(piece)
        except BrokenPipeError:
            for _ in pieces:  # who hashes them still wants them all
                pass
        except BaseException as error:
            failed.append(error)
        finally:
            with contextlib.suppress(BrokenPipeError):
                sink.close()

    feeder = Thread(target=feed, daemon=True)
    feeder.start()
    try:
        while piece := os.read(process.stdout.fileno(), _PIECE):
            yield piece
        feeder.join()
        if failed:
            raise failed[0]
        if process.wait() != 0:
            raise Damaged(failure)
    finally:
        process.stdout.close()
        process.kill()
        process.wait()
        feeder.join()
