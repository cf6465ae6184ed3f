# SPDX-License-Identifier: GPL-3.0-or-later
"""The `lamina` command: from its first word to the code that does it.

A verb's code is loaded when that verb runs. The verbs of the union (mount, umount, mounts, diff,
explain) are those of `unionfs`.
"""

from __future__ import annotations

import sys

import unionfs

__all__ = ["main"]


def main() -> int:
    """Run the words of this process; returns the exit status."""
    if sys.argv[1:2] == ["bench"]:
        from launcher.cli import bench

        return bench.run(sys.argv[2:])
    status = unionfs.command_line()
    if sys.argv[1:2] in (["-h"], ["--help"], ["help"]):
        print("Beside these, lamina bench measures unions against each other.")
    return status
