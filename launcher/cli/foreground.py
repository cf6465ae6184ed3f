# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a container before the user's eyes: what `run` and `start --attach` have in common."""

from __future__ import annotations

import os
import sys

from launcher import console, lifecycle
from launcher.cli.context import Context
from launcher.control import Connection
from launcher.errors import LaunchError
from launcher.lifecycle import Attachment
from launcher.record import Record
from launcher.starting import Starting

__all__ = ["check_terminal", "conclude", "detach_keys", "run_attached", "run_detached", "warn"]


def warn(warnings: list[str]) -> None:
    """What a container had to do without, a line each."""
    for each in warnings:
        sys.stderr.write(f"lamina: warning: {each}\n")
    sys.stderr.flush()


def detach_keys(given: bytes | None, record: Record) -> bytes:
    """The keys that detach: this command's, the container's, or docker's."""
    text = os.fsdecode(given) if given is not None else record.detach_keys
    return console.parse_keys(text or console.DETACH_KEYS)


def check_terminal(record: Record, *, stdin: bool) -> None:
    """docker's rule: a terminal takes its input from a terminal."""
    if record.tty and stdin and not os.isatty(0):
        raise LaunchError("attach to container", record.name, "the input is not a terminal", 1)


def run_detached(context: Context, record: Record, starting: Starting) -> None:
    """Start a container and leave it running."""
    go = lifecycle.prepare(context.paths, record, starting, Attachment())
    with go.connection:
        warn(go.let())


def run_attached(
    context: Context,
    record: Record,
    starting: Starting,
    outputs: tuple[str, ...],
    *,
    stdin: bool,
    sig_proxy: bool,
    keys: bytes,
) -> int:
    """Start a container and be attached to it until it ends; the exit status for this command."""
    size = console.window_size(1) if os.isatty(1) else console.window_size(0)
    go = lifecycle.prepare(context.paths, record, starting, Attachment(outputs, stdin, size))

    def begin() -> None:
        warn(go.let())

    ended = console.attend(
        go.connection, stdin=stdin, tty=record.tty, sig_proxy=sig_proxy, keys=keys, begin=begin
    )
    return conclude(context, record, go.connection, ended)


def conclude(context: Context, record: Record, connection: Connection, ended: console.Ended) -> int:
    """The exit status of a command that was attached, once all is entered."""
    if ended.exit is None:
        connection.close()
        if ended.lost:
            raise LaunchError("follow container", record.name, "its supervisor was killed", 125)
        return 0
    lifecycle.conclude(context.paths, record.id, connection, ended.exit)
    return int(ended.exit["code"])
