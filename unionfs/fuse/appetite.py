# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether whoever lists a directory will want the attributes of its entries too.

READDIRPLUS tells both at once: of much use to ``ls -l``, find(1) with tests or git, and wasted on
who only wants names, since the kernel then makes an inode of every entry for nothing. The kernel
asks in this way at the start of every directory, and may be answered with bare names. Which is
better is learned from what came of the listings before: if lookups of the very names followed, the
next directories are told in full, with a bare one now and then to see whether that still holds.
"""

from __future__ import annotations

from unionfs.typed import Final

# Directories told barely of which it is remembered, so that lookups in them can be noticed.
_REMEMBERED: Final = 64
# Lookups in a directory told barely, or of half its entries, that show that attributes were wanted.
_ENOUGH: Final = 8
# Listings that go by without a verdict on the last trial, after which it has failed.
_PATIENCE: Final = 8
# Listings in full before the next trial: fewest, and most after trials that all came out so.
_FEWEST: Final = 8
_MOST: Final = 256


class Appetite:
    """What the listings of one session have led to.

    bare -- node id of a directory told barely → lookups in it until it counts as wanted
    """

    __slots__ = ("_full", "_patience", "_span", "bare")

    def __init__(self) -> None:
        self.bare: dict[int, int] = {}
        self._full = 0
        self._patience = 0
        self._span = _FEWEST

    def for_attributes(self) -> bool:
        """Whether the directory about to be told should be told in full."""
        if self._full:
            self._full -= 1
            if self._full:
                return True
            self._patience = _PATIENCE
            return False  # a trial, and in full again until it has led to something or has failed
        if self._patience:
            self._patience -= 1
            if not self._patience:
                self._span = _FEWEST
            return True
        return False

    def told_barely(self, number: int, entries: int) -> None:
        """The directory with this node id was listed without attributes."""
        bare = self.bare
        bare.pop(number, None)
        if len(bare) >= _REMEMBERED:
            del bare[next(iter(bare))]
        bare[number] = max(1, min(_ENOUGH, entries // 2))

    def looked_up(self, number: int) -> None:
        """A name was looked up in a directory of `bare`."""
        left = self.bare[number] - 1
        if left:
            self.bare[number] = left
            return
        del self.bare[number]
        self._span = min(2 * self._span, _MOST)
        self._full = self._span
        self._patience = 0
