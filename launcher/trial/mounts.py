# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the machine's file systems a try covers, and how each is shown to the command.

A filesystem that can be written gets a union of its own; one that cannot, and one that another
process or machine serves, is shown read-only as it is; what belongs to the kernel (/proc, /sys,
/dev) is the container's own. Everything is read from /proc/self/mountinfo (proc_pid_mountinfo(5)),
since to look at a mount may mean to wait for whoever serves it.
"""

from __future__ import annotations

import os

from launcher.errors import LaunchError
from launcher.trial.record import Place
from launcher.typed import Final, NamedTuple

__all__ = ["Layout", "Mounted", "layout", "layout_of_user", "table", "visible"]

# What only the kernel fills; nothing in it can be changed and kept.
_KERNELS: Final = frozenset(
    (
        "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset", "debugfs",
        "devpts", "devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "pipefs",
        "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sockfs", "sysfs",
        "tracefs",
    )
)  # fmt: skip
# Served by other machines or processes: what a union stands on must not change below it, and must
# answer.
_SERVED: Final = frozenset(
    (
        "9p", "afs", "ceph", "cifs", "fuse", "gfs2", "glusterfs", "lustre", "nfs", "nfs4", "ocfs2",
        "smb3", "smbfs", "virtiofs",
    )
)  # fmt: skip
# The container has its own of these.
_OWN: Final = (b"/proc", b"/sys", b"/dev")


class Mounted(NamedTuple):
    """One line of mountinfo: `number` and `parent` are mount ids."""

    number: int
    parent: int
    mountpoint: bytes
    options: frozenset[str]
    kind: str


class Layout(NamedTuple):
    """What the command is to see: unions, the root's first, and what is shown as it is."""

    places: tuple[Place, ...]
    shown: tuple[bytes, ...]


def table() -> list[Mounted]:
    """Every mount of this process's namespace."""
    found = []
    with open("/proc/self/mountinfo", "rb") as stream:
        for line in stream:
            fields = line.rstrip(b"\n").split(b" ")
            dash = fields.index(b"-", 6)
            options = fields[5].split(b",") + fields[dash + 3].split(b",")
            found.append(
                Mounted(
                    int(fields[0]),
                    int(fields[1]),
                    _unescaped(fields[4]),
                    frozenset(os.fsdecode(each) for each in options),
                    os.fsdecode(fields[dash + 1]),
                )
            )
    return found


def visible(mounts: list[Mounted]) -> list[Mounted]:
    """The mounts that a path leads to, those above before those below.

    A mount on another's own mount point covers it with all that is mounted in it; of two within one
    mount, the one further down was there first if the one above is of the same parent.
    """
    children: dict[int, list[Mounted]] = {}
    numbers = {each.number for each in mounts}
    tops = []
    for each in mounts:
        if each.parent in numbers and each.parent != each.number:
            children.setdefault(each.parent, []).append(each)
        else:
            tops.append(each)
    found: list[Mounted] = []
    steps = tops[-1:]
    while steps:
        mount = steps.pop()
        inside = children.get(mount.number, [])
        covering = [each for each in inside if each.mountpoint == mount.mountpoint]
        if covering:
            steps.append(covering[-1])
            continue
        found.append(mount)
        for each in inside:
            if not any(_within(each.mountpoint, other.mountpoint) for other in inside):
                steps.append(each)
    return sorted(found, key=lambda each: each.mountpoint)


def layout(mounts: list[Mounted], base: bytes, hidden: tuple[bytes, ...]) -> Layout:
    """How the tree at `base` is shown; of what is mounted below a `hidden` path, nothing.

    Raises LaunchError if `base` is no directory.
    """
    if not os.path.isdir(base):
        raise LaunchError("use root", base, "it is not a directory")
    seen = visible(mounts)
    top = max(
        (each for each in seen if base == each.mountpoint or _within(base, each.mountpoint)),
        key=lambda each: len(each.mountpoint),
        default=None,
    )
    places = [_place(b"/", base, top)]
    shown = []
    for each in seen:
        path = each.mountpoint
        if not _within(path, base):
            continue
        inner = path[len(base.rstrip(b"/")) :]
        if any(inner == own or _within(inner, own) for own in _OWN):
            continue
        if any(path == other or _within(path, other) for other in hidden):
            continue
        if each.kind in _KERNELS:
            continue
        served = each.kind in _SERVED or each.kind.startswith("fuse.")
        if served or "ro" in each.options or not os.path.isdir(path):
            shown.append(inner)
        else:
            places.append(_place(inner, path, each))
    return Layout(tuple(places), tuple(shown))


def layout_of_user(base: bytes, directories: tuple[bytes, ...]) -> Layout:
    """How the tree at `base` is shown to an ordinary user: unions over those of the directories
    that can be written, all else as it is.

    Raises LaunchError if `base` is no directory.
    """
    if not os.path.isdir(base):
        raise LaunchError("use root", base, "it is not a directory")
    places: list[Place] = []
    for path in sorted({os.path.realpath(each) for each in directories}):
        inner = path[len(base.rstrip(b"/")) :]
        if not _within(path, base) or any(inner == own or _within(inner, own) for own in _OWN):
            continue
        if any(_within(path, each.lower) and _is_own_way(each.lower, path) for each in places):
            continue
        if os.path.isdir(path) and os.access(path, os.W_OK):
            places.append(Place(inner, path))
    if not places:
        raise LaunchError("try in", base, "there is nothing in it that this user may write")
    return Layout(tuple(places), (b"/",))


def _is_own_way(top: bytes, path: bytes) -> bool:
    """Whether all directories between the two are the caller's: a union can copy those up."""
    above = os.path.dirname(path)
    while above != top:
        found = os.stat(above)
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            return False
        above = os.path.dirname(above)
    return True


def _place(mountpoint: bytes, lower: bytes, mounted: Mounted | None) -> Place:
    options = frozenset[str]() if mounted is None else mounted.options
    return Place(mountpoint, lower, "nosuid" in options, "noexec" in options)


def _within(path: bytes, other: bytes) -> bool:
    """Whether a path lies below another."""
    return path != other and path.startswith(other.rstrip(b"/") + b"/")


def _unescaped(field: bytes) -> bytes:
    """Space, tab, newline and backslash are written as octal numbers there."""
    first, *rest = field.split(b"\\")
    return first + b"".join(bytes([int(each[:3], 8)]) + each[3:] for each in rest)
