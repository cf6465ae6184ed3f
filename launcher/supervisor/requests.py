# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients may ask of a supervisor, verb by verb.

    attach   streams: kinds of output, stdin: whether it feeds input → {tty, stdin, detach_keys}
    kill     signal: number
    stop     timeout: seconds, signal: number; null for the container's own; answered when it has
             ended
    restart  timeout: the same; answered when it runs again
    wait     → {code} when it has ended
    pause, unpause
    hold     all processes stand still until the client has gone (`commit`)
    exec     args, env, cwd, user, privileged; three descriptors for its standard streams, and where
             `terminal` is true a fourth, a socket to which the terminal's master is sent
             → {started: pid}, and {exit: status} when it has ended
    update   config.json was written anew: its limits and policy hold from now on

A request that fails is answered with {error: …}. `life` serves the frames that are no requests.
"""

from __future__ import annotations

import os

from launcher import record as records
from launcher.errors import LaunchError
from launcher.supervisor.life import Life
from launcher.supervisor.peers import Peer
from launcher.typed import Any, Callable, Final
from unionfs.light import signal

__all__ = ["answer"]

_Fields = dict[str, Any]


def answer(life: Life, peer: Peer, fields: _Fields) -> None:
    """Do what a client asks. Raises LaunchError with what it is to be told."""
    verb = _VERBS.get(fields["verb"])
    if verb is None:
        raise LaunchError("do", str(fields["verb"]), "the supervisor knows no such request")
    verb(life, peer, fields)


def _attach(life: Life, peer: Peer, fields: _Fields) -> None:
    if life.state != "running":
        raise LaunchError("attach to container", _name(life), _why_not(life))
    life.attach(peer, frozenset(fields["streams"]), feeds=bool(fields["stdin"]))
    record = life.record
    life.reply(
        peer,
        {"tty": record.tty, "stdin": peer.feeds, "detach_keys": record.detach_keys},
    )
    life.note("attach")


def _kill(life: Life, peer: Peer, fields: _Fields) -> None:
    if life.started is None:
        raise LaunchError("kill container", _name(life), _why_not(life))
    number = int(fields["signal"])
    if number in (signal.SIGKILL, signal.SIGTERM, life.record.stop_signal):
        # docker: who ends a container by hand does not want it started again.
        life.stopping = True
    if number == signal.SIGKILL:
        life.kill()
    else:
        life.signal(number)
    life.note("kill", signal=str(number))
    life.reply(peer, {})


def _timeout(life: Life, fields: _Fields) -> float:
    return float(life.record.stop_timeout if fields["timeout"] is None else fields["timeout"])


def _stop(life: Life, peer: Peer, fields: _Fields) -> None:
    life.waiters.append(peer)
    life.on_end.append(lambda: life.note("stop"))
    life.stop(_timeout(life, fields), fields["signal"])


def _restart(life: Life, peer: Peer, fields: _Fields) -> None:
    life.again = peer
    if life.state == "restarting":
        life.restart_now()
    else:
        life.on_end.append(lambda: life.note("stop"))
        life.stop(_timeout(life, fields), fields["signal"])


def _wait(life: Life, peer: Peer, fields: _Fields) -> None:
    life.waiters.append(peer)


def _pause(life: Life, peer: Peer, fields: _Fields) -> None:
    if life.state != "running" or life.group is None:
        raise LaunchError("pause container", _name(life), _why_not(life))
    life.group.freeze()
    life.set_state("paused")
    life.note("pause")
    life.reply(peer, {})


def _unpause(life: Life, peer: Peer, fields: _Fields) -> None:
    if life.state != "paused":
        raise LaunchError("unpause container", _name(life), "it is not paused")
    life.thaw()
    life.note("unpause")
    life.reply(peer, {})


def _hold(life: Life, peer: Peer, fields: _Fields) -> None:
    if life.started is None or life.group is None:
        raise LaunchError("hold container", _name(life), _why_not(life))
    life.hold(peer)
    life.reply(peer, {})


def _exec(life: Life, peer: Peer, fields: _Fields) -> None:
    from launcher.supervisor import execs

    fds = peer.take_rights()
    try:
        if len(fds) != 3 + bool(fields["terminal"]):
            raise LaunchError("execute in container", _name(life), "its descriptors are missing")

        def begun(made: execs.Exec, error: LaunchError | None) -> None:
            if error is None:
                life.reply(peer, {"started": made.pid, "warnings": list(made.warnings)})
            else:
                life.refuse(peer, error)

        def exited(code: int) -> None:
            life.reply(peer, {"exit": code})
            peer.finish()

        cwd, user = fields["cwd"], fields["user"]
        wanted = execs.Wanted(
            tuple(os.fsencode(each) for each in fields["args"]),
            tuple(os.fsencode(each) for each in fields["env"]),
            None if cwd is None else os.fsencode(cwd),
            user,
            bool(fields["privileged"]),
        )
        execs.run(
            life,
            wanted,
            (fds[0], fds[1], fds[2]),
            begun,
            exited,
            fds[3] if fields["terminal"] else -1,
        )
    finally:
        for fd in fds:
            os.close(fd)


def _update(life: Life, peer: Peer, fields: _Fields) -> None:
    old, life.record = life.record, records.load(life.paths, life.record.id)
    missing: tuple[str, ...] = ()
    if life.group is not None:
        try:
            missing = life.group.change(old.resources, life.record.resources)
        except LaunchError:
            # The client puts config.json back, too.
            life.record = old
            raise
    life.reply(peer, {"warnings": list(missing)})


def _name(life: Life) -> str:
    return life.record.name


def _why_not(life: Life) -> str:
    return {
        "paused": "it is paused; unpause it first",
        "restarting": "it is restarting; wait until it runs",
    }.get(life.state, "it is not running")


_VERBS: Final[dict[str, Callable[[Life, Peer, _Fields], None]]] = {
    "attach": _attach,
    "kill": _kill,
    "stop": _stop,
    "restart": _restart,
    "wait": _wait,
    "pause": _pause,
    "unpause": _unpause,
    "hold": _hold,
    "exec": _exec,
    "update": _update,
}
