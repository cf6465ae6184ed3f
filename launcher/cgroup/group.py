# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's cgroup over all hierarchies of the machine: what the launcher knows of cgroups.

For root it is `lamina/<id>` below the top of each hierarchy that has a controller the launcher
uses. An ordinary user has one only in a v2 hierarchy, and only below a cgroup that was delegated
to it (cgroup-v2.rst, "Delegation"); elsewhere the container runs without limits, and what was
asked for is named in `missing`.
"""

from __future__ import annotations

import errno
import os

from launcher.cgroup import hierarchies
from launcher.cgroup.accounts import Accounts
from launcher.cgroup.directory import Directory
from launcher.cgroup.hierarchies import Mounted
from launcher.cgroup.v1 import V1
from launcher.cgroup.v2 import V2
from launcher.errors import LaunchError
from launcher.spec import Resources
from launcher.typed import Final, Iterator, Protocol
from unionfs.light import contextlib

__all__ = ["Group", "Part"]

_PARENT: Final = b"lamina"
_LEAF: Final = b"lamina-supervisor"
# v2's names for the controllers the launcher uses.
_V2_CONTROLLERS: Final = frozenset({"cpu", "cpuset", "memory", "pids", "io"})
# Removing an empty parent races with making a cgroup in it; whoever makes one tries again.
_ATTEMPTS: Final = 100


class Part(Protocol):
    """A container's cgroup in one hierarchy. Implemented by `v1.V1` and `v2.V2`."""

    @property
    def directory(self) -> Directory:
        """Where it is."""

    def create(self) -> None:
        """Make it; FileExistsError if it is there already."""

    def limit(self, resources: Resources) -> tuple[str, ...]:
        """Set the limits of the controllers here; what this machine has no means for."""

    def attach(self, pid: int) -> None:
        """Move a process into it."""

    def accounts(self) -> Accounts:
        """What has been used, as far as the controllers here account for it."""

    def freezes(self) -> bool:
        """Whether freeze and thaw work here."""

    def freeze(self) -> None:
        """Stop all processes; returns when they stand."""

    def thaw(self) -> None:
        """Let all processes go on."""

    def kill(self) -> None:
        """Send SIGKILL to all processes, frozen or not; returns at once."""

    def pids(self) -> list[int]:
        """All processes in it."""

    def remove(self) -> None:
        """Kill what is left and remove the directory; nothing to do if it is gone."""


