# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's cgroup in the v2 hierarchy (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import os
import select

from launcher.cgroup import device_filter
from launcher.cgroup.accounts import Accounts
from launcher.cgroup.directory import Directory
from launcher.errors import LaunchError
from launcher.spec import Resources
from launcher.typed import Final
from unionfs.light import contextlib, signal

__all__ = ["V2"]

_FREEZE_PATIENCE: Final = 10_000  # ms
_END_PATIENCE: Final = 20_000  # ms
_USUAL_WEIGHT: Final = 100  # of cpu.weight and io.weight, before anything is said


class V2:
    """See `launcher.cgroup.group.Part`. `controllers` by their names in v2."""

    __slots__ = ("_controllers", "_descriptor", "_directory")

    def __init__(self, directory: Directory, controllers: frozenset[str]) -> None:
        self._directory = directory
        self._controllers = controllers
        self._descriptor = -1

    @property
    def directory(self) -> Directory:
        return self._directory

    def create(self) -> None:
        self._directory.create()

    def descriptor(self) -> int:
        """A descriptor of the directory, for CLONE_INTO_CGROUP; closed by `remove`."""
        if self._descriptor < 0:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            self._descriptor = os.open(self._directory.path, flags)
        return self._descriptor

    def limit(self, resources: Resources) -> tuple[str, ...]:
        missing: list[str] = []
        if "memory" in self._controllers:
            # Of v1 alone.
            missing += ["memory swappiness"] * (resources.memory_swappiness is not None)
            missing += ["out-of-memory kills switched off"] * resources.oom_kill_disable
        for controller, value, what in self._settings(resources):
            if controller not in self._controllers:
                missing.append(what)
                continue
            name, text = value
            if not self._directory.has(name):
                missing.append(what)
                continue
            if not self._directory.takes(name, text):
                missing.append(what)
        if resources.devices:
            try:
                device_filter.attach(self.descriptor(), resources.devices)
            except PermissionError:
                # bpf(2) asks for CAP_BPF in the first user namespace. An ordinary user's
                # container has no device nodes but those it was given.
                missing.append("devices")
            except OSError as error:
                raise LaunchError("limit devices of", self._directory.path, error) from error
        return tuple(missing)

    def _settings(self, resources: Resources) -> list[tuple[str, tuple[str, str], str]]:
        """(controller, (file, content), what it is called) of all that is asked for."""
        settings: list[tuple[str, tuple[str, str], str]] = []
        memory = resources.memory
        if memory is not None:
            settings.append(("memory", ("memory.max", _max(memory)), "memory"))
        swap = _swap(resources)
        if swap is not None:
            settings.append(("memory", ("memory.swap.max", swap), "swap"))
        if resources.memory_reservation is not None:
            low = str(max(resources.memory_reservation, 0))
            settings.append(("memory", ("memory.low", low), "memory reservation"))
        if resources.cpu_shares:
            weight = ("cpu.weight", str(_weight(resources.cpu_shares)))
            settings.append(("cpu", weight, "cpu shares"))
        if resources.cpu_quota or resources.cpu_period:
            quota = _max(resources.cpu_quota or -1)
            period = max(resources.cpu_period or 0, 0) or 100_000
            settings.append(("cpu", ("cpu.max", f"{quota} {period}"), "cpu quota"))
        if resources.cpuset_cpus:
            settings.append(("cpuset", ("cpuset.cpus", resources.cpuset_cpus), "cpuset"))
        if resources.cpuset_mems:
            settings.append(("cpuset", ("cpuset.mems", resources.cpuset_mems), "cpuset"))
        if resources.pids is not None:
            value = str(resources.pids) if resources.pids > 0 else "max"
            settings.append(("pids", ("pids.max", value), "pids"))
        settings += self._block_settings(resources)
        return settings

    def _block_settings(self, resources: Resources) -> list[tuple[str, tuple[str, str], str]]:
        settings: list[tuple[str, tuple[str, str], str]] = []
        if resources.blkio_weight:
            # BFQ's weights are those of v1; io.weight reaches from 1 to 10000.
            wanted = resources.blkio_weight
            if self._directory.has("io.bfq.weight"):
                value = ("io.bfq.weight", str(wanted if wanted > 0 else _USUAL_WEIGHT))
            else:
                scaled = 1 + (wanted - 10) * 9999 // 990 if wanted > 0 else _USUAL_WEIGHT
                value = ("io.weight", f"default {scaled}")
            settings.append(("io", value, "block I/O weight"))
        for each in resources.blkio_weight_device:
            line = f"{each.major}:{each.minor} {each.weight}"
            settings.append(("io", ("io.bfq.weight", line), "block I/O weight"))
        for key, throttles in (
            ("rbps", resources.blkio_read_bps),
            ("wbps", resources.blkio_write_bps),
            ("riops", resources.blkio_read_iops),
            ("wiops", resources.blkio_write_iops),
        ):
            for limit in throttles:
                line = f"{limit.major}:{limit.minor} {key}={limit.rate}"
                settings.append(("io", ("io.max", line), "block I/O rate"))
        return settings

    def attach(self, pid: int) -> None:
        self._directory.write("cgroup.procs", str(pid))

    def accounts(self) -> Accounts:
        cpu = self._directory.table("cpu.stat")
        found = Accounts(cpu=cpu["usage_usec"] * 1000 if "usage_usec" in cpu else None)
        if "throttled_usec" in cpu:
            found = found._replace(cpu_throttled=cpu["throttled_usec"] * 1000)
        usage = self._directory.number("memory.current")
        if usage is not None:
            idle = self._directory.table("memory.stat").get("inactive_file", 0)
            found = found._replace(
                memory=max(usage - idle, 0),
                memory_limit=self._directory.number("memory.max"),
                oom_kills=self._directory.table("memory.events").get("oom_kill", 0),
            )
        found = found._replace(
            pids=self._directory.number("pids.current"),
            pids_limit=self._directory.number("pids.max"),
        )
        if "io" in self._controllers:
            read = written = 0
            for line in self._directory.read("io.stat").splitlines():
                fields = dict(each.split("=", 1) for each in line.split()[1:] if "=" in each)
                read += int(fields.get("rbytes", 0))
                written += int(fields.get("wbytes", 0))
            found = found._replace(block_read=read, block_written=written)
        return found

    def freezes(self) -> bool:
        return True

    def freeze(self) -> None:
        self._directory.write("cgroup.freeze", "1")
        if not self._wait("frozen", 1, _FREEZE_PATIENCE):
            self.thaw()
            raise LaunchError("pause processes of", self._directory.path, "they do not stop")

    def thaw(self) -> None:
        self._directory.write("cgroup.freeze", "0")

    def kill(self) -> None:
        """SIGKILL to all at once (cgroup.kill, Linux 5.14); it reaches frozen ones too."""
        if self._directory.has("cgroup.kill"):
            self._directory.write("cgroup.kill", "1")
            return
        self._directory.write("cgroup.freeze", "1")
        self._directory.signal_all(signal.SIGKILL)
        self._directory.write("cgroup.freeze", "0")

    def pids(self) -> list[int]:
        return self._directory.pids()

    def remove(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if not os.access(self._directory.path, os.F_OK):
            return
        with contextlib.suppress(LaunchError):
            self.kill()
        self._wait("populated", 0, _END_PATIENCE)
        self._directory.remove()

    def _wait(self, key: str, value: int, patience: int) -> bool:
        """Wait until cgroup.events says so; the file polls as changed whenever a value does."""
        try:
            fd = os.open(self._directory.path + b"/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while True:
                lines = os.pread(fd, 4096, 0).decode().splitlines()
                if f"{key} {value}" in lines:
                    return True
                if not poll.poll(patience):
                    return False
        finally:
            os.close(fd)


def _max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _swap(resources: Resources) -> str | None:
    """v2 limits swap alone, where v1 and docker limit memory and swap together."""
    memory, both = resources.memory, resources.memory_swap
    if both is None:
        # docker: as much swap as memory
        return str(memory) if memory is not None and memory > 0 else None
    if both < 0:
        return "max"
    return str(max(both - max(memory or 0, 0), 0))


def _weight(shares: int) -> int:
    """cpu.weight, 1 to 10000, for v1's shares, 2 to 262144, as the OCI runtimes convert them."""
    if shares < 0:
        return _USUAL_WEIGHT
    clamped = min(max(shares, 2), 262144)
    return 1 + (clamped - 2) * 9999 // 262142
