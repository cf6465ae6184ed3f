# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina run` and `update`: each limit is kept by the kernel, and gone with the container."""

from __future__ import annotations

import os
import time
from pathlib import Path

from launcher.cgroup.hierarchies import find
from tests.launcher.command import Lamina
from tests.launcher.test_options import block_device
from tests.support.clock import wait_until

V1 = frozenset(each for one in find() if one.version == 1 for each in one.controllers)


def read(lamina: Lamina, id: str, name: str) -> str | None:
    """A file of a container's cgroup, in whichever hierarchy has it; None: in none."""
    for path in lamina.group(id).paths():
        file = Path(os.fsdecode(path)) / name
        if file.exists():
            return file.read_text().strip()
    return None


def test_memory(lamina: Lamina) -> None:
    ended = lamina.call(
        *("run", "--name", "hungry", "-m", "16m", "--memory-swap", "16m", "busybox"),
        *("sh", "-c", "tail -c 200000000 /dev/zero"),
    )
    assert ended.code == 137
    found = lamina.good("inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hungry")
    assert found.strip() == "true 137"
    status = lamina.good("ps", "-a", "--format", "{{.Status}}")
    assert status.startswith("Exited (137)")
    assert status.endswith("(out of memory)\n")


def test_processes(lamina: Lamina) -> None:
    text = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; kill $(jobs -p); echo made"
    ended = lamina.call("run", "--rm", "--pids-limit", "6", "busybox", "sh", "-c", text)
    assert "can't fork" in ended.err
    assert lamina.call("run", "--rm", "busybox", "sh", "-c", text).out == "made\n"


def test_processor_time(lamina: Lamina) -> None:
    # So little that even a machine with much to do would give more.
    id = lamina.start("--cpus", "0.05", "busybox", "sh", "-c", "while :; do :; done")
    group = lamina.group(id)

    def used() -> tuple[int, int]:
        nanoseconds = group.accounts().cpu
        assert nanoseconds is not None
        return nanoseconds, time.monotonic_ns()

    def held_back() -> bool:
        return (group.accounts().cpu_throttled or 0) > 0

    wait_until(held_back, "it is held back")
    first, begun = used()
    while time.monotonic_ns() - begun < 10**9:
        time.sleep(0.05)
    last, ended = used()
    # One period may be counted in, or out; and a tick on each processor.
    assert last - first <= 0.05 * (ended - begun) + 20_000_000


def test_all_the_other_limits_reach_the_kernel(lamina: Lamina) -> None:
    device, major, minor = block_device()
    id = lamina.start(
        *("-m", "64m", "--memory-reservation", "32m", "-c", "512", "--cpu-period", "50000"),
        *("--cpu-quota", "25000", "--cpuset-cpus", "0", "--cpuset-mems", "0"),
        *("--device-read-bps", f"{device}:1m", "--device-write-bps", f"{device}:2m"),
        *("--device-read-iops", f"{device}:30", "--device-write-iops", f"{device}:40"),
        *("busybox", "sleep", "1000"),
    )
    accounts = lamina.group(id).accounts()
    assert accounts.memory_limit == 64 << 20
    assert read(lamina, id, "cpuset.cpus") == "0"
    assert read(lamina, id, "cpuset.mems") == "0"
    if "memory" in V1:
        assert read(lamina, id, "memory.memsw.limit_in_bytes") in (None, str(128 << 20))
        assert read(lamina, id, "memory.soft_limit_in_bytes") == str(32 << 20)
    else:
        assert read(lamina, id, "memory.low") == str(32 << 20)
        assert read(lamina, id, "memory.swap.max") in (None, str(64 << 20))
    if "cpu" in V1:
        assert read(lamina, id, "cpu.shares") == "512"
        assert read(lamina, id, "cpu.cfs_quota_us") == "25000"
        assert read(lamina, id, "cpu.cfs_period_us") == "50000"
    else:
        assert read(lamina, id, "cpu.max") == "25000 50000"
        assert int(read(lamina, id, "cpu.weight") or 0) < 100
    if "blkio" in V1:
        for name, rate in (
            ("read_bps", 1 << 20),
            ("write_bps", 2 << 20),
            ("read_iops", 30),
            ("write_iops", 40),
        ):
            line = read(lamina, id, f"blkio.throttle.{name}_device")
            assert line == f"{major}:{minor} {rate}"
    else:
        assert read(lamina, id, "io.max") == (
            f"{major}:{minor} rbps={1 << 20} wbps={2 << 20} riops=30 wiops=40"
        )


