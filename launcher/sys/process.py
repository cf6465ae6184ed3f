# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that make a process or change what it is: clone3, setns, prctl, capset, seccomp.

Each raises `OSError`. Descriptors passed in stay the caller's.
"""

from __future__ import annotations

import ctypes
import os
import struct

from launcher.sys.libc import C, failure, syscall
from launcher.typed import Final

# Numbers from asm-generic/unistd.h: the same on every architecture since Linux 5.0.
_SYS_CLONE3: Final = 435
_SYS_CLOSE_RANGE: Final = 436

CLONE_NEWTIME: Final = 0x00000080
CLONE_PIDFD: Final = 0x00001000
CLONE_PARENT: Final = 0x00008000
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CLONE_INTO_CGROUP: Final = 0x200000000

CLOSE_RANGE_CLOEXEC: Final = 4

# prctl(2), what python-prctl lacks or knows only for the capabilities of its own time
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_IS_SET: Final = 1
PR_CAP_AMBIENT_RAISE: Final = 2
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_M_ARENA_MAX: Final = -8
_SECCOMP_SET_MODE_FILTER: Final = 1
_BPF_INSTRUCTION: Final = 8
_KEYCTL_JOIN_SESSION_KEYRING: Final = 1
_LINUX_CAPABILITY_VERSION_3: Final = 0x20080522

_MACHINE: Final = os.uname().machine
# (seccomp, keyctl): older than the common numbering of system calls.
_NUMBERS: Final = {
    "x86_64": (317, 250),
    "aarch64": (277, 219),
    "riscv64": (277, 219),
    "loongarch64": (277, 219),
    "ppc64le": (358, 271),
    "s390x": (348, 280),
}

_prctl: Final = C.prctl
_prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def clone3(flags: int, *, exit_signal: int = 0, cgroup: int | None = None) -> int:
    """clone3(2) without a stack of its own: like fork, 0 in the child.

    For a process with a single thread only: no lock of any other thread is made whole again in
    the child. `cgroup` is a descriptor of a cgroup v2 directory in which the child begins.
    """
    if cgroup is not None:
        flags |= CLONE_INTO_CGROUP
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    # set_tid_size, cgroup
    arguments = struct.pack("=11Q", flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup or 0)
    pid: int = syscall(_SYS_CLONE3, arguments, ctypes.c_size_t(len(arguments)))
    if pid < 0:
        raise failure()
    return pid


def set_oom_score(value: int) -> None:
    """Set how soon this process and what it clones are killed when memory is short (proc(5))."""
    fd = os.open(b"/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d" % value)
    finally:
        os.close(fd)


def setns(fd: int, kinds: int) -> None:
    """Enter the namespace behind `fd`, or those of the process behind a pidfd (setns(2))."""
    if C.setns(fd, kinds) != 0:
        raise failure()


def unshare(kinds: int) -> None:
    """Leave the named namespaces for new ones (unshare(2))."""
    if C.unshare(kinds) != 0:
        raise failure()


def close_range(first: int, last: int, flags: int = 0) -> None:
    """Close, or mark close-on-exec, all descriptors from `first` to `last` (close_range(2))."""
    done = syscall(
        _SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(flags)
    )
    if done != 0:
        raise failure()


def close_all_but(keep: tuple[int, ...], flags: int = 0) -> None:
    """Close, or mark close-on-exec, every descriptor that is not in `keep`."""
    first = 0
    for fd in sorted(set(keep)):
        if fd > first:
            close_range(first, fd - 1, flags)
        first = fd + 1
    close_range(first, 0xFFFFFFFF, flags)


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """prctl(2) with two arguments; the rest are 0, as the newer options demand."""
    result: int = _prctl(option, first, second, 0, 0)
    if result < 0:
        raise failure()
    return result


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's three capability sets, each a bit mask (capset(2))."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    sets = (effective, permitted, inheritable)
    low = [mask & 0xFFFFFFFF for mask in sets]
    high = [mask >> 32 for mask in sets]
    if C.capset(header, struct.pack("=6I", *low, *high)) != 0:
        raise failure()


def capget() -> tuple[int, int, int]:
    """This thread's effective, permitted and inheritable capabilities as bit masks."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0), 8)
    sets = ctypes.create_string_buffer(24)
    if C.capget(header, sets) != 0:
        raise failure()
    low_high = struct.unpack("=6I", sets.raw)
    first, second, third = (low_high[i] | low_high[i + 3] << 32 for i in range(3))
    return first, second, third


def load_seccomp(program: bytes) -> None:
    """Put this thread under a filter: classic BPF, 8 bytes an instruction (seccomp(2))."""
    number = _NUMBERS[_MACHINE][0]
    space = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit length, padding, a pointer.
    filter_ = struct.pack("@HP", len(program) // _BPF_INSTRUCTION, ctypes.addressof(space))
    if syscall(number, ctypes.c_uint(_SECCOMP_SET_MODE_FILTER), ctypes.c_uint(0), filter_) != 0:
        raise failure()


def join_session_keyring() -> None:
    """Leave the session keyring for a new, anonymous one (keyctl(2))."""
    if syscall(_NUMBERS[_MACHINE][1], ctypes.c_ulong(_KEYCTL_JOIN_SESSION_KEYRING), None) < 0:
        raise failure()


def sethostname(name: bytes) -> None:
    """Name the host of this UTS namespace."""
    if C.sethostname(name, ctypes.c_size_t(len(name))) != 0:
        raise failure(name)


def setdomainname(name: bytes) -> None:
    """Name the NIS domain of this UTS namespace."""
    if C.setdomainname(name, ctypes.c_size_t(len(name))) != 0:
        raise failure(name)


def keep_memory_low() -> None:
    """Have malloc use one heap for all threads from now on (mallopt(3), M_ARENA_MAX)."""
    C.mallopt(_M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Give what is free in malloc's heap back to the system (malloc_trim(3))."""
    C.malloc_trim(ctypes.c_size_t(0))


def overwrite_arguments(title: bytes) -> None:
    """Put `title` where /proc/PID/cmdline shows the command line this process began with."""
    with open("/proc/self/stat", "rb") as file:
        # The name in parentheses may hold anything; the numbers begin after its end (proc(5)).
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if start and end > start:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, title[: end - start - 1], min(len(title), end - start - 1))
