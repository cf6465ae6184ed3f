# SPDX-License-Identifier: GPL-3.0-or-later
"""From a record to what is started: the union's configuration, the limits, the specification.

This is where docker's words become those of the OCI runtime specification. The supervisor calls
it at each start, with the union mounted; what it reads of the container is its accounts, within
its rootfs. Nothing is written but what a start needs on the host (`namefiles`, `population`).
"""

from __future__ import annotations

import os
import stat

from launcher import apart, plan, start
from launcher import record as records
from launcher.cgroup import hierarchies
from launcher.errors import LaunchError, SpecError
from launcher.isolation import capabilities, rlimits, rootfs, users
from launcher.paths import Paths
from launcher.record import Record, RequestedMount
from launcher.rootunion import in_user_namespace
from launcher.spec import (
    ContainerSpec,
    Device,
    DeviceRule,
    IdMapping,
    Mount,
    Namespace,
    Process,
    Resources,
    Root,
    User,
)
from launcher.typed import Final

__all__ = ["enter", "filter_of", "launch", "process_of", "resources", "specification"]

_PATH: Final = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# -- limits ---------------------------------------------------------------------------------------


def resources(record: Record) -> Resources:
    """The limits of the container's cgroup, with the devices that it may use."""
    if record.privileged:
        return record.resources._replace(devices=(DeviceRule(True),))
    rules = list(rootfs.DEVICE_RULES)
    for requested in record.devices:
        rules += [
            DeviceRule(True, each.type, each.major, each.minor, requested.access)
            for each in _devices_at(requested.source, requested.destination)
        ]
    rules += [_rule(each) for each in record.device_rules]
    return record.resources._replace(devices=tuple(rules))


def _rule(text: str) -> DeviceRule:
    kind, numbers, access = text.split()
    major, minor = (None if each == "*" else int(each) for each in numbers.split(":"))
    return DeviceRule(True, kind, major, minor, access)


# -- devices --------------------------------------------------------------------------------------


def _devices_at(source: str, destination: str) -> list[Device]:
    """The device at `source`, or all below it if that is a directory."""
    try:
        found = os.stat(source)
        if not stat.S_ISDIR(found.st_mode):
            return [_device(source, destination, found)]
        below = []
        for directory, _, files in os.walk(source):
            for name in sorted(files):
                path = os.path.join(directory, name)
                each = os.stat(path)
                if stat.S_ISCHR(each.st_mode) or stat.S_ISBLK(each.st_mode):
                    inside = destination + path.removeprefix(source)
                    below.append(_device(path, inside, each))
    except OSError as error:
        raise LaunchError("add device", source, error) from error
    return below


def _device(source: str, destination: str, found: os.stat_result) -> Device:
    if stat.S_ISCHR(found.st_mode):
        kind = "c"
    elif stat.S_ISBLK(found.st_mode):
        kind = "b"
    else:
        raise SpecError("add device", source, "it is not a device")
    return Device(
        os.fsencode(destination),
        kind,
        os.major(found.st_rdev),
        os.minor(found.st_rdev),
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        os.fsencode(source),
    )


# What has a mount or a meaning of its own in a container.
_NOT_DEVICES: Final = frozenset({b"pts", b"shm", b"mqueue", b"fd", b"console", b"ptmx", b"tty"})


def _all_devices() -> list[Device]:
    """Every device of the host's /dev."""
    found = []
    for directory, below, files in os.walk(b"/dev"):
        if directory == b"/dev":
            below[:] = [name for name in below if name not in _NOT_DEVICES]
            files = [name for name in files if name not in _NOT_DEVICES]
        for name in files:
            path = directory + b"/" + name
            each = os.lstat(path)
            if stat.S_ISCHR(each.st_mode) or stat.S_ISBLK(each.st_mode):
                text = os.fsdecode(path)
                found.append(_device(text, text, each))
    return found


