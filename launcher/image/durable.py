# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and trees on their way to the disc, several at once, while other work goes on.

A disc's cache is emptied, and a filesystem's journal written, for all who wait at that moment: what
is asked for together takes hardly longer than one file. What a kept file is called, and when, is
said in `layout` and `store`.
"""

from __future__ import annotations

import os
import stat

from launcher.sys import files
from launcher.typed import Final, Sequence
from unionfs.light import threading

__all__ = ["Flush"]

# Of a tree with more files than that the whole filesystem is written, others' files with it.
_FEW: Final = 64
_AT_ONCE: Final = 6


class Flush:
    """What was begun and is not known to be on the disc yet."""

    def __init__(self) -> None:
        self._pending: list[threading.Thread] = []
        self._much: bytes | None = None
        self._errors: list[OSError] = []

    def begin(self, *paths: bytes) -> None:
        """Have files and directories written that nobody changes any more."""
        for at in range(min(len(paths), _AT_ONCE)):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._start([os.open(path, flags) for path in paths[at::_AT_ONCE]])

    def begin_tree(self, root: bytes) -> None:
        """Have a directory written with all that is in it."""
        found = [root]
        kept = [root]
        for path in found:  # which grows
            with os.scandir(path) as listing:
                for entry in listing:
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if stat.S_ISDIR(mode):
                        found.append(entry.path)
                    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                        kept.append(entry.path)
            if len(kept) > _FEW:
                self._much = root  # once for all, at the end
                return
        self.begin(*kept)

    def finish(self) -> None:
        """Return when all that was begun is on the disc; the first OSError if it is not."""
        if self._much is not None:
            fd = os.open(self._much, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                files.syncfs(fd)
            finally:
                os.close(fd)
            self._much = None
        while self._pending:
            self._pending.pop().join()
        if self._errors:
            raise self._errors[0]

    def _start(self, fds: Sequence[int]) -> None:
        def run() -> None:
            for fd in fds:
                try:
                    os.fsync(fd)
                except OSError as error:
                    self._errors.append(error)
                os.close(fd)

        thread = threading.Thread(target=run, name="flush", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # as many threads as this user may have
            run()
        else:
            self._pending.append(thread)
