# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories on the union, kernel overlayfs and the model: no difference but those listed.

An ordinary run performs the same histories each time; the nightly one draws new ones. A failure
prints the shortest history that Hypothesis finds as a program.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import LayersFactory
from tests.oracle import overlayfs
from tests.oracle.machine import run
from tests.support.clock import slowness
from tests.support.transport import transports


def _size(operations: int) -> int:
    """So many operations, fewer on a slow machine."""
    return max(100, int(operations / slowness()))


@pytest.fixture
def tmpfs(new_layers: LayersFactory) -> Path:
    """A fresh tmpfs."""
    return new_layers("tmpfs", "1g").root


@pytest.fixture
def ext4(new_layers: LayersFactory) -> Path:
    """A fresh ext4 in a loop device."""
    return new_layers("ext4", "512m").root


def test_kernel_overlayfs_is_a_fair_judge(tmpfs: Path) -> None:
    """By itself it differs from a plain directory only as `deviations` says."""
    if not overlayfs.available():
        pytest.skip("this kernel has no overlayfs: the model judges alone")
    run(tmpfs, ["kernel"], _size(200))


def test_union_in_process(tmpfs: Path) -> None:
    run(tmpfs, ["kernel", "inprocess"], _size(800))


def test_union_in_process_with_metacopy(tmpfs: Path) -> None:
    run(tmpfs, ["kernel+metacopy", "inprocess+metacopy"], _size(200))


@pytest.mark.parametrize("transport", transports())
def test_mounted_union(tmpfs: Path, transport: str) -> None:
    run(tmpfs, ["kernel", transport], _size(200))


@pytest.mark.nightly
def test_union_in_process_nightly(tmpfs: Path) -> None:
    run(tmpfs, ["kernel", "inprocess"], 20_000, random=True)


@pytest.mark.nightly
def test_union_in_process_with_metacopy_nightly(tmpfs: Path) -> None:
    run(tmpfs, ["kernel+metacopy", "inprocess+metacopy"], 5_000, random=True)


@pytest.mark.nightly
def test_union_in_process_on_ext4_nightly(ext4: Path) -> None:
    run(ext4, ["kernel", "inprocess"], 5_000, random=True)


@pytest.mark.nightly
def test_union_in_process_over_another_filesystem_nightly(tmpfs: Path, ext4: Path) -> None:
    """Upper and work on tmpfs, the lower layers on ext4."""
    run(tmpfs, ["kernel", "inprocess"], 5_000, random=True, lowers=ext4)


@pytest.mark.nightly
@pytest.mark.parametrize("transport", transports())
def test_mounted_union_nightly(tmpfs: Path, transport: str) -> None:
    run(tmpfs, ["kernel", transport], 3_000, random=True)
