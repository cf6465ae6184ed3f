# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings: what `--format` makes of rows, the same for containers, images, volumes and figures.

    ""  table           a table of the usual columns
    table TEMPLATE      a table with a column for each cell (separated by \\t) of the template
    json                one JSON object a line
    raw                 where a listing has that: one "name: value" a line
    TEMPLATE            one line a row

In a template of a listing `\\t` and `\\n` stand for a tab and a newline, as docker has it. The
usual table is made without the template engine, which takes longer to load than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from launcher.cli.tables import aligned
from launcher.documents import Row, json_text
from launcher.typed import NamedTuple

__all__ = ["Listing", "show"]


class Listing(NamedTuple):
    """A kind of listing.

    titles  -- the title of each field there may be
    columns -- the fields of the usual table
    raw     -- the template of `--format raw`, "" where there is no such
    """

    titles: dict[str, str]
    columns: tuple[str, ...]
    raw: str = ""


def show(listing: Listing, rows: Sequence[Row], form: str = "") -> str:
    """The text that `--format` `form` gives. Raises LaunchError for a wrong template."""
    form = form.strip(" ")
    if form in ("", "table"):
        table = [[listing.titles[name] for name in listing.columns]]
        table += [[str(row.get(name)) for name in listing.columns] for row in rows]
        return aligned(table)
    if form == "json":
        return "".join(json_text(row) + "\n" for row in rows)
    if form == "raw" and listing.raw:
        return _lines(listing.raw, rows)
    if form.startswith("table ") or form.startswith("table\\t"):
        return _table(listing, form[len("table") :].strip(" "), rows)
    return _lines(form, rows)


def _unescaped(form: str) -> str:
    return form.replace("\\t", "\t").replace("\\n", "\n")


def _lines(form: str, rows: Sequence[Row]) -> str:
    from launcher.cli.template.evaluation import render
    from launcher.cli.template.parser import parse

    template = parse(_unescaped(form))
    return "".join(render(template, row) + "\n" for row in rows)


def _table(listing: Listing, form: str, rows: Sequence[Row]) -> str:
    from launcher.cli.template.evaluation import render
    from launcher.cli.template.functions import HEADER_FUNCTIONS
    from launcher.cli.template.parser import parse

    template = parse(_unescaped(form))
    text = [render(template, row) for row in rows]
    titles = Row(dict(listing.titles), {"Label": _label_title})
    text.insert(0, render(template, titles, HEADER_FUNCTIONS))
    return aligned([line.split("\t") for each in text for line in each.split("\n")])


def _label_title(name: str) -> str:
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")
