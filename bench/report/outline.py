# SPDX-License-Identifier: GPL-3.0-or-later
"""What both forms of the report say, before it takes a form: the cells of the tables, the facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.bars import MISS, PASS, UNKNOWN, Verdict, verdicts
from bench.compare import Change
from bench.peers import FUSE_OVERLAYFS, OVERLAYFS
from bench.report.figures import percent, quantity, times
from bench.results import Measured, Results
from bench.statistics import WIDE, ratio

LEGEND = (
    "Each value is the median over the rounds, ± its spread (the distance between the quartiles, "
    "as a part of the median); less is better. Below it: times fuse-overlayfs, then times kernel "
    f"overlayfs. A ~ marks a spread over {percent(WIDE)} or fewer than three samples: the value "
    "means little. A ! marks a row in which kernel overlayfs itself did not repeat within "
    f"{percent(WIDE)}: the machine was not quiet, and its ratios mean little."
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One peer in one row. `failed` is why there is no value, or why some rounds had none."""

    value: str = ""
    spread: str = ""
    wide: bool = False
    ratios: str = ""
    failed: str = ""


def cell(measured: Measured, peer: str) -> Cell:
    found = measured.summary(peer)
    reasons = measured.failures.get(peer, [])
    failed = reasons[-1] if reasons else ""
    if found is None:
        return Cell(failed=failed)
    if failed:
        failed = f"{len(reasons)} of {len(reasons) + found.count} failed: {failed}"
    references = [
        times(ratio(found, measured.summary(name))) for name in (FUSE_OVERLAYFS, OVERLAYFS)
    ]
    return Cell(
        value=quantity(found.median, measured.row.unit),
        spread="" if found.spread is None else f" ±{percent(found.spread)}",
        wide=not found.steady,
        ratios=" · ".join(references),
        failed=failed,
    )


def unsteady(measured: Measured) -> bool:
    """Whether the reference itself did not repeat in this row."""
    found = measured.summary(OVERLAYFS)
    return found is not None and found.spread is not None and not found.steady


def facts(results: Results) -> Iterator[tuple[str, str]]:
    """Where and how it was measured, as (what, value)."""
    state = "complete" if results.complete else "stopped before its end"
    rounds = f"{results.rounds} round{'s' * (results.rounds != 1)}"
    yield "run", f"{results.profile}, {rounds}, {state}"
    yield "from, to", f"{results.started}, {results.finished}"
    yield "cold means", results.cold
    yield from results.environment.items()
    for name, about in results.filesystems.items():
        yield f"filesystem {name}", about
    for peer in results.peers:
        version = f"{peer.version}; " if peer.version else ""
        yield (
            f"peer {peer.name}",
            f"not there: {peer.absent}" if peer.absent else (f"{version}{peer.command}"),
        )
    for reading in results.load:
        rest = ", ".join(f"{key} {value}" for key, value in reading.items() if key != "round")
        yield f"load in round {reading['round']}", rest
    for what, reason in results.left_out.items():
        yield f"left out: {what}", reason


def warnings(results: Results) -> Iterator[str]:
    """What a reader must know before the first number."""
    if not results.complete:
        yield (
            "The run was stopped before its end: rows may be missing or have fewer samples than "
            "others."
        )
    if results.profile == "smoke":
        yield "A smoke run shows that everything runs. Its numbers mean nothing."
    doubtful = sum(1 for measured in results.measured.values() if unsteady(measured))
    if doubtful:
        yield (
            f"In {doubtful} of {len(results.measured)} rows kernel overlayfs itself did not repeat "
            f"within {percent(WIDE)} (marked !): the machine was too busy, or the rounds too few, "
            "for their ratios to mean much."
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """All verdicts on one row: one against each reference, and those of another kind."""

    measured: Measured
    verdicts: tuple[Verdict, ...]

    def against(self, *peers: str) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.against in peers]

    @property
    def others(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.against not in (FUSE_OVERLAYFS, OVERLAYFS)]

    @property
    def doubt(self) -> str:
        parts = [part for v in self.verdicts for part in v.doubt.split("; ") if part]
        return "; ".join(dict.fromkeys(parts))


def judged(results: Results) -> list[Judged]:
    """The verdicts by the bars on the rows that were reached; none if the subject took no part."""
    found: dict[int, tuple[Measured, list[Verdict]]] = {}
    if results.subject in results.present:
        for verdict in verdicts(results):
            measured = verdict.measured
            if measured.samples or measured.failures:
                found.setdefault(id(measured), (measured, []))[1].append(verdict)
    return [Judged(measured, tuple(several)) for measured, several in found.values()]


def tally(rows: list[Judged]) -> str:
    """How many bars are met and missed, and how many of these verdicts are doubtful."""
    found = [verdict for row in rows for verdict in row.verdicts]
    count = {state: sum(1 for v in found if v.state == state) for state in (PASS, MISS, UNKNOWN)}
    text = f"{count[PASS]} of {len(found)} bars are met, {count[MISS]} are missed"
    if count[UNKNOWN]:
        text += f", {count[UNKNOWN]} cannot be told"
    doubtful = sum(1 for verdict in found if verdict.doubt)
    if doubtful:
        text += f"; {doubtful} rest on unsteady numbers"
    return text + "."


def allowance(verdict: Verdict) -> str:
    """What a bar asks: at most so many times a peer, or another row, or so much; and by how much
    it is missed."""
    over = ""
    if verdict.value is not None and verdict.state == MISS:
        over = f", over by {percent(verdict.value / verdict.allowed - 1)}"
    if not verdict.against:
        return f"at most {quantity(verdict.allowed, verdict.measured.row.unit)}{over}"
    of_row = "" if verdict.against in (FUSE_OVERLAYFS, OVERLAYFS) else f" of {verdict.against}"
    return f"at most {times(verdict.allowed)}{of_row}{over}"


def outcome(verdict: Verdict) -> str:
    """What was found."""
    if verdict.value is None:
        return "not measured"
    if not verdict.against:
        return quantity(verdict.value, verdict.measured.row.unit)
    return times(verdict.value)


def changed(change: Change) -> tuple[str, str, str, str]:
    """Before, now, how many times, and how many times with the machine's own change taken out."""
    unit = change.measured.row.unit
    return (
        quantity(change.before.median, unit),
        quantity(change.now.median, unit),
        times(change.times),
        times(change.relative),
    )
