# SPDX-License-Identifier: GPL-3.0-or-later
"""What every verb is told beside its own words."""

from __future__ import annotations

from typing import NamedTuple

from launcher.paths import Paths

__all__ = ["Context"]


class Context(NamedTuple):
    """The places to work in; and whether to tell more (`--debug`)."""

    paths: Paths
    debug: bool