class Group:
    """One container's cgroup. `missing` names the limits that could not be set, for a warning.

    A context manager that removes it. What `create` began and could not finish is removed too.
    """

    __slots__ = ("_parts", "_v2", "missing")

    def __init__(self, name: str, mounted: tuple[Mounted, ...]) -> None:
        """The cgroup called `name`, whether it exists or not."""
        if "/" in name or name in ("", ".", ".."):
            raise LaunchError("use cgroup name", name, "it is not a plain name")
        self.missing: tuple[str, ...] = ()
        self._parts: list[Part] = []
        self._v2: V2 | None = None
        on_v1 = frozenset(each for one in mounted if one.version == 1 for each in one.controllers)
        for each in mounted:
            if each.version == 1:
                controllers = each.controllers.intersection(hierarchies.CONTROLLERS)
                # Root of a user namespace is not root of these (user_namespaces(7)).
                if controllers and os.geteuid() == 0 and os.access(each.path, os.W_OK):
                    path = b"/".join((each.path, _PARENT, name.encode()))
                    self._parts.append(V1(Directory(path), controllers))
            elif not on_v1 or each.controllers & _V2_CONTROLLERS - _v2_names(on_v1):
                base = _base(each)
                if base is not None:
                    path = b"/".join((base, _PARENT, name.encode()))
                    controllers = each.controllers & _V2_CONTROLLERS
                    self._v2 = V2(Directory(path), controllers)
                    self._parts.append(self._v2)

    @classmethod
    def create(
        cls, name: str, resources: Resources, mounted: tuple[Mounted, ...] | None = None
    ) -> Group:
        """Make a container's cgroup and set its limits."""
        group = cls(name, hierarchies.find() if mounted is None else mounted)
        try:
            missing: list[str] = []
            for part in group._parts:
                _create(part)
                missing += part.limit(resources)
        except FileExistsError as error:
            # Another container's: it is not this one's to remove.
            raise LaunchError("create cgroup", name, error) from error
        except BaseException:
            with contextlib.suppress(LaunchError):
                group.remove()
            raise
        # Which devices there are is then a matter of the mounts.
        if not group._parts and resources._replace(devices=()) != Resources():
            missing.append("all (no cgroup is delegated to this user)")
        group.missing = tuple(dict.fromkeys(missing))
        return group

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def paths(self) -> Iterator[bytes]:
        """Its directories."""
        return (part.directory.path for part in self._parts)

    def clone_descriptor(self) -> int | None:
        """What `launcher.start.Attach` says: the v2 directory, if it is all there is."""
        return self._v2.descriptor() if self._v2 is not None and len(self._parts) == 1 else None

    def joining_files(self) -> tuple[bytes, ...]:
        """What `launcher.start.Attach` says: v1's tasks; v2's only where it is not cloned into."""
        alone = len(self._parts) == 1
        return tuple(
            part.directory.path + (b"/tasks" if isinstance(part, V1) else b"/cgroup.procs")
            for part in self._parts
            if isinstance(part, V1) or not alone
        )

    def attach(self, pid: int) -> None:
        """Move a process into it, in every hierarchy; all its threads come along."""
        for part in self._parts:
            part.attach(pid)

    def change(self, old: Resources, new: Resources) -> tuple[str, ...]:
        """Set limits in place of `old` (`update`); returns what this machine has no means for."""
        wanted = new.replacing(old)
        return tuple(each for part in self._parts for each in part.limit(wanted))

    def accounts(self) -> Accounts:
        """What its processes have used."""
        found = Accounts()
        for part in self._parts:
            found = found.merged(part.accounts())
        return found

    def oom_kills(self) -> int:
        """How many of its processes were killed because memory ran out."""
        return self.accounts().oom_kills

    def freeze(self) -> None:
        """Stop all processes (`pause`)."""
        self._freezer("pause").freeze()

    def thaw(self) -> None:
        """Let all processes go on (`unpause`)."""
        self._freezer("unpause").thaw()

    def _freezer(self, verb: str) -> Part:
        part = next((part for part in self._parts if part.freezes()), None)
        if part is None:
            raise LaunchError(verb, "processes", "this machine has no cgroup freezer for them")
        return part

    def kill(self) -> None:
        """SIGKILL to all processes."""
        parts = sorted(self._parts, key=lambda part: not part.freezes())
        if parts:
            parts[0].kill()

    def pids(self) -> list[int]:
        """All its processes."""
        return self._parts[0].pids() if self._parts else []

    def remove(self) -> None:
        """Kill what is left in it and remove it everywhere; nothing to do where it is gone."""
        for part in sorted(self._parts, key=lambda part: not part.freezes()):
            part.remove()
        for part in self._parts:
            # The last container turns out the light.
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(part.directory.path))


def _v2_names(on_v1: frozenset[str]) -> frozenset[str]:
    return frozenset("io" if each == "blkio" else each for each in on_v1)


def _create(part: Part) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            if isinstance(part, V2):
                _delegate_to(part.directory)
            part.create()
        except (FileNotFoundError, LaunchError) as error:
            reason = error.__cause__ if isinstance(error, LaunchError) else error
            gone = isinstance(reason, OSError) and reason.errno in (errno.ENOENT, errno.ENODEV)
            if not gone or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _delegate_to(directory: Directory) -> None:
    """Switch the controllers on for the children of all cgroups that lead to a new one."""
    parent = Directory(os.path.dirname(directory.path))
    base = Directory(os.path.dirname(parent.path))
    with contextlib.suppress(FileExistsError):
        os.mkdir(parent.path, 0o755)
    for each in (base, parent):
        offered = set(each.read("cgroup.controllers").split())
        wanted = offered & _V2_CONTROLLERS - set(each.read("cgroup.subtree_control").split())
        # A cgroup with processes of its own may not have controlled children; the root, which
        # alone has no type, may.
        if wanted and each.has("cgroup.type") and each.read("cgroup.procs").strip():
            _evacuate(each)
        for controller in sorted(wanted):
            each.write("cgroup.subtree_control", f"+{controller}")


def _evacuate(directory: Directory) -> None:
    leaf = Directory(directory.path + b"/" + _LEAF)
    with contextlib.suppress(FileExistsError):
        leaf.create()
    for pid in directory.read("cgroup.procs").split():
        leaf.write("cgroup.procs", pid)


def _base(mounted: Mounted) -> bytes | None:
    """The v2 cgroup below which this process may make others, if there is one."""
    if os.geteuid() == 0 and os.access(mounted.path + b"/cgroup.procs", os.W_OK):
        return mounted.path
    best = None
    path = mounted.own.rstrip(b"/")
    while True:
        candidate = mounted.path + path
        if not all(
            os.access(candidate + name, os.W_OK)
            for name in (b"", b"/cgroup.procs", b"/cgroup.subtree_control")
        ):
            return best
        best = candidate
        if not path:
            return best
        path = path.rpartition(b"/")[0]
