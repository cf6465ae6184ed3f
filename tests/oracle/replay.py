# SPDX-License-Identifier: GPL-3.0-or-later
"""Performing a printed history again: what the program that a failure prints imports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.oracle.contenders import factory, scratch
from tests.oracle.layers import Dir, File, HardLink, Meta, SoftLink, Special, Stack, Whiteout
from tests.oracle.operations import (
    Allocate,
    AnyOperation,
    Chmod,
    Chown,
    Close,
    Fsync,
    Getxattr,
    Link,
    List,
    Mkdir,
    Mknod,
    Open,
    Read,
    ReadAt,
    Readlink,
    Removexattr,
    Rename,
    Rmdir,
    Save,
    Seek,
    Setxattr,
    Stat,
    Symlink,
    Truncate,
    Unlink,
    Utimens,
    WriteAt,
)
from tests.oracle.steps import Age, Compare, Forget, Freeze, Remount, Step, Swap
from tests.oracle.trial import Trial
from tests.oracle.values import Fill

__all__ = [
    "Age",
    "Allocate",
    "Chmod",
    "Chown",
    "Close",
    "Compare",
    "Dir",
    "File",
    "Fill",
    "Forget",
    "Freeze",
    "Fsync",
    "Getxattr",
    "HardLink",
    "Link",
    "List",
    "Meta",
    "Mkdir",
    "Mknod",
    "Open",
    "Read",
    "ReadAt",
    "Readlink",
    "Remount",
    "Removexattr",
    "Rename",
    "Rmdir",
    "Save",
    "Seek",
    "Setxattr",
    "SoftLink",
    "Special",
    "Stat",
    "Swap",
    "Symlink",
    "Truncate",
    "Unlink",
    "Utimens",
    "Whiteout",
    "WriteAt",
    "os",
    "replay",
]


def replay(
    kinds: Sequence[str],
    stack: Stack,
    history: Sequence[AnyOperation | Step],
    where: Path = Path("/dev/shm"),
) -> None:
    """Perform `history` on the model and contenders of these kinds; Mismatch if they differ."""
    with scratch(where) as base:
        trial = Trial(base, stack, [factory(kind) for kind in kinds])
        try:
            for action in history:
                if isinstance(action, Step):
                    trial.step(action)
                else:
                    trial.perform(action)
            trial.finish()
        finally:
            trial.abandon()
