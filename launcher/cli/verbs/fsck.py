# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina fsck`: check the images, and mend what can be mended."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.cli.ownership import become_owner
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina fsck",
    "[--repair]",
    "check digests, layers and tables of the image store",
    (
        Flag(("--repair",), None, "make layers again that differ from their archives"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """One line for each fault; the status is 1 if any of them is left."""
    from launcher.image.check import check
    from launcher.image.store import Store

    if arguments.operands:
        raise UsageError("check", os.fsdecode(arguments.operands[0]), "all is checked at once")
    become_owner()
    left = 0
    with Store(context.paths) as store:
        for fault in check(store, repair=arguments.has("--repair")):
            said = " (mended)" if fault.mended else ""
            print(f"{fault.thing}: {fault.reason}{said}")
            left += not fault.mended
    if left:
        sys.stdout.flush()
        faults = "1 fault is" if left == 1 else f"{left} faults are"
        sys.stderr.write(
            f"lamina: cannot vouch for {os.fsdecode(context.paths.root)}: {faults} left\n"
        )
        return 1
    return 0
