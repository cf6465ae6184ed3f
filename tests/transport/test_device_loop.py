# SPDX-License-Identifier: GPL-3.0-or-later
"""The serving loop over channels that are pipes: several at once, waking, spinning, stopping."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clock import scaled
from unionfs.fuse.attention import SPIN_NS, Spin
from unionfs.fuse.loop import Loop


class Echo:
    """A channel whose requests are the lines written to a pipe; each is answered in capitals."""

    def __init__(self, loop: Loop) -> None:
        self.fd, self.asker = os.pipe2(os.O_NONBLOCK)
        self.answers: list[bytes] = []
        self.over = False
        loop.add(self, 64)

    def receive(self, buffer: list[bytearray]) -> int:
        try:
            size = os.readv(self.fd, [memoryview(buffer[0])[:8]])
        except BlockingIOError:
            return 0
        return size or -1

    def handle(self, buffer: memoryview) -> bytes | None:
        text = bytes(buffer[:8])
        return None if text.startswith(b"quiet") else text.upper()

    def reply(self, message: bytes | bytearray | memoryview) -> None:
        self.answers.append(bytes(message))

    def caller(self, buffer: memoryview) -> int:
        return threading.get_native_id()

    def ended(self) -> None:
        self.over = True


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def close(channel: Echo, *, asker: bool = True) -> None:
    os.close(channel.fd)
    if asker:
        os.close(channel.asker)


def test_serves_several_channels_until_the_last_is_over(loop: Loop) -> None:
    first, second = Echo(loop), Echo(loop)
    for number in range(200):
        os.write(first.asker, b"one %03d\n" % number)
        os.write(second.asker, b"two %03d\n" % number)
    os.close(first.asker)
    os.close(second.asker)
    loop.run()
    assert first.answers == [b"ONE %03d\n" % number for number in range(200)]
    assert second.answers == [b"TWO %03d\n" % number for number in range(200)]
    assert first.over
    assert second.over
    close(first, asker=False)
    close(second, asker=False)


def test_no_reply_where_none_is_due(loop: Loop) -> None:
    channel = Echo(loop)
    os.write(channel.asker, b"quiet 1\nloud  2\n")
    os.close(channel.asker)
    loop.run()
    assert channel.answers == [b"LOUD  2\n"]
    close(channel, asker=False)


def test_calls_from_other_threads_run_on_the_serving_thread(loop: Loop) -> None:
    channel = Echo(loop)
    ran: list[threading.Thread] = []

    def ask() -> None:
        loop.call(lambda: ran.append(threading.current_thread()))
        loop.call(loop.stop)

    thread = threading.Thread(target=ask)
    thread.start()
    loop.run()
    thread.join()
    assert ran == [threading.current_thread()]
    assert not channel.over
    close(channel)


def test_stop_serves_what_waits(loop: Loop) -> None:
    channel = Echo(loop)
    os.write(channel.asker, b"waiting\n" * 5)
    loop.stop()
    loop.run()
    assert len(channel.answers) == 5
    close(channel)


def test_stop_ends_a_channel_that_never_rests(loop: Loop) -> None:
    channel = Echo(loop)
    os.write(channel.asker, b"endless\n")
    ask = channel.reply

    def again(message: bytes | bytearray | memoryview) -> None:
        ask(message)
        os.write(channel.asker, b"endless\n")
        if len(channel.answers) == 100:
            loop.stop()

    channel.reply = again  # type: ignore[method-assign]
    began = time.monotonic()
    loop.run()
    assert time.monotonic() - began < scaled(5)
    assert len(channel.answers) >= 100
    close(channel)


class Load:
    """A stand-in for /proc/loadavg."""

    def __init__(self, path: Path, running: int) -> None:
        self.path = path
        self.set(running)
        self.fd = os.open(path, os.O_RDONLY)

    def set(self, running: int) -> None:
        self.path.write_text(f"0.00 0.01 0.05 {running}/123 4567\n")


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    made = Load(tmp_path / "loadavg", 1)
    yield made
    os.close(made.fd)


def test_spin_gives_up_when_it_is_in_vain(load: Load) -> None:
    spin = Spin(load.fd, 2)
    now = 1_000_000_000
    spins = 0
    while spin.until(now):
        spin.missed()
        spins += 1
        now += 10 * SPIN_NS
    assert 0 < spins < 10


def test_spin_comes_back_when_requests_come_close_together(load: Load) -> None:
    spin = Spin(load.fd, 2)
    now = 1_000_000_000
    while spin.until(now):
        spin.missed()
    for _ in range(4):
        spin.woken(now + SPIN_NS)
        now += SPIN_NS
        spin.until(now)
    assert spin.until(now) == now + SPIN_NS


def test_spin_stays_away_when_requests_are_rare(load: Load) -> None:
    spin = Spin(load.fd, 2)
    now = 1_000_000_000
    while spin.until(now):
        spin.missed()
    for _ in range(50):
        spin.woken(now + 100 * SPIN_NS)
        now += 100 * SPIN_NS
        assert spin.until(now) == 0


def test_no_spin_where_the_cpus_have_other_work(load: Load) -> None:
    spin = Spin(load.fd, 2)
    assert spin.until(1_000_000_000)
    load.set(4)
    assert spin.until(2_000_000_000) == 0
    load.set(2)
    assert spin.until(3_000_000_000)


def test_no_spin_for_a_client_that_shares_the_only_cpu(load: Load) -> None:
    spin = Spin(load.fd, 1)
    load.set(2)
    assert spin.until(1_000_000_000) == 0
