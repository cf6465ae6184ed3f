# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that a plan is made of: what each one is to do, as a frozen value.

`launcher.plan` puts them in order, `launcher.child` takes them. A step's fields are all there is
to it, so that plans can be compared, printed (`describe`) and tested without privileges. Paths are
the container's, resolved in its rootfs, unless a step says that they are the host's.
"""

from __future__ import annotations

from launcher.typed import NamedTuple

__all__ = [
    "BecomeInit",
    "BecomeRoot",
    "Bind",
    "Chdir",
    "CloseDescriptors",
    "DropBounding",
    "EnterRoot",
    "Exec",
    "Filesystem",
    "HideProcess",
    "LoadSeccomp",
    "MakeDirectory",
    "MakeNode",
    "MakeSymlink",
    "MaskPath",
    "NewKeyring",
    "NewSession",
    "OpenTerminal",
    "PivotRoot",
    "RaiseLoopback",
    "ReadOnlyPath",
    "ReadOnlyRoot",
    "SetAttributes",
    "SetCapabilities",
    "SetDomainname",
    "SetHostname",
    "SetNoNewPrivileges",
    "SetOomScore",
    "SetParentDeathSignal",
    "SetPropagation",
    "SetRlimit",
    "SetUmask",
    "SetUser",
    "Step",
    "Sysctl",
    "UnshareCgroup",
    "describe",
]


class BecomeRoot(NamedTuple):
    """Take uid 0 and gid 0 of the new user namespace."""


class HideProcess(NamedTuple):
    """Make /proc/self closed to others, and show `title` in place of the launcher's arguments."""

    title: bytes


class NewSession(NamedTuple):
    """Leave the launcher's session and terminal (setsid(2))."""


class NewKeyring(NamedTuple):
    """Leave the launcher's session keyring (keyctl(2))."""


class RaiseLoopback(NamedTuple):
    """Switch on the loopback interface of a new network namespace."""


class SetOomScore(NamedTuple):
    """Write /proc/self/oom_score_adj."""

    value: int


class UnshareCgroup(NamedTuple):
    """Make the cgroup that the process is in by now the root it can see."""


class SetPropagation(NamedTuple):
    """Set how mounts of the whole tree at `path` spread; before PivotRoot only b"/" of the host."""

    path: bytes
    propagation: int


class EnterRoot(NamedTuple):
    """Mount the host's directory `source` on itself; all paths that follow are resolved in it."""

    source: bytes


class Filesystem(NamedTuple):
    """Mount a new instance of a filesystem; the directory is made where it is missing."""

    kind: bytes
    source: bytes
    path: bytes
    attributes: int
    options: tuple[tuple[bytes, bytes | None], ...]
    propagation: int = 0


class Bind(NamedTuple):
    """Mount the host's `source` on `path`, which is made to match where it is missing.

    owner -- where it is not the host's: a process in whose mount namespace `source` is
    below -- a path in `source`, which others may write to: it never leads out of it
    """

    source: bytes
    path: bytes
    recursive: bool
    wanted: int
    cleared: int = 0
    propagation: int = 0
    owner: int = 0
    below: bytes = b""


class MakeDirectory(NamedTuple):
    """Make a directory and what is missing above it; one that is there stays as it is."""

    path: bytes
    mode: int = 0o755


class MakeNode(NamedTuple):
    """Make a device node or fifo; what is there already is replaced."""

    path: bytes
    mode: int
    major: int
    minor: int
    uid: int
    gid: int


class MakeSymlink(NamedTuple):
    """Make a symlink; what is there already is replaced."""

    path: bytes
    target: bytes


class Sysctl(NamedTuple):
    """Write a kernel setting of the container's namespaces; `name` with slashes."""

    name: bytes
    value: bytes


class MaskPath(NamedTuple):
    """Cover a file with /dev/null and a directory with an empty one; what is missing stays so."""

    path: bytes


class ReadOnlyPath(NamedTuple):
    """Mount a path on itself, read-only; what is missing stays so."""

    path: bytes


class SetAttributes(NamedTuple):
    """Add attributes to the mount at `path` once what lies below it has been made."""

    path: bytes
    wanted: int


class ReadOnlyRoot(NamedTuple):
    """Make the root filesystem read-only, but not what is mounted in it."""


class OpenTerminal(NamedTuple):
    """Make a terminal in the container's devpts, send its master out, and live on its slave.

    Its window has so many rows and columns; 0 is not known yet.
    """

    rows: int = 0
    columns: int = 0


class PivotRoot(NamedTuple):
    """Make the rootfs the root of the mount namespace, and let go of the host's."""


class SetHostname(NamedTuple):
    name: bytes


class SetDomainname(NamedTuple):
    name: bytes


class SetRlimit(NamedTuple):
    """Set a resource limit, or what can be had of it."""

    number: int
    soft: int
    hard: int


class SetUmask(NamedTuple):
    mask: int


class DropBounding(NamedTuple):
    """Drop every capability but `keep` from the bounding set, up to the kernel's last one."""

    keep: int


class SetUser(NamedTuple):
    """Become a user, keeping the permitted capabilities; `groups` None leaves them as they are."""

    uid: int
    gid: int
    groups: tuple[int, ...] | None


class SetCapabilities(NamedTuple):
    """Set the sets of the process, of those that it still holds."""

    effective: int
    permitted: int
    inheritable: int
    ambient: int


class SetNoNewPrivileges(NamedTuple):
    """No execve grants anything from here on (PR_SET_NO_NEW_PRIVS)."""


class LoadSeccomp(NamedTuple):
    """Filter system calls: classic BPF."""

    program: bytes


class Chdir(NamedTuple):
    path: bytes


class BecomeInit(NamedTuple):
    """Stay as the process that reaps and passes signals on; a child takes the steps that follow."""


class SetParentDeathSignal(NamedTuple):
    """Be sent `signal` when the supervisor dies."""

    signal: int


class CloseDescriptors(NamedTuple):
    """Close every descriptor but `keep` and the one that tells of a failed execve."""

    keep: tuple[int, ...]


class Exec(NamedTuple):
    """Become the container's program, which is looked for in the PATH of `env`."""

    args: tuple[bytes, ...]
    env: tuple[bytes, ...]


Step = (
    BecomeRoot
    | HideProcess
    | NewSession
    | NewKeyring
    | RaiseLoopback
    | SetOomScore
    | UnshareCgroup
    | SetPropagation
    | EnterRoot
    | Filesystem
    | Bind
    | MakeDirectory
    | MakeNode
    | MakeSymlink
    | Sysctl
    | MaskPath
    | ReadOnlyPath
    | SetAttributes
    | ReadOnlyRoot
    | OpenTerminal
    | PivotRoot
    | SetHostname
    | SetDomainname
    | SetRlimit
    | SetUmask
    | DropBounding
    | SetUser
    | SetCapabilities
    | SetNoNewPrivileges
    | LoadSeccomp
    | Chdir
    | BecomeInit
    | SetParentDeathSignal
    | CloseDescriptors
    | Exec
)


def describe(steps: tuple[Step, ...]) -> str:
    """A plan for people, one step a line."""
    lines = []
    for number, step in enumerate(steps, 1):
        fields = ", ".join(f"{name}={_shown(value)}" for name, value in step._asdict().items())
        lines.append(f"{number:3} {type(step).__name__}({fields})")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, bytes) and len(value) > 200:
        return f"<{len(value)} bytes>"
    return repr(value)
