# SPDX-License-Identifier: GPL-3.0-or-later
"""The manner of waiting: the best of those tried is kept, and no CPU longer than that."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.fuse.attention import FOLLOW, SLEEP, SPIN, Attention, Spin, cpu_of

CPUS = os.sched_getaffinity(0)
several = pytest.mark.skipif(len(CPUS) < 2, reason="with one CPU there is nothing to choose")


@pytest.fixture
def load(tmp_path: Path) -> Path:
    path = tmp_path / "loadavg"
    path.write_text("0.00 0.01 0.05 1/123 4567\n")
    return path


@pytest.fixture
def attention(load: Path) -> Iterator[Attention]:
    fd = os.open(load, os.O_RDONLY)
    made = Attention(Spin(fd, 2))
    yield made
    made.rest()
    os.close(fd)
    assert os.sched_getaffinity(0) == CPUS


def serve(attention: Attention, request_ns: dict[int, int], requests: int) -> list[int]:
    """Serve so many requests, each taking what it takes in a manner; in which manner each was."""
    manners: list[int] = []
    caller = threading.get_native_id()
    while len(manners) < requests:
        window, manner = attention.window, attention.manner
        manners += [manner] * window
        attention.judge(window * request_ns[manner], caller)
    return manners


@several
@pytest.mark.parametrize("best", [SLEEP, SPIN, FOLLOW])
def test_the_best_manner_is_kept(attention: Attention, best: int) -> None:
    taken = {SLEEP: 50_000, SPIN: 50_000, FOLLOW: 50_000, best: 30_000}
    manners = serve(attention, taken, 50_000)
    assert set(manners[:500]) == {SLEEP, SPIN, FOLLOW}
    assert manners.count(best) > 0.9 * len(manners)


@several
def test_a_change_is_noticed(attention: Attention) -> None:
    serve(attention, {SLEEP: 50_000, SPIN: 50_000, FOLLOW: 20_000}, 50_000)
    manners = serve(attention, {SLEEP: 50_000, SPIN: 50_000, FOLLOW: 150_000}, 2_000)
    assert manners[-1] in (SLEEP, SPIN)


@several
def test_following_keeps_to_the_callers_cpu(attention: Attention) -> None:
    serve(attention, {SLEEP: 50_000, SPIN: 50_000, FOLLOW: 20_000}, 1_000)
    assert attention.manner == FOLLOW
    assert len(os.sched_getaffinity(0)) == 1
    (there,) = os.sched_getaffinity(0)
    (other,) = sorted(CPUS - {there})[:1]
    began, ended = threading.Event(), threading.Event()

    def ask() -> None:
        os.sched_setaffinity(0, {other})
        began.set()
        ended.wait()

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        began.wait()
        assert asker.native_id is not None
        attention.resume(asker.native_id)
        assert os.sched_getaffinity(0) == {other}
    finally:
        ended.set()
        asker.join()
    attention.rest()
    assert os.sched_getaffinity(0) == CPUS


def test_nobody_stays_awake_where_the_cpus_have_other_work(load: Path) -> None:
    load.write_text("0.00 0.01 0.05 9/123 4567\n")
    with open(load, "rb") as stream:
        attention = Attention(Spin(stream.fileno(), 2))
        try:
            assert SPIN not in serve(attention, {SLEEP: 50_000, FOLLOW: 60_000}, 10_000)
        finally:
            attention.rest()


def test_where_a_task_ran_last() -> None:
    assert cpu_of(threading.get_native_id()) in CPUS
    assert cpu_of(0) == -1
