# SPDX-License-Identifier: GPL-3.0-or-later
"""The real command in a root of its own, and what is left of it on the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from launcher.cgroup.group import Group
from launcher.cgroup.hierarchies import find
from launcher.paths import chosen
from tests.support.clock import scaled, wait_until
from tests.support.daemon import REPOSITORY, environment

__all__ = ["Lamina", "Result"]

_PROGRAM = "import sys; sys.argv[0] = 'lamina'; from launcher.cli import command; command()"


class Result:
    """How a command ended."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out.decode(errors="surrogateescape")
        self.err = err.decode(errors="surrogateescape")

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Lamina:
    """`lamina` with `--root` in a directory of the test's."""

    def __init__(self, root: Path, **variables: str) -> None:
        self.root = root
        self.paths = chosen(os.fsencode(root))
        self.environment = {
            name: value
            for name, value in environment().items()
            if name != "PYTHONDONTWRITEBYTECODE"
        } | {"LAMINA_ROOT": str(root), **variables}
        self._started: list[subprocess.Popen[bytes]] = []

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, *words]

    def begin(self, *words: str, **how: Any) -> subprocess.Popen[bytes]:
        """Start a command; its streams are pipes unless told otherwise."""
        streams: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        streams["stdin"] = subprocess.DEVNULL
        process: subprocess.Popen[bytes] = subprocess.Popen(
            self.words(*words), env=self.environment, cwd=REPOSITORY, **(streams | how)
        )
        self._started.append(process)
        return process

    def try_(self, *words: str, input: bytes | None = None, limit: float = 60) -> Result:
        """Run a command to its end, however that is."""
        how = {} if input is None else {"stdin": subprocess.PIPE}
        process = self.begin(*words, **how)
        try:
            out, err = process.communicate(input, timeout=scaled(limit))
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{words} does not end; it said {out!r} {err!r}") from None
        return Result(process.returncode, out, err)

    def __call__(self, *words: str, input: bytes | None = None) -> Result:
        """Run a command that must succeed."""
        result = self.try_(*words, input=input)
        assert result.code == 0, (words, result.code, result.out, result.err)
        return result

    def start(self, *words: str) -> str:
        """`run -d` with these words; the container's id."""
        return self("run", "-d", *words).lines[-1]

    def group(self, id: str) -> Group:
        """The cgroup of a container."""
        return Group(id, find())

    def running(self, id: str) -> dict[str, Any]:
        """What its supervisor last said of it; {} if there is none."""
        try:
            found: dict[str, Any] = json.loads(
                Path(os.fsdecode(self.paths.runtime(id)), "running.json").read_text()
            )
        except FileNotFoundError:
            return {}
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

    def finish(self) -> None:
        """End whatever is left, by force, and then look whether anything is."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for id in self._live():
            self.try_("kill", id)
        wait_until(lambda: not self.remains(), f"nothing to be left: {self.remains()}", 20)
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
        for path in self.root.glob("containers/*"):
            paths = self.group(path.name).paths()
            found += [f"cgroup {each!r}" for each in paths if os.path.exists(each)]
        return found

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
