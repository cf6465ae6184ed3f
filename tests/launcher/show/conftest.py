# SPDX-License-Identifier: GPL-3.0-or-later
"""A root with made containers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.paths import chosen
from tests.launcher.show.made import Made


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    paths = chosen(bytes(tmp_path / "root"))
    paths.ensure()
    made = Made(paths)
    yield made
    made.close()
    shutil.rmtree(paths.run)
