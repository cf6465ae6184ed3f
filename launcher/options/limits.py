# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits of cgroups: from flags to `Resources`, for `run`, `create` and `update`."""

from __future__ import annotations

import os
import stat

from launcher.errors import SpecError
from launcher.options.quantities import invalid, processors, size, whole
from launcher.record import RestartPolicy
from launcher.spec import BlockThrottle, BlockWeight, Resources
from launcher.typed import Final
from unionfs import Arguments

__all__ = ["resources_of", "restart_of"]

# docker's least memory, which a first process needs to come up at all.
_LEAST_MEMORY: Final = 6 << 20
_PERIOD: Final = 100_000  # microseconds, the kernel's default
_RANGE_PERIOD: Final = (1_000, 1_000_000)
_POLICIES: Final = ("no", "always", "unless-stopped", "on-failure")


def resources_of(arguments: Arguments, old: Resources = Resources()) -> Resources:  # noqa: B008
    """`old` with what the flags say. Raises SpecError for what docker refuses too."""
    said = {key: os.fsdecode(values[-1]) for key, values in arguments.flags.items()}
    changes: dict[str, object] = {}
    for flag, field, minus_one in (
        ("--memory", "memory", False),
        ("--memory-reservation", "memory_reservation", False),
        ("--memory-swap", "memory_swap", True),
    ):
        if flag in said:
            number = -1 if minus_one and said[flag] == "-1" else size(flag, said[flag])
            changes[field] = number or None
    if "memory" in changes and changes["memory"] is None:
        # Without the one the other has no meaning.
        changes.setdefault("memory_swap", None)
    for flag, field, least, most in (
        ("--cpu-shares", "cpu_shares", 0, 1 << 18),
        ("--cpu-quota", "cpu_quota", -1, None),
        ("--cpu-period", "cpu_period", 0, None),
        ("--pids-limit", "pids", -1, None),
        ("--blkio-weight", "blkio_weight", 0, 1000),
        ("--memory-swappiness", "memory_swappiness", -1, 100),
    ):
        if flag in said:
            changes[field] = whole(flag, said[flag], least, most) or None
    if changes.get("memory_swappiness") == -1:
        changes["memory_swappiness"] = None
    if said.get("--memory-swappiness") == "0":
        changes["memory_swappiness"] = 0
    for flag, field in (("--cpuset-cpus", "cpuset_cpus"), ("--cpuset-mems", "cpuset_mems")):
        if flag in said:
            _check_list(flag, said[flag])
            changes[field] = said[flag]
    if "--oom-kill-disable" in said:
        changes["oom_kill_disable"] = True
    if "--cpus" in said:
        if "--cpu-quota" in said or "--cpu-period" in said:
            other = "--cpu-quota" if "--cpu-quota" in said else "--cpu-period"
            raise invalid("--cpus", said["--cpus"], f"{other} says the same in another way")
        changes.update(_share(said["--cpus"]))
    changes.update(_blocks(arguments))
    made = old._replace(**changes)  # type: ignore[arg-type]
    _check(made, said)
    return made


def _share(text: str) -> dict[str, object]:
    share = processors("--cpus", text)
    there = os.cpu_count() or 1
    if share == 0:
        return {"cpu_quota": None, "cpu_period": None}
    if share > there * 1_000_000_000:
        raise invalid("--cpus", text, f"this machine has {there}")
    quota = share * _PERIOD // 1_000_000_000
    if quota < _RANGE_PERIOD[0]:
        raise invalid("--cpus", text, "the least is 0.01")
    return {"cpu_quota": quota, "cpu_period": _PERIOD}


