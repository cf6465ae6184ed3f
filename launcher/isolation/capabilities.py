# SPDX-License-Identifier: GPL-3.0-or-later
"""Capabilities: their names and numbers, the default set, and the bit masks the kernel takes.

A capability that the running kernel or this process lacks is left out of a mask rather than
refused: a machine that has less gives less.
"""

from __future__ import annotations

from launcher.errors import SpecError
from launcher.spec import Capabilities
from launcher.sys import process
from launcher.typed import Final, Iterable

__all__ = ["DEFAULT", "NAMES", "adjusted", "held", "last_capability", "mask", "names", "of_user"]

# In the order of their numbers (linux/capability.h).
_NAMES: Final = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
# What docker grants a container that asks for nothing.
_DEFAULT: Final = """
    CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE
    SYS_CHROOT KILL AUDIT_WRITE
"""

NAMES: Final = tuple(f"CAP_{name}" for name in _NAMES.split())
DEFAULT: Final = frozenset(f"CAP_{name}" for name in _DEFAULT.split())
_NUMBERS: Final = {name: number for number, name in enumerate(NAMES)}


def adjusted(add: Iterable[str], drop: Iterable[str]) -> frozenset[str]:
    """The default set with `--cap-add` and `--cap-drop`: names with or without CAP_, or ALL.

    As docker: all that is added is everything but what is dropped; all that is dropped is nothing
    but what is added; otherwise what is added wins.
    """
    added = {_full_name(name) for name in add}
    dropped = {_full_name(name) for name in drop}
    if "ALL" in added:
        return frozenset(NAMES) - dropped
    if "ALL" in dropped:
        return frozenset(added)
    return (DEFAULT - dropped) | added


def _full_name(name: str) -> str:
    upper = name.upper()
    if upper == "ALL":
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in _NUMBERS:
        raise SpecError("use capability", name, "there is none of that name")
    return full


def of_user(granted: frozenset[str], uid: int) -> Capabilities:
    """The five sets that docker gives: only root holds them at once."""
    held_now = granted if uid == 0 else frozenset[str]()
    return Capabilities(bounding=granted, effective=held_now, permitted=held_now)


def last_capability() -> int:
    """The number of the last capability that the running kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def mask(chosen: Iterable[str]) -> int:
    """Names as the kernel's bit mask."""
    bits = 0
    for name in chosen:
        number = _NUMBERS.get(name)
        if number is None:
            raise SpecError("use capability", name, "there is none of that name")
        bits |= 1 << number
    return bits


def names(bits: int) -> frozenset[str]:
    """A bit mask as names; a capability newer than this list by its number."""
    return frozenset(
        NAMES[number] if number < len(NAMES) else f"CAP_{number}"
        for number in range(bits.bit_length())
        if bits >> number & 1
    )


def held() -> int:
    """The permitted capabilities of this process, as a bit mask."""
    return process.capget()[1]
