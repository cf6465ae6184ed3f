# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina create`: makes a container of an image and prints its id; nothing runs yet."""

from __future__ import annotations

import os
import time

from launcher import containers
from launcher.cli.context import Context
from launcher.errors import LaunchError
from launcher.options import FLAGS, record_of
from launcher.record import Record
from launcher.typed import Iterator
from unionfs import Arguments, Command, UsageError
from unionfs.light import contextlib

__all__ = ["COMMAND", "create", "run"]

COMMAND = Command(
    "lamina create",
    "[OPTION…] IMAGE [COMMAND [ARGUMENT…]]",
    "make a container of an image, for `lamina start`",
    FLAGS,
    ordered=True,
)


def run(arguments: Arguments, context: Context) -> int:
    """Make the container and print its id; returns the exit status."""
    record = create(arguments, context)
    print(record.id)
    return 0


def create(arguments: Arguments, context: Context) -> Record:
    """The container that the words ask for, made and entered, its id in `--cidfile`.

    Raises LaunchError and UsageError; then there is no container, and no such file.
    """
    from launcher import image
    from launcher.image import layout

    if not arguments.operands:
        raise UsageError("create a container", "", "no image is named")
    reference = os.fsdecode(arguments.operands[0])
    context.paths.ensure()
    # Held against who throws layers away, until the container is known to stand on them.
    with _id_file(arguments) as fd, layout.hold(context.paths, alone=False):
        found = image.find(context.paths, reference)
        record = record_of(arguments, context, found, time.time_ns())
        record = containers.create(context.paths, record)
        if fd >= 0:
            os.write(fd, record.id.encode())
    return record


@contextlib.contextmanager
def _id_file(arguments: Arguments) -> Iterator[int]:
    """A new file for the id, or -1; it is taken away again where no container comes of it."""
    path = arguments.one("--cidfile")
    if path is None:
        yield -1
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LaunchError("write container id to", path, error) from error
    try:
        yield fd
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
