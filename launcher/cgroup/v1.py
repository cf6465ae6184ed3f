# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's cgroup in one v1 hierarchy: the files of the controllers that are mounted there.

Documentation/admin-guide/cgroup-v1 of the kernel names them.
"""

from __future__ import annotations

import os
import time

from launcher.cgroup.accounts import Accounts
from launcher.cgroup.directory import Directory
from launcher.errors import LaunchError
from launcher.spec import BlockThrottle, DeviceRule, Resources
from launcher.typed import Final
from unionfs.light import contextlib, signal

__all__ = ["V1"]

# Above this a limit in bytes means none (the kernel rounds LONG_MAX to pages).
_NO_LIMIT: Final = 1 << 60
_FREEZE_PATIENCE: Final = 10.0
_MINIMUM_SHARES: Final = 2
# What a cgroup has before anything is said.
_USUAL_SHARES: Final = 1024
_USUAL_PERIOD: Final = 100_000
_USUAL_WEIGHTS: Final = {"blkio.weight": 500, "blkio.bfq.weight": 100}


class V1:
    """See `launcher.cgroup.group.Part`."""

    __slots__ = ("_controllers", "_directory")

    def __init__(self, directory: Directory, controllers: frozenset[str]) -> None:
        self._directory = directory
        self._controllers = controllers

    @property
    def directory(self) -> Directory:
        return self._directory

    def create(self) -> None:
        self._directory.create()
        if "cpuset" in self._controllers:
            # A new cpuset is empty and takes no process (cpusets.rst).
            self._inherit_cpuset(self._directory)

    def _inherit_cpuset(self, directory: Directory) -> None:
        if directory.read("cpuset.cpus").strip() and directory.read("cpuset.mems").strip():
            return
        above = Directory(directory.path.rpartition(b"/")[0])
        self._inherit_cpuset(above)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not directory.read(name).strip():
                directory.write(name, above.read(name).strip())

    def limit(self, resources: Resources) -> tuple[str, ...]:
        missing: list[str] = []
        for controller, set_limits in (
            ("memory", self._limit_memory),
            ("cpu", self._limit_cpu),
            ("cpuset", self._limit_cpuset),
            ("pids", self._limit_pids),
            ("blkio", self._limit_blkio),
            ("devices", self._limit_devices),
        ):
            if controller in self._controllers:
                missing += set_limits(resources)
        return tuple(missing)

    def _limit_memory(self, resources: Resources) -> list[str]:
        missing: list[str] = []
        swap = resources.memory_swap
        if resources.memory is not None and swap is None and resources.memory > 0:
            swap = 2 * resources.memory  # docker: as much swap as memory
        limits = [
            ("memory.limit_in_bytes", resources.memory, "memory"),
            ("memory.memsw.limit_in_bytes", swap, "swap"),
        ]
        # The kernel keeps memory <= memory and swap: what grows is set in the other order.
        current = self._directory.number("memory.memsw.limit_in_bytes")
        grows = (
            resources.memory is not None
            and current is not None
            and (resources.memory < 0 or resources.memory > current)
        )
        for name, value, what in reversed(limits) if grows else limits:
            if value is None:
                continue
            if not self._directory.has(name):
                missing.append(what)
                continue
            self._directory.write(name, str(value))
        if resources.memory_reservation is not None:
            self._directory.write("memory.soft_limit_in_bytes", str(resources.memory_reservation))
        if resources.memory_swappiness is not None:
            self._directory.write("memory.swappiness", str(resources.memory_swappiness))
        if resources.oom_kill_disable:
            self._directory.write("memory.oom_control", "1")
        return missing

    def _limit_cpu(self, resources: Resources) -> list[str]:
        if resources.cpu_shares:
            wanted = resources.cpu_shares if resources.cpu_shares > 0 else _USUAL_SHARES
            self._directory.write("cpu.shares", str(max(wanted, _MINIMUM_SHARES)))
        if resources.cpu_period:
            period = resources.cpu_period if resources.cpu_period > 0 else _USUAL_PERIOD
            self._directory.write("cpu.cfs_period_us", str(period))
        if resources.cpu_quota:
            if not self._directory.has("cpu.cfs_quota_us"):
                return ["cpu quota"]
            self._directory.write("cpu.cfs_quota_us", str(resources.cpu_quota))
        return []

    def _limit_cpuset(self, resources: Resources) -> list[str]:
        if resources.cpuset_cpus:
            self._directory.write("cpuset.cpus", resources.cpuset_cpus)
        if resources.cpuset_mems:
            self._directory.write("cpuset.mems", resources.cpuset_mems)
        return []

    def _limit_pids(self, resources: Resources) -> list[str]:
        if resources.pids is not None:
            value = str(resources.pids) if resources.pids > 0 else "max"
            self._directory.write("pids.max", value)
        return []

    def _limit_blkio(self, resources: Resources) -> list[str]:
        missing = []
        names = ("blkio.weight", "blkio.bfq.weight")
        weight = next((name for name in names if self._directory.has(name)), None)
        if resources.blkio_weight or resources.blkio_weight_device:
            if weight is None:
                missing.append("block I/O weight")
            else:
                if resources.blkio_weight:
                    wanted = resources.blkio_weight
                    value = wanted if wanted > 0 else _USUAL_WEIGHTS[weight]
                    self._directory.write(weight, str(value))
                for each in resources.blkio_weight_device:
                    # Weights are the scheduler's, and this device's may be another.
                    line = f"{each.major}:{each.minor} {each.weight}"
                    if not self._directory.takes(f"{weight}_device", line):
                        missing.append("block I/O weight")
        throttles: tuple[tuple[str, tuple[BlockThrottle, ...]], ...] = (
            ("read_bps", resources.blkio_read_bps),
            ("write_bps", resources.blkio_write_bps),
            ("read_iops", resources.blkio_read_iops),
            ("write_iops", resources.blkio_write_iops),
        )
        for name, limits in throttles:
            for limit in limits:
                line = f"{limit.major}:{limit.minor} {limit.rate}"
                self._directory.write(f"blkio.throttle.{name}_device", line)
        return missing

    def _limit_devices(self, resources: Resources) -> list[str]:
        for rule in resources.devices:
            name = "devices.allow" if rule.allow else "devices.deny"
            self._directory.write(name, _device_line(rule))
        return []

    def attach(self, pid: int) -> None:
        self._directory.write("cgroup.procs", str(pid))

    def accounts(self) -> Accounts:
        found = Accounts()
        if "cpuacct" in self._controllers:
            found = found._replace(cpu=self._directory.number("cpuacct.usage"))
        if "cpu" in self._controllers:
            throttled = self._directory.table("cpu.stat").get("throttled_time")
            found = found._replace(cpu_throttled=throttled)
        if "memory" in self._controllers:
            usage = self._directory.number("memory.usage_in_bytes")
            limit = self._directory.number("memory.limit_in_bytes")
            idle = self._directory.table("memory.stat").get("total_inactive_file", 0)
            found = found._replace(
                memory=None if usage is None else max(usage - idle, 0),
                memory_limit=None if limit is None or limit > _NO_LIMIT else limit,
                oom_kills=_oom_kills(self._directory),
            )
        if "pids" in self._controllers:
            found = found._replace(
                pids=self._directory.number("pids.current"),
                pids_limit=self._directory.number("pids.max"),
            )
        if "blkio" in self._controllers:
            read, written = self._block_bytes()
            found = found._replace(block_read=read, block_written=written)
        return found

    def _block_bytes(self) -> tuple[int, int]:
        sums = {"Read": 0, "Write": 0}
        for line in self._directory.read("blkio.throttle.io_service_bytes_recursive").splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[1] in sums:
                sums[fields[1]] += int(fields[2])
        return sums["Read"], sums["Write"]

    def freezes(self) -> bool:
        return "freezer" in self._controllers

    def freeze(self) -> None:
        """Stop all processes; they stay FREEZING while one is in an uninterruptible call."""
        deadline = time.monotonic() + _FREEZE_PATIENCE
        while True:
            # Written again each time: a process that forked meanwhile is caught by the next.
            self._directory.write("freezer.state", "FROZEN")
            if self._directory.read("freezer.state").strip() == "FROZEN":
                return
            if time.monotonic() > deadline:
                self.thaw()
                raise LaunchError("pause processes of", self._directory.path, "they do not stop")
            time.sleep(0.001)

    def thaw(self) -> None:
        self._directory.write("freezer.state", "THAWED")

    def kill(self) -> None:
        """SIGKILL to all; with a freezer none can fork away in between."""
        frozen = False
        if self.freezes():
            with contextlib.suppress(LaunchError):
                self._directory.write("freezer.state", "FROZEN")
                frozen = True
        self._directory.signal_all(signal.SIGKILL)
        if frozen:
            with contextlib.suppress(LaunchError):
                self.thaw()

    def pids(self) -> list[int]:
        return self._directory.pids()

    def remove(self) -> None:
        if self.freezes() and os.access(self._directory.path, os.F_OK):
            # A frozen process does not die of SIGKILL here.
            with contextlib.suppress(LaunchError):
                self.thaw()
        self._directory.remove()


def _oom_kills(directory: Directory) -> int:
    """Processes killed for memory in a cgroup and those below: v1 counts each for itself."""
    own = directory.table("memory.oom_control").get("oom_kill", 0)
    return own + sum(_oom_kills(each) for each in directory.below())


def _device_line(rule: DeviceRule) -> str:
    if rule.type == "a":
        return "a"
    major = "*" if rule.major is None else str(rule.major)
    minor = "*" if rule.minor is None else str(rule.minor)
    return f"{rule.type} {major}:{minor} {rule.access}"
