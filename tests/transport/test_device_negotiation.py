# SPDX-License-Identifier: GPL-3.0-or-later
"""INIT against kernels that are invented here: pure functions, no mount."""

from __future__ import annotations

import pytest

from unionfs.fuse import negotiation, wire
from unionfs.fuse.negotiation import Offer, ProtocolError, Wishes

EVERYTHING = (1 << 43) - 1
ALL_WISHES = Wishes(stack_depth=1, acl=True)


def request(major: int, minor: int, flags: int, *, extended: bool = True) -> bytes:
    body = wire.INIT_IN.pack(major, minor, 131072, flags & 0xFFFF_FFFF)
    if extended:
        body += wire.INIT_IN_EXT.pack(flags >> 32) + bytes(44)
    header = wire.IN_HEADER.pack(wire.IN_SIZE + len(body), wire.Opcode.INIT, 2, 0, 0, 0, 0, 0, 0)
    return header + body


def test_read_offer_joins_both_halves_of_the_flags() -> None:
    offer = negotiation.read_offer(request(7, 45, EVERYTHING))
    assert offer == Offer(7, 45, 131072, EVERYTHING)


def test_read_offer_of_a_kernel_without_the_extension() -> None:
    old = negotiation.read_offer(request(7, 31, wire.ASYNC_READ, extended=False))
    assert old == Offer(7, 31, 131072, wire.ASYNC_READ)
    # Without INIT_EXT whatever lies behind the flags means nothing.
    stray = negotiation.read_offer(request(7, 36, wire.ASYNC_READ | wire.PASSTHROUGH))
    assert stray.flags == wire.ASYNC_READ


def test_nothing_is_taken_that_was_not_offered() -> None:
    for bit in range(43):
        flags = EVERYTHING & ~(1 << bit)
        terms = negotiation.negotiate(Offer(7, 45, 131072, flags), ALL_WISHES)
        assert terms is not None
        assert not terms.flags & ~flags


def test_never_wanted() -> None:
    terms = negotiation.negotiate(Offer(7, 45, 131072, EVERYTHING), ALL_WISHES)
    assert terms is not None
    for flag in (
        wire.WRITEBACK_CACHE,
        wire.POSIX_LOCKS,
        wire.FLOCK_LOCKS,
        wire.AUTO_INVAL_DATA,
        wire.EXPORT_SUPPORT,
        wire.OVER_IO_URING,
        wire.HANDLE_KILLPRIV,
    ):
        assert not terms.has(flag)


def test_linux_6_18_gives_everything() -> None:
    terms = negotiation.negotiate(Offer(7, 45, 131072, EVERYTHING), ALL_WISHES)
    assert terms is not None
    assert terms.minor == 45
    assert terms.has(wire.PASSTHROUGH)
    assert terms.has(wire.POSIX_ACL)
    assert terms.has(wire.NO_OPENDIR_SUPPORT)
    assert (terms.stack_depth, terms.max_write, terms.max_pages) == (1, 1 << 20, 256)


def test_linux_6_1_has_no_passthrough() -> None:
    """Debian 12: 7.38, without the flags of 7.39 and later."""
    flags = EVERYTHING & ((1 << 36) - 1) & ~wire.PASSTHROUGH
    terms = negotiation.negotiate(Offer(7, 38, 131072, flags), ALL_WISHES)
    assert terms is not None
    assert terms.minor == 38
    assert terms.stack_depth == 0
    assert terms.has(wire.CREATE_SUPP_GROUP)


def test_linux_5_4_knows_no_second_half() -> None:
    flags = (1 << 28) - 1
    terms = negotiation.negotiate(Offer(7, 31, 131072, flags), ALL_WISHES)
    assert terms is not None
    assert terms.minor == 31
    assert terms.flags >> 32 == 0
    assert not terms.has(wire.HANDLE_KILLPRIV_V2)


def test_small_pages_without_max_pages() -> None:
    terms = negotiation.negotiate(Offer(7, 45, 131072, EVERYTHING & ~wire.MAX_PAGES), ALL_WISHES)
    assert terms is not None
    assert (terms.max_pages, terms.max_write) == (32, 131072)


def test_wishes_decide() -> None:
    offer = Offer(7, 45, 131072, EVERYTHING)
    plain = negotiation.negotiate(offer, Wishes(0, False))
    deep = negotiation.negotiate(offer, Wishes(2, True))
    assert plain is not None
    assert deep is not None
    assert not plain.has(wire.PASSTHROUGH)
    assert not plain.has(wire.POSIX_ACL)
    assert plain.stack_depth == 0
    assert deep.stack_depth == 2


def test_newer_kernel_keeps_to_what_is_understood_here() -> None:
    terms = negotiation.negotiate(Offer(7, 60, 131072, (1 << 64) - 1), ALL_WISHES)
    assert terms is not None
    assert terms.minor == 45
    assert not terms.flags & ~EVERYTHING


def test_newer_major_is_told_ours() -> None:
    assert negotiation.negotiate(Offer(8, 0, 0, 0), ALL_WISHES) is None
    message = negotiation.other_major(2)
    assert wire.OUT_HEADER.unpack_from(message) == (len(message), 0, 2)
    assert wire.INIT_OUT.unpack_from(message, wire.OUT_SIZE)[:2] == (7, 45)


@pytest.mark.parametrize(("major", "minor"), [(7, 30), (7, 8), (6, 1)])
def test_too_old(major: int, minor: int) -> None:
    with pytest.raises(ProtocolError, match=rf"FUSE {major}\.{minor};.*Linux 5\.4"):
        negotiation.negotiate(Offer(major, minor, 0, 0), ALL_WISHES)


def test_accept_says_what_was_agreed() -> None:
    terms = negotiation.negotiate(Offer(7, 45, 65536, EVERYTHING), ALL_WISHES)
    assert terms is not None
    message = negotiation.accept(2, terms)
    assert wire.OUT_HEADER.unpack_from(message) == (80, 0, 2)
    major, minor, ahead, flags, _, _, write, grain, pages, _, flags2, depth, timeout = (
        wire.INIT_OUT.unpack_from(message, wire.OUT_SIZE)
    )
    assert (major, minor, ahead) == (7, 45, 65536)
    assert flags | flags2 << 32 == terms.flags
    assert (write, grain, pages, depth, timeout) == (1 << 20, 1, 256, 1, 0)
