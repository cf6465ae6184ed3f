# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a trial as a whole, between operations; printed like them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Compare:
    """Compare whole trees."""


@dataclass(frozen=True)
class Age:
    """Set every modification time that the clock gave to a fixed one, so that the next change
    of it shows."""


@dataclass(frozen=True)
class Forget:
    """Make the kernel drop the names it caches."""


@dataclass(frozen=True)
class Remount:
    """Close every descriptor, unmount, mount the same layers again, compare."""


@dataclass(frozen=True)
class Swap:
    """Like Remount, but each contender goes on with the upper and work of its neighbour."""


@dataclass(frozen=True)
class Freeze:
    """Like Remount, but the upper becomes the topmost lower below a fresh upper and work."""


Step: TypeAlias = Compare | Age | Forget | Remount | Swap | Freeze
