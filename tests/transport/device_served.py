# SPDX-License-Identifier: GPL-3.0-or-later
"""`DeviceServed`: a test's hold on the daemon of `device_server`."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.support.clock import scaled, wait_until
from tests.support.daemon import environment
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, unmount_all


@dataclass(frozen=True)
class State:
    """What the daemon holds; `asked` counts requests by opcode.

    descriptors -- more than before the union was opened
    """

    nodes: int
    lookups: int
    files: int
    descriptors: int
    asked: dict[str, int]
    handles: int
    passthrough: bool
    backings: int
    stack_depth: int

    def __getitem__(self, opcode: str) -> int:
        return self.asked.get(opcode, 0)


@dataclass
class DeviceServed:
    """A union mounted on `layers.merged` by a child process.

    config, session, withhold, faults, held, user -- see `device_server`
    limit -- seconds after which the daemon is killed, which frees whoever waits for it
    expected_log -- parts of log lines that the test means to provoke
    """

    layers: Layers
    config: dict[str, Any] = field(default_factory=dict)
    session: dict[str, Any] = field(default_factory=dict)
    withhold: tuple[str, ...] = ()
    faults: dict[str, str] = field(default_factory=dict)
    held: Path | None = None
    limit: float = 60.0
    user: int | None = None
    expected_log: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.merged = self.layers.merged
        self.process: subprocess.Popen[bytes] | None = None
        self._finished = False
        self._directory = tempfile.TemporaryDirectory(prefix="lamina-served-")
        os.chmod(self._directory.name, 0o777)
        self._state = Path(self._directory.name, "state")
        self._log = Path(self._directory.name, "log")

    def start(self) -> DeviceServed:
        """Start it and return when the mount answers; AssertionError with its log if it ends."""
        reader, writer = os.pipe()
        defaults = {
            "lower": [str(self.layers.lower)],
            "upper": str(self.layers.upper),
            "work": str(self.layers.work),
        }
        asked: dict[str, Any] = {
            "config": {k: v for k, v in (defaults | self.config).items() if v is not None},
            "session": {"mountpoint": str(self.merged)} | self.session,
            "withhold": list(self.withhold),
            "faults": self.faults,
            "user": self.user,
            "state": str(self._state),
            "ready": writer,
        }
        if self.held is not None:
            asked["held"] = str(self.held)
        with self._log.open("wb") as log:
            guard = ["timeout", "--foreground", "-s", "KILL", f"{scaled(self.limit):g}"]
            server = [sys.executable, "-W", "error", "-m", "tests.transport.device_server"]
            self.process = subprocess.Popen(
                [*guard, *server, json.dumps(asked)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writer,),
                env=environment(),
            )
        os.close(writer)
        try:
            readable, _, _ = select.select([reader], [], [], scaled(30))
            if not readable or not os.read(reader, 1):
                raise AssertionError(f"not ready:\n{self.log()}")
        finally:
            os.close(reader)
        return self

    @property
    def pid(self) -> int:
        """The daemon's; the child is the timeout(1) above it."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(path.read_text().split()[0])

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def state(self) -> State:
        """What the daemon holds now."""
        self._state.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        wait_until(self._state.exists, "the daemon reports its state")
        return self.last_state()

    def last_state(self) -> State:
        """What it held when its session had ended and its union was closed."""
        return State(**json.loads(self._state.read_text()))

    def settled(self) -> State:
        """What it holds once every RELEASE has come in: the kernel does not wait for those."""
        wait_until(lambda: self.state().handles == 0, "all files are released")
        return self.last_state()

    def wait(self, status: int = 0) -> None:
        """Reap the daemon, which is ending."""
        assert self.process is not None
        result = self.process.wait(scaled(30))
        assert result == status, f"status {result}:\n{self.log()}"

    def stop(self) -> State:
        """End it by SIGTERM; what it held in the end."""
        os.kill(self.pid, signal.SIGTERM)
        self.wait()
        return self.last_state()

    def finish(self) -> None:
        """End the daemon; it must leave nothing mounted, open or unexpected in its log."""
        if self._finished:
            return
        self._finished = True
        process = self.process
        try:
            if process is not None and process.poll() is None:
                state = self.stop()
                assert (state.handles, state.files, state.descriptors) == (0, 0, 0), state
            assert mount_at(self.merged) is None, f"{self.merged} is still mounted"
            for line in self.log().splitlines():
                if not any(known in line for known in self.expected_log):
                    for sign in ("Traceback", "ERROR", "Warning", "Exception"):
                        assert sign not in line, self.log()
        finally:
            if process is not None and process.poll() is None:
                os.kill(self.pid, signal.SIGKILL)
                process.wait()
            unmount_all(self.merged)
            self._directory.cleanup()


class Start(Protocol):
    """The fixture `start`: mount a union, with the fields of `DeviceServed` as keywords."""

    def __call__(self, layers: Layers, **options: Any) -> DeviceServed: ...
