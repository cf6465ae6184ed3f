# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to containers while they live: start, stop, kill, restart, pause, wait, exec.

Each function takes an `Entry` and raises LaunchError, naming the container. The work is the
supervisor's; here it is asked for. `launcher.containers` makes and removes containers.
"""

from __future__ import annotations

import time

from launcher import control, record, runtime
from launcher.control import Connection
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.record import Record
from launcher.starting import Starting, begin
from launcher.state import Entry, State
from launcher.supervisor import ending, frames, undertaker
from launcher.typed import Any, Callable, Final, NamedTuple

__all__ = [
    "STREAMS",
    "Attachment",
    "conclude",
    "kill",
    "pause",
    "restart",
    "start",
    "stop",
    "unpause",
    "wait",
]

# How long clearing up behind a killed supervisor may take, and how often it is looked at (s).
_BURIAL: Final = 20.0
_PAUSE: Final = 0.02

STREAMS: Final = {"stdout": frames.STDOUT, "stderr": frames.STDERR}


class Attachment(NamedTuple):
    """What of a container's streams a client wants: names of output, whether it gives input, and
    how large its terminal is.
    """

    outputs: tuple[str, ...] = ()
    stdin: bool = False
    size: tuple[int, int] = (0, 0)

    def fields(self) -> dict[str, Any]:
        return {
            "streams": [STREAMS[each] for each in self.outputs],
            "stdin": self.stdin,
            "size": list(self.size),
        }


class Go(NamedTuple):
    """A container that is prepared. `let` lets it run, and gives its warnings."""

    connection: Connection
    let: Callable[[], list[str]]


def prepare(paths: Paths, described: Record, starting: Starting, attachment: Attachment) -> Go:
    """Have a container prepared by a supervisor that has none yet.

    `Go.let` starts it; both raise LaunchError, with the container as it was before.
    """
    id = described.id
    try:
        starting.prepare(
            {
                "root": paths.root.decode("utf-8", "surrogateescape"),
                "run": paths.run.decode("utf-8", "surrogateescape"),
                "record": record.encode(described).decode(),
                **attachment.fields(),
            }
        )
    except BaseException:
        starting.abandon()
        raise

    def let() -> list[str]:
        before = None
        try:
            starting.ready()  # it holds the lock from here on: the row is this start's to change
            when = time.time_ns()
            with State(paths) as state:
                before = state.row(id)
                state.started(id, when)
            _, warnings = starting.go(when)
        except LaunchError as error:
            if before is not None or not runtime.alive(paths, id):
                with State(paths) as state:
                    state.failed(before or state.row(id), error.status, str(error))
            starting.abandon()
            # Where it was killed before it had an undertaker.
            undertaker.tidy(paths, id)
            raise
        return warnings

    return Go(starting.connection, let)


def start(paths: Paths, entry: Entry, starting: Starting | None = None) -> list[str]:
    """Start a container that does not run, in the background; what it had to do without."""
    described = startable(paths, entry)
    if described is None:
        if starting is not None:
            starting.abandon()
        return []
    go = prepare(paths, described, starting or begin(), Attachment())
    with go.connection:
        return go.let()


def startable(paths: Paths, entry: Entry) -> Record | None:
    """The record of a container that is about to be started; None if it runs already."""
    row = entry.row
    if row.removing:
        raise LaunchError("start container", row.name, "it is being removed")
    if entry.running is not None:
        if entry.running.state == "paused":
            raise LaunchError("start container", row.name, "it is paused; unpause it instead")
        return None
    undertaker.tidy(paths, row.id)
    return record.load(paths, row.id)


def conclude(paths: Paths, id: str, connection: Connection, exited: dict[str, Any]) -> None:
    """Enter the end of a run that this process began, where its supervisor leaves that to it, and
    return when nothing of the run is left.
    """
    if exited.get("write"):
        end = ending.End(
            exited["when"],
            exited["code"],
            exited["oom"],
            exited["stopped"],
            exited["error"],
        )
        ending.note(paths, id, end, removing=exited["removing"])
        if exited["removing"]:
            connection.answer()  # everything is unmounted
            ending.remove(paths, id)
        connection.ask("written")
    connection.finish()


def _ask(paths: Paths, entry: Entry, what: str, verb: str, **fields: Any) -> dict[str, Any]:
    row = entry.row
    if entry.running is None:
        raise LaunchError(what, row.name, "it is not running")
    with control.connect(paths, row.id) as connection:
        try:
            return connection.request(verb, **fields)
        except LaunchError as error:
            if runtime.alive(paths, row.id):
                raise
            raise LaunchError(what, row.name, "it is not running") from error


def stop(
    paths: Paths, entry: Entry, timeout: int | None = None, signal_number: int | None = None
) -> None:
    """Stop a container and return when it has ended; nothing to do if it does not run.

    `timeout`: seconds until it is killed, -1 for ever, None as the container was told; the signal
    likewise.
    """
    id = entry.row.id
    deadline = time.monotonic() + _BURIAL
    while runtime.alive(paths, id):
        try:
            with control.connect(paths, id) as connection:
                connection.request("stop", timeout=timeout, signal=signal_number)
                connection.finish()
        except LaunchError:
            # Somebody clears up behind a supervisor that was killed; there is nothing to wait on.
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
    undertaker.tidy(paths, id)


def kill(paths: Paths, entry: Entry, signal_number: int) -> None:
    """Send a signal to a container's first process; SIGKILL ends all of them."""
    _ask(paths, entry, "kill container", "kill", signal=signal_number)


def restart(
    paths: Paths, entry: Entry, timeout: int | None = None, signal_number: int | None = None
) -> None:
    """Stop a container, if it runs (see `stop`), and start it again; returns when it runs."""
    if entry.running is None:
        start(paths, entry)
        return
    _ask(paths, entry, "restart container", "restart", timeout=timeout, signal=signal_number)


def pause(paths: Paths, entry: Entry) -> None:
    """Have all its processes stand still."""
    _ask(paths, entry, "pause container", "pause")


def unpause(paths: Paths, entry: Entry) -> None:
    """Have its processes go on."""
    _ask(paths, entry, "unpause container", "unpause")


def wait(paths: Paths, entry: Entry) -> int:
    """Wait until a container has ended; its exit status. At once if it does not run."""
    id = entry.row.id
    if entry.running is not None:
        try:
            with control.connect(paths, id) as connection:
                code = connection.request("wait").get("code")
                connection.finish()
            if code is not None:
                return int(code)
        except LaunchError:
            pass  # it has ended meanwhile, or its supervisor was killed
        undertaker.tidy(paths, id)
        with State(paths) as state:
            return state.find(id).row.exit_code
    return entry.row.exit_code
