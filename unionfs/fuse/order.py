# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order a directory's names are told, so that places in it keep their meaning.

The kernel caches listings and reads directories without an open handle, so a place (d_off) must
mean the same for every reader of a directory, across changes: a name that is there from opendir(3)
to the end is told exactly once, however much is made and removed meanwhile (readdir(3)). So each
name has a number that it keeps; new names get higher ones, and a place is a number.
"""

from __future__ import annotations

from bisect import bisect_right

from unionfs.typed import Final

# Names kept over all listings that were read to their end, and over all listings.
_FINISHED_NAMES: Final = 8_192
_ALL_NAMES: Final = 1_000_000

Row = tuple[bytes, int]
"""A name and its d_type."""


class Order:
    """One directory's names in the order they are told.

    rows    -- names and types
    numbers -- name → d_ino, as far as it was known without a lookup
    places  -- the place of each row, ascending; None while it is just 1, 2, 3 …
    """

    __slots__ = ("_next", "numbers", "places", "rows")

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.numbers: dict[bytes, int] = {}
        self.places: list[int] | None = None
        self._next = len(rows) + 1

    def after(self, place: int) -> int:
        """Index of the first row behind a place; 0 is the beginning."""
        if self.places is None:
            return min(place, len(self.rows))
        return bisect_right(self.places, place)

    def place(self, index: int) -> int:
        """The place behind a row."""
        return index + 1 if self.places is None else self.places[index]

    def refresh(self, rows: list[Row]) -> None:
        """The directory has been read anew: known names keep their numbers."""
        if rows == self.rows:
            return
        known = {name: self.place(index) for index, (name, _) in enumerate(self.rows)}
        numbered = []
        number = self._next
        for row in rows:
            place = known.get(row[0])
            if place is None:
                place = number
                number += 1
            numbered.append((place, row))
        numbered.sort(key=lambda pair: pair[0])
        self._next = number
        self.rows = [row for _, row in numbered]
        self.places = [place for place, _ in numbered]


class Orders:
    """The orders of one session's directories, as many as are worth their memory.

    Those that have been read to the end are given up first: nobody is in the middle of them as far
    as can be told, and the kernel has cached what they told.
    """

    __slots__ = ("_finished", "_finished_names", "_names", "_orders")

    def __init__(self) -> None:
        self._orders: dict[int, Order] = {}
        self._finished: dict[int, None] = {}
        self._names = 0
        self._finished_names = 0

    def get(self, node: int) -> Order | None:
        return self._orders.get(node)

    def keep(self, node: int, order: Order) -> None:
        """Keep an order, now the youngest."""
        self.drop(node)
        self._orders[node] = order
        self._names += len(order.rows)
        while self._names > _ALL_NAMES and len(self._orders) > 1:
            self.drop(next(iter(self._orders)))

    def finish(self, node: int) -> None:
        """A reader of the directory has come to its end."""
        order = self._orders.get(node)
        if order is None or node in self._finished:
            return
        self._finished[node] = None
        self._finished_names += len(order.rows)
        while self._finished_names > _FINISHED_NAMES:
            self.drop(next(iter(self._finished)))

    def drop(self, node: int) -> None:
        """The kernel has forgotten the directory, or the memory is needed."""
        order = self._orders.pop(node, None)
        if order is None:
            return
        self._names -= len(order.rows)
        if node in self._finished:
            del self._finished[node]
            self._finished_names -= len(order.rows)

    def __len__(self) -> int:
        return len(self._orders)
