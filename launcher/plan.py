# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's description as the ordered steps that make it: pure data, no system call.

`make` turns a `ContainerSpec` into steps; `launcher.child` takes them, one after the other, in the
new namespaces, and the last one is `Exec`.

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

from launcher import steps
from launcher.errors import SpecError
from launcher.isolation import capabilities, rlimits, rootfs
from launcher.spec import ContainerSpec, Device, Mount, Process
from launcher.sys import mount as kernel
from launcher.typed import Final, NamedTuple

__all__ = ["Hierarchy", "Host", "enter", "make"]

# -- what the plan needs to know of the machine ---------------------------------------------------


class Hierarchy(NamedTuple):
    """A cgroup hierarchy as the container is to see it below /sys/fs/cgroup.

    `kind` is cgroup or cgroup2; a sole cgroup2 has no `name` and is the directory itself.
    """

    name: bytes
    kind: bytes
    options: tuple[tuple[bytes, bytes | None], ...]


class Host(NamedTuple):
    """What of the machine shapes a plan. `rootless`: the launcher is itself in a user namespace,
    or an ordinary user, and so may not make device nodes. `lone`: of the ids of its user namespace
    only 0 exists, and setgroups(2) is switched off.
    """

    hierarchies: tuple[Hierarchy, ...] = ()
    rootless: bool = False
    lone: bool = False


# -- options of mount(8) --------------------------------------------------------------------------

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


# -- from spec to steps ---------------------------------------------------------------------------

# The settings that belong to a namespace (docker refuses the others too).
_IPC: Final = "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced"
_IPC_SYSCTLS: Final = frozenset(f"kernel.{name}" for name in _IPC.split())
_UTS_SYSCTLS: Final = frozenset({"kernel.domainname"})
_SIGKILL: Final = 9
_UMASK: Final = 0o022


def make(spec: ContainerSpec, host: Host) -> tuple[steps.Step, ...]:
    """All the steps from a fresh clone to the container's program."""
    _check(spec)
    plan: list[steps.Step] = []
    new_user = spec.namespace("user")
    if new_user is not None:
        plan.append(steps.BecomeRoot())
    plan.append(steps.NewSession())
    if spec.process.oom_score_adj is not None:
        plan.append(steps.SetOomScore(spec.process.oom_score_adj))
    plan.append(steps.HideProcess(b"lamina-init"))
    plan.append(steps.NewKeyring())
    network = spec.namespace("network")
    if network is not None and network.path is None:
        plan.append(steps.RaiseLoopback())
    cgroup = spec.namespace("cgroup")
    if cgroup is not None and cgroup.path is None:
        plan.append(steps.UnshareCgroup())

    plan += _root_steps(spec, host)
    plan += [steps.Sysctl(_sysctl_path(name), value.encode()) for name, value in spec.sysctl]
    # In one's own order: what is read-only may lie in what is masked, never the other way round.
    plan += [steps.ReadOnlyPath(path) for path in spec.readonly_paths]
    plan += [steps.MaskPath(path) for path in spec.masked_paths]
    if spec.process.cwd != b"/":
        plan.append(steps.MakeDirectory(spec.process.cwd))
    if spec.root.readonly:
        plan.append(steps.ReadOnlyRoot())
    if spec.process.terminal:
        plan.append(steps.OpenTerminal())
    plan.append(steps.PivotRoot())
    if spec.rootfs_propagation not in ("", "rprivate", "private"):
        plan.append(steps.SetPropagation(b"/", _PROPAGATION[spec.rootfs_propagation][0]))
    if spec.hostname:
        plan.append(steps.SetHostname(spec.hostname))
    if spec.domainname:
        plan.append(steps.SetDomainname(spec.domainname))
    single_group = host.lone or _setgroups_denied(spec)
    plan += _process_steps(spec.process, spec.seccomp, groups_denied=single_group)
    return tuple(plan)


def enter(
    process: Process,
    seccomp: bytes | None = None,
    *,
    user_namespace: bool = False,
    groups_denied: bool = False,
) -> tuple[steps.Step, ...]:
    """The steps of a further process in a container that runs already (`exec`).

    They are taken after its namespaces have been entered, which no step does; nor does one set the
    OOM score: the /proc in there may be anything. `groups_denied`: its user namespace has
    setgroups(2) switched off.
    """
    plan: list[steps.Step] = []
    if user_namespace:
        plan.append(steps.BecomeRoot())
    plan.append(steps.NewSession())
    plan.append(steps.NewKeyring())
    if process.terminal:
        plan.append(steps.OpenTerminal())
    plan += _process_steps(process, seccomp, groups_denied=groups_denied)
    return tuple(plan)


