# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina import`: a directory or an archive of a whole tree → an image of one layer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from launcher import events
from launcher.errors import LaunchError
from launcher.image import changes, config, pack
from launcher.image.reference import tagged
from launcher.image.store import Adding, Layer, Store
from launcher.image.tar import Damaged
from launcher.image.tarwrite import Writer
from launcher.paths import Paths
from launcher.rfc3339 import rfc3339
from launcher.typed import NamedTuple

__all__ = ["Imported", "import_image"]


class Imported(NamedTuple):
    """The new image's id, 64 hex digits; and what could not be kept."""

    id: str
    notes: tuple[str, ...]


def import_image(
    paths: Paths,
    source: bytes,
    name: str | None,
    instructions: Sequence[str] = (),
    message: str = "",
    watch: Callable[[int, int], None] | None = None,
) -> Imported:
    """Make an image of a directory, a tar archive (compressed or not), or b"-", standard input.

    name  -- REPOSITORY[:TAG], or None
    watch -- told how many bytes were read, and of how many (0: not known)
    Raises LaunchError; the store is then as it was.
    """
    names = [] if name is None else [tagged(name)]
    settings = changes.apply({}, list(instructions))
    config.read({"config": settings})
    try:
        with Store(paths) as store, store.adding() as adding:
            layer = _layer(adding, source, watch)
            now = time.time_ns()
            where = "standard input" if source == b"-" else os.fsdecode(os.path.basename(source))
            said = message or f"Imported from {ascii(where)[1:-1]}"
            history = [{"created": rfc3339(now), "comment": said}]
            document = config.new(settings, [layer.diff_id], now, history, comment=said)
            id = adding.image(document, [layer], names)
            events.note_image(paths, "import", id, names[0] if names else "")
            return Imported(id, tuple(adding.notes))
    except (Damaged, OSError) as error:
        reason = error if isinstance(error, OSError) else str(error)
        raise LaunchError("import", source, reason) from error


def _layer(adding: Adding, source: bytes, watch: Callable[[int, int], None] | None) -> Layer:
    if source == b"-":
        return adding.receive(_reading(0, 0, watch))
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(source, flags)
    try:
        if not os.path.isdir(fd):
            os.set_blocking(fd, True)
            return adding.receive(_reading(fd, os.fstat(fd).st_size, watch))

        def fill(writer: Writer) -> None:
            adding.notes.update(dict.fromkeys(pack.pack(fd, writer).notes))

        return adding.write(fill)
    finally:
        os.close(fd)


def _reading(
    fd: int, size: int, watch: Callable[[int, int], None] | None
) -> Callable[[int], bytes]:
    if watch is None:
        return lambda length: os.read(fd, length)
    total = 0

    def read(length: int) -> bytes:
        nonlocal total
        piece = os.read(fd, length)
        total += len(piece)
        watch(total, size)
        return piece

    return read
