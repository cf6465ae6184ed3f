# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers written down as the other rooms write them, and commands that look at them."""

from __future__ import annotations

import io
import os
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple
from unittest import mock

from launcher import cli, runtime
from launcher.paths import Paths
from launcher.record import Record, save
from launcher.runtime import Running
from launcher.state import State

SECOND = 10**9
IMAGE_ID = "1a" * 32


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Made:
    """A root of one's own. `now` is the time that containers are made relative to."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.now = time.time_ns()
        self._locks: dict[str, int] = {}

    def record(self, number: int, name: str, age: int = 60, **fields: Any) -> Record:
        """A container `age` seconds old, whose id is `number` in hex digits, repeated."""
        given: dict[str, Any] = {
            "id": f"{number:04x}" * 16,
            "image": "busybox",
            "image_id": IMAGE_ID,
            "layers": (b"/nonexistent/layer",),
            "args": (b"sh", b"-c", b"echo hello; sleep 5"),
            "created": self.now - age * SECOND,
        }
        return Record(name=name, **(given | fields))

    def add(self, number: int, name: str, age: int = 60, **fields: Any) -> Record:
        record = self.record(number, name, age, **fields)
        os.makedirs(self.paths.container(record.id) + b"/upper", exist_ok=True)
        save(self.paths, record)
        with State(self.paths) as state:
            state.add(record)
        return record

    def start(self, record: Record, age: int = 30, state: str = "running", **fields: Any) -> None:
        """Say that it runs since `age` seconds ago."""
        when = self.now - age * SECOND
        if record.id not in self._locks:
            self._locks[record.id] = runtime.claim(self.paths, record.id)
            with State(self.paths) as rows:
                rows.started(record.id, when)
        given = {"pid": os.getpid(), "supervisor": os.getpid(), "started": when} | fields
        runtime.report(self.paths, record.id, Running(state, **given))

    def end(self, record: Record, age: int = 10, exit_code: int = 0, **fields: Any) -> None:
        """Say that it ended `age` seconds ago."""
        if record.id not in self._locks:
            self.start(record, age + 1)
        with State(self.paths) as state:
            state.finished(record.id, self.now - age * SECOND, exit_code, **fields)
        self.leave(record)

    def leave(self, record: Record) -> None:
        """Let go of it as a supervisor that is killed does."""
        os.close(self._locks.pop(record.id))

    def clear(self, record: Record) -> None:
        """What a supervisor does at its very end."""
        runtime.clear(self.paths, record.id)

    def close(self) -> None:
        for lock in self._locks.values():
            os.close(lock)

    def lamina(self, *words: str) -> Ended:
        """Run a command in this process."""
        out, err = _Captured(), _Captured()
        argv = ["lamina", "--root", os.fsdecode(self.paths.root), *words]
        with mock.patch("sys.argv", argv), redirect_stdout(out), redirect_stderr(err):
            status = cli.main()
        return Ended(status, out.text(), err.text())


class _Captured(io.TextIOWrapper):
    def __init__(self) -> None:
        self.content = io.BytesIO()
        super().__init__(self.content, encoding="utf-8", errors="surrogateescape")

    def text(self) -> str:
        self.flush()
        return self.content.getvalue().decode()
