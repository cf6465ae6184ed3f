# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verbs print: one line of text a thing, aligned tables, JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from unionfs.errors import shown

__all__ = ["say", "say_json", "say_table", "text_of"]


def say(*pieces: bytes | str) -> None:
    """Print one line; paths among the pieces are made printable."""
    sys.stdout.write("".join(map(shown, pieces)) + "\n")


def say_table(header: Sequence[str], rows: Sequence[Sequence[bytes | str]]) -> None:
    """Print columns as wide as their widest cell, two spaces apart."""
    table = [list(header), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def say_json(value: object) -> None:
    """Print JSON in ASCII; a byte that is not UTF-8 appears as U+DC80…U+DCFF, as in os.fsdecode."""
    import json

    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def text_of(path: bytes | None) -> str | None:
    """A path as a JSON string."""
    return None if path is None else os.fsdecode(path)
