# SPDX-License-Identifier: GPL-3.0-or-later
"""Merged directories with more names than the daemon keeps in memory."""

from __future__ import annotations

import os

import pytest

from tests.conftest import MountUnion
from tests.support.layers import Layers

ENTRIES = 60_000


@pytest.mark.slow
def test_merged(layers: Layers, mount_union: MountUnion) -> None:
    """Looked at name by name, changed and listed; in seconds, since no lookup reads all names.

    The daemon's limit is the test's: a read of the whole directory for every few lookups would
    take hours.
    """
    for number in range(ENTRIES):
        os.close(os.open(layers.lower / f"{number:05}", os.O_CREAT | os.O_WRONLY))
    mount_union(limit=60)
    merged = layers.merged
    (merged / "new").write_bytes(b"new")
    names = {f"{number:05}" for number in range(ENTRIES)} | {"new"}
    assert set(os.listdir(merged)) == names
    for name in names:
        os.stat(merged / name)
    for number in range(0, ENTRIES, 100):
        assert not os.path.lexists(merged / f"missing{number}")
        (merged / f"{number:05}").unlink()
        names.remove(f"{number:05}")
    for number in range(50, ENTRIES, 100):
        (merged / f"{number:05}").rename(merged / f"moved{number:05}")
        names ^= {f"{number:05}", f"moved{number:05}"}
    assert set(os.listdir(merged)) == names
    for number in range(0, ENTRIES, 100):
        assert not os.path.lexists(merged / f"{number:05}")
        assert not os.path.lexists(merged / f"{number + 50:05}")
        assert os.path.lexists(merged / f"moved{number + 50:05}")
