# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to containers in the background: start, stop, kill, restart, pause, wait, exec."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher import runtime
from tests.launcher.command import Lamina
from tests.support.clock import scaled, wait_until


def test_edits_stay(lamina: Lamina) -> None:
    id = lamina.start("--name", "edited", "busybox", "sh", "-c", "echo x >> /kept; sleep 1000")
    lamina("exec", "edited", "sh", "-c", "echo by exec > /other")
    assert lamina("stop", "-t", "0", "edited").lines == ["edited"]
    assert lamina.status(id).startswith("Exited (137)")
    assert lamina("start", id[:12]).lines == [id[:12]]
    wait_until(lambda: lamina("exec", id, "cat", "/kept").lines == ["x", "x"], "the second line")
    assert lamina("exec", id, "cat", "/other").lines == ["by exec"]


def test_stop_asks_before_it_kills(lamina: Lamina) -> None:
    script = "trap 'echo asked; exit 4' USR2; echo up; while :; do sleep 0.05; done"
    id = lamina.start("--stop-signal", "USR2", "busybox", "sh", "-c", script)
    lamina.wait_for_log(id, "up")
    lamina("stop", id)
    assert lamina.status(id).startswith("Exited (4)")
    assert lamina.logged(id) == "up\nasked\n"
    lamina("stop", id)  # once more is no error


def test_several_at_once_and_on_after_a_failure(lamina: Lamina) -> None:
    first = lamina.start("--name", "first", "busybox", "sleep", "1000")
    second = lamina.start("--name", "second", "busybox", "sleep", "1000")
    ended = lamina.call("kill", "first", "nosuch", "second")
    assert (ended.code, ended.lines) == (1, ["first", "second"])
    assert ended.err.count("\n") == 1
    assert "nosuch" in ended.err
    assert lamina("wait", "first", "second").lines == ["137", "137"]
    assert lamina("start", "first", "second").lines == ["first", "second"]
    assert all(lamina.status(id).startswith("Up") for id in (first, second))
    ended = lamina.call("pause", "first", "first")
    assert (ended.code, ended.lines) == (1, ["first"])


