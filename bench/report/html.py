# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one page of HTML that loads nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from bench.bars import UNKNOWN, Verdict
from bench.compare import caveats, changes
from bench.peers import FUSE_OVERLAYFS, OVERLAYFS
from bench.report import outline
from bench.report.figures import NONE
from bench.report.style import CSS
from bench.report.svg import COLOURS, Curve, Strip, curves, strips
from bench.results import Measured, Results


def render(results: Results, against: Results | None) -> str:
    return "\n".join(_lines(results, against)) + "\n"


def _lines(results: Results, against: Results | None) -> Iterator[str]:
    title = f"Bench: {', '.join(results.present) or 'nobody'}"
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{CSS}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"
    environment = results.environment
    yield (
        f'<p class="soft">{escape(results.started)} · {escape(results.profile)} · '
        f"{escape(environment.get('kernel', ''))} · {escape(environment.get('CPU', ''))}</p>"
    )
    for warning in outline.warnings(results):
        yield f'<p class="warning">{escape(warning)}</p>'
    yield from _bars(results)
    if against is not None:
        yield from _against(results, against)
    yield "<h2>Results</h2>"
    yield f"<p>{escape(outline.LEGEND)}</p>"
    for filesystem, group, rows in results.groups():
        yield f"<h3>{escape(filesystem)}: {escape(group)}</h3>"
        yield from _results_table(results, rows)
        yield "<details open><summary>Plots</summary>"
        yield '<div class="plots">'
        yield from _curve_plots(results, rows)
        for measured in rows:
            yield from _strip_plot(results, measured)
        yield "</div></details>"
    yield "<h2>Where and how</h2>"
    yield from _table(
        ("what", "value"),
        ((escape(what), escape(value)) for what, value in outline.facts(results)),
    )
    yield "</body></html>"


def _bars(results: Results) -> Iterator[str]:
    found = outline.judged(results)
    if not found:
        return
    yield f"<h2>The bars for {escape(results.subject)}</h2>"
    yield f"<p>{escape(outline.tally(found))}</p>"
    yield from _table(
        ("filesystem", "work", FUSE_OVERLAYFS, OVERLAYFS, "otherwise", "doubt"),
        (
            (
                escape(row.measured.filesystem),
                escape(row.measured.row.name),
                _verdicts(row.against(FUSE_OVERLAYFS)),
                _verdicts(row.against(OVERLAYFS)),
                _verdicts(row.others),
                f'<span class="doubt">{escape(row.doubt)}</span>',
            )
            for row in found
        ),
    )


def _verdicts(several: list[Verdict]) -> str:
    return "".join(
        f'<span class="{one.state}">{"?" if one.state == UNKNOWN else one.state}</span> '
        f"{escape(outline.outcome(one))}<small>{escape(outline.allowance(one))}</small>"
        for one in several
    )


def _against(results: Results, against: Results) -> Iterator[str]:
    yield f"<h2>Against the run of {escape(against.started)}</h2>"
    for caveat in caveats(against, results):
        yield f'<p class="warning">Not the same: {escape(caveat)}</p>'
    yield (
        "<p>A change is named where the quartiles of the two runs do not overlap and the medians "
        "are apart by 5&nbsp;% or more. The column before it takes out what kernel overlayfs "
        "changed by in the same row.</p>"
    )
    classes = {"faster": "pass", "slower": "miss", "": "soft"}
    yield from _table(
        ("filesystem", "work", "peer", "before", "now", "now/before", "beside overlayfs", ""),
        (
            (
                escape(change.measured.filesystem),
                escape(change.measured.row.name),
                escape(change.peer),
                *(escape(word) for word in outline.changed(change)),
                f'<span class="{classes[change.verdict]}">{change.verdict}</span>',
            )
            for change in changes(against, results)
        ),
    )


def _results_table(results: Results, rows: Sequence[Measured]) -> Iterator[str]:
    heads = ["work"]
    for number, peer in enumerate(results.present):
        key = f'<span class="key" style="background:var(--peer{number % COLOURS})"></span>'
        heads.append(key + escape(peer))
    yield from _table(
        heads,
        (
            (_work(measured), *(_cell(measured, peer) for peer in results.present))
            for measured in rows
        ),
    )


def _work(measured: Measured) -> str:
    mark = ' <span class="doubt">!</span>' if outline.unsteady(measured) else ""
    note = f"<small>{escape(measured.row.note)}</small>" if measured.row.note else ""
    return f"{escape(measured.row.name)}{mark}{note}"


def _cell(measured: Measured, peer: str) -> str:
    cell = outline.cell(measured, peer)
    text = ""
    if cell.value:
        mark = ' <span class="doubt">~</span>' if cell.wide else ""
        text = (
            f'<span class="number">{escape(cell.value)}{escape(cell.spread)}{mark}</span>'
            f"<small>{escape(cell.ratios)}</small>"
        )
    if cell.failed:
        text += f'<div class="failed">{escape(cell.failed)}</div>'
    return text or NONE


def _strip_plot(results: Results, measured: Measured) -> Iterator[str]:
    rows = []
    for number, peer in enumerate(results.present):
        found = measured.summary(peer)
        if found is not None:
            samples = measured.samples[peer]
            rows.append(Strip(peer, number, samples, found, not found.steady))
    if rows:
        unit, _, per = measured.row.unit.partition("/")
        plot = strips(measured.row.name, unit, rows)
        yield _figure(measured.row.name, per, measured.row.note, plot)


def _curve_plots(results: Results, rows: Sequence[Measured]) -> Iterator[str]:
    series: dict[str, list[Measured]] = {}
    for measured in rows:
        if measured.row.series:
            series.setdefault(measured.row.series, []).append(measured)
    for name, members in series.items():
        lines = []
        for number, peer in enumerate(results.present):
            points = []
            for measured in members:
                found = measured.summary(peer)
                if found is not None and found.low > 0:
                    points.append(
                        (float(measured.row.x), found.median, found.quartile1, found.quartile3)
                    )
            if len(points) > 1:
                lines.append(Curve(peer, number, points))
        if lines:
            unit, _, per = members[0].row.unit.partition("/")
            yield _figure(name, per, "", curves(name, unit, lines))


def _figure(title: str, per: str, note: str, plot: str) -> str:
    words = ", ".join(word for word in (f"per {per}" if per else "", note) if word)
    more = f" <span>{escape(words)}</span>" if words else ""
    return f"<figure><figcaption>{escape(title)}{more}</figcaption>{plot}</figure>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Of cells that are HTML already."""
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f"<th>{head}</th>" for head in heads) + "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"