def test_what_only_the_first_version_knows(lamina: Lamina) -> None:
    flags = ["-m", "64m", "--memory-swappiness", "7", "--oom-kill-disable"]
    ended = lamina.call("run", "-d", *flags, "busybox", "sleep", "1000")
    assert ended.code == 0
    id = ended.out.strip()
    assert lamina.group(id).accounts().memory_limit == 64 << 20
    if "memory" not in V1:
        assert "memory swappiness" in ended.err
        assert "out-of-memory kills switched off" in ended.err
        return
    assert ended.err == ""
    assert read(lamina, id, "memory.swappiness") == "7"
    assert "oom_kill_disable 1" in (read(lamina, id, "memory.oom_control") or "")


def test_weights_are_set_or_named_as_missing(lamina: Lamina) -> None:
    device, _, _ = block_device()
    flags = ["--blkio-weight", "300", "--blkio-weight-device", f"{device}:200"]
    ended = lamina.call("run", "-d", *flags, "busybox", "sleep", "1000")
    id = ended.out.strip()
    if "block I/O weight" in ended.err:
        return  # this kernel has no means for it, and says so
    lines = [read(lamina, id, name) for name in ("blkio.weight", "blkio.bfq.weight", "io.weight")]
    assert any(line is not None and "300" in line for line in lines)


def test_resource_limits_and_sizes(lamina: Lamina) -> None:
    flags = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--shm-size", "1m"]
    flags += ["--tmpfs", "/t:size=64k,mode=1700"]
    text = (
        "ulimit -n; ulimit -Hn; ulimit -c; stat -c %a /t;"
        " head -c 2000000 /dev/zero > /dev/shm/x 2> /dev/null || stat -c %s /dev/shm/x;"
        " head -c 2000000 /dev/zero > /t/x 2> /dev/null || stat -c %s /t/x"
    )
    assert lamina.script(*flags, text) == ["100", "200", "0", "1700", "1048576", "65536"]


def test_update_changes_what_runs(lamina: Lamina) -> None:
    id = lamina.start("--name", "worker", "-m", "64m", "busybox", "sleep", "1000")
    words = ["-m", "32m", "--memory-swap", "64m", "--pids-limit", "9", "--cpus", "0.5"]
    assert lamina.good("update", *words, "--restart", "on-failure:2", "worker") == "worker\n"
    accounts = lamina.group(id).accounts()
    assert (accounts.memory_limit, accounts.pids_limit) == (32 << 20, 9)
    found = lamina.config(id)
    assert found["resources"]["cpu_quota"] == 50000
    assert found["restart"] == {"name": "on-failure", "most": 2}
    # What it may open is as it was.
    assert lamina.call("exec", "worker", "sh", "-c", ": > /dev/null").code == 0
    denied = "mknod /tmp/d b 7 0; head -c 1 /tmp/d"
    assert lamina.call("exec", "worker", "sh", "-c", denied).code == 1


def test_update_takes_limits_away(lamina: Lamina) -> None:
    """0 is docker's word for no limit: the kernel's goes, too."""
    limits = ["-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "-c", "512"]
    limits += ["--cpus", "0.5", "--pids-limit", "9"]
    files = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes"]
    files += ["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "pids.max"]
    files += ["memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.max"]
    limited = lamina.start(*limits, "busybox", "sleep", "1000")
    free = lamina.start("busybox", "sleep", "1000")

    def found(id: str) -> dict[str, str | None]:
        return {name: read(lamina, id, name) for name in files}

    assert len(found(limited).items() - found(free).items()) >= 5
    lifted = [word if word.startswith("-") else "0" for word in limits if word != "96m"]
    lifted.remove("--memory-swap")  # it goes with the memory
    assert lamina.good("update", *lifted, limited) == limited + "\n"
    assert found(limited) == found(free)


def test_update_of_what_does_not_run(lamina: Lamina) -> None:
    id = lamina.good("create", "--name", "idle", "--rm", "busybox").strip()
    lamina.good("update", "-m", "16m", "idle")
    assert lamina.config(id)["resources"]["memory"] == 16 << 20
    ended = lamina.call("update", "--restart", "always", "idle", "nobody")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "lamina: cannot update container idle: it is removed when it ends, so it cannot be"
        " restarted",
        "lamina: cannot find container nobody: there is none of that name or id",
    ]
    assert lamina.call("update", "idle").code == 2
    assert "the least is 6m" in lamina.call("update", "-m", "1m", "idle").err
    assert lamina.config(id)["resources"]["memory"] == 16 << 20
