# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report must say of the machine: kernel, processor, memory, tools, and the load during the
run. Also what the bench needs of Debian's packages, and their installation."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bench import processes
from bench.peers import Peer

PROC = Path("/proc")
TOOLS = {"fio": ("fio", "--version"), "git": ("git", "--version"), "tar": ("tar", "--version"),
         "make": ("make", "--version"), "apt-get": ("apt-get", "--version")}  # fmt: skip
PRESSURES = ("cpu", "io", "memory")


def facts(client: str) -> dict[str, str]:
    """What does not change during a run."""
    found = {
        "kernel": f"{platform.system()} {platform.release()} {platform.version()}",
        "machine": platform.machine(),
        "CPU": _cpu(),
        "memory": _meminfo("MemTotal"),
        "system": _os_release(),
        "Python": sys.version.split()[0],
        "client": client,
        "user": "root" if os.geteuid() == 0 else "an ordinary user",
    }
    with suppress(processes.CommandFailed, processes.TookTooLong):
        here = os.fspath(Path(__file__).parent)
        asked = ["git", "-C", here, "describe", "--always", "--dirty", "--tags"]
        found["source"] = processes.run(asked, seconds=20).output.strip()
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    with suppress(OSError):
        found["frequency governor"] = governor.read_text().strip()
    for name in ("overlay", "fuse"):
        with suppress(OSError):
            entries = sorted(Path(f"/sys/module/{name}/parameters").iterdir())
            settings = [f"{entry.name}={entry.read_text().strip()}" for entry in entries]
            found[f"{name} module"] = ", ".join(settings)
    for name, words in TOOLS.items():
        with suppress(processes.CommandFailed, processes.TookTooLong, IndexError):
            found[name] = processes.run(words, seconds=20).output.splitlines()[0]
    return found


def _cpu() -> str:
    name = platform.processor() or platform.machine()
    virtual = ""
    for line in (PROC / "cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        if key.strip() == "flags" and "hypervisor" in value.split():
            virtual = ", virtual"
    return f"{name}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} CPUs{virtual}"


def _meminfo(key: str) -> str:
    for line in (PROC / "meminfo").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return f"{int(line.split()[1]) // 1024} MiB"
    return "unknown"


def _os_release() -> str:
    with suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    return "unknown"


class LoadMeter:
    """The load of the machine between two looks: load average, pressure stall times as shares of
    the wall time, and CPU time stolen by the hypervisor."""

    def __init__(self) -> None:
        self._before = self._counters()

    def reading(self) -> dict[str, str]:
        """Since the last reading."""
        after = self._counters()
        past = {key: after[key] - value for key, value in self._before.items() if key in after}
        self._before = after
        found = {"loadavg": " ".join((PROC / "loadavg").read_text().split()[:3])}
        for name in PRESSURES:
            if name in past and past["wall"] > 0:
                found[f"{name} pressure"] = f"{past[name] / past['wall'] * 100:.1f} %"
        if past["ticks"] > 0:
            found["steal"] = f"{past['steal'] / past['ticks'] * 100:.1f} %"
        return found

    @staticmethod
    def _counters() -> dict[str, float]:
        """All in µs, but for CPU time, which is in ticks."""
        found = {"wall": float((PROC / "uptime").read_text().split()[0]) * 1e6}
        ticks = [float(word) for word in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
        found["ticks"], found["steal"] = sum(ticks), ticks[7]
        for name in PRESSURES:
            # Kernels without pressure accounting, or with it switched off, have no such file.
            with suppress(OSError):
                some = (PROC / "pressure" / name).read_text().splitlines()[0]
                found[name] = float(some.rpartition("total=")[2])
        return found


# -- Debian's packages --------------------------------------------------------------------------


def packages(peers: Sequence[Peer], fio: bool) -> list[str]:
    """Packages of programs that the run needs and the machine lacks."""
    wanted: dict[str, tuple[str, ...]] = {
        peer.words[0]: (peer.package,) for peer in peers if peer.package
    }
    wanted |= {"cc": ("gcc", "libc6-dev"), "make": ("make",), "git": ("git",)}
    if fio:
        wanted["fio"] = ("fio",)
    lacking = [names for program, names in wanted.items() if not shutil.which(program)]
    return sorted({name for names in lacking for name in names})


def install(names: Sequence[str]) -> str:
    """Install packages through apt-get; says in a line what could not be done, or nothing."""
    if not names:
        return ""
    missing = " ".join(names)
    if shutil.which("apt-get") is None:
        return f"{missing}: not installed, and there is no apt-get"
    if os.geteuid() != 0:
        return f"{missing}: not installed; as root: apt-get install {missing}"
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    words = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *names]
    reason = ""
    # The lists of packages may be missing or old: look them up anew only if that is so.
    for command in (words, ["apt-get", "update", "-q"], words):
        try:
            processes.run(command, seconds=900, env=env)
        except (processes.CommandFailed, processes.TookTooLong) as error:
            reason = str(error)
        else:
            if command is words:
                return ""
    return f"{missing}: apt-get cannot install them: {reason}"
