# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container is to be: frozen values in the terms of the OCI runtime specification.

Nothing here looks at the machine, and nothing is done; `launcher.plan` makes steps of it. Names
follow config.md and config-linux.md of the specification, in snake case. Paths, arguments and the
environment are bytes, as the kernel takes them. The values are named tuples rather than
dataclasses because this module lies on the way of every start: a named tuple costs a sixth of the
time to define, and `dataclasses` pulls in `inspect`.
"""

from __future__ import annotations

from launcher.typed import Final, NamedTuple

__all__ = [
    "BlockThrottle",
    "BlockWeight",
    "Capabilities",
    "ContainerSpec",
    "Device",
    "DeviceRule",
    "IdMapping",
    "Mount",
    "Namespace",
    "Process",
    "Resources",
    "Rlimit",
    "Root",
    "User",
]


class User(NamedTuple):
    """Who the process is, in the container's numbers."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    umask: int | None = None


class Capabilities(NamedTuple):
    """The five sets of capabilities(7), by name (CAP_CHOWN …)."""

    bounding: frozenset[str] = frozenset()
    effective: frozenset[str] = frozenset()
    permitted: frozenset[str] = frozenset()
    inheritable: frozenset[str] = frozenset()
    ambient: frozenset[str] = frozenset()


class Rlimit(NamedTuple):
    """One limit of setrlimit(2); `type` is its name (RLIMIT_NOFILE), -1 means unlimited."""

    type: str
    soft: int
    hard: int


class Process(NamedTuple):
    """The first process: what it executes, as whom, and with what rights."""

    args: tuple[bytes, ...]
    env: tuple[bytes, ...] = ()
    cwd: bytes = b"/"
    terminal: bool = False
    user: User = User()
    capabilities: Capabilities = Capabilities()
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    # Not of the specification: docker's --init. A process that reaps stays above `args`.
    init: bool = False


class Root(NamedTuple):
    """The root filesystem: a directory of the host's, usually where the union is mounted."""

    path: bytes
    readonly: bool = False


class Mount(NamedTuple):
    """A mount of the container's, in the options of mount(8).

    `type` "bind" mounts `source`, a path of the host's, or of the process `owner`, if there is one,
    in whose mount namespace it is looked up; with `below` what lies there in it, whose links lead
    nowhere else. "cgroup" stands for whatever shows the machine's cgroups.
    """

    destination: bytes
    type: str
    source: bytes = b""
    options: tuple[str, ...] = ()
    owner: int = 0
    below: bytes = b""


class Namespace(NamedTuple):
    """A namespace by its name in the specification; with a path an existing one is joined."""

    type: str
    path: bytes | None = None


class IdMapping(NamedTuple):
    """`size` ids from `container_id` on inside are those from `host_id` on outside."""

    container_id: int
    host_id: int
    size: int


class Device(NamedTuple):
    """A device node to be made: `type` is c, b or p (a fifo).

    `source` is the host's path, where it is another; it matters where nodes cannot be made and the
    host's are mounted instead.
    """

    path: bytes
    type: str
    major: int
    minor: int
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0
    source: bytes = b""


class DeviceRule(NamedTuple):
    """Whether devices may be used: `type` a, c or b; a number of None stands for any."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class BlockWeight(NamedTuple):
    """The weight of one block device, 10 to 1000."""

    major: int
    minor: int
    weight: int


class BlockThrottle(NamedTuple):
    """A rate of one block device: bytes or operations a second."""

    major: int
    minor: int
    rate: int


class Resources(NamedTuple):
    """Limits of cgroups, in the units of cgroup v1 as in the specification; None: not limited.

    Memory is in bytes; `memory_swap` is memory and swap together, -1 unlimited. `cpu_shares` are
    of 1024; quota and period are in microseconds. `memory_swappiness` (0 to 100) and
    `oom_kill_disable` are known to cgroup v1 only. -1 takes a limit away that is there.
    """

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    pids: int | None = None
    blkio_weight: int | None = None
    blkio_weight_device: tuple[BlockWeight, ...] = ()
    blkio_read_bps: tuple[BlockThrottle, ...] = ()
    blkio_write_bps: tuple[BlockThrottle, ...] = ()
    blkio_read_iops: tuple[BlockThrottle, ...] = ()
    blkio_write_iops: tuple[BlockThrottle, ...] = ()
    # In order; the last that fits decides. Empty: no limit on devices.
    devices: tuple[DeviceRule, ...] = ()

    def replacing(self, old: Resources) -> Resources:
        """These limits for a cgroup that has those of `old`: -1 where they have one more."""
        lifted = {
            name: -1
            for name in _LIFTED
            if getattr(old, name) is not None and getattr(self, name) is None
        }
        if "memory" in lifted and self.memory_swap is None:
            lifted["memory_swap"] = -1  # as much swap as memory was part of that limit
        return self._replace(**lifted)  # type: ignore[arg-type]


# What `Resources.replacing` may find taken back.
_LIFTED: Final = (
    "memory",
    "memory_swap",
    "memory_reservation",
    "cpu_shares",
    "cpu_quota",
    "cpu_period",
    "pids",
    "blkio_weight",
)


# What a container always has of its own, whatever else is shared.
OWN_NAMESPACES: Final = tuple(
    Namespace(kind) for kind in ("pid", "mount", "uts", "ipc", "network", "cgroup")
)


class ContainerSpec(NamedTuple):
    """The whole of one container.

    `seccomp` is a compiled filter (see `launcher.isolation.seccomp`), or None for none.
    `user_mappings` are for a new user namespace, which `namespaces` then names.
    """

    process: Process
    root: Root
    hostname: bytes = b""
    domainname: bytes = b""
    mounts: tuple[Mount, ...] = ()
    namespaces: tuple[Namespace, ...] = OWN_NAMESPACES
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    masked_paths: tuple[bytes, ...] = ()
    readonly_paths: tuple[bytes, ...] = ()
    sysctl: tuple[tuple[str, str], ...] = ()
    resources: Resources = Resources()
    seccomp: bytes | None = None
    rootfs_propagation: str = "rprivate"
    annotations: tuple[tuple[str, str], ...] = ()

    def namespace(self, kind: str) -> Namespace | None:
        """The namespace of that type which the container does not share with its maker."""
        return next((each for each in self.namespaces if each.type == kind), None)
