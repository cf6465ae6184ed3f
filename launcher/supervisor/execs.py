# SPDX-License-Identifier: GPL-3.0-or-later
"""Further processes in a running container: `exec`, and what health checks run.

They join all its namespaces and its cgroup, have its rights, and end with it. Each is the
supervisor's child and is reaped here: the container's first process waits for that
(pid_namespaces(7)).
"""

from __future__ import annotations

import os

from launcher import start
from launcher.errors import LaunchError
from launcher.supervisor import launching
from launcher.supervisor.life import Life
from launcher.supervisor.loop import READ
from launcher.typed import Callable, NamedTuple
from unionfs.light import contextlib, signal

__all__ = ["Exec", "Wanted", "run"]


class Wanted(NamedTuple):
    """What is to be run; what is None is as the container's own process has it."""

    args: tuple[bytes, ...]
    env: tuple[bytes, ...] = ()
    cwd: bytes | None = None
    user: str | None = None
    privileged: bool = False


class Exec:
    """A process of it: at first on its way to its program, then running it.

    Whoever is in the container can hold up the way there (SIGSTOP), so nobody waits for it.
    """

    __slots__ = ("_beginning", "_life", "_on_exit", "_on_start", "_pidfd", "pid", "warnings")

    def __init__(
        self,
        life: Life,
        beginning: start.Beginning,
        on_start: Callable[[Exec, LaunchError | None], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self.pid = beginning.pid
        self.warnings: tuple[str, ...] = ()
        self._pidfd = beginning.pidfd
        self._life = life
        self._beginning = beginning
        self._on_start = on_start
        self._on_exit = on_exit
        beginning.let_go()
        life.loop.watch(beginning.fileno(), READ, self._heard)

    def _heard(self) -> None:
        loop, fd = self._life.loop, self._beginning.fileno()
        loop.forget(fd)
        try:
            started = self._beginning.hear()
        except LaunchError as error:
            self._pidfd = -1
            self._on_start(self, error)
            return
        if started is None:
            loop.watch(fd, READ, self._heard)
            return
        self.warnings = started.warnings
        self._on_start(self, None)
        loop.watch(self._pidfd, READ, self._exited)

    def _exited(self) -> None:
        found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if found is None:
            return
        self._life.loop.forget(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        killed = found.si_code != os.CLD_EXITED
        self._on_exit(found.si_status + (128 if killed else 0))

    def kill(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


def run(
    life: Life,
    wanted: Wanted,
    stdio: tuple[int, int, int],
    on_start: Callable[[Exec, LaunchError | None], None],
    on_exit: Callable[[int], None],
    terminal: int = -1,
) -> Exec:
    """Start a process in the container. `on_start` is called when it runs, or with the reason why
    it does not; where it does, `on_exit` is told its exit status.

    The descriptors stay the caller's. Raises LaunchError for what is known at once.
    """
    id = life.record.id[:12]
    if life.state == "paused":
        raise LaunchError("execute in container", id, "it is paused; unpause it first")
    if life.started is None or life.state != "running":
        raise LaunchError("execute in container", id, "it is not running")
    launch = launching.enter(life, life.started, wanted, stdio, terminal)
    words = b" ".join(wanted.args).decode(errors="replace")
    number = os.urandom(32).hex()

    def exited(code: int) -> None:
        life.note("exec_die", execID=number, exitCode=str(code))
        on_exit(code)

    life.note(f"exec_create: {words}", execID=number)

    def begun(made: Exec, error: LaunchError | None) -> None:
        if error is None:
            life.note(f"exec_start: {words}", execID=number)
        on_start(made, error)

    return Exec(life, start.begin(launch, life.group), begun, exited)
