# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done apart: what comes of it comes back, and it holds nothing but what it is given."""

from __future__ import annotations

import os
import signal

import pytest

from launcher import apart
from launcher.errors import LaunchError, SpecError


def _raise(error: Exception) -> None:
    raise error


def test_results() -> None:
    assert apart.do(lambda: (1, (b"two", "three"), None)) == (1, (b"two", "three"), None)
    assert apart.do(lambda: None) is None
    assert apart.do(lambda: b"x" * 300_000) == b"x" * 300_000
    assert apart.do(os.getpid) != os.getpid()


def test_errors() -> None:
    with pytest.raises(SpecError, match="cannot find user eve: no such user"):
        apart.do(lambda: _raise(SpecError("find user", "eve", "no such user")))
    with pytest.raises(LaunchError) as caught:
        apart.do(lambda: _raise(LaunchError("do", b"\xff", "because", 127)))
    assert (type(caught.value), caught.value.thing, caught.value.status) == (
        LaunchError,
        b"\xff",
        127,
    )
    with pytest.raises(FileNotFoundError) as missing:
        apart.do(lambda: os.stat("/no/such"))
    assert missing.value.filename == "/no/such"
    with pytest.raises(LaunchError, match="ValueError: wrong"):
        apart.do(lambda: _raise(ValueError("wrong")))
    with pytest.raises(LaunchError, match="was killed"):
        apart.do(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_it_holds_what_it_is_given() -> None:
    kept, other = os.pipe()
    try:
        held = apart.do(lambda: sorted(int(each) for each in os.listdir("/proc/self/fd")), (kept,))
    finally:
        os.close(kept)
        os.close(other)
    assert kept in held
    assert other not in held
    assert len(held) == 6  # the standard three, this one, the pipe back, and the listing's own
