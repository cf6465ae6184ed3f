# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that images are sent through, each with a place of its own for what it keeps."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.processes import QUIET, CommandFailed, run

SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A command with the words and the environment that give it a place of its own."""

    name: str
    words: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *words: str | Path) -> str:
        """Run one of its commands; its standard output. Raises CommandFailed or TookTooLong."""
        line = [*self.words, *map(str, words)]
        return run(line, seconds=SECONDS, env=self.environment).output

    def weigh(self, *words: str | Path) -> tuple[float, int]:
        """Run one of its commands; its seconds, and the most memory in bytes that it had."""
        import time

        line = [*self.words, *map(str, words)]
        environment = {**os.environ, **QUIET, **self.environment}
        null = os.open(os.devnull, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, null, each) for each in (0, 1, 2)]
        begun = time.perf_counter()
        try:
            pid = os.posix_spawnp(line[0], line, environment, file_actions=actions)
        finally:
            os.close(null)
        _, status, usage = os.wait4(pid, 0)
        took = time.perf_counter() - begun
        if status:
            raise CommandFailed(f"{' '.join(line)}: status {os.waitstatus_to_exitcode(status)}")
        return took, usage.ru_maxrss * 1024


def lamina(place: Path) -> Engine:
    """lamina, beside this interpreter or of the PATH."""
    beside = Path(sys.executable).with_name("lamina")
    program = str(beside) if beside.exists() else "lamina"
    return Engine("lamina", (program,), {"LAMINA_ROOT": str(place)})


def podman(place: Path) -> Engine:
    """podman with its overlay driver."""
    words = ("podman", "--root", str(place / "root"), "--runroot", str(place / "run"))
    more = ("--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--runtime", "runc")
    return Engine("podman", (*words, *more), {})
