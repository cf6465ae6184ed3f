# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina` as a person calls it, in a root of its own, and the certainty that nothing is left."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from launcher.cgroup.group import Group
from launcher.cgroup.hierarchies import find
from launcher.paths import Paths, chosen
from tests.support.clock import scaled, wait_until
from tests.support.daemon import REPOSITORY, environment

__all__ = ["Called", "Lamina", "command_line"]

_PROGRAM = "import sys; sys.argv[0] = 'lamina'; from launcher.cli import command; command()"


def command_line() -> list[str]:
    """What runs `lamina` of this checkout, unless LAMINA_TEST_COMMAND names another."""
    other = os.environ.get("LAMINA_TEST_COMMAND")
    return shlex.split(other) if other else [sys.executable, "-c", _PROGRAM]


class Called(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Lamina:
    """The command, with the root directory `root`.

    environment -- what it gets of variables
    """

    def __init__(self, root: Path, **variables: str) -> None:
        self.root = root
        self.paths: Paths = chosen(os.fsencode(root))
        self.environment = {
            name: value
            for name, value in environment().items()
            if name != "PYTHONDONTWRITEBYTECODE"
        } | {"LAMINA_ROOT": str(root), **variables}
        self._begun: list[subprocess.Popen[bytes]] = []

    # -- calling it

    def begin(self, *words: str, **how: Any) -> subprocess.Popen[bytes]:
        """Begin a command; its output goes to pipes, and it has no input, unless told otherwise."""
        streams: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        streams["stdin"] = subprocess.DEVNULL
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [*command_line(), *words], env=self.environment, cwd=REPOSITORY, **(streams | how)
        )
        self._begun.append(process)
        return process

    def call(self, *words: str, input: bytes | None = None, limit: float = 60) -> Called:
        """Run a command to its end, however that is."""
        how = {} if input is None else {"stdin": subprocess.PIPE}
        process = self.begin(*words, **how)
        try:
            out, err = process.communicate(input, timeout=scaled(limit))
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{words} does not end; it said {out!r} {err!r}") from None
        said = (each.decode(errors="surrogateescape") for each in (out, err))
        return Called(process.returncode, *said)

    def __call__(self, *words: str, input: bytes | None = None) -> Called:
        """Run a command that must succeed."""
        ended = self.call(*words, input=input)
        assert ended.code == 0, (words, ended)
        return ended

    def good(self, *words: str, input: bytes | None = None) -> str:
        """Run a command that must succeed, and say nothing on stderr; what it printed."""
        ended = self.call(*words, input=input)
        assert (ended.code, ended.err) == (0, ""), (words, ended)
        return ended.out

    def start(self, *words: str) -> str:
        """`run -d` with these words; the container's id."""
        return self("run", "-d", *words).lines[-1]

    def script(self, *words: str) -> list[str]:
        """The lines of a shell script, the last word, in a new busybox container."""
        *flags, text = words
        return self.good("run", "--rm", *flags, "busybox", "sh", "-c", text).splitlines()

    # -- looking at containers

    def running(self, id: str) -> dict[str, Any]:
        """What its supervisor last said of it; {} if there is none."""
        try:
            found: dict[str, Any] = json.loads(
                Path(os.fsdecode(self.paths.runtime(id)), "running.json").read_text()
            )
        except FileNotFoundError:
            return {}
        return found

    def pid(self, id: str) -> int:
        """The first process of a container that runs."""
        number: int = self.running(id)["pid"]
        return number

    def group(self, id: str) -> Group:
        """The cgroup of a container."""
        return Group(id, find())

    def config(self, id: str) -> dict[str, Any]:
        """A container's config.json."""
        found: dict[str, Any] = json.loads(
            (self.root / "containers" / id / "config.json").read_text()
        )
        return found

    def logged(self, id: str) -> str:
        """All that the container has printed, from its log."""
        path = Path(os.fsdecode(self.paths.container(id)), "log")
        lines = path.read_text().splitlines() if path.exists() else []
        return "".join(json.loads(line)["log"] for line in lines)

    def wait_for_log(self, id: str, text: str) -> None:
        wait_until(lambda: text in self.logged(id), f"{text!r} in the log", 30)

    def status(self, id: str) -> str:
        """As `ps` tells it, "" if there is no such container."""
        lines = self("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Status}}").lines
        return next((line.partition(" ")[2] for line in lines if line.startswith(id)), "")

    def ids(self) -> list[str]:
        return self("ps", "-aq", "--no-trunc").lines

    # -- nothing is left

    def clear(self) -> None:
        """Remove all containers and volumes."""
        if os.listdir(self.root / "containers"):
            self.good("rm", "-afv")
        volumes = self.root / "volumes"
        if volumes.exists() and os.listdir(volumes):
            self.good("volume", "prune", "-a")

    def finish(self) -> None:
        """End whatever is left, by force, and then look whether anything is."""
        self._end_commands()
        for id in self._live():
            self.call("kill", id)
        wait_until(lambda: not self.remains(), f"nothing to be left: {self.remains()}", 20)
        self._no_errors()

    def nothing_runs(self) -> None:
        """Assert that nothing of a container is there but its files, and soon is not."""
        self._end_commands()
        wait_until(lambda: not self.remains(), f"nothing to be left: {self.remains()}", 20)
        self._no_errors()

    def _end_commands(self) -> None:
        for process in self._begun:
            if process.poll() is None:
                process.kill()
            if process.stdout is not None and process.stdout.closed:
                process.wait()
            else:
                process.communicate()
        self._begun.clear()

    def _no_errors(self) -> None:
        errors = [
            path.read_text()
            for path in self.root.glob("containers/*/supervisor.log")
            if path.stat().st_size
        ]
        assert not errors, errors[0]

    def _live(self) -> list[str]:
        directory = Path(os.fsdecode(self.paths.run), "containers")
        return os.listdir(directory) if directory.exists() else []

    def remains(self) -> list[str]:
        """Processes, mounts, cgroups and runtime directories that are this root's."""
        found = [f"runtime {id}" for id in self._live()]
        root = str(self.root)
        found += [
            f"mount {line}"
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if root in line
        ]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
                environ = Path("/proc", pid, "environ").read_bytes()
            except (OSError, ProcessLookupError):
                continue
            if os.fsencode(root) in b" ".join(words) or f"LAMINA_ROOT={root}\0".encode() in environ:
                found.append(f"process {pid} {words}")
        mounted = find()
        for id in {path.name for path in self.root.glob("containers/*")} | self._heard_of():
            paths = Group(id, mounted).paths()
            found += [f"cgroup {each!r}" for each in paths if os.path.exists(each)]
        return found

    def _heard_of(self) -> set[str]:
        """The ids in the log of events: of containers that are gone, too."""
        files = Path(os.fsdecode(self.paths.run)).glob("events*")
        return {id for each in files for id in re.findall("[0-9a-f]{64}", each.read_text())}

    def kill_everything(self) -> None:
        """As a loss of power does it: supervisors, undertakers and containers, all at once."""
        pids = []
        for id in self._live():
            pid = self.running(id).get("supervisor", 0)
            if pid:
                pids.append(pid)
        root = os.fsencode(self.root)
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if words.startswith(b"lamina-undertaker") and root in words:
                pids.insert(0, pid)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
