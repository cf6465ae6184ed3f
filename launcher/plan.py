# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's description as the ordered steps that make it: pure data, no system call.

`make` turns a `ContainerSpec` into steps; `launcher.child` takes them, one after the other, in the
new namespaces, and the last one is `Exec`. A step's fields are all there is to it, so a plan can
be compared, printed (`describe`) and tested without privileges.

The order is part of the meaning:

1. What needs the host's view: becoming root of the user namespace, the OOM score, mounts. Every
   destination is resolved within the rootfs.
2. `PivotRoot`: from here on the host's files are out of reach.
3. Names, limits, and then rights, which only ever shrink: the bounding set while CAP_SETPCAP is
   still held, the user, the capabilities, the filter. Without no_new_privs the filter needs
   CAP_SYS_ADMIN and so comes before the rights go; with it, it comes last.
4. `SetParentDeathSignal` after the last change of credentials, which would clear it (prctl(2)).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from launcher.errors import SpecError
from launcher.isolation import capabilities, rlimits, rootfs
from launcher.spec import ContainerSpec, Device, Mount, Process
from launcher.sys import mount as kernel

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
    "Hierarchy",
    "Host",
    "LoadSeccomp",
    "MakeDirectory",
    "MakeNode",
    "MakeSymlink",
    "MaskPath",
    "NewKeyring",
    "NewSession",
    "OpenTerminal",
    "PivotRoot",
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
    "enter",
    "make",
]

# -- the steps ------------------------------------------------------------------------------------


class BecomeRoot(NamedTuple):
    """Take uid 0 and gid 0 of the new user namespace."""


class HideProcess(NamedTuple):
    """Make /proc/self closed to others, and show `title` in place of the launcher's arguments."""

    title: bytes


class NewSession(NamedTuple):
    """Leave the launcher's session and terminal (setsid(2))."""


class NewKeyring(NamedTuple):
    """Leave the launcher's session keyring (keyctl(2))."""


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
    """Mount the host's `source` on `path`, which is made to match where it is missing."""

    source: bytes
    path: bytes
    recursive: bool
    wanted: int
    cleared: int = 0
    propagation: int = 0


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
    """Make a terminal in the container's devpts, send its master out, and live on its slave."""


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


# -- what the plan needs to know of the machine -----------------------------------------------------


class Hierarchy(NamedTuple):
    """A cgroup hierarchy as the container is to see it below /sys/fs/cgroup.

    `kind` is cgroup or cgroup2; a sole cgroup2 has no `name` and is the directory itself.
    """

    name: bytes
    kind: bytes
    options: tuple[tuple[bytes, bytes | None], ...]


class Host(NamedTuple):
    """What of the machine shapes a plan. `rootless`: the launcher is itself in a user namespace,
    or an ordinary user, and so may not make device nodes.
    """

    hierarchies: tuple[Hierarchy, ...] = ()
    rootless: bool = False


# -- options of mount(8) ----------------------------------------------------------------------------

_ATTRIBUTES: Final = {
    # name: (attributes set, attributes cleared)
    "ro": (kernel.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, kernel.MOUNT_ATTR_RDONLY),
    "nosuid": (kernel.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, kernel.MOUNT_ATTR_NOSUID),
    "nodev": (kernel.MOUNT_ATTR_NODEV, 0),
    "dev": (0, kernel.MOUNT_ATTR_NODEV),
    "noexec": (kernel.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, kernel.MOUNT_ATTR_NOEXEC),
    "nodiratime": (kernel.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, kernel.MOUNT_ATTR_NODIRATIME),
    "noatime": (kernel.MOUNT_ATTR_NOATIME, kernel.MOUNT_ATTR__ATIME),
    "strictatime": (kernel.MOUNT_ATTR_STRICTATIME, kernel.MOUNT_ATTR__ATIME),
    "relatime": (0, kernel.MOUNT_ATTR__ATIME),
}
_PROPAGATION: Final = {
    "private": (kernel.MS_PRIVATE, False),
    "rprivate": (kernel.MS_PRIVATE, True),
    "slave": (kernel.MS_SLAVE, False),
    "rslave": (kernel.MS_SLAVE, True),
    "shared": (kernel.MS_SHARED, False),
    "rshared": (kernel.MS_SHARED, True),
    "unbindable": (kernel.MS_UNBINDABLE, False),
    "runbindable": (kernel.MS_UNBINDABLE, True),
}
# Of mount(8)'s own, or without a meaning for a new mount.
_IGNORED: Final = frozenset({"defaults", "async", "bind", "rbind", "rec", "newinstance", "z", "Z"})


