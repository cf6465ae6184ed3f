# SPDX-License-Identifier: GPL-3.0-or-later
"""Real containers, looked at as a person does, from one command to the next."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.paths import chosen
from tests.launcher.show.made import Ended
from tests.support.clock import wait_until

PROGRAM = "from launcher.cli import main; raise SystemExit(main())"


class Lamina:
    """Commands on a root of one's own, each in its own process."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", PROGRAM, "--root", str(self.root), *words]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def __call__(self, *words: str) -> Ended:
        with self.start(*words) as process:
            out, err = process.communicate(timeout=60)
        return Ended(process.returncode, out, err)

    def good(self, *words: str) -> list[str]:
        ended = self(*words)
        assert ended.status == 0, ended
        return ended.lines

    def ask(self, name: str, template: str) -> str:
        (line,) = self.good("inspect", "-f", template, name)
        return line


@pytest.fixture
def lamina(tmp_path: Path) -> Iterator[Lamina]:
    lamina = Lamina(tmp_path / "root")
    yield lamina
    ids = lamina.good("ps", "-aq")
    if ids:
        lamina.good("rm", "-f", *ids)
    paths = chosen(bytes(lamina.root))
    assert os.listdir(paths.run + b"/containers") == []
    for name in os.listdir(paths.run):
        if name != b"containers":
            os.unlink(paths.run + b"/" + name)
    os.rmdir(paths.run + b"/containers")
    os.rmdir(paths.run)


def test_a_container_from_its_creation_to_its_end(lamina: Lamina) -> None:
    script = "echo out; echo err >&2; read word; while :; do :; done"
    (id,) = lamina.good(
        "run", "-di", "--name", "web", "--label", "role=front", "--memory", "64m", "busybox",
        "sh", "-c", script,
    )  # fmt: skip
    header, row = lamina.good("ps")
    titles = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert re.split(r" {2,}", header) == titles
    assert header.index("NAMES") == row.index("web")
    assert re.match(id[:12] + r"   busybox   \"sh -c 'echo out; ec…\"   .* ago +Up .*   web$", row)
    assert lamina.ask("web", "{{.State.Status}} {{.HostConfig.Memory}}") == "running 67108864"
    pid = lamina.ask(id[:6], "{{.State.Pid}}")
    assert lamina.good("top", "web")[1].split()[1] == pid
    assert lamina.good("top", "web", "-o", "pid")[1:] == [pid]

    with lamina.start("logs", "-f", "web") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "out\n"
        figures = json.loads(
            "".join(lamina.good("stats", "--no-stream", "--format", "json", "web"))
        )
        assert figures["MemUsage"].endswith(" / 64MiB")
        assert (figures["Name"], figures["PIDs"]) == ("web", "1")
        lamina.good("pause", "web")
        assert lamina.good("ps", "--format", "{{.State}}") == ["paused"]
        assert lamina.good("ps", "--format", "{{.Status}}")[0].endswith(" (Paused)")
        lamina.good("unpause", "web")
        lamina.good("kill", "web")
        lamina("wait", "web")
        out, err = following.communicate(timeout=20)
        assert (out, err, following.returncode) == ("", "err\n", 0)

    assert lamina.good("ps") == [
        "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES"
    ]
    assert lamina.good("ps", "-a", "--format", "{{.Status}}")[0].startswith("Exited (137) ")
    assert lamina.ask("web", "{{.State.ExitCode}} {{.State.Running}} {{.State.Pid}}") == (
        "137 false 0"
    )
    assert lamina("logs", "web")[1:] == ("out\n", "err\n")
    assert "it does not run" in lamina("top", "web").err
    lamina.good("rm", "web")
    words = ("events", "--since", "10m", "--until", "0s", "-f", "container=web")
    assert lamina.good(*words, "-f", "label=role=front", "--format", "{{.Action}}") == [
        "create",
        "start",
        "pause",
        "unpause",
        "kill",
        "die",
        "destroy",
    ]
    assert lamina.good(*words, "-f", "event=die", "--format", "{{.Actor.Attributes.exitCode}}") == [
        "137"
    ]


def test_logs_are_whole_over_rotations_and_followed_to_the_end(lamina: Lamina) -> None:
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    lamina.good(
        "run", "-d", "--name", "talker", "--log-opt", "max-size=40k", "--log-opt", "max-file=9",
        "busybox", "sh", "-c", script,
    )  # fmt: skip
    with lamina.start("logs", "-f", "talker") as following:
        out, err = following.communicate(timeout=30)
    expected = [f"line {number}" for number in range(2000)]
    assert (out.splitlines(), err) == (expected, "")
    assert lamina.good("logs", "talker") == expected
    assert lamina.good("logs", "-n", "3", "talker") == expected[-3:]
    directory = os.path.dirname(lamina.ask("talker", "{{.LogPath}}"))
    assert len([name for name in os.listdir(directory) if name.startswith("log")]) > 3


def test_health_and_what_runs_in_it_are_told(lamina: Lamina) -> None:
    lamina.good(
        "run", "-d", "--name", "sick", "--health-cmd", "echo bad; exit 1",
        "--health-interval", "100ms", "--health-retries", "1", "busybox", "sleep", "1000",
    )  # fmt: skip
    wait_until(
        lambda: lamina.ask("sick", "{{.State.Health.Status}}") == "unhealthy",
        "the container to be unhealthy",
        30,
    )
    assert lamina.good("ps", "--format", "{{.Status}}")[0].endswith(" (unhealthy)")
    assert lamina.good("ps", "-q", "-f", "health=unhealthy")
    log = lamina.ask(
        "sick", "{{with index .State.Health.Log 0}}{{.ExitCode}} {{json .Output}}{{end}}"
    )
    assert log == '1 "bad\\n"'
    lamina("exec", "sick", "true")
    actions = lamina.good("events", "--since", "10m", "--until", "0s", "--format", "{{.Action}}")
    assert "health_status: unhealthy" in actions
    assert {"exec_create: true", "exec_start: true", "exec_die"} <= set(actions)


def test_a_killed_supervisor_leaves_the_truth(lamina: Lamina) -> None:
    lamina.good("run", "-d", "--name", "lost", "busybox", "sleep", "1000")
    before = time.time()
    pid = int(lamina.ask("lost", "{{.State.Pid}}"))
    with open(f"/proc/{pid}/status") as file:
        (supervisor,) = (int(line.split()[1]) for line in file if line.startswith("PPid:"))
    with lamina.start("logs", "-f", "lost") as following:
        os.kill(supervisor, 9)
        assert following.wait(20) == 0
    wait_until(
        lambda: not lamina.good("ps", "-q") and not os.path.exists(f"/proc/{pid}"),
        "it to be gone",
        20,
    )
    assert lamina.good("ps", "-a", "--format", "{{.State}}") in (["exited"], ["dead"])
    assert time.time() - before < 60
