# SPDX-License-Identifier: GPL-3.0-or-later
"""Resource limits: the names of setrlimit(2), docker's way to write them, and what can be had."""

from __future__ import annotations

import resource

from launcher.errors import SpecError
from launcher.spec import Rlimit
from launcher.typed import Final

__all__ = ["NUMBERS", "lower", "parse"]

NUMBERS: Final = {
    name: number
    for name in dir(resource)
    if name.startswith("RLIMIT_")
    and isinstance(number := getattr(resource, name), int)
    # OFILE is NOFILE's old name.
    and name != "RLIMIT_OFILE"
}


def parse(text: str) -> Rlimit:
    """A limit as `--ulimit` takes it: NAME=SOFT[:HARD], -1 or unlimited for none."""
    name, _, limits = text.partition("=")
    kind = f"RLIMIT_{name.upper()}"
    if kind not in NUMBERS:
        raise SpecError("set ulimit", name, "there is none of that name")
    soft_text, _, hard_text = limits.partition(":")
    try:
        soft, hard = (
            -1 if part == "unlimited" else int(part) for part in (soft_text, hard_text or soft_text)
        )
    except ValueError:
        raise SpecError("set ulimit", text, "expected NAME=SOFT[:HARD] in numbers") from None
    if min(soft, hard) < -1:
        raise SpecError("set ulimit", text, "a limit is at least 0, or -1 for none")
    if hard != -1 and (soft == -1 or soft > hard):
        raise SpecError("set ulimit", text, "the soft limit is over the hard limit")
    return Rlimit(kind, soft, hard)


def lower(number: int, soft: int, hard: int) -> bool:
    """Set a limit of this process; where the hard limit may not be raised, come as near as it goes.

    False if less than was asked for has been set (setrlimit(2): EPERM without CAP_SYS_RESOURCE).
    """
    try:
        resource.setrlimit(number, (soft, hard))
    except (PermissionError, ValueError):
        # The module turns EPERM on raising the hard limit into ValueError.
        highest = resource.getrlimit(number)[1]
        resource.setrlimit(number, (_least(soft, highest), _least(hard, highest)))
        return False
    return True


def _least(wanted: int, highest: int) -> int:
    if highest == resource.RLIM_INFINITY:
        return wanted
    return highest if wanted == resource.RLIM_INFINITY else min(wanted, highest)