class _Options(NamedTuple):
    wanted: int
    cleared: int
    propagation: int
    data: tuple[tuple[bytes, bytes | None], ...]


def _parse_options(options: tuple[str, ...]) -> _Options:
    wanted = cleared = propagation = 0
    data: list[tuple[bytes, bytes | None]] = []
    for option in options:
        if option in _ATTRIBUTES:
            add, remove = _ATTRIBUTES[option]
            wanted = wanted & ~remove | add
            cleared = cleared & ~add | remove
        elif option in _PROPAGATION:
            propagation = _PROPAGATION[option][0]
        elif option not in _IGNORED:
            name, equals, value = option.partition("=")
            data.append((name.encode(), value.encode() if equals else None))
    return _Options(wanted, cleared, propagation, tuple(data))


# -- from spec to steps -----------------------------------------------------------------------------

# The settings that belong to a namespace (docker refuses the others too).
_IPC_SYSCTLS: Final = frozenset(
    f"kernel.{name}" for name in ("msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced").split()
)
_UTS_SYSCTLS: Final = frozenset({"kernel.domainname"})
_SIGKILL: Final = 9
_UMASK: Final = 0o022


def make(spec: ContainerSpec, host: Host = Host()) -> tuple[Step, ...]:
    """All the steps from a fresh clone to the container's program."""
    _check(spec)
    steps: list[Step] = []
    new_user = spec.namespace("user")
    if new_user is not None:
        steps.append(BecomeRoot())
    steps.append(NewSession())
    if spec.process.oom_score_adj is not None:
        steps.append(SetOomScore(spec.process.oom_score_adj))
    steps.append(HideProcess(b"lamina-init"))
    steps.append(NewKeyring())
    cgroup = spec.namespace("cgroup")
    if cgroup is not None and cgroup.path is None:
        steps.append(UnshareCgroup())

    steps += _root_steps(spec, host)
    steps += [Sysctl(_sysctl_path(name), value.encode()) for name, value in spec.sysctl]
    # In one's own order: what is read-only may lie in what is masked, never the other way round.
    steps += [ReadOnlyPath(path) for path in spec.readonly_paths]
    steps += [MaskPath(path) for path in spec.masked_paths]
    if spec.process.cwd != b"/":
        steps.append(MakeDirectory(spec.process.cwd))
    if spec.root.readonly:
        steps.append(ReadOnlyRoot())
    if spec.process.terminal:
        steps.append(OpenTerminal())
    steps.append(PivotRoot())
    if spec.rootfs_propagation not in ("", "rprivate", "private"):
        steps.append(SetPropagation(b"/", _PROPAGATION[spec.rootfs_propagation][0]))
    if spec.hostname:
        steps.append(SetHostname(spec.hostname))
    if spec.domainname:
        steps.append(SetDomainname(spec.domainname))
    single_group = _setgroups_denied(spec)
    steps += _process_steps(spec.process, spec.seccomp, groups_denied=single_group)
    return tuple(steps)


def enter(
    process: Process, seccomp: bytes | None = None, *, user_namespace: bool = False
) -> tuple[Step, ...]:
    """The steps of a further process in a container that runs already (`exec`).

    They are taken after its namespaces have been entered, which no step does.
    """
    steps: list[Step] = []
    if user_namespace:
        steps.append(BecomeRoot())
    steps.append(NewSession())
    if process.oom_score_adj is not None:
        steps.append(SetOomScore(process.oom_score_adj))
    steps.append(NewKeyring())
    if process.terminal:
        steps.append(OpenTerminal())
    steps += _process_steps(process, seccomp, groups_denied=False)
    return tuple(steps)