def _process_steps(
    process: Process, seccomp: bytes | None, *, groups_denied: bool
) -> list[steps.Step]:
    plan: list[steps.Step] = []
    for limit in process.rlimits:
        if limit.type not in rlimits.NUMBERS:
            raise SpecError("set limit", limit.type, "there is none of that name")
        plan.append(steps.SetRlimit(rlimits.NUMBERS[limit.type], limit.soft, limit.hard))
    rights = process.capabilities
    if seccomp is not None and not process.no_new_privileges:
        plan.append(steps.LoadSeccomp(seccomp))
    plan.append(steps.DropBounding(capabilities.mask(rights.bounding)))
    user = process.user
    plan.append(steps.SetUser(user.uid, user.gid, None if groups_denied else user.additional_gids))
    plan.append(steps.SetUmask(_UMASK if user.umask is None else user.umask))
    # As the user, whose right it must be to stand there.
    plan.append(steps.Chdir(process.cwd))
    plan.append(
        steps.SetCapabilities(
            capabilities.mask(rights.effective),
            capabilities.mask(rights.permitted),
            capabilities.mask(rights.inheritable),
            capabilities.mask(rights.ambient),
        )
    )
    if process.no_new_privileges:
        plan.append(steps.SetNoNewPrivileges())
        if seccomp is not None:
            plan.append(steps.LoadSeccomp(seccomp))
    plan.append(steps.SetParentDeathSignal(_SIGKILL))
    if process.init:
        plan.append(steps.BecomeInit())
    plan.append(steps.CloseDescriptors((0, 1, 2)))
    plan.append(steps.Exec(process.args, process.env))
    return plan


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


def _root_steps(spec: ContainerSpec, host: Host) -> list[steps.Step]:
    # Slave: what the host mounts later still arrives, nothing goes back.
    spread = kernel.MS_SLAVE if "slave" in spec.rootfs_propagation else kernel.MS_PRIVATE
    if "shared" in spec.rootfs_propagation:
        spread = kernel.MS_SHARED
    plan: list[steps.Step] = [steps.SetPropagation(b"/", spread), steps.EnterRoot(spec.root.path)]
    read_only_later: list[steps.Step] = []
    dev_is_own = False
    for mount in spec.mounts:
        if mount.type == "cgroup":
            plan += _cgroup_steps(mount, host)
            continue
        options = _parse_options(mount.options)
        if mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options:
            recursive = "rbind" in mount.options
            plan.append(
                steps.Bind(
                    mount.source,
                    mount.destination,
                    recursive,
                    options.wanted,
                    options.cleared,
                    options.propagation or kernel.MS_PRIVATE,
                    mount.owner,
                    mount.below,
                )
            )
            continue
        data = options.data
        if mount.type == "devpts" and (host.lone or not _gid_mapped(spec, data)):
            data = tuple(each for each in data if each[0] != b"gid")
        attributes = options.wanted
        if mount.type == "tmpfs" and attributes & kernel.MOUNT_ATTR_RDONLY:
            # Mount points in it are made by later steps.
            attributes &= ~kernel.MOUNT_ATTR_RDONLY
            read_only_later.append(steps.SetAttributes(mount.destination, kernel.MOUNT_ATTR_RDONLY))
        plan.append(
            steps.Filesystem(
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
        plan += [_device_step(device, host, spec) for device in spec.devices]
        plan += [steps.MakeSymlink(path, target) for path, target in rootfs.LINKS]
    plan += read_only_later
    return plan


def _device_step(device: Device, host: Host, spec: ContainerSpec) -> steps.Step:
    kinds = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
    if device.type not in kinds:
        raise SpecError("make device", device.path, f"type {device.type} is none of c, b and p")
    if device.type != "p" and (host.rootless or spec.namespace("user") is not None):
        # mknod(2) of devices asks for CAP_MKNOD in the first user namespace.
        attributes = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC
        return steps.Bind(device.source or device.path, device.path, False, attributes)
    return steps.MakeNode(
        device.path,
        kinds[device.type] | device.file_mode,
        device.major,
        device.minor,
        device.uid,
        device.gid,
    )


def _cgroup_steps(mount: Mount, host: Host) -> list[steps.Step]:
    options = _parse_options(mount.options)
    read_only = options.wanted & kernel.MOUNT_ATTR_RDONLY
    if not host.hierarchies:
        return []
    first = host.hierarchies[0]
    if len(host.hierarchies) == 1 and not first.name:
        return [
            steps.Filesystem(
                first.kind, b"cgroup", mount.destination, options.wanted, first.options
            )
        ]
    plan: list[steps.Step] = [
        steps.Filesystem(
            b"tmpfs",
            b"tmpfs",
            mount.destination,
            options.wanted & ~read_only,
            ((b"mode", b"755"),),
        )
    ]
    for each in host.hierarchies:
        path = mount.destination + b"/" + each.name
        plan.append(steps.Filesystem(each.kind, b"cgroup", path, options.wanted, each.options))
        # Controllers mounted together are found under each one's name too.
        together = each.name.split(b",")
        if len(together) > 1:
            plan += [
                steps.MakeSymlink(mount.destination + b"/" + one, each.name) for one in together
            ]
    if read_only:
        plan.append(steps.SetAttributes(mount.destination, read_only))
    return plan


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
