# SPDX-License-Identifier: GPL-3.0-or-later
"""One mounted union and the daemon that serves it, from start to reaping."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.clock import scaled
from tests.support.mounttable import mount_at, unmount_all

REPOSITORY = Path(__file__).resolve().parents[2]

Option = str | int | bool


def command(*arguments: str) -> list[str]:
    """The argument vector that runs `lamina ARGUMENTS`.

    With this interpreter and this checkout, unless LAMINA_TEST_COMMAND names another command.
    """
    other = os.environ.get("LAMINA_TEST_COMMAND")
    if other:
        return [*shlex.split(other), *arguments]
    return [sys.executable, "-X", "faulthandler", "-m", "unionfs", *arguments]


def environment() -> dict[str, str]:
    """The environment in which `command` finds this checkout."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path}


def option_text(options: Mapping[str, Option]) -> str:
    """`-o` text: True as the bare name, False left out, other values as NAME=VALUE."""
    words = []
    for name, value in options.items():
        if value is True:
            words.append(name)
        elif value is not False:
            words.append(f"{name}={value}")
    return ",".join(words)


class Daemon:
    """`lamina mount -f` as a child process.

    merged   the mount point
    log      what it printed so far is `read_log()`
    expected_log  substrings of log lines that the test means to provoke
    """

    def __init__(
        self,
        merged: Path,
        lowers: Sequence[Path | bytes],
        upper: Path | None,
        work: Path | None,
        transport: str,
        options: Mapping[str, Option],
        limit: float = 120.0,
    ) -> None:
        self.merged = merged
        self.transport = transport
        self.expected_log: list[str] = []
        self._log = tempfile.NamedTemporaryFile(prefix="lamina-log-")  # noqa: SIM115
        arguments = ["mount", "-f", "--transport", transport]
        for lower in lowers:
            arguments += ["--lower", os.fsdecode(lower)]
        if upper is not None:
            arguments += ["--upper", str(upper)]
        if work is not None:
            arguments += ["--work", str(work)]
        text = option_text(options)
        if text:
            arguments += ["-o", text]
        self.arguments = [*arguments, str(merged)]
        self.limit = limit
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def start(self) -> None:
        """Mount, and return when the daemon says that it is ready.

        The daemon runs under timeout(1): a request that is never answered blocks the test in the
        kernel, and only the daemon's end frees it.
        """
        assert self._process is None
        reader, writer = os.pipe()
        try:
            words = command("mount", "--ready-fd", str(writer), *self.arguments[1:])
            guard = ["timeout", "--foreground", "-s", "KILL", f"{scaled(self.limit):g}"]
            self._process = subprocess.Popen(
                guard + words,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(writer,),
                env=environment(),
            )
        finally:
            os.close(writer)
        try:
            readable, _, _ = select.select([reader], [], [], scaled(30))
            if not readable or not os.read(reader, 1):
                why = "ended" if readable else "said nothing in time"
                self.discard()
                raise AssertionError(f"the daemon {why} before it was ready:\n{self.read_log()}")
        finally:
            os.close(reader)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self.pid = int(children.read_text().split()[0])

    def read_log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    @property
    def mounted(self) -> bool:
        return mount_at(self.merged) is not None

    @property
    def alive(self) -> bool:
        return self._process is not None and Path(f"/proc/{self.pid}").exists()

    def stop(self) -> None:
        """End the daemon with SIGTERM; it must unmount and exit with status 0."""
        assert self.alive, f"the daemon had died:\n{self.read_log()}"
        os.kill(self.pid, signal.SIGTERM)
        self.wait_exit(0)

    def wait_exit(self, status: int | None = None) -> int:
        """Reap the daemon, which is about to end by itself or by `umount`."""
        assert self._process is not None
        try:
            result = self._process.wait(scaled(20))
        except subprocess.TimeoutExpired:
            self.discard()
            raise AssertionError(f"the daemon did not end in time:\n{self.read_log()}") from None
        self._process = None
        assert status is None or result == status, (
            f"the daemon ended with status {result}:\n{self.read_log()}"
        )
        assert status is None or not self.mounted, f"{self.merged} is still mounted"
        return result

    def kill(self) -> None:
        """SIGKILL, and reap. The dead mount stays, as after a crash."""
        assert self._process is not None
        os.kill(self.pid, signal.SIGKILL)
        self.wait_exit()

    def restart(self) -> None:
        """Stop cleanly and mount the same layers again."""
        self.stop()
        self.start()

    def check_log(self) -> None:
        """No traceback and no warning of the interpreter, but those the test announced."""
        for line in self.read_log().splitlines():
            if any(known in line for known in self.expected_log):
                continue
            for sign in ("Traceback", "ResourceWarning", "Exception ignored", "Fatal Python"):
                assert sign not in line, f"unexpected in the daemon's log:\n{self.read_log()}"

    def discard(self) -> None:
        """End the daemon and its mount by force; for failures and for the end of a test."""
        process, self._process = self._process, None
        if process is not None:
            if self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
        unmount_all(self.merged)

    def finish(self) -> None:
        """What every test's end checks: a clean exit where the daemon runs, and a quiet log."""
        try:
            if self._process is not None:
                self.stop()
            assert not self.mounted, f"{self.merged} was left mounted"
            self.check_log()
        finally:
            self.discard()
            self._log.close()


def smaps_bytes(pid: int, field: str = "Pss") -> int:
    """A process's memory, in bytes, by one field of /proc/PID/smaps_rollup (proc(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no field {field} in smaps_rollup")


def wait_gone(pid: int) -> None:
    """Return when no process has this id any more."""
    deadline = time.monotonic() + scaled(10)
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.005)
