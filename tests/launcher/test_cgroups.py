# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits that bite, accounts that count, and cgroups that are gone afterwards."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from launcher.cgroup import device_filter, hierarchies
from launcher.cgroup.directory import Directory
from launcher.cgroup.group import Group
from launcher.cgroup.v2 import V2
from launcher.errors import LaunchError
from launcher.isolation import rootfs
from launcher.spec import BlockThrottle, DeviceRule, Resources
from tests.launcher import box
from tests.launcher.box import run, spec
from tests.support.clock import wait_until

MIB = 1 << 20


def test_a_process_over_its_memory_is_killed_and_counted(
    root: Path, make_group: box.MakeGroup
) -> None:
    hog = ["awk", 'BEGIN { s = "x"; while (1) s = s s }']
    group = make_group(Resources(memory=32 * MIB))
    ended = run(spec(root, box.process(hog)), group)
    assert ended.code == -9
    accounts = group.accounts()
    assert accounts.oom_kills >= 1
    assert accounts.memory_limit == 32 * MIB


def test_within_its_memory_nothing_is_killed(root: Path, make_group: box.MakeGroup) -> None:
    group = make_group(Resources(memory=64 * MIB))
    ended = run(spec(root, box.process("dd if=/dev/zero of=/dev/null bs=8M count=4")), group)
    assert (ended.code, group.oom_kills()) == (0, 0)


def test_a_fork_bomb_is_stopped(root: Path, make_group: box.MakeGroup) -> None:
    bomb = "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); echo $i; done; echo all"
    group = make_group(Resources(pids=20))
    assert group.accounts().pids_limit == 20
    # The shell gives up at the first fork that fails; its namespace ends with it.
    ended = run(spec(root, box.process(bomb)), group)
    assert "can't fork" in ended.err
    assert ended.lines == [str(number) for number in range(1, 20)]
    free = run(spec(root, box.process(bomb)), make_group(Resources()))
    assert free.lines[-1] == "all"


def test_it_is_in_its_cgroup_from_the_first_step_on(root: Path, make_group: box.MakeGroup) -> None:
    group = make_group(Resources())
    running = box.Running(spec(root, box.process("echo up; sleep 1000 & wait")), group)
    running.read_line()
    try:
        wait_until(lambda: len(group.pids()) == 2, "both processes to be found in it")
        assert running.pid in group.pids()
        for path in group.paths():
            assert str(running.pid) in Path(os.fsdecode(path), "cgroup.procs").read_text().split()
    finally:
        running.kill()
        running.end()


def test_half_a_processor_is_half(root: Path, make_group: box.MakeGroup) -> None:
    """By what was charged against the clock of the quota, not by how fast the machine is."""
    group = make_group(Resources(cpu_quota=20_000, cpu_period=100_000))
    running = box.Running(spec(root, box.process("while :; do :; done")), group)
    try:
        # Two processors or one: where it got less than its quota, nothing is held back.
        wait_until(lambda: (group.accounts().cpu_throttled or 0) > 0, "it to be held back", 60)
        before, start = group.accounts(), time.monotonic()
        time.sleep(2.0)
        after, elapsed = group.accounts(), time.monotonic() - start
    finally:
        group.kill()
        running.end()
    assert before.cpu is not None
    assert after.cpu is not None
    share = (after.cpu - before.cpu) / 1e9 / elapsed
    assert share < 0.2 * 1.25


def test_pause_stands_and_goes_on(root: Path, make_group: box.MakeGroup) -> None:
    group = make_group(Resources())
    running = box.Running(spec(root, box.process("while :; do :; done")), group)
    try:
        wait_until(lambda: (group.accounts().cpu or 0) > 10_000_000, "it to run")
        group.freeze()
        stood = group.accounts().cpu
        time.sleep(0.2)
        assert group.accounts().cpu == stood
        group.thaw()
        wait_until(lambda: (group.accounts().cpu or 0) > (stood or 0), "it to go on")
        group.freeze()
    finally:
        group.kill()  # frozen, too
        assert running.end().code == -9


def test_all_processes_end_with_the_cgroup(root: Path) -> None:
    group = Group.create(f"test-end-{os.getpid()}", Resources())
    running = box.Running(spec(root, box.process("sleep 1000 & sleep 1000 & echo up; wait")), group)
    running.read_line()
    paths = list(group.paths())
    assert len(group.pids()) == 3
    assert all(os.path.exists(path) for path in paths)
    group.remove()
    assert running.end().code == -9
    assert not [path for path in paths if os.path.exists(path)]
    group.remove()  # once more is no error


