# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina run` before one's eyes: streams, exit statuses, signals, terminals."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.launcher.command import Lamina
from tests.support.clock import scaled, wait_until


def test_streams_stay_apart_and_the_status_is_the_containers(lamina: Lamina) -> None:
    ended = lamina.call("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.code, ended.out, ended.err) == (7, "out\n", "err\n")
    assert lamina.ids() == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("busybox", "nosuch"), 127, "cannot execute nosuch: executable file not found in $PATH"),
        (("busybox", "/etc"), 126, "cannot execute /etc: Permission denied"),
        (("nosuch", "true"), 125, "cannot"),
        (("--init", "busybox", "sh", "-c", "kill -TERM $$"), 143, ""),
    ],
)
def test_docker_s_exit_statuses(
    lamina: Lamina, words: tuple[str, ...], code: int, said: str
) -> None:
    ended = lamina.call("run", "--rm", *words)
    assert ended.code == code
    assert said in ended.err
    assert ended.err.count("\n") == bool(said)
    assert lamina.ids() == []


def test_input_only_where_it_is_asked_for(lamina: Lamina) -> None:
    content = os.urandom(300_000)
    with_input = lamina.begin("run", "--rm", "-i", "busybox", "cat", stdin=subprocess.PIPE)
    out, _ = with_input.communicate(content, timeout=scaled(60))
    assert out == content
    assert lamina("run", "--rm", "busybox", "cat", input=b"none of it").out == ""


def test_output_is_complete_and_in_order(lamina: Lamina) -> None:
    count = 200_000
    ended = lamina("run", "--rm", "busybox", "seq", str(count))
    assert ended.out == "".join(f"{number}\n" for number in range(1, count + 1))


def test_a_slow_reader_loses_nothing(lamina: Lamina) -> None:
    script = "seq 300000; ls / > /seen; echo end"
    process = lamina.begin("run", "--name", "slow", "busybox", "sh", "-c", script)
    assert process.stdout is not None
    # The union is served meanwhile: another process of the container reads through it.
    wait_until(lambda: lamina.status("") != "", "it to be there", 30)
    wait_until(lambda: lamina.call("exec", "slow", "true").code == 0, "it to run", 30)
    assert "bin" in lamina("exec", "slow", "ls", "/").lines
    out, _ = process.communicate(timeout=scaled(60))
    assert out.decode().splitlines() == [*map(str, range(1, 300_001)), "end"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(lamina: Lamina, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 3' {name}; echo up; while :; do sleep 0.05; done"
    process = lamina.begin("run", "--rm", "busybox", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=scaled(30))
    assert (process.returncode, out) == (3, f"got {name}\n".encode())


def test_without_proxy_a_signal_is_the_commands_own(lamina: Lamina) -> None:
    process = lamina.begin("run", "--sig-proxy=false", "busybox", "sh", "-c", "echo up; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(scaled(30)) == -signal.SIGTERM
    (id,) = lamina.ids()
    assert lamina.status(id).startswith("Up")


def test_killing_the_command_does_not_harm_the_container(lamina: Lamina) -> None:
    process = lamina.begin("run", "busybox", "sh", "-c", "echo up; sleep 1; echo more; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait()
    (id,) = lamina.ids()
    lamina.wait_for_log(id, "more")
    assert lamina.status(id).startswith("Up")


def test_rm_holds_without_the_command(lamina: Lamina) -> None:
    process = lamina.begin("run", "--rm", "busybox", "sh", "-c", "echo up; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait()
    (id,) = lamina.ids()
    lamina("kill", id)
    wait_until(lambda: lamina.ids() == [], "it to be removed")
    assert not Path(os.fsdecode(lamina.paths.container(id))).exists()


class Terminal:
    """A terminal of the user's, in which a command runs."""

    def __init__(self, lamina: Lamina, *words: str, rows: int = 31, columns: int = 97) -> None:
        self.master, self.slave = pty.openpty()
        ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.process = lamina.begin(
            *words, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True
        )
        self.seen = b""

    def read_until(self, text: bytes, seconds: float = 30) -> None:
        deadline = time.monotonic() + scaled(seconds)
        while text not in self.seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.master], [], [], max(left, 0))
            assert ready, f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.master, 4096)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


def test_a_terminal_is_real(lamina: Lamina) -> None:
    terminal = Terminal(lamina, "run", "--rm", "-it", "busybox", "sh")
    try:
        terminal.read_until(b"# ")
        terminal.type(b"tty; stty size\r")
        terminal.read_until(b"/dev/pts/0")
        terminal.read_until(b"31 97")
        ioctl(terminal.slave, termios.TIOCSWINSZ, struct.pack("=4H", 20, 70, 0, 0))
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.type(b"until stty size | grep '20 7''0'; do sleep 0.1; done\r")
        terminal.read_until(b"20 70")
        terminal.type(b"echo rea''dy; cat\r")
        terminal.read_until(b"ready\r\n")  # the line editor has let the terminal go
        terminal.type(b"ping\r")
        terminal.read_until(b"ping\r\nping\r\n")  # and who reads it is in the foreground
        terminal.type(b"\x03")  # the container's terminal makes a signal of it
        terminal.read_until(b"^C\r\n/ # ")  # what is typed before, the shell may lose
        terminal.type(b"exit 5\r")
        assert terminal.process.wait(scaled(30)) == 5
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_keys_detach_and_attach_comes_back(lamina: Lamina) -> None:
    terminal = Terminal(lamina, "run", "-it", "--name", "kept", "busybox", "sh")
    try:
        terminal.read_until(b"# ")
        terminal.type(b"X=17\r")
        terminal.read_until(b"X=17")
        terminal.type(b"\x10\x11")
        assert terminal.process.wait(scaled(30)) == 0
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()
    again = Terminal(lamina, "attach", "--detach-keys", "x", "kept")
    try:
        again.type(b"\r echo $((X+1))\r")
        again.read_until(b"\n18")
        again.type(b"x")
        assert again.process.wait(scaled(30)) == 0
    finally:
        again.close()
    assert lamina.status(lamina.ids()[0]).startswith("Up")


def test_a_signal_leaves_the_terminal_as_it_was(lamina: Lamina) -> None:
    terminal = Terminal(lamina, "run", "-it", "--name", "kept", "busybox", "sh")
    try:
        terminal.read_until(b"# ")
        terminal.type(b"echo $((40+2))\r")
        terminal.read_until(b"42")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(scaled(30)) == -signal.SIGTERM
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_a_terminal_needs_one_for_its_input(lamina: Lamina) -> None:
    ended = lamina.call("run", "--rm", "-it", "busybox", "true", input=b"")
    assert ended.code != 0
    assert "the input is not a terminal" in ended.err
    assert lamina.ids() == []


def test_exec_with_a_terminal(lamina: Lamina) -> None:
    id = lamina.start("busybox", "sleep", "1000")
    terminal = Terminal(lamina, "exec", "-it", id, "sh")
    try:
        terminal.read_until(b"# ")
        terminal.type(b"tty; stty size\r")
        terminal.read_until(b"/dev/pts/")
        terminal.read_until(b"31 97")
        terminal.type(b"exit 6\r")
        assert terminal.process.wait(scaled(30)) == 6
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()
    plain = Terminal(lamina, "exec", id, "sh", "-c", "test -t 1 || echo a pipe")
    try:
        plain.read_until(b"a pipe")
        assert plain.process.wait(scaled(30)) == 0
    finally:
        plain.close()
