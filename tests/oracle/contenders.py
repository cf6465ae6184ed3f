# SPDX-License-Identifier: GPL-3.0-or-later
"""Contenders by kind: kernel, inprocess, and one for each transport."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.oracle import overlayfs
from tests.oracle.targets import Contender, Kernel, Mounted
from tests.oracle.trial import Factory
from tests.support.transport import ALL_TRANSPORTS


def factory(kind: str) -> Factory:
    """What makes a contender of a kind."""
    if kind == "kernel":
        return Kernel
    if kind == "inprocess":
        return _in_process
    if kind in ALL_TRANSPORTS:
        return lambda merged: Mounted(merged, kind)
    raise ValueError(f"no such contender: {kind}")


def _in_process(merged: Path) -> Contender:
    from tests.oracle.inprocess import InProcess

    return InProcess()


def present(kinds: Iterable[str]) -> list[str]:
    """The kinds this machine has: where the kernel has no overlayfs, the model judges alone."""
    return [kind for kind in kinds if kind != "kernel" or overlayfs.available()]


@contextmanager
def scratch(where: Path) -> Iterator[Path]:
    """An empty directory below `where`, deleted afterwards."""
    base = Path(tempfile.mkdtemp(prefix="oracle-", dir=where))
    os.chmod(base, 0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base)
