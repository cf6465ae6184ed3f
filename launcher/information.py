# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to say of lamina and of the machine it runs on, in the form of docker's API.

`version` is `GET /version` twice, since there is no server to be of another version; `info` is
`GET /info`, with the fields that mean something here and a few that docker does not have.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from launcher import database
from launcher.cgroup import hierarchies
from launcher.cgroup.group import Group
from launcher.documents import ABSENT_LIST, GoMap
from launcher.paths import Paths
from launcher.rfc3339 import rfc3339_fixed
from launcher.state import State
from launcher.typed import Any, Final

__all__ = ["info", "version"]

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
# v2 has what these two account for in others.
_ONLY_V1: Final = ("cpuacct", "freezer", "devices")


def _lamina_version() -> str:
    try:
        return installed_version("lamina")
    except PackageNotFoundError:
        return "unknown"


def version() -> dict[str, Any]:
    """The version of lamina, and of what it stands on."""
    machine = os.uname()
    found = {
        "Version": _lamina_version(),
        "PythonVersion": ".".join(str(each) for each in sys.version_info[:3]),
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(machine.machine, machine.machine),
        "KernelVersion": machine.release,
    }
    return {"Client": found, "Server": found}


def info(paths: Paths) -> dict[str, Any]:
    """How many containers and images there are, where they are kept, what the machine can do."""
    with State(paths) as state:
        statuses = [entry.status for entry in state.all()]
    db = database.connect(paths)
    try:
        (images,) = db.execute("SELECT count(*) FROM images").fetchone()
    finally:
        db.close()
    machine = os.uname()
    mounted = hierarchies.find()
    versions = _controllers(mounted)
    rootless = os.geteuid() != 0
    usable = bool(list(Group("lamina-info", mounted).paths()))
    running, paused = statuses.count("running"), statuses.count("paused")
    found: dict[str, Any] = {
        "Containers": len(statuses),
        "ContainersRunning": running + statuses.count("restarting"),
        "ContainersPaused": paused,
        "ContainersStopped": len(statuses) - running - paused - statuses.count("restarting"),
        "Images": images,
        "Driver": "lamina",
        "DriverStatus": [["Backing Filesystem", _filesystem(paths.root)]],
        "MemoryLimit": "memory" in versions and usable,
        "SwapLimit": usable and _limits_swap(mounted),
        "CpuCfsPeriod": "cpu" in versions and usable,
        "CpuCfsQuota": "cpu" in versions and usable,
        "CPUShares": "cpu" in versions and usable,
        "CPUSet": "cpuset" in versions and usable,
        "PidsLimit": "pids" in versions and usable,
        "SystemTime": rfc3339_fixed(time.time_ns()),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs" if usable else "none",
        "CgroupVersion": _cgroup_version(versions),
        "CgroupControllers": GoMap(versions),
        "KernelVersion": machine.release,
        "OperatingSystem": _operating_system(),
        "OSType": "linux",
        "Architecture": machine.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "DockerRootDir": os.fsdecode(paths.root),
        "RunDir": os.fsdecode(paths.run),
        "Name": machine.nodename,
        "ServerVersion": _lamina_version(),
        "Runtimes": GoMap({"lamina": {}}),
        "DefaultRuntime": "lamina",
        "SecurityOptions": _security(rootless),
        "Rootless": rootless,
    }
    warnings = _warnings(found, usable)
    return found | {"Warnings": warnings or ABSENT_LIST}


def _controllers(mounted: tuple[hierarchies.Mounted, ...]) -> dict[str, str]:
    """In which version each controller is there: "1" or "2"."""
    found: dict[str, str] = {}
    for each in mounted:
        for name in each.controllers:
            known = "blkio" if name == "io" else name
            if known in hierarchies.CONTROLLERS:
                found.setdefault(known, str(each.version))
    return found


def _cgroup_version(versions: dict[str, str]) -> str:
    """1, 2, or hybrid where controllers are of both."""
    kinds = set(versions.values())
    return kinds.pop() if len(kinds) == 1 else "hybrid" if kinds else ""


def _limits_swap(mounted: tuple[hierarchies.Mounted, ...]) -> bool:
    for each in mounted:
        if "memory" in each.controllers:
            if each.version == 2:
                return os.path.exists("/proc/swaps")
            return os.path.exists(each.path + b"/memory.memsw.limit_in_bytes")
    return False


def _filesystem(path: bytes) -> str:
    """The type of the filesystem that a directory is on (proc(5), mountinfo)."""
    stat = os.stat(path)
    wanted = f"{os.major(stat.st_dev)}:{os.minor(stat.st_dev)}".encode()
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            head, _, tail = line.partition(b" - ")
            if head.split()[2] == wanted:
                return tail.split()[0].decode()
    return "unknown"


def _operating_system() -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8") as file:
                for line in file:
                    name, _, value = line.strip().partition("=")
                    if name == "PRETTY_NAME":
                        return value.strip("\"'")
        except OSError:
            continue
    return "Linux"


def _security(rootless: bool) -> list[str]:
    """What confines containers here, as docker names it."""
    found = []
    if os.path.exists("/proc/sys/kernel/seccomp/actions_avail"):
        found.append("name=seccomp,profile=builtin")
    found += [f"name={each}" for each in _modules()]
    if os.path.exists("/proc/self/ns/cgroup"):
        found.append("name=cgroupns")
    if rootless:
        found.append("name=rootless")
    return found


def _modules() -> list[str]:
    """The kernel's security modules; without securityfs those two that can be told otherwise."""
    try:
        with open("/sys/kernel/security/lsm", encoding="ascii") as file:
            return [each for each in file.read().strip().split(",") if each != "capability"]
    except OSError:
        pass
    found = []
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            if file.read().strip() == "Y":
                found.append("apparmor")
    except OSError:
        pass
    if os.path.exists("/sys/fs/selinux/enforce"):
        found.append("selinux")
    return found


def _warnings(found: dict[str, Any], usable: bool) -> list[str]:
    if not usable:
        return ["WARNING: no cgroup is delegated to this user: limits and stats are not available"]
    names = (("MemoryLimit", "memory"), ("SwapLimit", "swap"), ("PidsLimit", "pids"))
    return [f"WARNING: No {what} limit support" for key, what in names if not found[key]]
