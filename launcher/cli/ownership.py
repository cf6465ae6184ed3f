# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose files a verb is going to read and write."""

from __future__ import annotations

import os

__all__ = ["become_owner"]


def become_owner() -> None:
    """Of an ordinary user's process: get all the ids that files of images may belong to.

    The process must not have threads. Raises LaunchError.
    """
    if os.geteuid() != 0:
        from launcher.supervisor import rootless

        rootless.become()
