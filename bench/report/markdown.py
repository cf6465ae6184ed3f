# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.bars import Verdict
from bench.compare import caveats, changes
from bench.peers import FUSE_OVERLAYFS, OVERLAYFS
from bench.report import outline
from bench.report.figures import NONE
from bench.results import Measured, Results


def render(results: Results, against: Results | None) -> str:
    return "\n".join(_lines(results, against)) + "\n"


def _lines(results: Results, against: Results | None) -> Iterator[str]:
    yield f"# Bench: {', '.join(results.present) or 'nobody'}"
    yield ""
    for warning in outline.warnings(results):
        yield f"> **{warning}**"
        yield ""
    yield from _bars(results)
    if against is not None:
        yield from _against(results, against)
    yield "## Results"
    yield ""
    yield outline.LEGEND
    yield ""
    for filesystem, group, rows in results.groups():
        yield f"### {filesystem}: {group}"
        yield ""
        yield from _table(("work", *results.present), (_row(results, row) for row in rows))
        yield ""
    yield "## Where and how"
    yield ""
    yield from _table(("what", "value"), outline.facts(results))


def _bars(results: Results) -> Iterator[str]:
    found = outline.judged(results)
    if not found:
        return
    marks = {"pass": "pass", "miss": "**miss**"}

    def said(several: list[Verdict]) -> str:
        parts = (
            f"{marks.get(one.state, '?')} {outline.outcome(one)} ({outline.allowance(one)})"
            for one in several
        )
        return "<br>".join(parts)

    yield f"## The bars for {results.subject}"
    yield ""
    yield outline.tally(found)
    yield ""
    yield from _table(
        ("filesystem", "work", FUSE_OVERLAYFS, OVERLAYFS, "otherwise", "doubt"),
        (
            (
                row.measured.filesystem,
                row.measured.row.name,
                said(row.against(FUSE_OVERLAYFS)),
                said(row.against(OVERLAYFS)),
                said(row.others),
                row.doubt,
            )
            for row in found
        ),
    )
    yield ""


def _against(results: Results, against: Results) -> Iterator[str]:
    yield f"## Against the run of {against.started}"
    yield ""
    for caveat in caveats(against, results):
        yield f"- not the same: {caveat}"
    yield ""
    yield (
        "A change is named where the quartiles of the two runs do not overlap and the medians are "
        "apart by 5 % or more. The last column takes out what kernel overlayfs changed by in the "
        "same row."
    )
    yield ""
    rows = (
        (
            change.measured.filesystem,
            change.measured.row.name,
            change.peer,
            *outline.changed(change),
            change.verdict,
        )
        for change in changes(against, results)
    )
    columns = ("filesystem", "work", "peer", "before", "now", "now/before", "beside overlayfs", "")
    yield from _table(columns, rows)
    yield ""


def _row(results: Results, measured: Measured) -> list[str]:
    name = measured.row.name + (" !" if outline.unsteady(measured) else "")
    return [name, *(_cell(measured, peer) for peer in results.present)]


def _cell(measured: Measured, peer: str) -> str:
    cell = outline.cell(measured, peer)
    parts = []
    if cell.value:
        parts += [f"{cell.value}{cell.spread}{' ~' if cell.wide else ''}", cell.ratios]
    if cell.failed:
        parts.append(f"*{cell.failed}*")
    return "<br>".join(parts) or NONE


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(_plain(word) for word in row) + " |"


def _plain(word: str) -> str:
    return word.replace("|", "\\|").replace("\n", " ")