def _process_steps(process: Process, seccomp: bytes | None, *, groups_denied: bool) -> list[Step]:
    steps: list[Step] = []
    for limit in process.rlimits:
        if limit.type not in rlimits.NUMBERS:
            raise SpecError("set limit", limit.type, "there is none of that name")
        steps.append(SetRlimit(rlimits.NUMBERS[limit.type], limit.soft, limit.hard))
    rights = process.capabilities
    if seccomp is not None and not process.no_new_privileges:
        steps.append(LoadSeccomp(seccomp))
    steps.append(DropBounding(capabilities.mask(rights.bounding)))
    user = process.user
    steps.append(SetUser(user.uid, user.gid, None if groups_denied else user.additional_gids))
    steps.append(SetUmask(_UMASK if user.umask is None else user.umask))
    # As the user, whose right it must be to stand there.
    steps.append(Chdir(process.cwd))
    steps.append(
        SetCapabilities(
            capabilities.mask(rights.effective),
            capabilities.mask(rights.permitted),
            capabilities.mask(rights.inheritable),
            capabilities.mask(rights.ambient),
        )
    )
    if process.no_new_privileges:
        steps.append(SetNoNewPrivileges())
        if seccomp is not None:
            steps.append(LoadSeccomp(seccomp))
    steps.append(SetParentDeathSignal(_SIGKILL))
    if process.init:
        steps.append(BecomeInit())
    steps.append(CloseDescriptors((0, 1, 2)))
    steps.append(Exec(process.args, process.env))
    return steps


def _setgroups_denied(spec: ContainerSpec) -> bool:
    """Where a single id is mapped without privilege, setgroups(2) is switched off for good
    (user_namespaces(7)); there are no other groups to have either.
    """
    user = spec.namespace("user")
    return (
        user is not None
        and user.path is None
        and sum(each.size for each in spec.gid_mappings) == 1
        and not spec.process.user.additional_gids
    )


def _root_steps(spec: ContainerSpec, host: Host) -> list[Step]:
    # Slave: what the host mounts later still arrives, nothing goes back.
    spread = kernel.MS_SLAVE if "slave" in spec.rootfs_propagation else kernel.MS_PRIVATE
    if "shared" in spec.rootfs_propagation:
        spread = kernel.MS_SHARED
    steps: list[Step] = [SetPropagation(b"/", spread), EnterRoot(spec.root.path)]
    read_only_later: list[Step] = []
    dev_is_own = False
    for mount in spec.mounts:
        if mount.type == "cgroup":
            steps += _cgroup_steps(mount, host)
            continue
        options = _parse_options(mount.options)
        if mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options:
            recursive = "rbind" in mount.options
            steps.append(
                Bind(
                    mount.source,
                    mount.destination,
                    recursive,
                    options.wanted,
                    options.cleared,
                    options.propagation or kernel.MS_PRIVATE,
                )
            )
            continue
        data = options.data
        if mount.type == "devpts" and not _gid_mapped(spec, data):
            data = tuple(each for each in data if each[0] != b"gid")
        attributes = options.wanted
        if mount.type == "tmpfs" and attributes & kernel.MOUNT_ATTR_RDONLY:
            # Mount points in it are made by later steps.
            attributes &= ~kernel.MOUNT_ATTR_RDONLY
            read_only_later.append(SetAttributes(mount.destination, kernel.MOUNT_ATTR_RDONLY))
        steps.append(
            Filesystem(
                mount.type.encode(),
                mount.source,
                mount.destination,
                attributes,
                data,
                options.propagation,
            )
        )
        dev_is_own = dev_is_own or mount.destination == b"/dev"
    if dev_is_own:
        steps += [_device_step(device, host, spec) for device in spec.devices]
        steps += [MakeSymlink(path, target) for path, target in rootfs.LINKS]
    steps += read_only_later
    return steps


