# SPDX-License-Identifier: GPL-3.0-or-later
"""What every verb is told beside its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from launcher.paths import Paths

if TYPE_CHECKING:
    from launcher.starting import Starting

__all__ = ["Context"]


class Context(NamedTuple):
    """The places to work in; whether to tell more (`--debug`); and, for a verb that starts a
    container, a supervisor that is on its way. The verb takes it over or leaves it alone.
    """

    paths: Paths
    debug: bool
    starting: Starting | None = None
