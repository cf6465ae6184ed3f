# SPDX-License-Identifier: GPL-3.0-or-later
"""A root with made containers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.paths import chosen
from tests.launcher.show.made import Made


@contextmanager
def new_made(place: Path) -> Iterator[Made]:
    """Containers of a root at `place`."""
    paths = chosen(bytes(place))
    paths.ensure()
    made = Made(paths)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(paths.run)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    with new_made(tmp_path / "root") as made:
        yield made
