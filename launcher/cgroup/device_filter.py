# SPDX-License-Identifier: GPL-3.0-or-later
"""Device access on cgroup v2: a BPF program of type CGROUP_DEVICE made of the device rules.

The kernel asks the program at every open and mknod; the rules' last match decides, as on v1, so
the program tests them from the last to the first. What no rule matches is refused.
"""

from __future__ import annotations

from launcher.spec import DeviceRule
from launcher.sys import bpf
from launcher.typed import Final

__all__ = ["attach", "program"]

# struct bpf_cgroup_dev_ctx: access_type, major, minor. access_type is access << 16 | type.
_TYPES: Final = {"b": 1, "c": 2}
_ACCESS: Final = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESS: Final = 7

# Registers: the context, then copies of its fields, and a scratch one.
_TYPE, _ASKED, _MAJOR, _MINOR, _SCRATCH = 2, 3, 4, 5, 6


def attach(cgroup: int, rules: tuple[DeviceRule, ...]) -> None:
    """Put the cgroup that `cgroup` is open on, and all below, under the rules."""
    fd = bpf.load(bpf.PROG_TYPE_CGROUP_DEVICE, program(rules))
    try:
        bpf.attach(bpf.CGROUP_DEVICE, cgroup, fd)
    finally:
        bpf.close(fd)


def program(rules: tuple[DeviceRule, ...]) -> bytes:
    """The rules as eBPF instructions."""
    code = [
        bpf.load_word(_TYPE, 1, 0),
        bpf.move(_ASKED, _TYPE),
        bpf.and_number(_TYPE, 0xFFFF),
        bpf.shift_right(_ASKED, 16),
        bpf.load_word(_MAJOR, 1, 4),
        bpf.load_word(_MINOR, 1, 8),
    ]
    for rule in reversed(rules):
        block = _tests(rule)
        verdict = [bpf.set_number(0, int(rule.allow)), bpf.leave()]
        # Each test that fails leads past the verdict.
        past = len(block) + len(verdict)
        for position, test in enumerate(block):
            code.append(test(past - position - 1))
        code += verdict
        if not block:
            return b"".join(code)
    code += [bpf.set_number(0, 0), bpf.leave()]
    return b"".join(code)


def _tests(rule: DeviceRule) -> list[bpf.Jump]:
    """What must hold for a rule to match, as instructions that jump on if it does not."""
    tests: list[bpf.Jump] = []
    if rule.type in _TYPES:
        tests.append(bpf.jump_unless_equal(_TYPE, _TYPES[rule.type]))
    access = sum(_ACCESS[each] for each in set(rule.access))
    if access != _ALL_ACCESS:
        if rule.allow:
            # All that is asked for must be allowed: nothing outside of the rule's access.
            tests.append(bpf.constant(bpf.move(_SCRATCH, _ASKED)))
            tests.append(bpf.constant(bpf.and_number(_SCRATCH, ~access & _ALL_ACCESS)))
            tests.append(bpf.jump_unless_equal(_SCRATCH, 0))
        else:
            # One refused access among those asked for is enough.
            tests.append(bpf.constant(bpf.move(_SCRATCH, _ASKED)))
            tests.append(bpf.constant(bpf.and_number(_SCRATCH, access)))
            tests.append(bpf.jump_if_equal(_SCRATCH, 0))
    if rule.major is not None:
        tests.append(bpf.jump_unless_equal(_MAJOR, rule.major))
    if rule.minor is not None:
        tests.append(bpf.jump_unless_equal(_MINOR, rule.minor))
    return tests
