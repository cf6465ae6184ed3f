# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture of the transports' own tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.support.layers import Layers
from tests.transport.pyfuse_served import Served


class Serve(Protocol):
    """See `serve`."""

    def __call__(self, layers: Layers | None = None, **options: Any) -> Served: ...


@pytest.fixture
def serve(layers: Layers) -> Iterator[Serve]:
    """Mount a union over pyfuse3; at the test's end the daemon must end cleanly."""
    started: list[Served] = []
    usual = layers

    def start(layers: Layers | None = None, **options: Any) -> Served:
        served = Served(layers or usual, **options)
        started.append(served)
        return served.start()

    yield start
    for served in reversed(started):
        served.finish()
