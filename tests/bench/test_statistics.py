# SPDX-License-Identifier: GPL-3.0-or-later
"""Median, spread and ratio; what two runs differ by; whether bars are met."""

from __future__ import annotations

import pytest

from bench.bars import BARS, MISS, PASS, UNKNOWN, verdicts
from bench.compare import caveats, changes
from bench.results import Row
from bench.sizes import FULL, QUICK
from bench.statistics import Summary, apart, quantile, ratio, summary
from bench.workloads import scenarios
from tests.bench.made import STAT, results, steady


def of(*samples: float) -> Summary:
    found = summary(samples)
    assert found is not None
    return found


def test_the_median_and_the_quartiles_lie_between_the_samples() -> None:
    found = of(4, 1, 3, 2)
    assert (found.low, found.median, found.high) == (1, 2.5, 4)
    assert (found.quartile1, found.quartile3) == (1.75, 3.25)
    assert quantile([1, 2, 3, 4, 5], 0.25) == 2


def test_spread_is_the_quartiles_distance_over_the_median() -> None:
    assert of(9, 10, 11).spread == pytest.approx(0.1)
    assert of(9, 10, 11).steady
    assert of(5, 10, 15).spread == pytest.approx(0.5)
    assert not of(5, 10, 15).steady


def test_two_samples_have_no_spread_and_are_not_to_be_trusted() -> None:
    assert of(10, 10).spread is None
    assert not of(10, 10).steady


def test_a_median_of_nothing() -> None:
    assert of(0, 0, 0).spread == 0
    assert of(0, 0, 5, 5, 0, 0, 5).spread is None
    assert ratio(of(1), of(0)) is None


def test_no_samples_no_summary() -> None:
    assert summary([]) is None
    assert ratio(None, of(1)) is None
    assert ratio(of(3), of(2)) == 1.5


def test_samples_are_apart_when_their_quartiles_are() -> None:
    assert apart(of(1, 2, 3), of(4, 5, 6))
    assert not apart(of(1, 2, 3), of(2, 3, 4))


# -- bars ---------------------------------------------------------------------------------------


def by_peer(**medians: float) -> dict[str, tuple[str, str]]:
    made = results({STAT: steady(**medians)})
    return {verdict.against: (verdict.state, verdict.doubt) for verdict in verdicts(made)}


def test_a_bar_is_met_up_to_its_limit() -> None:
    found = by_peer(overlayfs=10, fuse_overlayfs=62.5, lamina_device=50)
    assert found == {"fuse-overlayfs": (PASS, ""), "overlayfs": (PASS, "")}


def test_a_bar_is_missed_above_its_limit() -> None:
    found = by_peer(overlayfs=9.9, fuse_overlayfs=62.4, lamina_device=50)
    assert found == {"fuse-overlayfs": (MISS, ""), "overlayfs": (MISS, "")}


def test_without_its_reference_a_bar_cannot_be_told() -> None:
    found = by_peer(overlayfs=10, lamina_device=50)
    assert found == {"fuse-overlayfs": (UNKNOWN, ""), "overlayfs": (PASS, "")}


def test_an_unsteady_reference_makes_a_verdict_doubtful() -> None:
    samples: dict[str, list[float]] = steady(fuse_overlayfs=100, lamina_device=50)
    samples["overlayfs"] = [5, 10, 20]
    doubts = [verdict.doubt for verdict in verdicts(results({STAT: samples}))]
    assert doubts == ["overlayfs spreads by 75 %"] * 2


def test_a_limit_of_its_own_and_one_against_another_row() -> None:
    idle = Row("footprint", "CPU when idle", "%")
    one = Row("scale", "cold walk, 1 layer", "µs/entry", series="walk", x=1)
    many = Row("scale", "cold walk, 100 layers", "µs/entry", series="walk", x=100)
    rows = {
        idle: steady(lamina_device=0.05),
        one: steady(lamina_device=10, overlayfs=8, fuse_overlayfs=40),
        many: steady(lamina_device=21, overlayfs=10, fuse_overlayfs=100),
    }
    found = {(v.measured.row.name, v.against): v.state for v in verdicts(results(rows))}
    assert found == {
        ("CPU when idle", ""): PASS,
        ("cold walk, 100 layers", "fuse-overlayfs"): PASS,
        ("cold walk, 100 layers", "overlayfs"): PASS,
        ("cold walk, 100 layers", "cold walk, 1 layer"): MISS,
    }


def test_copy_up_of_a_large_file_has_its_bar_on_ext4_only() -> None:
    large = Row("copy-up", "large file, 1 GiB", "ms")
    samples = steady(overlayfs=1, fuse_overlayfs=1, lamina_device=1)
    assert not list(verdicts(results({large: samples})))
    assert len(list(verdicts(results({large: samples}, filesystem="ext4")))) == 2


def test_every_bar_names_rows_that_a_full_run_has() -> None:
    rows = [step.row for scenario in scenarios(FULL) for step in scenario.steps]
    for bar in BARS:
        names = {name for row in rows if row.group == bar.group
                 for name in (row.name, row.name.rpartition(",")[0])}  # fmt: skip
        assert set(bar.names) <= names
        assert not bar.row or bar.row in names


def test_no_two_rows_are_the_same() -> None:
    for sizes in (QUICK, FULL):
        rows = [step.row for scenario in scenarios(sizes) for step in scenario.steps]
        assert len({(row.group, row.name) for row in rows}) == len(rows)


# -- two runs -----------------------------------------------------------------------------------


def test_a_change_beyond_the_scatter_is_named() -> None:
    before = results({STAT: steady(overlayfs=10, fuse_overlayfs=50, lamina_device=40)})
    now = results({STAT: steady(overlayfs=10, fuse_overlayfs=51, lamina_device=20)})
    found = {change.peer: change for change in changes(before, now)}
    assert {name: change.verdict for name, change in found.items()} == {
        "overlayfs": "",
        "fuse-overlayfs": "",
        "lamina-device": "faster",
    }
    assert found["lamina-device"].times == pytest.approx(0.5)


def test_what_the_machine_itself_changed_by_is_taken_out() -> None:
    before = results({STAT: steady(overlayfs=10, lamina_device=40)})
    now = results({STAT: steady(overlayfs=20, lamina_device=80)})
    (change,) = (c for c in changes(before, now) if c.peer == "lamina-device")
    assert change.verdict == "slower"
    assert change.relative == pytest.approx(1)


def test_rows_of_one_run_only_are_not_compared() -> None:
    other = Row("metadata", "warm stat", "µs")
    before = results({STAT: steady(overlayfs=10)})
    assert not list(changes(before, results({other: steady(overlayfs=10)})))


def test_what_makes_runs_incomparable_is_said() -> None:
    before, now = (results({STAT: steady(overlayfs=10)}) for _ in range(2))
    assert caveats(before, now) == []
    now.profile = "full"
    now.environment["kernel"] = "Linux 7.0"
    now.peers[1].version = "2.0"
    assert caveats(before, now) == [
        "the earlier run was quick, this one is full",
        "kernel: Linux 6.18 then, Linux 7.0 now",
        "overlayfs: 1.0 then, 2.0 now",
    ]
