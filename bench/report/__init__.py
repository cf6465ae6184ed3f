# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run: results.json, report.md and report.html, which needs no other file."""

from __future__ import annotations

from pathlib import Path

from bench.report import html, markdown
from bench.results import Results


def write(results: Results, against: Results | None, output: Path) -> list[Path]:
    """Write all three into the directory `output`; returns their paths."""
    output.mkdir(parents=True, exist_ok=True)
    paths = [output / name for name in ("results.json", "report.md", "report.html")]
    results.save(paths[0])
    paths[1].write_text(markdown.render(results, against))
    paths[2].write_text(html.render(results, against))
    return paths