def _devices(record: Record) -> tuple[Device, ...]:
    found = {each.path: each for each in rootfs.DEVICES}
    if record.privileged:
        found.update((each.path, each) for each in _all_devices())
    for requested in record.devices:
        for each in _devices_at(requested.source, requested.destination):
            found[each.path] = each
    return tuple(found.values())


# -- mounts ---------------------------------------------------------------------------------------

_OURS: Final = ("missing", "anonymous", "nocopy", "subpath=", "label=", "z", "Z")


# What goes with an IPC namespace: to mount the queues of one takes its owner's rights.
_OF_IPC: Final = (b"/dev/shm", b"/dev/mqueue")


def _mounts(paths: Paths, record: Record, *, foreign: bool) -> tuple[Mount, ...]:
    """The default mounts and those asked for; one of the latter replaces a default one."""
    own_network = record.network != "host" and not record.network.startswith("container:")
    standing = rootfs.default_mounts(
        shm_size=record.shm_size, own_network=own_network, user_namespace=foreign
    )
    asked = {os.fsencode(each.destination): _mount(paths, each) for each in record.mounts}
    kept = []
    for each in standing:
        if each.destination in asked or (each.destination == b"/dev/shm" and record.ipc == "none"):
            continue
        if record.ipc == "host" and each.destination == b"/dev/shm":
            each = Mount(b"/dev/shm", "bind", b"/dev/shm", ("rbind",))
        elif record.ipc.startswith("container:") and each.destination in _OF_IPC:
            owner = _process_of(paths, record.ipc.partition(":")[2])
            each = Mount(each.destination, "bind", each.destination, ("bind",), owner)
        elif record.ipc == "host" and each.destination == b"/dev/mqueue" and foreign:
            # The queues of another's namespace may not be mounted anew, and the host may have none.
            if not os.path.ismount("/dev/mqueue"):
                continue
            each = Mount(b"/dev/mqueue", "bind", b"/dev/mqueue", ("rbind",))
        elif record.pid == "host" and each.destination == b"/proc" and foreign:
            # A new proc may be mounted by the owner of the process namespace only.
            each = Mount(b"/proc", "bind", b"/proc", ("rbind", *each.options))
        elif record.cgroupns == "host" and each.type == "cgroup" and foreign:
            each = Mount(each.destination, "bind", each.destination, ("rbind", *each.options))
        if record.privileged and each.destination.startswith(b"/sys"):
            each = each._replace(options=tuple(one for one in each.options if one != "ro"))
        kept.append(each)
    files = tuple(
        Mount(b"/etc/" + name, "bind", paths.container(record.id) + b"/" + name, ("rbind",))
        for name in (b"resolv.conf", b"hostname", b"hosts")
        if b"/etc/" + name not in asked
    )
    # What lies below another's mount point comes after it.
    ordered = sorted((*files, *asked.values()), key=lambda each: each.destination.count(b"/"))
    return (*kept, *ordered)


def _mount(paths: Paths, requested: RequestedMount) -> Mount:
    options = tuple(each for each in requested.options if not each.startswith(_OURS))
    destination = os.fsencode(requested.destination)
    if requested.kind == "tmpfs":
        return Mount(destination, "tmpfs", b"tmpfs", options)
    if "bind" not in options:
        options = ("rbind", *(each for each in options if each != "rbind"))
    source = os.fsencode(requested.source)
    if requested.kind == "volume":
        from launcher import volumes

        source = volumes.data(paths, requested.source)
        below = next((each for each in requested.options if each.startswith("subpath=")), "")
        inside = os.fsencode(below.removeprefix("subpath="))
        return Mount(destination, "bind", source, options, below=inside)
    return Mount(destination, "bind", source, options)


# -- namespaces -----------------------------------------------------------------------------------


