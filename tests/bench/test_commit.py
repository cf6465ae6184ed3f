# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench of commits: its bars, and a whole run of lamina alone on a small image."""

from __future__ import annotations

import pytest

from bench import commit
from bench.statistics import Summary, summary


def _ms(value: float) -> Summary:
    found = summary([value])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("small", "larger", "large", "missed"),
    [
        ((100, 400), (110, 400), (500, 1000), False),
        ((400, 4000), (400, 4000), (500, 1000), True),
        ((200, 400), (200, 1000), (500, 1000), True),
        ((100, 400), (200, 1000), (500, 1000), True),
        ((100, 400), (110, 400), (900, 1000), True),
    ],
    ids=["all kept", "too slow", "too near", "not flat", "large"],
)
def test_bars(
    small: tuple[float, float],
    larger: tuple[float, float],
    large: tuple[float, float],
    missed: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ("one small change to an image of 300 MB", "100 MB of changes", "one … of 3000 MB")
    rows = [
        (name, {"lamina": _ms(own), "podman": _ms(peer)})
        for name, (own, peer) in zip(names, (small, large, larger), strict=True)
    ]
    assert commit.report(rows) == int(missed)
    assert ("**miss**" in capsys.readouterr().out) == missed


def test_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Whether the bars are kept depends on the machine; that there are figures does not."""
    commit.main(["--sizes", "1", "--rounds", "1", "--without-peer"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:] == [
        "one small change to an image of 1 MB",
        "100 MB of changes",
    ]
