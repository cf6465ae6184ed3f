# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that carries out a plan on the union and keeps a log of what was acknowledged."""

from __future__ import annotations

import errno
import os
import struct
import traceback
from pathlib import Path

from tests.crash.plan import Step, perform

# What a caller gets when the daemon is gone: the connection was aborted, or is no more.
GONE = frozenset((errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.EINTR))

_COUNT = struct.Struct("<I")


class Writer:
    """One writer: its plan, the steps done so far, and its process while it runs.

    done   steps known to be complete
    log    a file outside the union; after each step the child appends the count of steps done
    """

    def __init__(self, name: str, steps: list[Step], log: Path) -> None:
        self.name = name
        self.steps = steps
        self.done = 0
        self.log = log
        self.failure = log.with_suffix(".failure")
        self._pid = 0

    def start(self, root: Path, progress: int) -> None:
        """Go on with the plan below `root`; each step done also writes a byte to `progress`."""
        self.log.write_bytes(b"")
        self._pid = os.fork()
        if self._pid:
            return
        status = 1
        try:
            self._work(root, progress)
            status = 0
        except BaseException:
            self.failure.write_text(traceback.format_exc())
        finally:
            os._exit(status)

    def _work(self, root: Path, progress: int) -> None:
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND)
        for count in range(self.done, len(self.steps)):
            try:
                perform(root / self.name, self.steps[count])
            except OSError as error:
                if error.errno in GONE:
                    return
                raise AssertionError(f"step {count}: {self.steps[count]}") from error
            os.write(log, _COUNT.pack(count + 1))
            os.write(progress, b".")

    def join(self) -> None:
        """Reap the process, which has come to its end or lost the daemon; `done` is up to date."""
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        assert status == 0, self.failure.read_text()
        data = self.log.read_bytes()
        if data:
            assert len(data) % _COUNT.size == 0
            self.done = _COUNT.unpack(data[-_COUNT.size :])[0]

    def stop(self) -> None:
        """End the process by force, if it runs; for failures."""
        if self._pid:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
            self._pid = 0
