# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting: failures in one line, init, terminal, entering, and the supervisor's end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launcher import start
from launcher.errors import LaunchError
from launcher.spec import Mount, Root, User
from tests.launcher import box
from tests.launcher.box import run, spec
from tests.support.clock import scaled, wait_until


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["nope"], 127, "cannot execute nope: executable file not found in $PATH"),
        (["/bin/nope"], 127, "cannot execute /bin/nope: No such file or directory"),
        (["/etc/passwd"], 126, "cannot execute /etc/passwd: Permission denied"),
        (["/etc"], 126, "cannot execute /etc: Permission denied"),
        (["/etc/passwd/x"], 127, "cannot execute /etc/passwd/x: Not a directory"),
    ],
)
def test_a_command_that_cannot_run(root: Path, args: list[str], status: int, message: str) -> None:
    with pytest.raises(LaunchError) as caught:
        run(spec(root, box.process(args)))
    assert (caught.value.status, str(caught.value)) == (status, message)


def test_a_denied_program_in_the_path_is_named_as_such(fresh_root: Path) -> None:
    (fresh_root / "sbin").mkdir()
    (fresh_root / "sbin/tool").write_text("not executable")
    with pytest.raises(LaunchError, match="Permission denied") as caught:
        run(spec(fresh_root, box.process(["tool"])))
    assert caught.value.status == 126


def test_failed_steps_name_the_thing(root: Path, tmp_path: Path) -> None:
    missing = os.fsencode(tmp_path / "missing")
    described = spec(root, box.process(["true"]))
    with pytest.raises(LaunchError) as caught:
        run(described._replace(root=Root(missing)))
    assert str(caught.value) == (
        f"cannot use root filesystem {tmp_path}/missing: No such file or directory"
    )
    mounts = (*described.mounts, Mount(b"/data", "bind", missing))
    with pytest.raises(LaunchError) as caught:
        run(described._replace(mounts=mounts))
    assert str(caught.value) == f"cannot bind {tmp_path}/missing: No such file or directory"
    mounts = (*described.mounts, Mount(b"/data", "nofs", b"none"))
    with pytest.raises(LaunchError, match=r"cannot mount on /data: nofs: No such device"):
        run(described._replace(mounts=mounts))
    mounts = (*described.mounts, Mount(b"/etc/passwd/x", "tmpfs", b"none"))
    with pytest.raises(LaunchError, match=r"cannot mount on /etc/passwd/x: .*Not a directory"):
        run(described._replace(mounts=mounts))
    assert caught.value.status == 125


def test_a_process_killed_while_it_waits_is_a_failure(root: Path) -> None:
    with start.begin(start.launch_of(spec(root, box.process(["true"])), box.host())) as beginning:
        os.kill(beginning.pid, signal.SIGKILL)
        os.waitid(os.P_PIDFD, beginning.pidfd, os.WEXITED | os.WNOWAIT)
        with pytest.raises(LaunchError, match=r"killed|ended"):
            beginning.go()


def test_a_beginning_left_alone_is_taken_back(root: Path) -> None:
    with start.begin(start.launch_of(spec(root, box.process(["true"])), box.host())) as beginning:
        pid = beginning.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_starts_from_a_process_with_busy_threads(root: Path) -> None:
    """A thread that always wants the interpreter leaves no lock held in the copy."""
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            [bytes(n) for n in range(200)]

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for each in threads:
        each.start()
    try:
        codes = [run(spec(root, box.process(["true"]))).code for _ in range(10)]
    finally:
        over.set()
        for each in threads:
            each.join()
    assert codes == [0] * 10


def test_signals_reach_it(root: Path) -> None:
    running = box.Running(
        spec(root, box.process("trap 'echo got; exit 3' TERM; echo up; read x < /dev/zero & wait"))
    )
    running.read_line()
    running.kill(signal.SIGTERM)
    ended = running.end()
    assert (ended.code, ended.out) == (3, "got\n")


# -- the little init ------------------------------------------------------------------------------


def test_init_reaps_orphans(root: Path) -> None:
    # An orphan ends once the program, which waits for nobody, has begun.
    text = (
        "mkfifo /dev/shm/go /dev/shm/end; echo $$;"
        " orphan=$(sh -c 'grep -q . /dev/shm/go > /dev/null & echo $!');"
        " (until grep -q ^grep /proc/$$/cmdline; do sleep 0.01; done; echo x > /dev/shm/go;"
        " %s; echo so; echo x > /dev/shm/end) & exec grep -q . /dev/shm/end"
    )
    gone = "while [ -e /proc/$orphan ]; do sleep 0.01; done"
    assert run(spec(root, box.process(text % gone, init=True))).lines == ["2", "so"]
    dead = "until grep -q 'State:.Z' /proc/$orphan/status; do sleep 0.01; done"
    assert run(spec(root, box.process(text % dead))).lines == ["1", "so"]


