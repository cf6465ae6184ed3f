# SPDX-License-Identifier: GPL-3.0-or-later
"""Seccomp profiles: docker's JSON format, and their compilation to BPF through libseccomp.

`compile_profile` costs tens of milliseconds, so what a start uses is `filter_for`, which keeps the
program in a directory of the launcher's. A system call that is newer than all the profile knows is
answered ENOSYS instead of the default: the C library then takes its older way, where EPERM would
make it fail (runc does the same).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping

from launcher.errors import LaunchError, SpecError
from launcher.isolation import capabilities as rights
from launcher.isolation import seccomp_default
from launcher.typed import Any, Final

__all__ = ["compile_profile", "default_program", "parse_profile", "program_of"]

# linux/seccomp.h and libseccomp's names for it; ERRNO and TRACE carry a number in the low half.
_ACTIONS: Final = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_CARRIES_NUMBER: Final = frozenset({"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"})

_OPERATORS: Final = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

# AUDIT_ARCH_* (linux/audit.h); x32 is x86_64 with its own token of libseccomp's.
_ARCHITECTURES: Final = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
    "SCMP_ARCH_LOONGARCH64": 0xC0000102,
}
# Names of Go's ports, which profiles use in conditions.
_PORTS: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "loongarch64": "loong64",
}
_X32_BIT: Final = 0x40000000


def parse_profile(text: str | bytes) -> Mapping[str, Any]:
    """A profile in docker's JSON format; `SpecError` if it is none."""
    import json  # not on the way of an ordinary start

    try:
        profile = json.loads(text)
    except ValueError as error:
        raise SpecError("read seccomp profile", b"", str(error)) from None
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise SpecError("read seccomp profile", b"", "it has no defaultAction")
    return profile


def default_program(capabilities: frozenset[str], cache: bytes | None = None) -> bytes:
    """The default profile for a container with these capabilities, compiled.

    `cache` is a directory that only the launcher can write, where programs are kept under a name
    that says all they depend on.
    """
    if cache is None:
        return compile_profile(seccomp_default.profile(), capabilities)
    relevant = seccomp_default.conditional_capabilities() & capabilities
    path = _place(cache, f"default-{seccomp_default.VERSION}", relevant)
    program = _kept(path)
    if program is None:
        program = compile_profile(seccomp_default.profile(), capabilities)
        _keep(path, program)
    return program


def program_of(text: str, capabilities: frozenset[str], cache: bytes) -> bytes:
    """A profile in docker's format, compiled for a container with these capabilities.

    `cache` as for `default_program`.
    """
    from hashlib import sha256

    path = _place(cache, sha256(text.encode()).hexdigest(), capabilities)
    program = _kept(path)
    if program is None:
        profile = parse_profile(text)
        try:
            program = compile_profile(profile, capabilities)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # Somebody else's file: any part of it may be missing, or something else.
            reason = f"it is not in docker's format: {type(error).__name__}: {error}"
            raise SpecError("read seccomp profile", b"", reason) from error
        _keep(path, program)
    return program


def _place(cache: bytes, profile: str, capabilities: frozenset[str]) -> bytes:
    system = os.uname()
    release = "-".join(str(part) for part in _kernel_release(system.release))
    name = f"{profile}-{system.machine}-{release}-{rights.mask(capabilities):x}.bpf"
    return os.path.join(cache, name.encode())


def _kept(path: bytes) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _keep(path: bytes, program: bytes) -> None:
    partial = b"%s.%d" % (path, os.getpid())
    try:
        with open(partial, "xb") as file:
            file.write(program)
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, path)
    except OSError as error:
        raise LaunchError("keep the compiled seccomp filter in", path, error) from error