def _device_step(device: Device, host: Host, spec: ContainerSpec) -> Step:
    kinds = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
    if device.type not in kinds:
        raise SpecError("make device", device.path, f"type {device.type} is none of c, b and p")
    if device.type != "p" and (host.rootless or spec.namespace("user") is not None):
        # mknod(2) of devices asks for CAP_MKNOD in the first user namespace.
        attributes = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC
        return Bind(device.path, device.path, False, attributes)
    return MakeNode(
        device.path,
        kinds[device.type] | device.file_mode,
        device.major,
        device.minor,
        device.uid,
        device.gid,
    )


def _cgroup_steps(mount: Mount, host: Host) -> list[Step]:
    options = _parse_options(mount.options)
    read_only = options.wanted & kernel.MOUNT_ATTR_RDONLY
    if not host.hierarchies:
        return []
    first = host.hierarchies[0]
    if len(host.hierarchies) == 1 and not first.name:
        return [
            Filesystem(first.kind, b"cgroup", mount.destination, options.wanted, first.options)
        ]
    steps: list[Step] = [
        Filesystem(
            b"tmpfs",
            b"tmpfs",
            mount.destination,
            options.wanted & ~read_only,
            ((b"mode", b"755"),),
        )
    ]
    for each in host.hierarchies:
        path = mount.destination + b"/" + each.name
        steps.append(Filesystem(each.kind, b"cgroup", path, options.wanted, each.options))
        # Controllers mounted together are found under each one's name too.
        together = each.name.split(b",")
        if len(together) > 1:
            steps += [MakeSymlink(mount.destination + b"/" + one, each.name) for one in together]
    if read_only:
        steps.append(SetAttributes(mount.destination, read_only))
    return steps


def _gid_mapped(spec: ContainerSpec, data: tuple[tuple[bytes, bytes | None], ...]) -> bool:
    gid = next((value for name, value in data if name == b"gid"), None)
    user = spec.namespace("user")
    if gid is None or user is None or user.path is not None:
        return True
    number = int(gid)
    return any(
        each.container_id <= number < each.container_id + each.size for each in spec.gid_mappings
    )


def _sysctl_path(name: str) -> bytes:
    # sysctl(8): dots part, and a slash stands for a dot within a part, or the other way round.
    if "/" in name.partition(".")[0]:
        return name.encode()
    return name.replace("/", "\0").replace(".", "/").replace("\0", ".").encode()


def _check(spec: ContainerSpec) -> None:
    if not spec.process.args or not spec.process.args[0]:
        raise SpecError("start container", b"", "no command given", 125)
    for path in (spec.process.cwd, spec.root.path, *(each.destination for each in spec.mounts)):
        if not path.startswith(b"/"):
            raise SpecError("use path", path, "it is not absolute")
    for mount in spec.mounts:
        if mount.destination.rstrip(b"/") == b"":
            raise SpecError("mount", mount.source, "the destination cannot be /")
    own = {each.type for each in spec.namespaces}
    if "mount" not in own:
        raise SpecError("start container", b"", "it needs a mount namespace of its own")
    if (spec.hostname or spec.domainname) and "uts" not in own:
        raise SpecError("set host name", spec.hostname, "the UTS namespace is the host's")
    if spec.rootfs_propagation not in _PROPAGATION and spec.rootfs_propagation:
        raise SpecError("set propagation", spec.rootfs_propagation, "it is not known")
    for name, _ in spec.sysctl:
        dotted = _sysctl_path(name).decode().replace("/", ".")
        kinds = {
            "network": dotted.startswith("net."),
            "ipc": dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."),
            "uts": dotted in _UTS_SYSCTLS,
        }
        kind = next((kind for kind, fits in kinds.items() if fits), None)
        if kind is None:
            raise SpecError("set sysctl", name, "it is not of a namespace: it would be the host's")
        if kind not in own:
            raise SpecError("set sysctl", name, f"the {kind} namespace is the host's")
