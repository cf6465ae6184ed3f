# SPDX-License-Identifier: GPL-3.0-or-later
"""What is added to libfuse's answer to INIT."""

from __future__ import annotations

import errno

import pytest

from unionfs.fuse import wire
from unionfs.fuse.pyfuse_introduction import completed

ALL = 0xFFFF_FFFF_FFFF_FFFF
LIBFUSE = wire.ASYNC_READ | wire.AUTO_INVAL_DATA | wire.BIG_WRITES | wire.MAX_PAGES


def request(flags: int) -> bytes:
    body = wire.INIT_IN.pack(7, 45, 131072, flags & 0xFFFF_FFFF)
    body += wire.INIT_IN_EXT.pack(flags >> 32) + bytes(44)
    size = wire.IN_SIZE + len(body)
    return wire.IN_HEADER.pack(size, wire.Opcode.INIT, 2, 0, 0, 0, 0, 0, 0) + body


def answer(flags: int) -> bytes:
    body = wire.INIT_OUT.pack(
        7, 36, 65536, flags & 0xFFFF_FFFF, 12, 9, 1 << 20, 1, 256, 0, flags >> 32, 0, 0
    )
    return wire.OUT_HEADER.pack(wire.OUT_SIZE + len(body), 0, 2) + body


def flags_of(message: bytes) -> int:
    fields = wire.INIT_OUT.unpack_from(message, wire.OUT_SIZE)
    flags: int = fields[3] | fields[10] << 32
    return flags


def test_flags_are_added() -> None:
    flags = flags_of(completed(request(ALL), answer(LIBFUSE | wire.INIT_EXT)))
    assert flags == (
        LIBFUSE & ~wire.AUTO_INVAL_DATA
        | wire.INIT_EXT
        | wire.DONT_MASK
        | wire.CACHE_SYMLINKS
        | wire.EXPLICIT_INVAL_DATA
        | wire.PARALLEL_DIROPS
        | wire.NO_EXPORT_SUPPORT
    )


def test_nothing_is_added_that_is_not_offered() -> None:
    assert flags_of(completed(request(LIBFUSE), answer(LIBFUSE))) == LIBFUSE
    offered = LIBFUSE | wire.DONT_MASK
    assert flags_of(completed(request(offered), answer(LIBFUSE))) == offered


def test_second_word_needs_its_flag() -> None:
    """Without FUSE_INIT_EXT the kernel does not look at flags2."""
    offered = ALL & ~wire.INIT_EXT
    assert flags_of(completed(request(offered), answer(LIBFUSE))) >> 32 == 0


def test_the_rest_stays() -> None:
    before = answer(LIBFUSE)
    after = completed(request(ALL), before)
    assert len(after) == len(before)
    kept = (0, 1, 2, 6, 7, 8, 9, 11, 12)
    old = wire.INIT_OUT.unpack_from(before, wire.OUT_SIZE)
    new = wire.INIT_OUT.unpack_from(after, wire.OUT_SIZE)
    assert [old[index] for index in kept] == [new[index] for index in kept]
    assert wire.OUT_HEADER.unpack_from(after) == wire.OUT_HEADER.unpack_from(before)


def test_a_refusal_is_an_error() -> None:
    with pytest.raises(OSError, match="Protocol error") as caught:
        completed(request(ALL), wire.OUT_HEADER.pack(wire.OUT_SIZE, -errno.EPROTO, 2))
    assert caught.value.errno == errno.EPROTO


def test_a_short_answer_stays() -> None:
    """What libfuse sends to a kernel older than 7.23 has no room for more."""
    old = wire.OUT_HEADER.pack(wire.OUT_SIZE + 24, 0, 2) + bytes(24)
    assert completed(request(ALL), old) == old