def compile_profile(profile: Mapping[str, Any], capabilities: frozenset[str]) -> bytes:
    """Classic BPF for this machine of a profile in docker's format.

    Conditions on capabilities, architectures and the kernel are decided here. Raises `SpecError`
    for what the format does not know, `LaunchError` where libseccomp is missing.
    """
    # ctypes structures and a shared library: only when there is something to compile.
    from launcher.sys import libseccomp

    try:
        library = libseccomp.open_library()
    except OSError as error:
        reason = f"{error} (Debian: libseccomp2)"
        raise LaunchError("load the seccomp library", "libseccomp.so.2", reason) from None
    system = os.uname()
    port = _PORTS.get(system.machine, system.machine)
    kernel = _kernel_release(system.release)
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    newest = 0
    native = library.native()
    with library.new_filter(default) as filter_:
        for name in _architectures(profile, native):
            if name not in _ARCHITECTURES:
                raise SpecError("use seccomp architecture", name, "it is not known")
            filter_.add_architecture(_ARCHITECTURES[name])
        for rule in profile.get("syscalls") or ():
            if not _applies(rule, capabilities, port, kernel):
                continue
            action = _action(rule["action"], rule.get("errnoRet"))
            comparisons = _comparisons(rule.get("args") or ())
            names = rule.get("names") or [rule["name"]]
            for each in names:
                number = library.number(each.encode())
                if number is None:
                    continue  # newer than the library, or of another machine
                newest = max(newest, library.number_on(native, each.encode()) or number)
                if action != default:
                    _add(filter_, libseccomp, action, number, comparisons)
        program = filter_.program()
    if default in (_ACTIONS["SCMP_ACT_ALLOW"], _ACTIONS["SCMP_ACT_LOG"]):
        return program  # what it does not know it lets through
    return _unknown_is_missing(native, newest) + program


def _add(
    filter_: Any, library: Any, action: int, number: int, comparisons: tuple[tuple[int, ...], ...]
) -> None:
    # libseccomp takes one comparison for each argument in a rule: as runc, several on the same
    # argument become alternatives.
    indexes = [each[0] for each in comparisons]
    groups = (
        [comparisons] if len(set(indexes)) == len(indexes) else [(each,) for each in comparisons]
    )
    for group in groups:
        try:
            filter_.add_rule(action, number, tuple(library.Comparison(*each) for each in group))
        except FileExistsError:
            continue


def _unknown_is_missing(native: int, newest: int) -> bytes:
    """BPF to go before the filter: native calls above `newest` return ENOSYS."""
    load, equal, greater, give = 0x20, 0x15, 0x25, 0x06
    instructions = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 0, 4, native),  # another one: on with the filter
        (load, 0, 0, 0),  # seccomp_data.nr
        (greater, 0, 2, newest),  # known: on with the filter
        (greater, 1, 0, _X32_BIT - 1),  # x32 shares the architecture: on with the filter
        (give, 0, 0, _ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS),
    ]
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


def _architectures(profile: Mapping[str, Any], native: int) -> list[str]:
    for entry in profile.get("archMap") or ():
        if _ARCHITECTURES.get(entry["architecture"]) == native:
            return [entry["architecture"], *(entry.get("subArchitectures") or ())]
    return list(profile.get("architectures") or ())


def _applies(
    rule: Mapping[str, Any], held: frozenset[str], port: str, kernel: tuple[int, int]
) -> bool:
    include = rule.get("includes") or {}
    exclude = rule.get("excludes") or {}
    if (include.get("arches") and port not in include["arches"]) or port in (
        exclude.get("arches") or ()
    ):
        return False
    if not held.issuperset(include.get("caps") or ()):
        return False
    if not held.isdisjoint(exclude.get("caps") or ()):
        return False
    oldest = include.get("minKernel")
    if oldest and kernel < _kernel_release(oldest):
        return False
    before = exclude.get("minKernel")
    return not (before and kernel >= _kernel_release(before))


def _kernel_release(release: str) -> tuple[int, int]:
    parts = [
        int("".join(char for char in part if char.isdigit()) or 0)
        for part in release.split("-")[0].split(".")[:2]
    ]
    return parts[0], parts[1] if len(parts) > 1 else 0


def _action(name: str, number: int | None) -> int:
    if name not in _ACTIONS:
        raise SpecError("use seccomp action", name, "it is not known here")
    action = _ACTIONS[name]
    if name in _CARRIES_NUMBER:
        action |= (errno.EPERM if number is None else number) & 0xFFFF
    return action


def _comparisons(arguments: Any) -> tuple[tuple[int, ...], ...]:
    result = []
    for each in arguments:
        operator = _OPERATORS.get(each["op"])
        if operator is None:
            raise SpecError("use seccomp operator", str(each["op"]), "it is not known")
        first, second = each.get("value", 0), each.get("valueTwo", 0)
        result.append((each["index"], operator, first, second))
    return tuple(result)
