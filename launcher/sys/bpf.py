# SPDX-License-Identifier: GPL-3.0-or-later
"""eBPF, as far as cgroups need it: a few instructions, and bpf(2) to load and attach them."""

from __future__ import annotations

import ctypes
import os
import struct

from launcher.sys.libc import failure, syscall
from launcher.typed import Callable, Final

_NUMBERS: Final = {"x86_64": 321, "ppc64le": 361, "s390x": 351}
# All others take it from asm-generic/unistd.h.
_SYS_BPF: Final = _NUMBERS.get(os.uname().machine, 280)

_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
PROG_TYPE_CGROUP_DEVICE: Final = 15
CGROUP_DEVICE: Final = 6
_ALLOW_MULTI: Final = 2

# A test of a program: the instruction, once it is known how far it is to jump.
Jump = Callable[[int], bytes]


def _instruction(code: int, target: int, source: int, offset: int, number: int) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, number)


def load_word(target: int, base: int, offset: int) -> bytes:
    """target = 32 bits at base + offset."""
    return _instruction(0x61, target, base, offset, 0)


def move(target: int, source: int) -> bytes:
    """target = source, 32 bits."""
    return _instruction(0xBC, target, source, 0, 0)


def set_number(target: int, number: int) -> bytes:
    """target = number."""
    return _instruction(0xB7, target, 0, 0, number)


def and_number(target: int, number: int) -> bytes:
    """target &= number, 32 bits."""
    return _instruction(0x54, target, 0, 0, number)


def shift_right(target: int, number: int) -> bytes:
    """target >>= number, 32 bits."""
    return _instruction(0x74, target, 0, 0, number)


def jump_unless_equal(register: int, number: int) -> Jump:
    """Jump if register != number."""
    return lambda distance: _instruction(0x55, register, 0, distance, number)


def jump_if_equal(register: int, number: int) -> Jump:
    """Jump if register == number."""
    return lambda distance: _instruction(0x15, register, 0, distance, number)


def constant(instruction: bytes) -> Jump:
    """An instruction that does not jump, where a test stands."""
    return lambda _: instruction


def leave() -> bytes:
    """Return register 0."""
    return _instruction(0x95, 0, 0, 0, 0)


def load(kind: int, program: bytes) -> int:
    """Give the kernel a program; a descriptor of it, the caller's (bpf(2), BPF_PROG_LOAD)."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"GPL")
    # prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags
    fields = struct.pack(
        "=IIQQIIQII",
        kind,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
        0,
    )
    return _bpf(_PROG_LOAD, fields)


def attach(kind: int, target: int, program: int) -> None:
    """Attach a program to a cgroup beside those of the cgroups above it (BPF_PROG_ATTACH)."""
    _bpf(_PROG_ATTACH, struct.pack("=IIII", target, program, kind, _ALLOW_MULTI))


def close(fd: int) -> None:
    """Let go of a program; where it is attached it stays."""
    os.close(fd)


def _bpf(command: int, fields: bytes) -> int:
    space = ctypes.create_string_buffer(fields, len(fields))
    result: int = syscall(_SYS_BPF, ctypes.c_int(command), space, ctypes.c_uint(len(fields)))
    if result < 0:
        raise failure()
    return result
