# SPDX-License-Identifier: GPL-3.0-or-later
"""Verbs that take several containers: each in turn, a line for each, and on after a failure."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.errors import LaunchError
from launcher.state import Entry, State
from launcher.typed import Callable
from unionfs import Arguments, UsageError

__all__ = ["each_of"]


def each_of(context: Context, arguments: Arguments, act: Callable[[Entry], object]) -> int:
    """Do `act` to each container that the operands name, and print what named it.

    Or what `act` returns, if it is not None. Returns 1 if one of them failed.
    """
    if not arguments.operands:
        raise UsageError("find containers", "", "none is named")
    status = 0
    for operand in arguments.operands:
        name = os.fsdecode(operand)
        try:
            # Looked up now: what was done to the one before may have changed this one.
            with State(context.paths) as state:
                entry = state.find(name)
            said = act(entry)
        except LaunchError as error:
            sys.stdout.flush()
            sys.stderr.write(f"lamina: {error}\n")
            status = 1
            continue
        print(name if said is None else said, flush=True)
    return status
