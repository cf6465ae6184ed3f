# SPDX-License-Identifier: GPL-3.0-or-later
"""The oracle mounts where nobody else makes copies of its mounts.

A mount namespace that some other process makes meanwhile would hold kernel overlayfs's last mount
of the layers for as long as it lives, and the next mount of them would find them busy.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

import pytest

from tests.support.mounttable import mounts, run
from tests.support.syscall import leave_mount_namespace


@pytest.fixture(scope="session", autouse=True)
def _own_mounts() -> None:
    """From the first test of the oracle on, this process has a mount namespace of its own.

    It lets go of what other tests have mounted, so as not to do to them what it is saved from.
    """
    leave_mount_namespace()
    theirs = os.path.join(os.fsencode(tempfile.gettempdir()), b"lamina-")
    for entry in reversed(mounts()):
        if entry.fstype == "fuse.lamina" or entry.mountpoint.startswith(theirs):
            with contextlib.suppress(AssertionError):  # gone by itself meanwhile
                run("umount", "--lazy", os.fsdecode(entry.mountpoint))
