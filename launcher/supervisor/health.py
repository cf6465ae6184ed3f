# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks: a command run in the container now and then, and what its results amount to.

docker's rules: a container is `starting` until the first check succeeds; so many failures in a row
(`retries`) make it `unhealthy`, one success `healthy`; failures within the start period do not
count. The last results lie beside the runtime directory's running.json, as docker's inspect shows
them.
"""

from __future__ import annotations

import os
import time

from launcher.errors import LaunchError
from launcher.image.model import Health
from launcher.supervisor import execs
from launcher.supervisor.life import Life
from launcher.supervisor.loop import READ, Timer
from launcher.typed import Final
from unionfs.light import contextlib, json

__all__ = ["FILE", "begin"]

FILE: Final = b"health.json"

_SECOND: Final = 1_000_000_000
_INTERVAL: Final = 30 * _SECOND
_TIMEOUT: Final = 30 * _SECOND
_START_INTERVAL: Final = 5 * _SECOND
_RETRIES: Final = 3
_KEPT: Final = 5
_LONGEST: Final = 4096
_TIMED_OUT: Final = -1


def begin(life: Life) -> None:
    """Check the health of the container from now on until its run ends."""
    described = life.record.health
    if described is None or not described.test or described.test[0] == "NONE":
        return
    _Checks(life, described)


class _Checks:
    """The checks of one run."""

    def __init__(self, life: Life, described: Health) -> None:
        self._life = life
        self._described = described
        self._began = time.monotonic_ns()
        self._streak = 0
        self._results: list[dict[str, object]] = []
        self._running: execs.Exec | None = None
        self._pipe = -1
        self._output = b""
        self._timer: Timer | None = None
        self._timed_out = False
        life.on_end.append(self._end)
        life.health = "starting"
        self._report()
        self._later()

    def _starting(self) -> bool:
        elapsed = time.monotonic_ns() - self._began
        return self._life.health == "starting" and elapsed < self._described.start_period

    def _later(self) -> None:
        pause = self._described.interval or _INTERVAL
        if self._starting():
            pause = min(pause, self._described.start_interval or _START_INTERVAL)
        self._life.after("health", pause / _SECOND, self._check)

    def _check(self) -> None:
        life = self._life
        if life.state != "running":  # paused: nothing can be said
            self._later()
            return
        test = self._described.test
        words = ("/bin/sh", "-c", test[1]) if test[0] == "CMD-SHELL" else test[1:]
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        os.set_blocking(writer, True)
        self._output = b""
        self._timed_out = False
        self._start = time.time_ns()
        try:
            wanted = execs.Wanted(tuple(os.fsencode(each) for each in words))
            streams = (null, writer, writer)
            self._running = execs.run(life, wanted, streams, self._begun, self._exited)
        except LaunchError as error:
            os.close(reader)
            self._output = str(error).encode()
            self._judge(error.status)
            return
        finally:
            os.close(writer)
            os.close(null)
        self._pipe = reader
        life.loop.watch(reader, READ, self._read)
        seconds = (self._described.timeout or _TIMEOUT) / _SECOND
        self._timer = life.loop.after(seconds, self._give_up)

    def _read(self) -> None:
        try:
            content = os.read(self._pipe, _LONGEST)
        except BlockingIOError:
            return
        if not content:
            self._close()
            return
        self._output = (self._output + content)[:_LONGEST]

    def _begun(self, made: execs.Exec, error: LaunchError | None) -> None:
        if error is not None:
            self._output = str(error).encode()
            self._exited(error.status)

    def _give_up(self) -> None:
        self._timed_out = True
        if self._running is not None:
            self._running.kill()

    def _close(self) -> None:
        if self._pipe >= 0:
            self._life.loop.forget(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def _exited(self, code: int) -> None:
        self._running = None
        if self._timer is not None:
            self._timer.cancel()
        while self._pipe >= 0:
            before = self._output
            self._read()
            if self._output == before:
                break
        self._close()
        if self._timed_out:
            seconds = (self._described.timeout or _TIMEOUT) / _SECOND
            self._output = b"Health check exceeded timeout (%gs)" % seconds
            code = _TIMED_OUT
        if self._life.started is not None:
            self._judge(code)

    def _judge(self, code: int) -> None:
        life = self._life
        before = life.health
        if code == 0:
            self._streak = 0
            life.health = "healthy"
        elif not self._starting():
            self._streak += 1
            if self._streak >= (self._described.retries or _RETRIES):
                life.health = "unhealthy"
        self._results.append(
            {
                "Start": self._start,
                "End": time.time_ns(),
                "ExitCode": code,
                "Output": self._output.decode(errors="replace"),
            }
        )
        del self._results[:-_KEPT]
        self._report()
        if life.health != before:
            life.note(f"health_status: {life.health}")
        self._later()

    def _report(self) -> None:
        life = self._life
        life.set_state(life.state)
        path = life.paths.runtime(life.record.id) + b"/" + FILE
        content = {"FailingStreak": self._streak, "Log": self._results, "Status": life.health}
        with contextlib.suppress(OSError):
            fd = os.open(path + b".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(fd, "wb") as file:
                file.write(json.dumps(content).encode())
            os.rename(path + b".new", path)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._close()
