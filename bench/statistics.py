# SPDX-License-Identifier: GPL-3.0-or-later
"""What samples say: median, spread, and whether the spread is too wide for that to mean much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDE = 0.20
"""the spread above which a row is flagged: the issue's "repeats within 20 %" """
FEW = 3
"""fewer samples than this have no spread to speak of"""


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one row on one peer. `spread` is the interquartile range over the median, None for too few
    samples."""

    count: int
    low: float
    quartile1: float
    median: float
    quartile3: float
    high: float

    @property
    def spread(self) -> float | None:
        if self.count < FEW:
            return None
        if self.median == 0:
            return 0.0 if self.quartile3 == self.quartile1 else None
        return (self.quartile3 - self.quartile1) / abs(self.median)

    @property
    def steady(self) -> bool:
        """Whether the median can be trusted."""
        return self.spread is not None and self.spread <= WIDE


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value below which `part` of the sorted samples lie, interpolated between neighbours."""
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summary(samples: Sequence[float]) -> Summary | None:
    """None for no samples."""
    if not samples:
        return None
    ordered = sorted(samples)
    return Summary(
        count=len(ordered),
        low=ordered[0],
        quartile1=quantile(ordered, 0.25),
        median=quantile(ordered, 0.5),
        quartile3=quantile(ordered, 0.75),
        high=ordered[-1],
    )


def ratio(value: Summary | None, reference: Summary | None) -> float | None:
    """How many times the reference's median; None where one of them is missing or nothing."""
    if value is None or reference is None or reference.median == 0:
        return None
    return value.median / reference.median


def apart(one: Summary, other: Summary) -> bool:
    """Whether two sets of samples differ beyond their scatter: their quartiles do not overlap."""
    return one.quartile1 > other.quartile3 or one.quartile3 < other.quartile1
