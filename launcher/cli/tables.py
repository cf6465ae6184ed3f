# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of cells put into columns, as docker's tables are (Go's text/tabwriter).

A cell is at least ten wide and three from the next. A column is as wide as its widest cell in the
run of lines that have one there; the last cell of a line belongs to no column.
"""

from __future__ import annotations

from collections.abc import Sequence

from launcher.typed import Final

__all__ = ["aligned"]

_NARROWEST: Final = 10
_GAP: Final = 3


def aligned(lines: Sequence[Sequence[str]], narrowest: int = _NARROWEST, gap: int = _GAP) -> str:
    """The text of the lines, each with its newline."""
    widths: list[list[int]] = [[0] * (len(line) - 1) for line in lines]
    for column in range(max((len(line) for line in lines), default=0) - 1):
        start = 0
        while start < len(lines):
            if len(lines[start]) - 1 <= column:
                start += 1
                continue
            end = start
            width = narrowest
            while end < len(lines) and len(lines[end]) - 1 > column:
                width = max(width, len(lines[end][column]) + gap)
                end += 1
            for index in range(start, end):
                widths[index][column] = width
            start = end
    text = ""
    for line, room in zip(lines, widths, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(line, room, strict=False)]
        text += "".join(cells) + (line[-1] if line else "") + "\n"
    return text
