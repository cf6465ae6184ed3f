# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina history`: how an image was made."""

from __future__ import annotations

import os
import sys
import time

from launcher.cli.context import Context
from launcher.cli.listing import Listing, show
from launcher.cli.sizes import decimal_size
from launcher.cli.times import ago
from launcher.documents import Row
from launcher.rfc3339 import rfc3339
from launcher.typed import Final
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina history",
    "[-q] [-H] [--no-trunc] [--format TEMPLATE] IMAGE",
    "show how an image was made",
    (
        Flag(("--format",), "TEMPLATE", "table, json, or a template like {{.CreatedBy}}"),
        Flag(("-H", "--human"), None, "sizes and times to be read by people (--human=false: not)"),
        Flag(("--no-trunc",), None, "shorten nothing"),
        Flag(("-q", "--quiet"), None, "ids only"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)

_LISTING: Final = Listing(
    {
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    },
    ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"),
)
_WIDTH: Final = 45


def run(arguments: Arguments, context: Context) -> int:
    """Print the steps, the last one first."""
    from launcher import database
    from launcher.image import catalog, describe

    if len(arguments.operands) != 1:
        raise UsageError("show history", "", "say one image")
    db = database.connect(context.paths)
    try:
        image = catalog.find_image(db, os.fsdecode(arguments.operands[0]))
        layers = catalog.layers_of(db, image.id)
    finally:
        db.close()
    steps = describe.history(context.paths, image, layers)
    cut = not arguments.has("--no-trunc")
    rows = [_row(step, cut, _human(), time.time_ns()) for step in steps]
    if arguments.has("--quiet"):
        sys.stdout.write("".join(f"{row.get('ID')}\n" for row in rows))
        return 0
    form = os.fsdecode(arguments.one("--format") or b"")
    sys.stdout.write(show(_LISTING, rows, form))
    return 0


def _human() -> bool:
    # The parser takes `--human=false` for the flag not given, which is the default as well.
    return not any(each in sys.argv for each in ("--human=false", "-H=false", "--human=0"))


def _row(step: object, cut: bool, human: bool, now: int) -> Row:
    from launcher.image.describe import Step

    assert isinstance(step, Step)
    command = step.created_by.replace("\t", " ")
    if cut and len(command) > _WIDTH:
        command = command[: _WIDTH - 1] + "…"
    id = f"sha256:{step.image}" if step.image else "<missing>"
    since = ago(step.created, now) if step.created else "N/A"
    return Row(
        {
            "Comment": step.comment,
            "CreatedAt": rfc3339(step.created),
            "CreatedBy": command,
            "CreatedSince": since if human else rfc3339(step.created),
            "ID": step.image[:12] if cut and step.image else id,
            "Size": decimal_size(step.size) if human else str(step.size),
        }
    )
