# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks: `--health-…` worked into what the image says."""

from __future__ import annotations

import os

from launcher.errors import SpecError
from launcher.image.model import Health
from launcher.options.quantities import duration, invalid, whole
from unionfs import Arguments

__all__ = ["health_of"]

_NANOSECONDS = 1_000_000


def health_of(arguments: Arguments, image: Health | None) -> Health | None:
    """The check, or None for none. What no flag says is the image's."""
    said = {
        key: os.fsdecode(values[-1])
        for key, values in arguments.flags.items()
        if key.startswith("--health-")
    }
    if arguments.has("--no-healthcheck"):
        if said:
            reason = f"{next(iter(said))} asks for one"
            raise SpecError("use", "--no-healthcheck", reason)
        return None
    test = ("CMD-SHELL", said["--health-cmd"]) if "--health-cmd" in said else ()
    base = image if image is not None else Health()
    made = base._replace(
        test=test or base.test,
        interval=_time(said, "--health-interval", base.interval),
        timeout=_time(said, "--health-timeout", base.timeout),
        start_period=_time(said, "--health-start-period", base.start_period),
        start_interval=_time(said, "--health-start-interval", base.start_interval),
        retries=whole("--health-retries", said["--health-retries"], 0)
        if "--health-retries" in said
        else base.retries,
    )
    if not made.test or made.test[0] == "NONE":
        return None
    return made


def _time(said: dict[str, str], flag: str, otherwise: int) -> int:
    if flag not in said:
        return otherwise
    time = duration(flag, said[flag])
    if 0 < time < _NANOSECONDS:
        raise invalid(flag, said[flag], "the least is 1ms")
    return time
