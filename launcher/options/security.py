# SPDX-License-Identifier: GPL-3.0-or-later
"""Rights: `--security-opt`, `--cap-add`, `--device`, `--ulimit` as a record keeps them."""

from __future__ import annotations

import os

from launcher.errors import SpecError
from launcher.options.quantities import invalid
from launcher.record import RequestedDevice
from launcher.typed import Final, NamedTuple

__all__ = ["Security", "check_capabilities", "check_ulimits", "device_of", "rule_of", "security_of"]

_LONGEST_PROFILE: Final = 16 << 20


class Security(NamedTuple):
    """What `--security-opt` says: the fields of `Record` of these names."""

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    selinux: str = ""
    systempaths: bool = True


def security_of(texts: list[str]) -> Security:
    """All `--security-opt`s. Raises SpecError for what is not known, or cannot be kept here."""
    made = Security()
    for text in texts:
        # docker still takes a colon where once there was one.
        name, equals, value = text.partition("=")
        if not equals and ":" in text:
            name, equals, value = text.partition(":")
        if name == "no-new-privileges":
            if value not in ("", "true", "false"):
                raise invalid("--security-opt", text, "it is true or false")
            made = made._replace(no_new_privileges=value != "false")
        elif name == "seccomp" and value:
            made = made._replace(seccomp=_profile(text, value))
        elif name == "systempaths" and value == "unconfined":
            made = made._replace(systempaths=False)
        elif name == "apparmor" and value:
            made = made._replace(apparmor=_apparmor(text, value))
        elif name == "label" and value:
            made = made._replace(selinux=_label(text, value))
        else:
            raise invalid("--security-opt", text, "there is no such option")
    return made


def _profile(text: str, value: str) -> str:
    if value == "unconfined":
        return value
    if value in ("builtin", "default"):
        return ""
    try:
        with open(value, encoding="utf-8") as file:
            profile = file.read(_LONGEST_PROFILE)
    except OSError as error:
        raise SpecError("read seccomp profile", value, error) from error
    except UnicodeDecodeError:
        raise SpecError("read seccomp profile", value, "it is not text") from None
    from launcher.isolation.seccomp import parse_profile

    try:
        parse_profile(profile)
    except SpecError as error:
        raise SpecError("read seccomp profile", value, error.reason) from None
    return profile


def _apparmor(text: str, value: str) -> str:
    if value == "unconfined":
        return value
    if not _says_yes("/sys/module/apparmor/parameters/enabled"):
        raise invalid("--security-opt", text, "AppArmor is not enabled on this machine")
    raise invalid("--security-opt", text, "AppArmor profiles cannot be set yet")


def _label(text: str, value: str) -> str:
    if value == "disable":
        return value
    if not os.path.exists("/sys/fs/selinux/enforce"):
        raise invalid("--security-opt", text, "SELinux is not enabled on this machine")
    raise invalid("--security-opt", text, "SELinux labels cannot be set yet")


def _says_yes(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(1) == b"Y"
    except OSError:
        return False


def check_capabilities(add: tuple[str, ...], drop: tuple[str, ...]) -> None:
    """Raise SpecError for a capability that there is not."""
    if add or drop:
        from launcher.isolation.capabilities import adjusted

        adjusted(add, drop)


def check_ulimits(texts: tuple[str, ...]) -> None:
    """Raise SpecError for a limit that there is not."""
    if texts:
        from launcher.isolation.rlimits import parse

        for text in texts:
            parse(text)


def device_of(text: str) -> RequestedDevice:
    """`--device PATH[:PATH][:rwm]`."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise invalid("--device", text, "it is written PATH[:PATH][:rwm]")
    source, destination, access = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        destination, access = parts[1], parts[2]
    elif len(parts) == 2 and _is_access(parts[1]):
        access = parts[1]
    elif len(parts) == 2:
        destination = parts[1]
    if not _is_access(access):
        raise invalid("--device", text, f"{access} is not made of r, w and m")
    for path in (source, destination):
        if not path.startswith("/"):
            raise invalid("--device", text, f"{path} is not an absolute path")
    return RequestedDevice(source, os.path.normpath(destination), access)


def _is_access(text: str) -> bool:
    return bool(text) and not text.strip("rwm") and len(set(text)) == len(text)


def rule_of(text: str) -> str:
    """`--device-cgroup-rule "TYPE MAJOR:MINOR ACCESS"`, checked."""
    fields = text.split()
    if len(fields) == 3:
        kind, numbers, access = fields
        major, colon, minor = numbers.partition(":")
        whole = all(each == "*" or (each.isascii() and each.isdecimal()) for each in (major, minor))
        if kind in ("a", "b", "c") and colon and whole and _is_access(access):
            return text
    raise invalid("--device-cgroup-rule", text, "it is written as c 1:3 rwm, * for any number")
