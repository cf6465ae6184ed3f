# SPDX-License-Identifier: GPL-3.0-or-later
"""What every container's root filesystem holds besides the image: mounts, devices, closed paths.

The lists are those of the OCI runtime specification (config-linux.md, "Default Filesystems" and
"Default Devices") and of runc's and docker's defaults.
"""

from __future__ import annotations

from launcher.spec import Device, DeviceRule, Mount
from launcher.typed import Final

__all__ = ["DEVICES", "DEVICE_RULES", "LINKS", "MASKED", "READONLY", "default_mounts"]

DEVICES: Final = (
    Device(b"/dev/null", "c", 1, 3),
    Device(b"/dev/zero", "c", 1, 5),
    Device(b"/dev/full", "c", 1, 7),
    Device(b"/dev/random", "c", 1, 8),
    Device(b"/dev/urandom", "c", 1, 9),
    Device(b"/dev/tty", "c", 5, 0),
)

LINKS: Final = (
    (b"/dev/ptmx", b"pts/ptmx"),
    (b"/dev/fd", b"/proc/self/fd"),
    (b"/dev/stdin", b"/proc/self/fd/0"),
    (b"/dev/stdout", b"/proc/self/fd/1"),
    (b"/dev/stderr", b"/proc/self/fd/2"),
)

# Nodes may be made, since that alone grants nothing; only these may be opened.
DEVICE_RULES: Final = (
    DeviceRule(False),
    DeviceRule(True, "c", None, None, "m"),
    DeviceRule(True, "b", None, None, "m"),
    *(DeviceRule(True, each.type, each.major, each.minor) for each in DEVICES),
    DeviceRule(True, "c", 5, 1),  # /dev/console
    DeviceRule(True, "c", 5, 2),  # /dev/ptmx
    DeviceRule(True, "c", 136, None),  # /dev/pts/*
)

MASKED: Final = (
    b"/proc/acpi",
    b"/proc/asound",
    b"/proc/interrupts",
    b"/proc/kcore",
    b"/proc/keys",
    b"/proc/latency_stats",
    b"/proc/sched_debug",
    b"/proc/scsi",
    b"/proc/timer_list",
    b"/proc/timer_stats",
    b"/sys/devices/virtual/powercap",
    b"/sys/firmware",
)

READONLY: Final = (
    b"/proc/bus",
    b"/proc/fs",
    b"/proc/irq",
    b"/proc/sys",
    b"/proc/sysrq-trigger",
)


def default_mounts(
    *, shm_size: int = 64 << 20, own_network: bool = True, user_namespace: bool = False
) -> tuple[Mount, ...]:
    """The mounts every container gets, in order; `shm_size` in bytes.

    A new sysfs may only be mounted by the owner of the network namespace (its user namespace must
    own it too), so a container with a user namespace on the host's network sees the host's.
    """
    if user_namespace and not own_network:
        sys = Mount(b"/sys", "bind", b"/sys", ("rbind", "ro", "nosuid", "noexec", "nodev"))
    else:
        sys = Mount(b"/sys", "sysfs", b"sysfs", ("nosuid", "noexec", "nodev", "ro"))
    return (
        Mount(b"/proc", "proc", b"proc", ("nosuid", "noexec", "nodev")),
        Mount(
            b"/dev",
            "tmpfs",
            b"tmpfs",
            ("nosuid", "strictatime", "mode=755", "size=65536k"),
        ),
        Mount(
            b"/dev/pts",
            "devpts",
            b"devpts",
            ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        sys,
        Mount(b"/sys/fs/cgroup", "cgroup", b"cgroup", ("ro", "nosuid", "noexec", "nodev")),
        Mount(b"/dev/mqueue", "mqueue", b"mqueue", ("nosuid", "noexec", "nodev")),
        Mount(
            b"/dev/shm",
            "tmpfs",
            b"shm",
            ("nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}"),
        ),
    )
