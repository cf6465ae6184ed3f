# SPDX-License-Identifier: GPL-3.0-or-later
"""What containers use, which processes they have, and where their ports are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher import processes
from launcher.cgroup.accounts import Accounts
from launcher.cgroup.group import Group
from launcher.measure import Sample, sample, usage
from launcher.record import Port, Record
from launcher.spec import Resources
from tests.launcher.show.made import SECOND, Made
from tests.support.clock import wait_until

MIB = 1 << 20
TOTAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

Run = Callable[..., subprocess.Popen[bytes]]


def unique(number: int) -> str:
    """An id that nobody else's cgroup has."""
    return f"{number:04x}{os.urandom(30).hex()}"


@pytest.fixture
def run(made: Made) -> Iterator[Run]:
    """Run a program in the cgroup of a container that is said to run."""
    groups: list[Group] = []
    started: list[subprocess.Popen[bytes]] = []

    def run(record: Record, *words: str, memory: int | None = None) -> subprocess.Popen[bytes]:
        group = Group.create(record.id, Resources(memory=memory))
        groups.append(group)
        command = ["sh", "-c", 'read word; exec "$@"', "sh", *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        group.attach(process.pid)
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        made.start(record, pid=process.pid)
        return process

    yield run
    for group in groups:
        group.remove()
    for process in started:
        process.communicate()


def test_figures_of_a_busy_and_an_idle_container(made: Made, run: Run) -> None:
    busy, idle = made.add(1, "busy", id=unique(1)), made.add(2, "idle", id=unique(2))
    run(busy, "sh", "-c", "while :; do :; done", memory=64 * MIB)
    run(idle, "sleep", "1000")
    made.add(3, "stopped")
    header, *rows = made.lamina("stats", "--no-stream").lines
    assert header.split("   ")[:2] == ["CONTAINER ID", "NAME"]
    assert re.split(r" {2,}", header) == [
        "CONTAINER ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
    ]
    by_name = {row.split()[1]: re.split(r" {2,}", row) for row in rows}
    assert set(by_name) == {"busy", "idle"}
    assert by_name["busy"][0] == busy.id[:12]
    assert 5 < float(by_name["busy"][2].rstrip("%")) < 110
    assert float(by_name["idle"][2].rstrip("%")) < 5
    assert by_name["busy"][3].endswith(" / 64MiB")
    assert by_name["busy"][5:] == ["0B / 0B", by_name["busy"][6], "1"]


def test_one_container_by_name_and_in_other_forms(made: Made, run: Run) -> None:
    run(made.add(1, "x", id=unique(1)), "sleep", "1000", memory=64 * MIB)
    made.add(2, "stopped")
    found = json.loads(made.lamina("stats", "--no-stream", "--format", "json", "x").out)
    assert sorted(found) == list(found)
    assert (found["Container"], found["Name"], found["PIDs"]) == ("x", "x", "1")
    form = "{{.Container}} {{.ID}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}"
    ended = made.lamina("stats", "--no-stream", "--no-trunc", "--format", form, "stopped")
    assert ended.out == f"stopped {'0002' * 16} 0.00% 0B / 0B 0\n"
    assert made.lamina("stats", "--no-stream", "nobody").status == 1
    assert len(made.lamina("stats", "-a", "--no-stream").lines) == 3


def test_nothing_runs(made: Made) -> None:
    made.add(1, "x")
    header = "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS"  # noqa: E501
    assert made.lamina("stats", "--no-stream").lines == [header]


def test_tables_go_on_until_interrupted(made: Made, run: Run) -> None:
    run(made.add(1, "x", id=unique(1)), "sleep", "1000")
    program = "from launcher.cli import main; raise SystemExit(main())"
    words = ["--root", os.fsdecode(made.paths.root), "stats", "--format", "{{.Name}}"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(2)] == ["x\n", "x\n"]
        following.send_signal(2)
        assert following.wait() == 130


def test_two_looks_compared() -> None:
    before = Sample(5 * SECOND, Accounts(cpu=3 * SECOND), 1, 2)
    accounts = Accounts(4 * SECOND, None, 32 * MIB, 128 * MIB, 7, None, 1000, 2000)
    used = usage(before, Sample(7 * SECOND, accounts, 10, 20))
    assert used.cpu == 50.0
    assert (used.memory, used.memory_limit, used.memory_share) == (32 * MIB, 128 * MIB, 25.0)
    assert used[3:] == (10, 20, 1000, 2000, 7)


def test_what_the_machine_does_not_account_for_is_unknown() -> None:
    used = usage(Sample(0, Accounts()), Sample(SECOND, Accounts()))
    assert (used.cpu, used.memory, used.memory_share, used.pids) == (None, None, None, None)
    assert used.memory_limit == TOTAL
    more = usage(Sample(0, Accounts()), Sample(SECOND, Accounts(memory_limit=2 * TOTAL)))
    assert more.memory_limit == TOTAL


def test_a_container_that_began_anew_has_not_used_less_than_nothing() -> None:
    before, after = Sample(0, Accounts(cpu=9 * SECOND)), Sample(SECOND, Accounts(cpu=1))
    assert usage(before, after).cpu == 0.0
    assert usage(after, after).cpu == 0.0


def test_the_network_of_its_own_counts_and_the_host_s_does_not() -> None:
    script = (
        "ip link add v0 type veth peer name v1 && ip link set lo up && ip link set v0 up && "
        "ip link set v1 up && ip address add 10.1.1.1/24 dev v0 && echo ready && read word"
    )
    with subprocess.Popen(
        ["unshare", "-n", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

        def counted() -> tuple[int, int]:
            with open(f"/proc/{process.pid}/net/dev") as file:
                lines = [line.split() for line in file.readlines()[2:]]
            mine = [fields for fields in lines if fields[0] in ("v0:", "v1:")]
            assert len(mine) == 2
            return sum(int(each[1]) for each in mine), sum(int(each[9]) for each in mine)

        try:
            # The kernel greets its neighbours by itself.
            wait_until(lambda: counted()[0] > 0, "something to be sent")
            wait_until(lambda: sample("none", process.pid)[2:] == counted(), "equal counts")
        finally:
            process.kill()
    assert sample("none", os.getpid())[2:] == (0, 0)


def test_the_processes_of_a_container(made: Made, run: Run) -> None:
    record = made.add(1, "x", id=unique(1))
    process = run(record, "sh", "-c", "sleep 1000 & echo $!; wait")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    wait_until(lambda: command(child) == "sleep 1000", "the child's program to run")
    header, *rows = made.lamina("top", "x").lines
    assert header.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert header.index("PID") == 20
    shell, sleep = sorted((row.split(None, 7) for row in rows), key=lambda row: int(row[1]))
    assert shell[:3] == ["root", str(process.pid), str(os.getpid())]
    assert shell[7] == "sh -c sleep 1000 & echo $!; wait"
    assert sleep[:3] == ["root", str(child), str(process.pid)]
    assert sleep[7] == "sleep 1000"
    assert re.fullmatch(r"\d\d:\d\d", shell[4])
    assert shell[6] == "00:00:00"


def command(pid: int) -> str:
    found = processes.look(pid)
    assert found is not None
    return found.command


def test_processes_as_ps_shows_them(made: Made, run: Run) -> None:
    process = run(made.add(1, "x", id=unique(1)), "sleep", "1000")
    assert [line.split() for line in made.lamina("top", "x", "-eo", "pid,comm").lines] == [
        ["PID", "COMMAND"],
        [str(process.pid), "sleep"],
    ]
    ended = made.lamina("top", "x", "-eo", "comm")
    assert "prints no PID" in ended.err
    ended = made.lamina("top", "x", "--nonsense")
    assert (ended.status, ended.err.count("\n")) == (1, 1)


def test_a_process_with_a_strange_name(tmp_path: Path) -> None:
    program = tmp_path / "x) R 1 (y"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "1000"]) as process:
        try:
            wait_until(lambda: command(process.pid) == f"{program} 1000", "it to run")
            found = processes.look(process.pid)
            assert found is not None
            assert found.parent == os.getpid()
        finally:
            process.kill()
    assert processes.look(process.pid) is None


def test_without_a_cgroup_the_pid_namespace_tells(made: Made) -> None:
    with subprocess.Popen(
        ["unshare", "-pf", "--kill-child", "sh", "-c", "sleep 1000 & echo up; wait"],
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
                first = int(file.read())
            with open(f"/proc/{first}/task/{first}/children") as file:
                second = int(file.read())
            assert processes.pids_of("nothing-of-that-name", first) == sorted([first, second])
        finally:
            process.kill()


def test_top_of_what_does_not_run(made: Made) -> None:
    made.add(1, "x")
    ended = made.lamina("top", "x")
    assert ended == (
        1,
        "",
        "lamina: cannot show processes of x: it does not run, it is created\n",
    )
    assert made.lamina("top").status == 2


def test_where_ports_are_published(made: Made) -> None:
    ports = (Port(80, "tcp", 8080), Port(53, "udp", 5353, "127.0.0.1"), Port(80, "tcp", 81, "::1"))
    record = made.add(1, "x", network="bridge", ports=ports, exposed=("99/tcp",))
    assert made.lamina("port", "x") == (0, "", "")
    made.start(record)
    assert made.lamina("port", "x").out == (
        "53/udp -> 127.0.0.1:5353\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::1]:81\n"
    )
    assert made.lamina("port", "x", "80").out == "0.0.0.0:8080\n[::1]:81\n"
    assert made.lamina("port", "x", "53/udp").out == "127.0.0.1:5353\n"
    ended = made.lamina("port", "x", "99")
    assert (ended.status, ended.err) == (
        1,
        "lamina: cannot show ports of x: 99/tcp is not published\n",
    )
    assert made.lamina("port", "x", "eighty").status == 2
    assert made.lamina("port").status == 2


def test_the_version(made: Made) -> None:
    text = made.lamina("version").out
    assert text.startswith("lamina:\n Version: ")
    version = made.lamina("version", "-f", "{{.Server.Version}} {{.Client.Os}}").out.split()
    assert version[0] in text
    assert version[1] == "linux"
    assert json.loads(made.lamina("version", "--format", "json").out)["Client"]["Version"]


def test_information(made: Made) -> None:
    made.start(made.add(1, "up"))
    made.start(made.add(2, "held"), state="paused")
    made.add(3, "fresh")
    found = json.loads(made.lamina("info", "-f", "json").out)
    counts = [found["Containers" + each] for each in ("", "Running", "Paused", "Stopped")]
    assert counts == [3, 1, 1, 1]
    assert found["DockerRootDir"] == os.fsdecode(made.paths.root)
    assert found["MemTotal"] == TOTAL
    assert set(found["CgroupControllers"]) >= {"memory", "pids", "cpu"}
    assert found["CgroupVersion"] in ("1", "2", "hybrid")
    assert "name=seccomp,profile=builtin" in found["SecurityOptions"]
    assert found["Rootless"] is False
    text = made.lamina("info").out
    assert "\n  Running: 1\n" in text
    assert f"\n Root Dir: {os.fsdecode(made.paths.root)}\n" in text
    assert made.lamina("info", "-f", "{{.Images}} {{.Driver}}").out == "0 lamina\n"