def test_wait_waits(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 9")
    waiting = lamina.begin("wait", id)
    lamina("exec", id, "touch", "/go")
    out, _ = waiting.communicate(timeout=scaled(30))
    assert out == b"9\n"
    assert lamina.status(id).startswith("Exited (9)")


def test_pause_stands_and_kill_ends_it(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sh", "-c", "while :; do echo x; sleep 0.02; done")
    lamina.wait_for_log(id, "x\nx\n")
    lamina("pause", id)
    assert "(Paused)" in lamina.status(id)
    before = lamina.logged(id)
    time.sleep(0.3)
    assert lamina.logged(id) == before
    assert "it is paused" in lamina.call("exec", id, "true").err
    lamina("unpause", id)
    wait_until(lambda: len(lamina.logged(id)) > len(before), "it to go on")
    lamina("pause", id)
    lamina("kill", id)
    lamina("wait", id)
    assert lamina.status(id).startswith("Exited (137)")


def test_restart(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sh", "-c", "echo x >> /runs; sleep 1000")
    wait_until(lambda: lamina("exec", id, "cat", "/runs").out == "x\n", "the first run")
    pid = lamina.running(id)["pid"]
    lamina("restart", "-t", "0", id)
    assert lamina.running(id)["pid"] != pid
    wait_until(lambda: lamina("exec", id, "cat", "/runs").out == "x\nx\n", "the second run")
    lamina("stop", "-t", "0", id)
    lamina("restart", id)
    assert lamina.status(id).startswith("Up")


def test_exec_s_streams_and_status(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sleep", "1000")
    ended = lamina.call("exec", "-i", id, "sh", "-c", "cat; echo err >&2; exit 6", input=b"in")
    assert (ended.code, ended.out, ended.err) == (6, "in", "err\n")
    assert lamina("exec", id, "cat", input=b"none").out == ""
    ended = lamina.call("exec", id, "nosuch")
    assert ended.code == 127
    words = (
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "-u",
        "1000:2000",
        id,
        "sh",
        "-c",
        "echo $A; pwd; id -u; id -g",
    )
    assert lamina("exec", *words).lines == ["b", "/tmp", "1000", "2000"]


def test_exec_is_inside(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sleep", "1000")
    inside = lamina(
        "exec", id, "sh", "-c", "echo $(ls /proc/self/ns | wc -l); cat /proc/1/cmdline; hostname"
    )
    assert "sleep" in inside.out
    assert inside.lines[-1].endswith(id[:12])
    script = (
        "for n in pid mnt net uts ipc cgroup; do"
        " readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done"
    )
    names = lamina("exec", id, "sh", "-c", script).lines
    assert names[0::2] == names[1::2]
    assert not {os.readlink(f"/proc/self/ns/{each}") for each in ("pid", "mnt", "net")} & set(names)
    rights = lamina("exec", id, "grep", "-E", "CapEff|Seccomp:", "/proc/self/status").out
    assert rights == lamina("exec", id, "grep", "-E", "CapEff|Seccomp:", "/proc/1/status").out
    assert "00000000a80425fb" in rights
    full = lamina("exec", "--privileged", id, "grep", "CapEff", "/proc/self/status").out
    assert "00000000a80425fb" not in full
    # Its cgroup, as the host has it.
    lamina("exec", "-d", id, "sleep", "1234")
    wait_until(
        lambda: any(
            b"1234" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in lamina.group(id).pids()
        ),
        "the process in the cgroup",
    )


def test_exec_s_streams_are_not_the_caller_s(lamina: Lamina, tmp_path: Path) -> None:
    """Whoever is inside could open a file of the host's anew, by /proc/self/fd, and write to it."""
    id = lamina.start("busybox", "sleep", "1000")
    source, sink, fifo = (tmp_path / name for name in ("source", "sink", "fifo"))
    source.write_text("content\n")
    os.mkfifo(fifo)
    script = "cat; echo more > /proc/self/fd/0; for n in 0 1 2; do readlink /proc/self/fd/$n; done"
    other = os.open(fifo, os.O_RDWR)
    with source.open() as reading, sink.open("w") as writing:
        words = ("exec", "-i", "-u", "1000", id, "sh", "-c", script)
        lamina.begin(*words, stdin=reading, stdout=writing, stderr=other).wait(scaled(30))
    os.close(other)
    assert source.read_text() == "content\n"
    assert fifo.stat().st_uid == os.getuid()
    first, *links = sink.read_text().splitlines()
    assert first == "content"
    assert [each.partition(":")[0] for each in links] == ["pipe"] * 3


def test_exec_passes_much_both_ways_and_does_not_wait_for_others(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sleep", "1000")
    content = bytes(range(256)) * 8192
    ended = lamina.begin("exec", "-i", id, "cat", stdin=subprocess.PIPE)
    assert ended.communicate(content, timeout=scaled(60))[0] == content
    # It ends with its command, whoever else has its output open.
    assert lamina("exec", id, "sh", "-c", "sleep 1000 & echo left").out == "left\n"
    # And its command hears of it where nobody reads any more.
    reader, writer = os.pipe()
    endless = lamina.begin("exec", id, "yes", stdout=writer)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    assert endless.wait(scaled(30)) == 141


def test_a_container_that_stops_what_enters_it_is_ended_all_the_same(lamina: Lamina) -> None:
    script = """while :; do for each in /proc/[0-9]*; do
        read name < $each/comm 2> /dev/null
        case $name in lamina-exec) kill -STOP ${each#/proc/}; echo stopped;; esac
    done; done"""
    id = lamina.start("busybox", "sh", "-c", script)
    entering = []

    def held_up() -> bool:
        entering.append(lamina.begin("exec", id, "true"))
        return "stopped" in lamina.logged(id)

    wait_until(held_up, "one to be stopped", 60)
    lamina("kill", id)
    assert lamina("wait", id).lines == ["137"]
    assert all(each.wait(scaled(30)) in (0, 1, 125, 137) for each in entering)


def test_exec_does_not_trust_what_is_at_proc(lamina: Lamina) -> None:
    script = "mount -t tmpfs none /proc && touch /ready; sleep 1000"
    flags = ("--cap-add", "SYS_ADMIN", "--oom-score-adj", "321")
    id = lamina.start(*flags, "busybox", "sh", "-c", script)
    wait_until(lambda: lamina.call("exec", id, "ls", "/ready").code == 0, "the mount")
    assert lamina("exec", id, "sh", "-c", "ls -A /proc").out == ""
    text = "umount /proc; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l"
    assert lamina("exec", id, "sh", "-c", text).lines == ["321", "4"]


def test_what_exec_started_ends_with_the_container(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sleep", "1000")
    process = lamina.begin("exec", id, "sh", "-c", "echo up; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    lamina("kill", id)
    assert process.wait(scaled(30)) == 137
    lamina("wait", id)


def test_no_descriptor_of_the_supervisor_is_inside(lamina: Lamina) -> None:
    script = "ls -l /proc/self/fd /proc/1/fd"
    out = lamina("run", "--rm", "busybox", "sh", "-c", script).out
    ends = [line.rpartition("-> ")[2] for line in out.splitlines() if "-> " in line]
    assert all(end.startswith(("pipe:", "/dev/null", "/proc/")) for end in ends), ends
    id = lamina.start("busybox", "sleep", "1000")
    out = lamina("exec", id, "ls", "-l", "/proc/self/fd").out
    assert {line.split()[-3] for line in out.splitlines() if "-> " in line} <= {"0", "1", "2", "3"}
    supervisor = lamina.running(id)["supervisor"]
    status = Path(f"/proc/{supervisor}").stat()
    assert status.st_uid == 0
    assert subprocess.run(
        ["setpriv", "--reuid", "4242", "--clear-groups", "ls", f"/proc/{supervisor}/fd"],
        capture_output=True,
        check=False,
    ).returncode


def test_logs_rotate(lamina: Lamina) -> None:
    options = ("--log-opt", "max-size=4k", "--log-opt", "max-file=3")
    id = lamina.start(*options, "busybox", "seq", "1000")
    lamina("wait", id)
    directory = Path(os.fsdecode(lamina.paths.container(id)))
    names = sorted(path.name for path in directory.glob("log*"))
    assert names == ["log", "log.1", "log.2"]
    assert all((directory / name).stat().st_size <= 4096 for name in names)
    last = json.loads((directory / "log").read_text().splitlines()[-1])
    assert last["log"] == "1000\n"
    assert last["stream"] == "stdout"
    assert last["time"].endswith("Z")
    none = lamina.start("--log-driver", "none", "busybox", "echo", "unseen")
    lamina("wait", none)
    assert not Path(os.fsdecode(lamina.paths.container(none)), "log").exists()


def test_restart_policies(lamina: Lamina) -> None:
    id = lamina.start("--restart", "on-failure:2", "busybox", "sh", "-c", "echo x >> /runs; exit 5")
    assert lamina("wait", id).lines == ["5"]
    shown = json.loads(lamina("inspect", id).out)[0]
    assert shown["RestartCount"] == 2
    ended = lamina.start("--restart", "on-failure", "busybox", "true")
    assert lamina("wait", ended).lines == ["0"]
    always = lamina.start("--restart", "always", "busybox", "sh", "-c", "echo run; sleep 0.2")
    lamina.wait_for_log(always, "run\nrun\nrun\n")
    lamina("stop", always)
    assert lamina.status(always).startswith("Exited")


def test_health(lamina: Lamina) -> None:
    options = (
        "--health-cmd",
        "test -e /well",
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
    )
    id = lamina.start(*options, "busybox", "sleep", "1000")
    wait_until(lambda: "(unhealthy)" in lamina.status(id), "it to be unhealthy", 30)
    lamina("exec", id, "touch", "/well")
    wait_until(lambda: "(healthy)" in lamina.status(id), "it to be healthy", 30)


def test_memory_that_ran_out_is_told(lamina: Lamina) -> None:
    hog = 'BEGIN { s = "x"; while (1) s = s s }'
    ended = lamina.call("run", "--name", "hog", "-m", "32m", "busybox", "awk", hog)
    assert ended.code == 137
    assert json.loads(lamina("inspect", "hog").out)[0]["State"]["OOMKilled"] is True


def test_files_of_ids(lamina: Lamina, tmp_path: Path) -> None:
    cid, pid = tmp_path / "cid", tmp_path / "pid"
    id = lamina.start("--cidfile", str(cid), "--pidfile", str(pid), "busybox", "sleep", "1000")
    assert cid.read_text() == id
    assert int(pid.read_text()) == lamina.running(id)["pid"]


@pytest.mark.parametrize("when", ["running", "paused"])
def test_a_supervisor_that_is_killed_leaves_nothing(lamina: Lamina, when: str) -> None:
    id = lamina.start("busybox", "sh", "-c", "sleep 1000 & sleep 1000")
    if when == "paused":
        lamina("pause", id)
    running = lamina.running(id)
    os.kill(running["supervisor"], signal.SIGKILL)
    wait_until(lambda: not lamina.remains(), "all to be gone", 30)
    assert lamina.status(id).startswith("Exited (137)")
    lamina("start", id)
    assert lamina.status(id).startswith("Up")
    os.kill(lamina.running(id)["supervisor"], signal.SIGKILL)
    lamina("rm", "-f", id)
    assert lamina.ids() == []


def test_rm_of_a_container_whose_supervisor_is_killed(lamina: Lamina) -> None:
    id = lamina.start("--rm", "busybox", "sleep", "1000")
    os.kill(lamina.running(id)["supervisor"], signal.SIGKILL)
    wait_until(lambda: lamina.ids() == [], "it to be removed", 30)


def test_nothing_is_up_after_a_loss_of_power(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sleep", "1000")
    lamina.kill_everything()
    wait_until(lambda: not any("process" in each for each in lamina.remains()), "all to be dead")
    assert not lamina.status(id).startswith("Up")
    lamina("start", id)
    assert lamina.status(id).startswith("Up")
    lamina.kill_everything()
    wait_until(lambda: not any("process" in each for each in lamina.remains()), "all to be dead")
    lamina("rm", id)
    assert not lamina.remains()


def test_what_is_to_run_starts_with_the_machine(lamina: Lamina) -> None:
    """As docker's daemon does it when it comes up; here a unit of systemd asks for it."""
    words = ("busybox", "sleep", "1000")
    for name in ("lost", "ended", "stopped"):
        lamina("run", "-d", "--name", name, "--restart", "unless-stopped", *words)
    for name, policy in (("held", "always"), ("once", "on-failure"), ("never", "no")):
        lamina("run", "-d", "--name", name, "--restart", policy, *words)
    lamina("create", "--name", "fresh", "--restart", "always", *words)
    lamina("stop", "-t", "0", "stopped", "held")
    # One is still told that the machine goes down; the others lose its power.
    (id,) = lamina("ps", "-q", "--no-trunc", "-f", "name=ended").lines
    os.kill(lamina.running(id)["supervisor"], signal.SIGTERM)
    lamina("wait", "ended")
    lamina.kill_everything()
    wait_until(lambda: not any("process" in each for each in lamina.remains()), "all to be dead")
    assert lamina("ps", "-q").lines == []
    boot = ("--filter", "should-start-on-boot=true")
    assert lamina("start", "--all", *boot).lines == ["lost", "ended", "held"]
    assert sorted(lamina("ps", "--format", "{{.Names}}").lines) == ["ended", "held", "lost"]
    assert lamina("start", "--all", *boot).lines == []
    assert lamina.call("start", "--filter", "restart-policy=always", "lost").code == 2
    lamina("rm", "-f", *lamina.ids())


def test_the_union_s_mount_is_the_container_s_own(lamina: Lamina) -> None:
    lamina.start("busybox", "sleep", "1000")
    assert str(lamina.root) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("used", [False, True])
def test_a_union_of_the_host_s_is_not_held(lamina: Lamina, tmp_path: Path, *, used: bool) -> None:
    for name in ("lower", "upper", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/file").write_text("seen\n")
    merged = str(tmp_path / "merged")
    lamina("mount", "--lower", f"{tmp_path}/lower", "--upper", f"{tmp_path}/upper", merged)
    try:
        volume = ["-v", f"{merged}:/data"] if used else []
        id = lamina.start(*volume, "busybox", "sleep", "1000")
        if used:
            assert lamina("exec", id, "cat", "/data/file").lines == ["seen"]
            lamina("rm", "-f", id)
    finally:
        # Fails where its daemon does not end, since somebody holds the mount.
        lamina("umount", merged)


def test_two_starts_at_once(lamina: Lamina) -> None:
    id = lamina("create", "busybox", "sleep", "1000").lines[-1]
    both = [lamina.begin("start", id) for _ in range(2)]
    codes = sorted(each.wait(scaled(60)) for each in both)
    assert codes in ([0, 0], [0, 1])
    assert lamina.status(id).startswith("Up")
    lamina("kill", id)
    lamina("wait", id)
    assert lamina.status(id).startswith("Exited (137)")


def test_fifty_at_once_leave_nothing(lamina: Lamina) -> None:
    lamina("run", "--rm", "busybox", "true")

    def at_once(*commands: tuple[str, ...]) -> list[str]:
        begun = [lamina.begin(*each) for each in commands]
        said = [each.communicate(timeout=scaled(120)) for each in begun]
        assert not any(each.returncode for each in begun), said
        return [out.decode().strip() for out, _ in said]

    ids = at_once(*[("run", "-d", "--rm", "busybox", "sleep", "1000")] * 50)
    assert set(lamina("ps", "-q", "--no-trunc").lines) == set(ids)
    assert at_once(*[("stop", "-t", "0", id) for id in ids]) == ids
    assert lamina.ids() == []
    wait_until(lambda: not lamina.remains(), "nothing to be left")


def test_a_supervisor_that_is_asked_to_end_stops_its_container(lamina: Lamina) -> None:
    script = "trap 'echo asked; exit 4' TERM; echo up; while :; do sleep 0.05; done"
    id = lamina.start("busybox", "sh", "-c", script)
    lamina.wait_for_log(id, "up")
    os.kill(lamina.running(id)["supervisor"], signal.SIGTERM)
    assert lamina("wait", id).lines == ["4"]
    assert lamina.logged(id) == "up\nasked\n"


def test_start_attached(lamina: Lamina) -> None:
    id = lamina("create", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 3").lines[-1]
    for content in (b"first", b"second"):
        ended = lamina.call("start", "-a", "-i", id, input=content)
        assert (ended.code, ended.out, ended.err) == (3, content.decode(), "err\n")


def test_attach_follows_and_passes_signals_on(lamina: Lamina) -> None:
    script = "trap 'echo bye; exit 5' INT; while :; do echo x; sleep 0.05; done"
    id = lamina.start("busybox", "sh", "-c", script)
    process = lamina.begin("attach", id)
    assert process.stdout is not None
    assert process.stdout.readline() == b"x\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=scaled(30))
    assert process.returncode == 5
    assert out.endswith(b"bye\n")


def test_an_undertaker_waits_for_the_lock(lamina: Lamina) -> None:
    """A copy of a killed supervisor may hold it for longer than the pipe that tells of the end."""
    id = lamina("create", "busybox", "true").out.strip()
    lock = runtime.claim(lamina.paths, id)
    roots = (os.fsdecode(lamina.paths.root), os.fsdecode(lamina.paths.run))
    words = [sys.executable, "-m", "launcher.supervisor.undertaker", *roots, id]
    with subprocess.Popen(words) as undertaker:
        waiting = Path(f"/proc/{undertaker.pid}/wchan")
        wait_until(lambda: waiting.read_text() == "hrtimer_nanosleep", "it to wait")
        os.close(lock)
        assert undertaker.wait(scaled(30)) == 0
    assert lamina.remains() == []
    lamina("rm", id)


@pytest.mark.parametrize("milliseconds", [0, 50, 100, 150, 250, 400])
def test_a_supervisor_killed_during_the_start(lamina: Lamina, milliseconds: int) -> None:
    """At any instant: nothing is left, and what `ps` says is true."""
    lamina("run", "--rm", "busybox", "true")
    process = lamina.begin("run", "-d", "--name", "victim", "busybox", "sleep", "1000")

    def forked() -> list[str]:
        return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()

    wait_until(lambda: bool(forked()), "the supervisor to be forked")
    (supervisor,) = forked()
    time.sleep(milliseconds / 1000)
    os.kill(int(supervisor), signal.SIGKILL)
    _, said = process.communicate(timeout=scaled(30))
    assert process.returncode in (0, 125), said
    assert said.count(b"\n") == (process.returncode != 0), said
    wait_until(lambda: not lamina.remains(), f"all to be gone: {lamina.remains()}", 20)
    for id in lamina.ids():
        assert not lamina.status(id).startswith("Up")
        lamina("start", id)
        lamina("rm", "-f", id)
