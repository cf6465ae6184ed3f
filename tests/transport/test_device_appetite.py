# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings bring the attributes of their entries where somebody wants them, and only there."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.layers import Layers
from tests.transport.device_served import Start
from unionfs.fuse.appetite import Appetite

DIRECTORIES = 20
ENTRIES = 10


def directories(layers: Layers) -> list[Path]:
    for number in range(DIRECTORIES):
        path = layers.lower / f"dir{number}"
        path.mkdir()
        for entry in range(ENTRIES):
            (path / f"{entry}").touch()
    return [layers.merged / f"dir{number}" for number in range(DIRECTORIES)]


def test_names_alone_make_no_nodes(layers: Layers, start: Start) -> None:
    paths = directories(layers)
    served = start(layers)
    for path in paths:
        assert len(os.listdir(path)) == ENTRIES
    assert served.state().nodes <= DIRECTORIES + 2


def test_attributes_come_along_once_they_were_wanted(layers: Layers, start: Start) -> None:
    """As with ls -l: after the first directory one listing tells all that is in the next."""
    paths = directories(layers)
    served = start(layers)
    for path in paths:
        names = os.listdir(path)
        assert sum(os.lstat(path / name).st_nlink for name in names) == ENTRIES
    # The directories by name, the entries of the first, and of those that were trials.
    assert served.state()["LOOKUP"] <= DIRECTORIES + 3 * ENTRIES


def listing(appetite: Appetite, number: int, *, wanted: bool) -> bool:
    """One directory is listed, and looked into if so `wanted`; whether it was told in full."""
    full = appetite.for_attributes()
    if not full:
        appetite.told_barely(number, ENTRIES)
        if wanted:
            for _ in range(ENTRIES):
                if number in appetite.bare:
                    appetite.looked_up(number)
    return full


def test_a_lookup_or_two_is_no_sign() -> None:
    appetite = Appetite()
    for number in range(100):
        assert not appetite.for_attributes()
        appetite.told_barely(number, ENTRIES)
        appetite.looked_up(number)


def test_trials_become_rare_while_they_succeed() -> None:
    appetite = Appetite()
    told = [listing(appetite, number, wanted=True) for number in range(1000)]
    assert told.count(False) < 12
    assert told[500:].count(False) < 4


def test_a_change_of_habits_is_noticed() -> None:
    appetite = Appetite()
    for number in range(100):
        listing(appetite, number, wanted=True)
    told = [listing(appetite, number, wanted=False) for number in range(1000)]
    assert not any(told[300:])
    assert not listing(appetite, 1000, wanted=True)
    assert listing(appetite, 1001, wanted=True)


def test_little_is_remembered() -> None:
    appetite = Appetite()
    for number in range(10_000):
        appetite.for_attributes()
        appetite.told_barely(number, ENTRIES)
    assert len(appetite.bare) <= 64
