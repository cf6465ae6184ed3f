# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a command writes: there when they are whole, and not at all otherwise."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from launcher.errors import LaunchError

__all__ = ["output_file"]


@contextlib.contextmanager
def output_file(path: bytes, what: str) -> Iterator[int]:
    """A descriptor to write to. The file takes its name at the end; a device or pipe is written to
    as it is. Raises LaunchError, "cannot `what` …".
    """
    special = os.path.exists(path) and not os.path.isfile(path)
    fresh = path if special else b"%s.%d.new" % (path, os.getpid())
    try:
        flags = os.O_WRONLY | os.O_CLOEXEC | (0 if special else os.O_CREAT | os.O_TRUNC)
        fd = os.open(fresh, flags, 0o666)
        try:
            yield fd
        finally:
            os.close(fd)
        if not special:
            os.rename(fresh, path)
    except BaseException as error:
        if not special:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
        if isinstance(error, OSError):
            raise LaunchError(what, path, error) from error
        raise
