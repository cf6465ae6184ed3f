# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container costs while it does nothing, and what is shared between containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.launcher.command import Lamina
from tests.support.clock import scaled, wait_until

_MOST = 12 << 20
_CYCLES = 1000
_IDLE = 200


def helpers(lamina: Lamina, id: str) -> list[int]:
    """All processes of a container that are not its own: its supervisor and what that started."""
    supervisor = lamina.running(id)["supervisor"]
    own = lamina.group(id).pids()
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [supervisor, *(pid for pid in map(int, children) if pid not in own)]


def share(pid: int) -> int:
    """Bytes of memory that a process accounts for (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no Pss")


def resting(lamina: Lamina, id: str) -> int:
    """Bytes of all helpers at a moment when none of them is there for a health check only.

    A process that was just forked is another one, and shares its pages with the first.
    """
    found = 0

    def measured() -> bool:
        nonlocal found
        before = helpers(lamina, id)
        if len(before) != 2:
            return False
        found = sum(map(share, before))
        return helpers(lamina, id) == before

    wait_until(measured, "a moment without a health check")
    return found


def test_an_idle_container_is_small_and_asleep(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sleep", "1000")
    pids = helpers(lamina, id)
    assert len(pids) == 2
    assert sum(map(share, pids)) <= _MOST

    def ticks() -> int:
        spent = 0
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            spent += int(fields[11]) + int(fields[12])
        return spent

    def asleep() -> bool:
        before = ticks()
        time.sleep(0.2)
        return ticks() == before

    wait_until(asleep, "the start to be over")
    before = ticks()
    time.sleep(1)
    assert ticks() - before <= 1


def test_it_stays_small_when_it_has_been_used(lamina: Lamina) -> None:
    id = lamina.start(
        "--health-cmd", "true", "--health-interval", "100ms", "busybox", "sleep", "999"
    )
    for _ in range(5):
        lamina("exec", id, "sh", "-c", "find / -xdev | wc -l")
    wait_until(lambda: "(healthy)" in lamina.status(id), "it to be healthy")
    assert resting(lamina, id) <= _MOST


def test_two_containers_hold_a_library_once(lamina: Lamina, tmp_path: Path) -> None:
    """By passthrough both map the layer's own file: its pages are shared, in each one's smaps."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", tree / "bin/busybox")
    (tree / "bin/sleep").symlink_to("busybox")
    lamina("import", str(tree), "shared")
    pids = [lamina.running(lamina.start("shared", "/bin/sleep", "1000"))["pid"] for _ in range(2)]

    def text_of(pid: int) -> dict[str, int]:
        """Of the program's own executable mapping."""
        found: dict[str, int] = {}
        inside = False
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            fields = line.split()
            if "-" in fields[0] and not fields[0].endswith(":"):
                inside = "r-x" in fields[1] and line.endswith("/bin/busybox")
            elif inside and fields[0].endswith(":") and fields[-1] == "kB":
                found[fields[0]] = found.get(fields[0], 0) + int(fields[1])
        return found

    wait_until(lambda: all(text_of(pid).get("Rss:", 0) for pid in pids), "both to run")
    for pid in pids:
        text = text_of(pid)
        assert text["Private_Clean:"] + text["Private_Dirty:"] == 0, text
        assert text["Shared_Clean:"] == text["Rss:"] > 0
        assert text["Pss:"] < text["Rss:"]


@pytest.mark.nightly
def test_two_hundred_idle_at_once(lamina: Lamina) -> None:
    lamina("run", "--rm", "busybox", "true")
    began = time.monotonic()
    waiting: list[subprocess.Popen[bytes]] = []
    ids: list[str] = []
    for _ in range(_IDLE):
        waiting.append(lamina.begin("run", "-d", "busybox", "sleep", "100000"))
        if len(waiting) == 4:
            ids.append(waiting.pop(0).communicate()[0].decode().strip())
    ids += [each.communicate()[0].decode().strip() for each in waiting]
    took = time.monotonic() - began
    assert len(set(ids)) == _IDLE
    assert all(lamina.running(id)["state"] == "running" for id in ids)
    each = [sum(map(share, helpers(lamina, id))) for id in ids]
    print(
        f"{took:.1f} s; {max(each) >> 10} KiB at most, {sum(each) / len(each) / 1024:.0f} KiB each"
    )
    for at in range(0, _IDLE, 20):
        lamina("kill", *ids[at : at + 20])
    lamina("wait", *ids)
    assert took < scaled(60)
    assert max(each) <= _MOST


@pytest.mark.nightly
def test_a_thousand_runs_leak_nothing(lamina: Lamina) -> None:
    """One supervisor that restarts its container: no descriptor, no memory."""
    id = lamina.start("--restart", "always", "busybox", "sleep", "100000")
    supervisor = lamina.running(id)["supervisor"]

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{supervisor}/fd"))

    for _ in range(20):
        lamina("restart", "-t", "0", id)
    fds, memory = descriptors(), share(supervisor)
    for _ in range(_CYCLES - 20):
        lamina("restart", "-t", "0", id)
    assert descriptors() <= fds
    assert share(supervisor) <= memory + (1 << 20)
    lamina("stop", "-t", "0", id)


@pytest.mark.nightly
def test_a_thousand_starts_leave_nothing(lamina: Lamina) -> None:
    id = lamina.start("busybox", "true")
    lamina("wait", id)
    inodes = sum(1 for _ in lamina.root.rglob("*"))
    for _ in range(_CYCLES):
        lamina("start", "-a", id)
    assert sum(1 for _ in lamina.root.rglob("*")) <= inodes
    assert not lamina.remains()
