# SPDX-License-Identifier: GPL-3.0-or-later
"""`Served`: a test's hold on the daemon of `pyfuse_server`."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.support.clock import scaled, wait_until
from tests.support.daemon import environment
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, unmount_all
from tests.transport import pyfuse_server

SERVER = "tests.transport.pyfuse_server"


@dataclass(frozen=True)
class State:
    """What the daemon holds (living nodes, lookup counts, …), and which verbs were asked."""

    nodes: int
    lookups: int
    files: int
    descriptors: int
    asked: dict[str, int]

    def __getitem__(self, verb: str) -> int:
        return self.asked.get(verb, 0)


class Process(Protocol):
    """What is needed of a `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Forked:
    """A child that is waited for by its process id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        wait_until(lambda: self.poll() is not None, f"process {self.pid} ends", timeout or 30.0)
        assert self._status is not None
        return self._status


@dataclass
class Served:
    """A union mounted on `layers.merged` by a child process.

    config, session, faults, held -- see `pyfuse_server`
    limit -- seconds after which the daemon is killed, which frees whoever waits for it
    user  -- as whom the daemon runs
    """

    layers: Layers
    config: dict[str, Any] = field(default_factory=dict)
    session: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    held: Path | None = None
    limit: float = 60.0
    user: int | None = None
    expected_log: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.merged = self.layers.merged
        self.process: Process | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="lamina-served-")
        os.chmod(self._directory.name, 0o777)
        self._state = Path(self._directory.name, "state")
        self._log = Path(self._directory.name, "log")

    def start(self) -> Served:
        reader, writer = os.pipe()
        defaults = {
            "lower": [str(self.layers.lower)],
            "upper": str(self.layers.upper),
            "work": str(self.layers.work),
        }
        asked: dict[str, Any] = {
            "config": {k: v for k, v in (defaults | self.config).items() if v is not None},
            "session": {"mountpoint": str(self.merged)} | self.session,
            "faults": self.faults,
            "state": str(self._state),
            "ready": writer,
            "limit": int(scaled(self.limit)),
        }
        if self.held is not None:
            asked["held"] = str(self.held)
        if self.user is None:
            self.process = self._spawned(asked)
        else:
            self.process = self._forked(asked, self.user)
        os.close(writer)
        try:
            readable, _, _ = select.select([reader], [], [], scaled(30))
            if not readable or not os.read(reader, 1):
                raise AssertionError(f"not ready:\n{self.log()}")
        finally:
            os.close(reader)
        return self

    def _spawned(self, asked: dict[str, Any]) -> Process:
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-W", "error", "-m", SERVER, json.dumps(asked)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(asked["ready"],),
                env=environment(),
            )

    def _forked(self, asked: dict[str, Any], user: int) -> Process:
        """The same as somebody who perhaps may not read the interpreter's files."""
        pid = os.fork()
        if pid:
            return Forked(pid)
        status = 1
        try:
            log = os.open(self._log, os.O_CREAT | os.O_WRONLY, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            # Dumpable again, or /proc/self belongs to root (PR_SET_DUMPABLE(2const)).
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
            status = pyfuse_server.main(asked)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def state(self) -> State:
        """What the daemon holds now."""
        self._state.unlink(missing_ok=True)
        self.signal(signal.SIGUSR1)
        wait_until(self._state.exists, "the daemon reports its state")
        return self.last_state()

    def last_state(self) -> State:
        """What it held when its session had ended."""
        return State(**json.loads(self._state.read_text()))

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def wait(self, status: int = 0) -> None:
        """Reap the daemon, which is ending."""
        assert self.process is not None
        result = self.process.wait(scaled(30))
        assert result == status, f"status {result}:\n{self.log()}"

    def finish(self) -> None:
        """End the daemon; it must leave nothing mounted and have logged nothing unexpected."""
        process = self.process
        try:
            if process is not None and process.poll() is None:
                self.signal(signal.SIGTERM)
                self.wait()
            assert mount_at(self.merged) is None, f"{self.merged} is still mounted"
            for line in self.log().splitlines():
                if not any(known in line for known in self.expected_log):
                    for sign in ("Traceback", "ERROR", "Warning", "Exception"):
                        assert sign not in line, self.log()
        finally:
            if process is not None and process.poll() is None:
                self.signal(signal.SIGKILL)
                process.wait()
            unmount_all(self.merged)
            self._directory.cleanup()
