# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter: docker's format, the default profile's effect, and that it holds in a container."""

from __future__ import annotations

import errno
import json
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.isolation import capabilities, seccomp, seccomp_default
from launcher.spec import ContainerSpec
from tests.launcher import box
from tests.launcher.box import run, spec

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[platform.machine()]
NUMBERS = {
    "x86_64": {
        "read": 0, "clone": 56, "unshare": 272, "keyctl": 250, "mount": 165, "socket": 41,
        "personality": 135, "ptrace": 101, "clock_settime": 227, "chroot": 161, "reboot": 169,
        "io_uring_setup": 425, "clone3": 435, "bpf": 321, "userfaultfd": 323, "swapon": 167,
    },
    "aarch64": {
        "read": 63, "clone": 220, "unshare": 97, "keyctl": 219, "mount": 40, "socket": 198,
        "personality": 92, "ptrace": 117, "clock_settime": 112, "chroot": 51, "reboot": 142,
        "io_uring_setup": 425, "clone3": 435, "bpf": 280, "userfaultfd": 282, "swapon": 224,
    },
}[platform.machine()]  # fmt: skip

FORBIDDEN = (
    "unshare",
    "mount",
    "keyctl",
    "clock_settime",
    "reboot",
    "io_uring_setup",
    "bpf",
    "userfaultfd",
    "swapon",
)


def verdict(program: bytes, number: int, *arguments: int, arch: int = ARCH) -> int:
    """What a filter answers: classic BPF as the kernel runs it (bpf(4), seccomp(2))."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(arguments + (0,) * 6)[:6])
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, operand)
        elif operation == 0x54:
            accumulator &= operand
        elif operation == 0x05:
            at += operand
        elif operation == 0x06:
            return int(operand)
        else:
            holds = {
                0x15: accumulator == operand,
                0x25: accumulator > operand,
                0x35: accumulator >= operand,
                0x45: bool(accumulator & operand),
            }[operation]
            at += if_true if holds else if_false


@pytest.fixture(scope="module")
def default() -> bytes:
    return seccomp.default_program(capabilities.DEFAULT)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("read", (), ALLOW),
        ("chroot", (), ALLOW),
        ("ptrace", (), ALLOW),
        ("clone", (0x11,), ALLOW),
        ("clone", (0x10000000,), ERRNO | errno.EPERM),
        ("clone", (0x20000011,), ERRNO | errno.EPERM),
        ("clone3", (), ERRNO | errno.ENOSYS),
        ("socket", (2,), ALLOW),
        ("socket", (16,), ALLOW),
        ("socket", (38,), ERRNO | errno.EPERM),
        ("socket", (40,), ERRNO | errno.EPERM),
        ("personality", (0,), ALLOW),
        ("personality", (0x20008,), ALLOW),
        ("personality", (0x40000,), ERRNO | errno.EPERM),
        *((name, (), ERRNO | errno.EPERM) for name in FORBIDDEN),
    ],
)
def test_the_default_profile(
    default: bytes, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert verdict(default, NUMBERS[name], *arguments) == expected


def test_a_call_newer_than_the_profile_is_missing_not_forbidden(default: bytes) -> None:
    assert verdict(default, 5000) == ERRNO | errno.ENOSYS


def test_another_architecture_is_not_a_way_round(default: bytes) -> None:
    assert verdict(default, NUMBERS["read"], arch=0x80000015) == 0  # kill
    if platform.machine() == "x86_64":
        assert verdict(default, 0x40000000 | 272) != ALLOW  # x32's unshare
        assert verdict(default, 310, arch=0x40000003) == ERRNO | errno.EPERM  # i386's
        assert verdict(default, 3, arch=0x40000003) == ALLOW  # i386's read


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "unshare"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_BPF", "bpf"),
    ],
)
def test_a_capability_opens_what_it_is_for(capability: str, name: str) -> None:
    program = seccomp.default_program(capabilities.DEFAULT | {capability})
    assert verdict(program, NUMBERS[name]) == ALLOW
    assert verdict(program, NUMBERS["keyctl"]) == ERRNO | errno.EPERM


def test_a_profile_from_json() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["chroot", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
            {"name": "mount", "action": "SCMP_ACT_KILL_PROCESS"},
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "args": [
                    {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"},
                    {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
                ],
            },
        ],
    }
    parsed = seccomp.parse_profile(json.dumps(profile))
    program = seccomp.compile_profile(parsed, frozenset())
    assert verdict(program, NUMBERS["chroot"]) == ERRNO | 5
    assert verdict(program, NUMBERS["mount"]) == 0x80000000
    assert verdict(program, NUMBERS["read"]) == ALLOW
    # Two conditions on one argument are alternatives.
    assert verdict(program, NUMBERS["socket"], 2) == ERRNO | errno.EPERM
    assert verdict(program, NUMBERS["socket"], 16) == ERRNO | errno.EPERM
    assert verdict(program, NUMBERS["socket"], 1) == ALLOW


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot read seccomp profile"),
        ("[]", "no defaultAction"),
        ('{"defaultAction": "SCMP_ACT_PRAY"}', "SCMP_ACT_PRAY"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action":'
            ' "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "LIKE", "value": 1}]}]}',
            "LIKE",
        ),
    ],
)
def test_a_bad_profile_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        seccomp.compile_profile(seccomp.parse_profile(text), frozenset())


def test_a_compiled_filter_is_kept(tmp_path: Path, default: bytes) -> None:
    cache = str(tmp_path).encode()
    assert seccomp.default_program(capabilities.DEFAULT, cache) == default
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"kept")
    assert seccomp.default_program(capabilities.DEFAULT, cache) == b"kept"
    more = capabilities.DEFAULT | {"CAP_SYS_ADMIN"}
    assert seccomp.default_program(more, cache) not in (default, b"kept")
    # What the profile does not depend on needs no filter of its own.
    assert seccomp.default_program(capabilities.DEFAULT | {"CAP_NET_ADMIN"}, cache) == b"kept"


def test_every_set_of_capabilities_has_a_name_of_its_own(tmp_path: Path) -> None:
    conditional = sorted(seccomp_default.conditional_capabilities())
    for each in conditional:
        seccomp.default_program(frozenset({each}), str(tmp_path).encode())
    assert len(list(tmp_path.iterdir())) == len(conditional)


# One privilege that the filter takes although no capability is needed for it.
_CALL = "unshare -U true && echo done"


@pytest.mark.parametrize("strict", [False, True])
def test_it_holds_in_a_container(root: Path, default: bytes, strict: bool) -> None:
    def described(**fields: object) -> ContainerSpec:
        text = f"{_CALL}; grep Seccomp: /proc/self/status"
        return spec(root, box.process(text, no_new_privileges=strict), **fields)

    held = run(described(seccomp=default))
    assert "done" not in held.out
    assert "Operation not permitted" in held.err
    assert "Seccomp:\t2" in held.out
    assert "done" in run(described()).out


def test_a_container_of_the_default_profile_works(root: Path, default: bytes) -> None:
    text = (
        "set -e; ls -lR /etc > /tmp/list-$$; sort /tmp/list-$$ | wc -l; rm /tmp/list-$$; id; date"
    )
    ended = run(spec(root, box.process(text), seccomp=default))
    assert (ended.code, ended.err) == (0, "")


def test_the_library_is_not_loaded_to_start() -> None:

    code = "import launcher.start, launcher.isolation.seccomp, sys; print(*sys.modules)"
    prepared = f"import sys; sys.path[:] = {sys.path!r}; {code}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", prepared], check=True, capture_output=True, text=True
    )
    assert "launcher.sys.libseccomp" not in done.stdout.split()
