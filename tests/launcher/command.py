# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina` as a person calls it, in a root of its own, and the certainty that nothing is left."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from launcher.cgroup.group import Group
from launcher.cgroup.hierarchies import find
from launcher.paths import Paths, chosen
from tests.support.clock import scaled, wait_until
from tests.support.daemon import environment

__all__ = ["Called", "Lamina", "command_line"]


def command_line() -> list[str]:
    """What runs `lamina` of this checkout, unless LAMINA_TEST_COMMAND names another."""
    other = os.environ.get("LAMINA_TEST_COMMAND")
    if other:
        return shlex.split(other)
    start = "import sys; from launcher.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start]


class Called(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Lamina:
    """The command, with the root directory `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths: Paths = chosen(os.fsencode(root))

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Begin a command; its standard streams are as `options` say."""
        return subprocess.Popen([*command_line(), *words], env=self.environment(), **options)

    def environment(self) -> dict[str, str]:
        """What the command needs of variables."""
        return environment() | {"LAMINA_ROOT": str(self.root)}

    def call(self, *words: str, stdin: str = "", limit: float = 60.0) -> Called:
        """Run a command to its end."""
        ended = subprocess.run(
            [*command_line(), *words],
            env=self.environment(),
            input=stdin.encode(),
            capture_output=True,
            timeout=scaled(limit),
            check=False,
        )
        return Called(
            ended.returncode, ended.stdout.decode("utf-8", "replace"), ended.stderr.decode()
        )

    def good(self, *words: str, stdin: str = "") -> str:
        """Run a command that must succeed, and say nothing on stderr; what it printed."""
        ended = self.call(*words, stdin=stdin)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended.out

    def script(self, *words: str) -> list[str]:
        """The lines of a shell script, the last word, in a new busybox container."""
        *flags, text = words
        return self.good("run", "--rm", *flags, "busybox", "sh", "-c", text).splitlines()

    def detached(self, *words: str) -> str:
        """The id of a container left running."""
        return self.good("run", "-d", *words).strip()

    def group(self, id: str) -> Group:
        """The cgroup of a container."""
        return Group(id, find())

    def config(self, id: str) -> dict[str, Any]:
        """A container's config.json."""
        found: dict[str, Any] = json.loads(
            (self.root / "containers" / id / "config.json").read_text()
        )
        return found

    def pid(self, id: str) -> int:
        """The first process of a container that runs."""
        path = os.fsdecode(self.paths.runtime(id)) + "/running.json"
        number: int = json.loads(Path(path).read_text())["pid"]
        return number

    def clear(self) -> None:
        """Remove all containers and volumes."""
        if os.listdir(self.root / "containers"):
            self.good("rm", "-afv")
        volumes = self.root / "volumes"
        if volumes.exists() and os.listdir(volumes):
            self.good("volume", "prune", "-a")

    def nothing_runs(self) -> None:
        """Assert that nothing of a container is there but its files."""
        running = os.fsdecode(self.paths.run) + "/containers"
        wait_until(
            lambda: not os.path.isdir(running) or os.listdir(running) == [],
            "no supervisor is left",
        )
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(self.root) not in mounts
        for id in os.listdir(self.root / "containers"):
            assert not [path for path in self.group(id).paths() if os.path.exists(path)]
