# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the machine keeps its cgroups: which controller is mounted where, in which version.

On a hybrid machine some controllers are on v1 hierarchies while a v2 one is mounted beside them;
which version a controller has is decided for each by where it is found, never by whether a v2
hierarchy exists.
"""

from __future__ import annotations

from launcher.typed import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from launcher.plan import Hierarchy

__all__ = ["CONTROLLERS", "Mounted", "find", "shown_inside"]

# What the launcher limits or accounts. v1's cpuacct is part of cpu in v2, its blkio is v2's io.
# v2 has neither freezer nor devices: the first is in every cgroup, the second a BPF program.
CONTROLLERS: Final = ("cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "freezer", "devices")


class Mounted(NamedTuple):
    """One hierarchy: `path` is its mount point, `own` the caller's cgroup below that.

    `controllers` of v2 are those that its root offers. `options` name a v1 hierarchy to mount(2).
    """

    version: int
    path: bytes
    own: bytes
    controllers: frozenset[str]
    options: tuple[str, ...] = ()


def find() -> tuple[Mounted, ...]:
    """All mounted hierarchies, each once, as this process's mount namespace has them."""
    with open("/proc/self/mountinfo", "rb") as file:
        mounts = file.read()
    with open("/proc/self/cgroup", "rb") as file:
        memberships = file.read()
    found: dict[tuple[str, ...], Mounted] = {}
    own = _own_paths(memberships)
    for line in mounts.splitlines():
        head, _, tail = line.partition(b" - ")
        kind, _, rest = tail.partition(b" ")
        if kind not in (b"cgroup", b"cgroup2"):
            continue
        fields = head.split(b" ")
        root, path = _unescape(fields[3]), _unescape(fields[4])
        if kind == b"cgroup2":
            mine = own.get("")
            if mine is not None and () not in found:
                found[()] = Mounted(2, path, _below(mine, root), _offered(path + b"/"))
            continue
        options = tuple(
            each
            for each in rest.rsplit(b" ", 1)[-1].decode().split(",")
            if each in own or each.startswith("name=")
        )
        mine = own.get(options[0]) if options else None
        if mine is not None and options not in found:
            controllers = frozenset(each for each in options if "=" not in each)
            found[options] = Mounted(1, path, _below(mine, root), controllers, options)
    return tuple(found.values())


def shown_inside(hierarchies: tuple[Mounted, ...]) -> tuple[Hierarchy, ...]:
    """The same hierarchies as a container mounts them below its /sys/fs/cgroup."""
    from launcher.plan import Hierarchy  # of use to who starts containers only

    if len(hierarchies) == 1 and hierarchies[0].version == 2:
        return (Hierarchy(b"", b"cgroup2", ()),)
    shown = []
    for each in hierarchies:
        name = each.path.rpartition(b"/")[2]
        if each.version == 2:
            shown.append(Hierarchy(name, b"cgroup2", ()))
        else:
            pairs = (option.partition("=") for option in each.options)
            options = tuple(
                (key.encode(), value.encode() if equals else None) for key, equals, value in pairs
            )
            shown.append(Hierarchy(name, b"cgroup", options))
    return tuple(shown)


def _own_paths(memberships: bytes) -> dict[str, bytes]:
    """From /proc/PID/cgroup: the path by controller, or by name=, or by "" for v2."""
    own: dict[str, bytes] = {}
    for line in memberships.splitlines():
        _, controllers, path = line.split(b":", 2)
        for each in controllers.decode().split(","):
            own[each] = path
    return own


def _offered(path: bytes) -> frozenset[str]:
    with open(path + b"cgroup.controllers", "rb") as file:
        return frozenset(file.read().decode().split())


def _below(path: bytes, root: bytes) -> bytes:
    # Where only a part of the hierarchy is mounted, paths count from its root (cgroups(7)).
    if root != b"/" and (path == root or path.startswith(root + b"/")):
        path = path[len(root) :]
    return path or b"/"


def _unescape(field: bytes) -> bytes:
    # proc(5): space, tab, newline and backslash are written in octal.
    if b"\\" not in field:
        return field
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(code, char)
    return field