def _namespaces(paths: Paths, record: Record) -> tuple[Namespace, ...]:
    found = [Namespace("mount")]
    for kind, mode, file in (
        ("pid", record.pid, b"pid"),
        ("ipc", record.ipc, b"ipc"),
        ("uts", record.uts, b"uts"),
        ("network", record.network, b"net"),
        ("cgroup", record.cgroupns, b"cgroup"),
    ):
        if mode == "host":
            continue
        if mode.startswith("container:"):
            pid = _process_of(paths, mode.partition(":")[2], kind)
            found.append(Namespace(kind, b"/proc/%d/ns/%s" % (pid, file)))
            if kind == "network":
                # docker: who shares a network shares its name, too.
                found = [each for each in found if each.type != "uts"]
                found.append(Namespace("uts", b"/proc/%d/ns/uts" % pid))
        else:
            found.append(Namespace(kind))
    if record.userns:
        found.append(Namespace("user"))
    return tuple(found)


def _process_of(paths: Paths, reference: str, kind: str = "") -> int:
    """The first process of another container, which must run, and share its namespace of `kind`."""
    from launcher.state import State

    with State(paths) as state:
        entry = state.find(reference)
    if entry.running is None or entry.running.pid == 0:
        raise LaunchError("join container", reference, "it does not run")
    if kind == "ipc":
        mode = records.load(paths, entry.row.id).ipc
        if mode in ("private", "none"):
            raise LaunchError(
                "join IPC of container", entry.row.name, f"it was made with --ipc {mode}"
            )
    return entry.running.pid


# -- the process ----------------------------------------------------------------------------------


def process_of(
    record: Record,
    root_fd: int,
    *,
    args: tuple[bytes, ...] = (),
    env: tuple[bytes, ...] = (),
    cwd: bytes | None = None,
    user: str | None = None,
    terminal: bool | None = None,
    privileged: bool = False,
) -> Process:
    """The container's process, or with `args` a further one (`exec`) with what that changes.

    `root_fd` is its root directory, in which the user's name is looked up. Raises SpecError for a
    user or group that there is not.
    """
    further = bool(args)
    named = record.user if user is None else user
    who = users.Account(
        *apart.do(lambda: users.find(root_fd, named, record.group_add), keep=(root_fd,))
    )
    granted = _granted(record, privileged)
    with_terminal = record.tty if terminal is None else terminal
    return Process(
        args=args or record.args,
        env=_environment(record, who.home, env, with_terminal),
        cwd=record.cwd if cwd is None else cwd,
        terminal=with_terminal,
        user=User(who.uid, who.gid, who.additional_gids),
        capabilities=capabilities.of_user(granted, who.uid),
        rlimits=tuple(rlimits.parse(each) for each in record.ulimits),
        no_new_privileges=record.no_new_privileges,
        oom_score_adj=record.oom_score_adj,
        init=record.init and not further,
    )


def _granted(record: Record, privileged: bool = False) -> frozenset[str]:
    if record.privileged or privileged:
        return capabilities.adjusted(("ALL",), record.cap_drop)
    return capabilities.adjusted(record.cap_add, record.cap_drop)


def _environment(
    record: Record, home: bytes, more: tuple[bytes, ...], terminal: bool
) -> tuple[bytes, ...]:
    """docker's order: its own, then the container's in their places, HOME where none is set."""
    found = {b"PATH": _PATH[5:], b"HOSTNAME": os.fsencode(record.hostname)}
    if terminal:
        found[b"TERM"] = b"xterm"
    for each in (*record.env, *more):
        name, equals, value = each.partition(b"=")
        if equals:
            found[name] = value
        else:
            found.pop(name, None)
    found.setdefault(b"HOME", home)
    return tuple(name + b"=" + value for name, value in found.items())


# -- the filter -----------------------------------------------------------------------------------


