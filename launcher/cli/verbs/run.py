# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina run`: makes a container of an image, starts it, and stays with it until it ends."""

from __future__ import annotations

from launcher import containers
from launcher.cli import foreground
from launcher.cli.context import Context
from launcher.cli.verbs.create import create
from launcher.errors import LaunchError
from launcher.options import RUN_FLAGS
from launcher.record import Record
from launcher.state import State
from unionfs import Arguments, Command, UsageError
from unionfs.light import contextlib

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina run",
    "[OPTION…] IMAGE [COMMAND [ARGUMENT…]]",
    "run a command in a new container",
    RUN_FLAGS,
    ordered=True,
)


def run(arguments: Arguments, context: Context) -> int:
    """Run the container; returns its exit status, or 0 at once with `--detach`."""
    starting = context.starting
    assert starting is not None
    detached = arguments.has("--detach")
    if detached and arguments.has("--attach"):
        raise UsageError("run a container", "--attach", "it is not for a detached one")
    # Whenever its last connection is closed SQLite waits for the disc several times over, which its
    # journal makes needless: this one is never closed.
    context.kept.append(State(context.paths))
    record = create(arguments, context)
    stdin = _takes_input(record) and not detached
    try:
        if detached:
            foreground.run_detached(context, record, starting)
            print(record.id)
            return 0
        foreground.check_terminal(record, stdin=stdin)
        return foreground.run_attached(
            context,
            record,
            starting,
            _outputs(record),
            stdin=stdin,
            sig_proxy=arguments.has("--sig-proxy"),
            keys=foreground.detach_keys(arguments.one("--detach-keys"), record),
        )
    except LaunchError:
        if record.auto_remove:
            _remove(context, record)
        raise


def _takes_input(record: Record) -> bool:
    return record.interactive and (not record.attach or "stdin" in record.attach)


def _outputs(record: Record) -> tuple[str, ...]:
    return tuple(each for each in record.attach if each != "stdin") or (
        () if record.attach else ("stdout", "stderr")
    )


def _remove(context: Context, record: Record) -> None:
    """With `--rm` what did not start does not stay."""
    with contextlib.suppress(LaunchError):
        with State(context.paths) as state:
            row = state.row(record.id)
        containers.discard(context.paths, row, volumes=True)
