# SPDX-License-Identifier: GPL-3.0-or-later
"""Places in a directory: each name once, whatever is made and removed between two reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unionfs.fuse.order import Order, Orders, Row


def rows(*names: bytes) -> list[Row]:
    return [(name, 8) for name in names]


def rest(order: Order, place: int) -> list[bytes]:
    return [name for name, _ in order.rows[order.after(place) :]]


def test_places_count_from_one() -> None:
    order = Order(rows(b".", b"..", b"a"))
    assert [order.place(index) for index in range(3)] == [1, 2, 3]
    assert rest(order, 0) == [b".", b"..", b"a"]
    assert rest(order, 2) == [b"a"]
    assert rest(order, 3) == []
    assert rest(order, 99) == []


def test_names_keep_their_places() -> None:
    order = Order(rows(b".", b"..", b"a", b"b", b"c"))
    order.refresh(rows(b".", b"..", b"c", b"new", b"b"))
    assert rest(order, 0) == [b".", b"..", b"b", b"c", b"new"]
    assert rest(order, 3) == [b"b", b"c", b"new"]  # behind where "a" was
    order.refresh(rows(b".", b"..", b"a", b"new"))
    # A name that comes back is a new one.
    assert rest(order, 5) == [b"new", b"a"]


def test_unchanged_directory_stays_dense() -> None:
    order = Order(rows(b".", b"..", b"a"))
    order.refresh(rows(b".", b"..", b"a"))
    assert order.places is None


@given(
    st.sets(st.integers(0, 30)),
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=20),
    st.integers(1, 7),
)
def test_a_name_that_stays_is_told_exactly_once(
    start: set[int], changes: list[tuple[int, bool]], step: int
) -> None:
    """A reader in the middle, and others that start from the beginning after each change."""
    present = set(start)
    stayed = set(start)
    order = Order(rows(*(b"%d" % name for name in sorted(present))))
    told: list[bytes] = []
    place = 0
    for number, add in [*changes, (99, False)]:
        index = order.after(place)
        for name, _ in order.rows[index : index + step]:
            told.append(name)
        taken = min(step, len(order.rows) - index)
        if taken > 0:
            place = order.place(index + taken - 1)
        if add:
            present.add(number)
        else:
            present.discard(number)
            stayed.discard(number)
        order.refresh(rows(*(b"%d" % name for name in sorted(present, reverse=True))))
    told += rest(order, place)
    for number in stayed:
        assert told.count(b"%d" % number) == 1


def test_finished_orders_are_given_up_first() -> None:
    orders = Orders()
    orders.keep(1, Order(rows(*(b"%d" % n for n in range(6000)))))
    orders.keep(2, Order(rows(*(b"%d" % n for n in range(6000)))))
    orders.keep(3, Order(rows(b"a")))
    orders.finish(1)
    assert orders.get(1) is not None
    orders.finish(2)
    assert orders.get(1) is None
    assert orders.get(2) is not None
    assert orders.get(3) is not None
    orders.drop(2)
    orders.drop(2)
    assert len(orders) == 1


def test_a_directory_too_large_to_keep_is_kept_while_it_is_read() -> None:
    orders = Orders()
    orders.keep(1, Order(rows(*(b"%d" % n for n in range(20000)))))
    assert orders.get(1) is not None
    orders.finish(1)
    assert orders.get(1) is None
