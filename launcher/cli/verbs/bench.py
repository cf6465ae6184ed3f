# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina bench`: hands over to the bench, which is a package of its own."""

from __future__ import annotations

import os
from importlib.util import find_spec

from launcher.cli.context import Context
from launcher.errors import LaunchError
from unionfs import Arguments, Command

# Its words are the bench's own, from the first on.
COMMAND = Command(
    "lamina bench",
    "[quick|full] …",
    "measure unions against each other",
    (),
    ordered=True,
)


def run(arguments: Arguments, context: Context) -> int:
    """Run the bench with the words behind `bench`; returns the exit status."""
    if find_spec("bench") is None:
        reason = (
            "it is not part of this installation; in a checkout of the source, script/bench runs it"
        )
        raise LaunchError("run the bench", "", reason)
    from bench.__main__ import main

    return main([os.fsdecode(word) for word in arguments.operands], "lamina bench")
