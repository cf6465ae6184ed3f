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
    """What makes a contender of a kind, such as kernel or inprocess+metacopy."""
    base, *variants = kind.split("+")
    unknown = set(variants) - {"metacopy", "userxattr"}
    if unknown:
        raise ValueError(f"no such variant: {', '.join(unknown)}")
    metacopy, userxattr = "metacopy" in variants, "userxattr" in variants
    if base == "kernel":
        options = overlayfs.options(metacopy=metacopy, userxattr=userxattr)
        return lambda merged: Kernel(merged, kind, options)
    if base == "inprocess":
        return lambda merged: _in_process(kind, metacopy=metacopy, userxattr=userxattr)
    if base in ALL_TRANSPORTS:
        return lambda merged: Mounted(merged, kind, metacopy=metacopy, userxattr=userxattr)
    raise ValueError(f"no such contender: {kind}")


def _in_process(kind: str, *, metacopy: bool, userxattr: bool) -> Contender:
    from tests.oracle.inprocess import InProcess

    return InProcess(kind, metacopy=metacopy, userxattr=userxattr)


def present(kinds: Iterable[str]) -> list[str]:
    """The kinds this machine has: where the kernel has no overlayfs, the model judges alone."""
    return [kind for kind in kinds if not kind.startswith("kernel") or overlayfs.available()]


@contextmanager
def scratch(where: Path) -> Iterator[Path]:
    """An empty directory below `where`, deleted afterwards."""
    base = Path(tempfile.mkdtemp(prefix="oracle-", dir=where))
    os.chmod(base, 0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base)
