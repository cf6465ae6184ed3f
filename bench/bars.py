# SPDX-License-Identifier: GPL-3.0-or-later
"""The bars: what the subject may cost at most, against fuse-overlayfs, against kernel overlayfs, by
itself, or against another row; and how a run has done by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.peers import FUSE_OVERLAYFS, OVERLAYFS
from bench.results import Measured, Results
from bench.sizes import MIB
from bench.statistics import ratio

PASS, MISS, UNKNOWN = "pass", "miss", "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """For the rows of `group` whose name is one of `names` or, with a comma and a size behind it,
    begins with one. `limit` is in the row's unit; `row` and `of_row` compare with another row of
    the same peer. Without a `filesystem` it holds on all of them."""

    group: str
    names: tuple[str, ...]
    fuse: float | None = None
    kernel: float | None = None
    limit: float | None = None
    row: str = ""
    of_row: float | None = None
    filesystem: str = ""

    def holds_for(self, measured: Measured) -> bool:
        name = measured.row.name
        return (
            measured.row.group == self.group
            and (name in self.names or name.rpartition(",")[0] in self.names)
            and self.filesystem in ("", measured.filesystem)
        )


BARS = (
    Bar(
        group="metadata",
        names=("create", "mkdir", "unlink", "rename", "chmod", "chmod of a lower file",
               "rename of a lower file", "unlink of a lower file"),
        fuse=0.5, kernel=6,
    ),
    Bar(group="metadata", names=("open+read+close, first", "open+read+close, again"),
        fuse=0.6, kernel=5),
    Bar(group="metadata", names=("cold stat", "listing, first"), fuse=0.8, kernel=5),
    Bar(group="scale", names=("first listing",), fuse=0.8, kernel=5),
    Bar(group="metadata", names=("warm stat", "negative lookup, again", "listing, again"),
        fuse=1.05, kernel=1.15),
    Bar(group="data", names=("random write",), fuse=0.5, kernel=1.1),
    Bar(group="data",
        names=("sequential read", "random read", "mmap read", "sequential write", "mmap write"),
        fuse=0.8, kernel=1.1),
    Bar(group="real work",
        names=("untar", "git status, first", "git status, again", "compileall", "apt-get install"),
        fuse=0.6, kernel=2),
    Bar(group="real work", names=("C build",), fuse=0.6, kernel=1.3),
    Bar(group="copy-up", names=("large file",), fuse=1.0, kernel=1.1, filesystem="ext4"),
    Bar(group="scale", names=("cold walk, 100 layers",), fuse=0.3, kernel=3,
        row="cold walk, 1 layer", of_row=2),
    Bar(group="footprint", names=("CPU when idle",), limit=0.1),
    Bar(group="footprint", names=("memory per million nodes",), limit=600 * 1e6 / MIB),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison that a bar asks for. `value` is a ratio, or for `against` "" the median
    itself; `doubt` says why the numbers are too unsteady to be sure of it."""

    measured: Measured
    against: str
    allowed: float
    value: float | None
    doubt: str

    @property
    def state(self) -> str:
        if self.value is None:
            return UNKNOWN
        return PASS if self.value <= self.allowed else MISS


def doubt(measured: Measured, *peers: str) -> str:
    """Why the medians of these peers in this row mean little; empty if they can be trusted."""
    reasons = []
    for peer in dict.fromkeys((OVERLAYFS, *peers)):
        found = measured.summary(peer)
        if found is None or found.steady:
            continue
        spread = found.spread
        reasons.append(
            f"{peer}: {found.count} sample{'s' * (found.count > 1)} only"
            if spread is None
            else f"{peer} spreads by {spread * 100:.0f} %"
        )
    return "; ".join(reasons)


def verdicts(results: Results) -> Iterator[Verdict]:
    """All that the bars ask of the rows of this run."""
    for measured in results.measured.values():
        for bar in BARS:
            if bar.holds_for(measured):
                yield from _of_bar(results, measured, bar)


def _of_bar(results: Results, measured: Measured, bar: Bar) -> Iterator[Verdict]:
    own = measured.summary(results.subject)
    for peer, allowed in ((FUSE_OVERLAYFS, bar.fuse), (OVERLAYFS, bar.kernel)):
        if allowed is not None and peer != results.subject:
            value = ratio(own, measured.summary(peer))
            why = doubt(measured, results.subject, peer)
            yield Verdict(measured, peer, allowed, value, why)
    if bar.limit is not None:
        # An amount, not a time: its spread is no sign of a machine too busy to measure on.
        yield Verdict(measured, "", bar.limit, own.median if own else None, "")
    if bar.of_row is not None:
        for other in results.measured.values():
            if (other.filesystem, other.row.group, other.row.name) == (
                measured.filesystem, measured.row.group, bar.row,
            ):  # fmt: skip
                value = ratio(own, other.summary(results.subject))
                why = doubt(measured, results.subject)
                yield Verdict(measured, other.row.name, bar.of_row, value, why)
