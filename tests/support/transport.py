# SPDX-License-Identifier: GPL-3.0-or-later
"""Which transports the tests run on: a list, so that none is left out by accident."""

from __future__ import annotations

import os

ALL_TRANSPORTS = ("pyfuse3", "device")


def transports() -> tuple[str, ...]:
    """The transports of this run: all, or those of LAMINA_TEST_TRANSPORTS (comma-separated)."""
    asked = os.environ.get("LAMINA_TEST_TRANSPORTS")
    if not asked:
        return ALL_TRANSPORTS
    chosen = tuple(name.strip() for name in asked.split(","))
    unknown = set(chosen) - set(ALL_TRANSPORTS)
    if unknown:
        raise ValueError(f"LAMINA_TEST_TRANSPORTS: no such transport: {', '.join(unknown)}")
    return chosen