def filter_of(paths: Paths, record: Record) -> bytes | None:
    """The compiled seccomp filter, from a file where one was compiled before; None for none."""
    if record.seccomp == "unconfined":
        return None
    from launcher.isolation import seccomp

    cache = paths.root + b"/seccomp"
    os.makedirs(cache, 0o700, exist_ok=True)
    if record.seccomp:
        return seccomp.program_of(record.seccomp, _granted(record), cache)
    return seccomp.default_program(_granted(record), cache)


# -- the whole ------------------------------------------------------------------------------------


def _mappings(record: Record) -> tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]]:
    if not record.userns:
        return (), ()
    uid, gid, size = (int(each) for each in record.userns.split(":"))
    return (IdMapping(0, uid, size),), (IdMapping(0, gid, size),)


def specification(paths: Paths, record: Record, root_fd: int, merged: bytes) -> ContainerSpec:
    """The container's description, its union mounted at `merged` and open as `root_fd`."""
    new_users = bool(record.userns)
    uid_mappings, gid_mappings = _mappings(record)
    own_names = record.uts != "host" and not record.network.startswith("container:")
    confined = record.systempaths and not record.privileged
    return ContainerSpec(
        process=process_of(record, root_fd),
        root=Root(merged, record.read_only),
        hostname=os.fsencode(record.hostname) if own_names else b"",
        domainname=os.fsencode(record.domainname) if own_names else b"",
        # What of the host's is shared is then another user namespace's: to be bound, not mounted.
        mounts=_mounts(paths, record, foreign=new_users or in_user_namespace()),
        namespaces=_namespaces(paths, record),
        uid_mappings=uid_mappings,
        gid_mappings=gid_mappings,
        devices=_devices(record),
        masked_paths=rootfs.MASKED if confined else (),
        readonly_paths=rootfs.READONLY if confined else (),
        sysctl=record.sysctls,
        resources=resources(record),
        seccomp=filter_of(paths, record),
        rootfs_propagation=_propagation(record),
        annotations=record.annotations,
    )


def _propagation(record: Record) -> str:
    """A mount spreads only where those above it do, so the root follows the widest."""
    words = {option for mount in record.mounts for option in mount.options}
    if not words.isdisjoint({"shared", "rshared"}):
        return "rshared"
    return "rslave" if not words.isdisjoint({"slave", "rslave"}) else "rprivate"


def launch(
    paths: Paths,
    record: Record,
    root_fd: int,
    merged: bytes,
    stdio: tuple[int, int, int],
    terminal: int = -1,
) -> start.Launch:
    """What `start.begin` takes for the container's first process.

    `root_fd` and `stdio` stay the caller's, as does `terminal`, a unix socket over which the
    terminal's master comes.
    """
    from launcher import namefiles

    namefiles.write(paths, record)
    if any(each.kind == "volume" for each in record.mounts):
        from launcher import population

        apart.do(lambda: population.fill(paths, record, root_fd), keep=(root_fd,))
    with open("/proc/self/setgroups", "rb") as file:
        lone = file.read().strip() == b"deny"
    host = plan.Host(
        hierarchies.shown_inside(hierarchies.find()), rootless=in_user_namespace(), lone=lone
    )
    return start.launch_of(specification(paths, record, root_fd, merged), host, stdio, terminal)


def enter(
    paths: Paths,
    record: Record,
    root_fd: int,
    started: start.Started,
    args: tuple[bytes, ...],
    stdio: tuple[int, int, int],
    terminal: int = -1,
    *,
    env: tuple[bytes, ...] = (),
    cwd: bytes | None = None,
    user: str | None = None,
    privileged: bool = False,
) -> start.Launch:
    """What `start.begin` takes for a further process in the running container (`exec`).

    `root_fd` is the container's root directory. `terminal` as for `launch`; -1 for none.
    """
    made = process_of(
        record,
        root_fd,
        args=args,
        env=env,
        cwd=cwd,
        user=user,
        terminal=terminal >= 0,
        privileged=privileged,
    )
    filtered = None if privileged else filter_of(paths, record)
    return start.launch_into(started, made, filtered, stdio, terminal)
