# SPDX-License-Identifier: GPL-3.0-or-later
"""The C library as every room of `launcher.sys` calls it, and how its failures become `OSError`.

The interpreter lock is kept through each call: the calls are short, and the ones that make a
process must not give another thread of the caller a turn in between. What may wait for a union that
a thread of this very process serves goes through `Waiting`, which lets go of the lock.
"""

from __future__ import annotations

import ctypes
import os

from launcher.typed import Final

__all__ = ["C", "Waiting", "failure", "syscall", "waiting_syscall"]

C: Final = ctypes.PyDLL(None, use_errno=True)
syscall: Final = C.syscall
syscall.restype = ctypes.c_long

Waiting: Final = ctypes.CDLL(None, use_errno=True)
waiting_syscall: Final = Waiting.syscall
waiting_syscall.restype = ctypes.c_long


def failure(path: bytes | str | None = None) -> OSError:
    """The `OSError` for what errno says now, naming `path` where there is one."""
    number = ctypes.get_errno()
    if path is None:
        return OSError(number, os.strerror(number))
    return OSError(number, os.strerror(number), path)
