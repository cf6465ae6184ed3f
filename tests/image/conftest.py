# SPDX-License-Identifier: GPL-3.0-or-later
"""A store of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.image.store import Layer, Store
from launcher.image.tarwrite import Writer
from launcher.paths import Paths

Build = Callable[[Callable[[Writer], None]], bytes]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Places that nobody else has."""
    base = os.fsencode(tmp_path)
    return Paths(base + b"/root", base + b"/run")


@pytest.fixture
def store(paths: Paths) -> Iterator[Store]:
    """An empty store."""
    with Store(paths) as opened:
        yield opened


def archive(fill: Callable[[Writer], None]) -> bytes:
    """The bytes of an archive that `fill` writes."""
    pieces: list[bytes] = []
    writer = Writer(pieces.append)
    fill(writer)
    writer.close()
    return b"".join(pieces)


def reading(data: bytes) -> Callable[[int], bytes]:
    """`data` as something that is read."""
    at = 0

    def read(length: int) -> bytes:
        nonlocal at
        piece = data[at : at + length]
        at += len(piece)
        return piece

    return read


def make_image(store: Store, *layers: bytes, name: str = "test:latest") -> tuple[str, list[Layer]]:
    """An image of layers' archives, the lowest first."""
    from launcher.image import config

    made: list[Layer] = []
    with store.adding() as adding:
        for data in layers:
            made.append(adding.receive(reading(data), made))
        document = config.new({}, [layer.diff_id for layer in made], 0, [])
        id = adding.image(document, made, [name])
    return id, list(store.layers(id))
