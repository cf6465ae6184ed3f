# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the launcher's tests: a rootfs, cgroups, and the certainty that nothing is left."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.cgroup.group import Group
from launcher.spec import Resources
from tests.launcher import box
from tests.launcher.command import Lamina


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rootfs that no test may change."""
    path = tmp_path_factory.mktemp("template")
    # An ordinary user's container must reach it.
    for each in (path, *list(path.parents)[:2]):
        each.chmod(0o755)
    return box.make_rootfs(path / "rootfs")


@pytest.fixture
def root(template: Path) -> Path:
    return template


@pytest.fixture
def fresh_root(tmp_path: Path) -> Path:
    """A rootfs for one test to change."""
    return box.make_rootfs(tmp_path / "rootfs")


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No mount, child, cgroup or descriptor may outlive a test."""
    descriptors = os.listdir("/proc/self/fd")
    yield
    # Other mounts of the machine come and go.
    mounts = Path("/proc/self/mountinfo").read_bytes()
    assert bytes(tmp_path_factory.getbasetemp()) not in mounts
    assert os.listdir("/proc/self/fd") == descriptors
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


_numbers = itertools.count()


@pytest.fixture
def make_group() -> Iterator[Callable[[Resources], Group]]:
    """Make a cgroup; it is removed with the test, and then must be gone."""
    made: list[Group] = []

    def make(resources: Resources) -> Group:
        made.append(Group.create(f"test-{os.getpid()}-{next(_numbers)}", resources))
        return made[-1]

    yield make
    for group in made:
        group.remove()
        assert not [path for path in group.paths() if os.path.exists(path)]


@pytest.fixture(scope="session")
def lamina_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lamina]:
    """`lamina` with a root of its own, for all tests of a session."""
    lamina = Lamina(tmp_path_factory.mktemp("lamina") / "root")
    lamina.good("create", "--name", "first", "busybox")  # the image is made once
    lamina.clear()
    yield lamina
    shutil.rmtree(os.fsdecode(lamina.paths.run))


@pytest.fixture
def lamina(lamina_root: Lamina) -> Iterator[Lamina]:
    """`lamina`, of which a test must leave nothing that runs; what it made is cleared away."""
    yield lamina_root
    lamina_root.clear()
    lamina_root.nothing_runs()
