# SPDX-License-Identifier: GPL-3.0-or-later
"""What every verb is told beside its own words."""

from __future__ import annotations

from launcher.paths import Paths
from launcher.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from launcher.starting import Starting

__all__ = ["Context"]


class Context(NamedTuple):
    """The places to work in; whether to tell more (`--debug`); and, for a verb that starts a
    container, a supervisor that is on its way. The verb takes it over or leaves it alone. What is
    in `kept` stays as it is until the process ends.
    """

    paths: Paths
    debug: bool
    starting: Starting | None
    kept: list[object]
