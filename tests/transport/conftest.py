# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of the transports' own tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.support.layers import Layers
from tests.transport.device_modes import MODES
from tests.transport.device_served import DeviceServed, Start
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


@pytest.fixture
def start() -> Iterator[Start]:
    """Mount a union over the device transport; at the test's end it must end and hold nothing."""
    started: list[DeviceServed] = []

    def make(layers: Layers, **options: Any) -> DeviceServed:
        served = DeviceServed(layers, **options)
        started.append(served)
        return served.start()

    yield make
    for served in reversed(started):
        served.finish()


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The ways in which the device transport may have to work, in turn."""
    return MODES[request.param]