def test_init_passes_signals_and_statuses_on(root: Path) -> None:
    made = box.process("trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done", init=True)
    running = box.Running(spec(root, made))
    running.read_line()
    running.kill(signal.SIGTERM)
    assert running.end().code == 5
    killed = run(spec(root, box.process("kill -9 $$", init=True)))
    assert killed.code == 128 + 9
    with pytest.raises(LaunchError) as caught:
        run(spec(root, box.process(["nope"], init=True)))
    assert caught.value.status == 127


def test_init_leads_nowhere(root: Path) -> None:
    ended = run(
        spec(
            root,
            box.process(
                "tr '\\0' ' ' < /proc/1/cmdline; echo; readlink /proc/1/exe || echo closed;"
                " ls /proc/1/fd | wc -l; cat /proc/1/environ || echo closed;"
                " grep -E 'CapEff|Seccomp:' /proc/1/status",
                init=True,
            ),
        )
    )
    assert ended.lines[1:] == ["closed", "0", "closed", *ended.lines[4:]]
    assert "python" not in ended.out
    assert ended.lines[0].split() == ["lamina-init"]
    assert "00000000a80425fb" in ended.out


# -- a terminal -----------------------------------------------------------------------------------


def test_a_terminal_of_its_own(root: Path) -> None:
    ours, theirs = socket.socketpair()
    made = box.process(
        "tty; ls -l /dev/console | cut -c1; ps -o pid,tty | head -2 | tail -1; read x; echo got $x",
        terminal=True,
    )
    launch = start.launch_of(spec(root, made), box.host(), terminal=theirs.fileno())
    started = start.start(launch)
    try:
        theirs.close()
        ours.settimeout(scaled(20))
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        ours.close()
        os.write(fds[0], b"hello\n")
        seen = b""
        while b"got hello" not in seen:
            seen += os.read(fds[0], 4096)
        os.close(fds[0])
    finally:
        box.wait(started)
    lines = seen.decode().replace("\r", "").splitlines()
    assert "/dev/pts/0" in lines
    assert "c" in lines
    assert "136,0" in seen.decode()


# -- entering -------------------------------------------------------------------------------------


def test_a_further_process_enters(root: Path) -> None:
    first = box.Running(spec(root, box.process("echo up; exec sleep 1000")))
    try:
        first.read_line()
        out_read, out_write = os.pipe()
        made = box.process(
            "for n in pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done;"
            " hostname; ls /proc/self/fd | wc -l; grep CapEff /proc/self/status; id -u",
            user=User(1000, 1000),
        )
        started = start.start(start.launch_into(first.started, made, stdio=(0, out_write, 2)))
        os.close(out_write)
        assert box.wait(started) == 0
        with open(out_read) as file:
            lines = file.read().split("\n")
        theirs = [
            os.readlink(f"/proc/{first.pid}/ns/{n}")
            for n in ("pid", "mnt", "uts", "ipc", "net", "cgroup")
        ]
        assert lines[:6] == theirs
        assert lines[6:8] == ["box", "4"]
        assert lines[8].split() == ["CapEff:", "0000000000000000"]
        assert lines[9] == "1000"
        with pytest.raises(LaunchError) as caught:
            start.start(start.launch_into(first.started, box.process(["nope"])))
        assert caught.value.status == 127
    finally:
        first.kill()
        first.end()


# -- the supervisor's end -------------------------------------------------------------------------

_SUPERVISOR = """
import sys
from pathlib import Path
from launcher import start
from tests.launcher import box
described = box.spec(Path(sys.argv[1]), box.process("echo up; exec sleep 1000"))
print(start.start(start.launch_of(described, box.host())).pid, flush=True)
import signal; signal.pause()
"""


def test_the_container_ends_with_its_supervisor(root: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, str(root)], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    lines = {supervisor.stdout.readline().strip(), supervisor.stdout.readline().strip()}
    lines.discard("up")
    pid = int(lines.pop())
    pidfd = os.pidfd_open(pid)
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    try:
        wait_until(lambda: not _alive(pidfd), "the container's end")
    finally:
        os.close(pidfd)


def _alive(pidfd: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_start_imports_little() -> None:
    """Nothing slow may come onto the way of every start."""
    code = "import launcher.start, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    slow = {"trio", "json", "ssl", "sqlite3", "dataclasses", "inspect", "subprocess", "socket"}
    slow |= {"asyncio", "logging", "tempfile", "shutil", "pathlib", "argparse", "unionfs.union"}
    assert not slow & set(done.stdout.split())
