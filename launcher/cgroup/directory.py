# SPDX-License-Identifier: GPL-3.0-or-later
"""One cgroup directory: its files read and written by name, its end waited for.

v1 and v2 share this much; what the files mean is said in `v1` and `v2`.
"""

from __future__ import annotations

import errno
import os
import time

from launcher.errors import LaunchError
from launcher.typed import Final
from unionfs.light import contextlib, signal

__all__ = ["Directory"]

# How long a removal waits for killed processes to be gone, and how often it looks. v1 has nothing
# to wait on; a killed process takes as long as its memory takes to be freed.
_PATIENCE: Final = 20.0
_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


class Directory:
    """A cgroup in one hierarchy, by its path."""

    __slots__ = ("path",)

    def __init__(self, path: bytes) -> None:
        self.path = path

    def create(self) -> None:
        """Make the directory; what is missing above it too."""
        try:
            os.mkdir(self.path, 0o755)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                Directory(self.path.rpartition(b"/")[0]).create()
            self.create()
        except FileExistsError:
            raise
        except OSError as error:
            raise LaunchError("create cgroup", self.path, error) from error

    def write(self, name: str, value: str) -> None:
        """Write one file; `LaunchError` names it and the value that was refused."""
        path = self.path + b"/" + name.encode()
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise LaunchError(f"write {value} to", path, error) from error

    def takes(self, name: str, value: str) -> bool:
        """`write`, for what the kernel may have no means for, although it offers the file."""
        try:
            self.write(name, value)
        except LaunchError as error:
            reason = error.__cause__
            if isinstance(reason, OSError) and reason.errno == errno.EOPNOTSUPP:
                return False
            raise
        return True

    def has(self, name: str) -> bool:
        """Whether the kernel offers a file here."""
        return os.access(self.path + b"/" + name.encode(), os.F_OK)

    def read(self, name: str) -> str:
        """One file's content; "" if there is no such file."""
        try:
            with open(self.path + b"/" + name.encode(), "rb") as file:
                return file.read().decode()
        except FileNotFoundError:
            return ""
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.EOPNOTSUPP):  # going away, or not for this one
                return ""
            raise

    def number(self, name: str) -> int | None:
        """A file of one number; None if there is none, or it says "max"."""
        text = self.read(name).strip()
        return int(text) if text.lstrip("-").isdigit() else None

    def table(self, name: str) -> dict[str, int]:
        """A file of lines "key number"."""
        pairs = (line.split() for line in self.read(name).splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}

    def below(self) -> list[Directory]:
        """The cgroups directly in this one, which the container may have made."""
        try:
            with os.scandir(self.path) as entries:
                return [Directory(entry.path) for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return []

    def pids(self) -> list[int]:
        """The processes in it and in all cgroups below."""
        found = [int(line) for line in self.read("cgroup.procs").split()]
        for each in self.below():
            found += each.pids()
        return found

    def signal_all(self, number: signal.Signals) -> bool:
        """Send a signal to all processes in it; whether there were any."""
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return bool(pids)

    def remove(self) -> None:
        """Kill what is left in it and remove it with all below; nothing to do if it is gone."""
        deadline = time.monotonic() + _PATIENCE
        pause = _PAUSE
        while not self._try_remove():
            if time.monotonic() > deadline:
                raise LaunchError("remove cgroup", self.path, f"processes {self.pids()} do not end")
            self.signal_all(signal.SIGKILL)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _try_remove(self) -> bool:
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise LaunchError("remove cgroup", self.path, error) from error
        else:
            return True
        removed = True
        for each in self.below():
            removed = each._try_remove() and removed
        if not removed:
            return False
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True