def _check(made: Resources, said: dict[str, str]) -> None:
    memory, swap, kept = made.memory, made.memory_swap, made.memory_reservation
    if memory is not None and memory < _LEAST_MEMORY:
        raise invalid("--memory", said.get("--memory", str(memory)), "the least is 6m")
    if kept is not None and kept < _LEAST_MEMORY:
        text = said.get("--memory-reservation", str(kept))
        raise invalid("--memory-reservation", text, "the least is 6m")
    if swap is not None and swap > 0:
        text = said.get("--memory-swap", str(swap))
        if memory is None:
            raise invalid("--memory-swap", text, "it needs --memory beside it")
        if swap < memory:
            raise invalid("--memory-swap", text, "it counts memory too, and is less than --memory")
    if memory is not None and kept is not None and kept > memory:
        text = said.get("--memory-reservation", str(kept))
        raise invalid("--memory-reservation", text, "it is more than --memory")
    period, quota = made.cpu_period, made.cpu_quota
    if period and not _RANGE_PERIOD[0] <= period <= _RANGE_PERIOD[1]:
        raise invalid("--cpu-period", str(period), "it is between 1000 and 1000000")
    if quota and 0 < quota < _RANGE_PERIOD[0]:
        raise invalid("--cpu-quota", str(quota), "the least is 1000")
    weight = made.blkio_weight
    if weight and weight < 10:
        raise invalid("--blkio-weight", str(weight), "it is between 10 and 1000")


def _check_list(flag: str, text: str) -> None:
    """A list as cpuset(7) has it: 0-2,4."""
    for part in text.split(","):
        first, dash, last = part.partition("-")
        for number in (first, last) if dash else (first,):
            if not number.isascii() or not number.isdecimal():
                raise invalid(flag, text, "it is not a list such as 0-2,4")
        if dash and int(first) > int(last):
            raise invalid(flag, text, f"{part} runs backwards")


# -- one device ------------------------------------------------------------------------------------


def _blocks(arguments: Arguments) -> dict[str, object]:
    found: dict[str, object] = {}
    weights = []
    for text in _texts(arguments, "--blkio-weight-device"):
        path, number = _of_device("--blkio-weight-device", text)
        weight = whole("--blkio-weight-device", number, 0, 1000)
        if 0 < weight < 10:
            raise invalid("--blkio-weight-device", text, "it is between 10 and 1000")
        weights.append(BlockWeight(*_numbers("--blkio-weight-device", text, path), weight))
    if weights:
        found["blkio_weight_device"] = tuple(weights)
    for flag, field, in_bytes in (
        ("--device-read-bps", "blkio_read_bps", True),
        ("--device-write-bps", "blkio_write_bps", True),
        ("--device-read-iops", "blkio_read_iops", False),
        ("--device-write-iops", "blkio_write_iops", False),
    ):
        throttles = []
        for text in _texts(arguments, flag):
            path, number = _of_device(flag, text)
            rate = size(flag, number) if in_bytes else whole(flag, number, 0)
            throttles.append(BlockThrottle(*_numbers(flag, text, path), rate))
        if throttles:
            found[field] = tuple(throttles)
    return found


def _texts(arguments: Arguments, flag: str) -> list[str]:
    return [os.fsdecode(value) for value in arguments.all(flag)]


def _of_device(flag: str, text: str) -> tuple[str, str]:
    path, colon, number = text.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise invalid(flag, text, "it is written /dev/NAME:NUMBER")
    return path, number


def _numbers(flag: str, text: str, path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise SpecError("use", f"{flag} {text}", error) from error
    if not stat.S_ISBLK(found.st_mode):
        raise invalid(flag, text, "it is not a block device")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


# -- restart ---------------------------------------------------------------------------------------


def restart_of(arguments: Arguments) -> RestartPolicy | None:
    """`--restart`, or None where nothing is said."""
    value = arguments.one("--restart")
    if value is None:
        return None
    text = os.fsdecode(value)
    name, colon, tries = text.partition(":")
    if name not in _POLICIES:
        raise invalid("--restart", text, f"it is one of {', '.join(_POLICIES)}")
    if colon and name != "on-failure":
        raise invalid("--restart", text, "only on-failure takes a number of tries")
    return RestartPolicy(name, whole("--restart", tries, 0) if colon else 0)
