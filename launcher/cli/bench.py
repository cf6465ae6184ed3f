# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina bench`: hands over to the bench, which is a package of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec


def run(words: Sequence[str]) -> int:
    """Run the bench with the words behind `bench`; returns the exit status."""
    if find_spec("bench") is None:
        print(
            "lamina: cannot run the bench: it is not part of this installation; "
            "in a checkout of the source, script/bench runs it",
            file=sys.stderr,
        )
        return 1
    from bench.__main__ import main

    return main(list(words), "lamina bench")
