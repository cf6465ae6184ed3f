# SPDX-License-Identifier: GPL-3.0-or-later
"""Children of the bench: each in a session of its own, with a time limit, and gone afterwards.

A session of its own keeps a Ctrl-C at the terminal from them: the bench decides when they end.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import clock_gettime_ns, perf_counter_ns

PROC = Path("/proc")
_CPUCLOCK_SCHED = 2
QUIET = {
    "LC_ALL": "C.UTF-8",
    "PATH": os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin",
}


class CommandFailed(Exception):
    """A command could not be started or ended with an error; the text is its last complaint."""


class TookTooLong(Exception):
    """A command was killed because its time was over."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left behind: its wall time in ns and its standard output."""

    ns: int
    output: str


def complaint(text: str) -> str:
    """The line of a command's standard error that says what went wrong: the last one, but for
    mount(8)'s advice behind it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("dmesg(1)")]
    return lines[-1] if lines else ""


def run(
    argv: Sequence[str],
    *,
    seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run a command to its end and take its time; raises CommandFailed or TookTooLong."""
    with tempfile.TemporaryFile() as errors:
        start = perf_counter_ns()
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=cwd,
                env={**os.environ, **QUIET, **(env or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(f"{argv[0]}: {os.strerror(error.errno or 0)}") from None
        try:
            output, _ = child.communicate(timeout=seconds)
            ns = perf_counter_ns() - start
        except subprocess.TimeoutExpired:
            raise TookTooLong(f"{argv[0]}: no end in {seconds:g} s") from None
        finally:
            if child.returncode is None:
                end_group(child)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if child.returncode != 0:
        status = f"exit status {child.returncode}"
        if child.returncode < 0:
            status = signal.Signals(-child.returncode).name
        raise CommandFailed(complaint(said) or f"{argv[0]}: {status}")
    return Finished(ns, output.decode(errors="replace"))


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a child with all that it started in its session, and reap it."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        # A process held by a dead mount ends when the session aborts that mount.
        child.wait(timeout=5)
    if child.stdout is not None:
        child.stdout.close()


def serving(directory: Path) -> list[int]:
    """Processes that name a path below `directory` in their command line: the daemons of a peer,
    also where the mount command has put itself into the background."""
    mark = os.fsencode(directory)
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if mark in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def gone(pids: Sequence[int], seconds: float) -> bool:
    """Wait for the processes to end, at most `seconds` for each; False if one of them lives on."""
    all_gone = True
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        # A pidfd turns readable when its process ends.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        try:
            all_gone &= bool(poll.poll(seconds * 1000))
        finally:
            os.close(descriptor)
    return all_gone


def resident(pids: Sequence[int]) -> int:
    """Anonymous memory of the processes together, in bytes (proc_pid_smaps(5), the roll-up)."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Anonymous:"):
                    total += int(line.split()[1]) * 1024
    return total


def cpu_ns(pids: Sequence[int]) -> int:
    """CPU time that the processes have used, in ns, to the ns (clock_getcpuclockid(3))."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED)
    return total
