# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for every test that mounts: layers, unions, and the certainty that nothing is left."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.daemon import Daemon, Option
from tests.support.layers import Filesystem, Layers, make_layers
from tests.support.transport import transports


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Each test begins with the common umask, which a union in this process sets to 0."""
    os.umask(0o022)
    yield
    os.umask(0o022)


class LayersFactory(Protocol):
    """See `new_layers`."""

    def __call__(
        self, filesystem: Filesystem = "tmpfs", size: str = "512m", inodes: int | None = None
    ) -> Layers: ...


class MountUnion(Protocol):
    """See `mount_union`."""

    def __call__(
        self,
        lowers: Sequence[Path | bytes] | None = None,
        upper: Path | bool | None = True,
        work: Path | None = None,
        merged: Path | None = None,
        transport: str | None = None,
        limit: float = 120.0,
        **options: Option,
    ) -> Daemon: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="run the tests of nightly size too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the nightly tests out of an ordinary run, and say how many."""
    if config.getoption("--nightly"):
        return
    nightly = [item for item in items if item.get_closest_marker("nightly")]
    if nightly:
        items[:] = [item for item in items if item not in nightly]
        config.hook.pytest_deselected(items=nightly)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Mounting is what is tested: without the means for it the run fails, it does not skip."""
    if os.geteuid() != 0:
        pytest.exit("the tests mount filesystems: run them as root", returncode=1)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.exit("the tests need /dev/fuse: modprobe fuse", returncode=1)


@pytest.fixture
def new_layers() -> Iterator[LayersFactory]:
    """Make layers on a filesystem of one's choice; they end with the test."""
    made: list[Layers] = []

    def make(
        filesystem: Filesystem = "tmpfs", size: str = "512m", inodes: int | None = None
    ) -> Layers:
        made.append(make_layers(filesystem, size, inodes))
        return made[-1]

    yield make
    for layers in made:
        layers.remove()


@pytest.fixture
def layers(new_layers: LayersFactory) -> Layers:
    """lower, upper, work and merged on a fresh tmpfs."""
    return new_layers()


@pytest.fixture
def layers_ext4(new_layers: LayersFactory) -> Layers:
    """lower, upper, work and merged on a fresh ext4 of 64 MiB."""
    return new_layers("ext4", "64m")


@pytest.fixture(params=transports())
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport in turn; a test for one of them parametrises `transport` directly."""
    name: str = request.param
    return name


@pytest.fixture
def mount_union(layers: Layers, transport: str) -> Iterator[MountUnion]:
    """Mount a union and return its daemon when it is ready.

    Without arguments: `layers.lower`, `layers.upper` and `layers.work` on `layers.merged`. With
    `upper=None` there is neither upper nor work. Further keywords become `-o` options (True is
    the bare name). After the test the daemon must end cleanly on SIGTERM, leave no mount, and
    have logged no traceback (but see Daemon.expected_log). After `limit` seconds (scaled) the
    daemon is killed, which frees whoever waits for it.
    """
    started: list[Daemon] = []

    def mount(
        lowers: Sequence[Path | bytes] | None = None,
        upper: Path | bool | None = True,
        work: Path | None = None,
        merged: Path | None = None,
        transport: str | None = None,
        limit: float = 120.0,
        **options: Option,
    ) -> Daemon:
        if upper is True:
            upper = layers.upper
            work = work or layers.work
        daemon = Daemon(
            merged or layers.merged,
            [layers.lower] if lowers is None else lowers,
            upper or None,
            work,
            transport or chosen,
            options,
            limit,
        )
        started.append(daemon)
        daemon.start()
        return daemon

    chosen = transport
    yield mount
    failures: list[Exception | AssertionError] = []
    for daemon in reversed(started):
        try:
            daemon.finish()
        except (AssertionError, OSError) as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