def test_many_at_once_leave_nothing(root: Path, make_group: box.MakeGroup) -> None:
    groups = [make_group(Resources(pids=10)) for _ in range(30)]
    described = spec(root, box.process("echo up; exec sleep 1000"))
    running = [box.Running(described, group) for group in groups]
    assert [each.read_line() for each in running] == ["up"] * 30
    assert [group.pids() for group in groups] == [[each.pid] for each in running]
    for group in groups:
        group.kill()
    assert [each.end().code for each in running] == [-9] * 30
    for group in groups:
        group.remove()
    paths = [path for group in groups for path in group.paths()]
    assert not [path for path in paths if os.path.exists(path)]


def test_cgroups_made_inside_do_not_keep_it(root: Path) -> None:
    with Group.create(f"test-nest-{os.getpid()}", Resources()) as group:
        for path in group.paths():
            os.makedirs(path + b"/inner/most")
        paths = list(group.paths())
    assert not [path for path in paths if os.path.exists(path)]


def test_limits_can_be_changed(make_group: box.MakeGroup) -> None:
    old = Resources(memory=32 * MIB, pids=10)
    group = make_group(old)
    for memory in (256 * MIB, 16 * MIB):
        new = Resources(memory=memory, memory_swap=memory, pids=30)
        assert group.change(old, new) == ()
        old = new
        accounts = group.accounts()
        assert (accounts.memory_limit, accounts.pids_limit) == (memory, 30)


def test_every_limit_of_the_machine_is_taken(make_group: box.MakeGroup) -> None:
    disc = next((each for each in Path("/sys/block").iterdir() if (each / "device").exists()), None)
    assert disc is not None
    major, minor = (int(each) for each in (disc / "dev").read_text().split(":"))
    throttle = (BlockThrottle(major, minor, 10 * MIB),)
    group = make_group(
        Resources(
            memory=64 * MIB,
            memory_reservation=32 * MIB,
            cpu_shares=512,
            cpu_quota=50_000,
            cpuset_cpus="0",
            pids=100,
            blkio_weight=100,
            blkio_read_bps=throttle,
            blkio_write_iops=throttle,
            devices=rootfs.DEVICE_RULES,
        )
    )
    # A kernel without BFQ has no weights; all else must be there.
    assert set(group.missing) <= {"block I/O weight"}


def test_a_value_the_kernel_refuses_is_named(make_group: box.MakeGroup) -> None:
    with pytest.raises(LaunchError, match=r"cannot write 999 to .*cpuset.cpus: "):
        make_group(Resources(cpuset_cpus="999"))


def test_a_name_in_use_is_refused(make_group: box.MakeGroup) -> None:
    group = make_group(Resources())
    name = os.fsdecode(next(group.paths())).rpartition("/")[2]
    with pytest.raises(LaunchError, match="File exists"):
        Group.create(name, Resources())
    assert all(os.path.exists(path) for path in group.paths())


def test_each_controller_is_taken_from_where_it_is_mounted() -> None:
    on_v1: set[str] = set()
    for each in hierarchies.find():
        if each.version == 1:
            on_v1 |= each.controllers
    enabled = {
        line.split()[0]
        for line in Path("/proc/cgroups").read_text().splitlines()[1:]
        if line.split()[1] != "0"
    }
    assert on_v1 == enabled
    for path in Group("anything", hierarchies.find()).paths():
        version = (
            2 if os.path.exists(path.rpartition(b"/lamina/")[0] + b"/cgroup.controllers") else 1
        )
        assert version == (1 if on_v1 else 2)


def test_device_programs_end_on_every_way() -> None:
    code = device_filter.program(rootfs.DEVICE_RULES)
    size = len(code) // 8
    for position in range(size):
        operation, offset = (
            code[position * 8],
            int.from_bytes(code[position * 8 + 2 : position * 8 + 4], "little"),
        )
        if operation in (0x15, 0x55):
            assert position + offset + 1 < size
    assert code[-8] == 0x95
    # A rule for all devices makes all before it idle, and the kernel refuses idle code.
    assert len(device_filter.program((DeviceRule(True, "c", 1, 3), DeviceRule(False)))) // 8 == 8


def test_what_the_second_version_has_no_means_for_is_named(tmp_path: Path) -> None:
    part = V2(Directory(os.fsencode(tmp_path)), frozenset({"memory"}))
    assert part.limit(Resources()) == ()
    missing = part.limit(Resources(memory_swappiness=0, oom_kill_disable=True))
    assert missing == ("memory swappiness", "out-of-memory kills switched off")
