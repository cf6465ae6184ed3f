# SPDX-License-Identifier: GPL-3.0-or-later
"""The command in a root of its own; afterwards nothing of it may be left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.command import Lamina


@pytest.fixture
def lamina(tmp_path: Path) -> Iterator[Lamina]:
    """`lamina` with a root in the test's directory."""
    made = Lamina(tmp_path / "root")
    yield made
    made.finish()
