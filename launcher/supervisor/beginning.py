# SPDX-License-Identifier: GPL-3.0-or-later
"""The first moments of a supervisor: its namespaces, its walls, its signals; then its life."""

from __future__ import annotations

import _socket

import prctl

from launcher.supervisor import frames, rootless
from launcher.supervisor.life import Life
from launcher.sys import process
from unionfs.light import signal

__all__ = ["live"]

_TITLE = "lamina-superv."


def live(owner: _socket.socket, *, users: bool) -> None:
    """Supervise the container that `owner` names; returns at its end."""
    _enter(owner, users=users)
    process.keep_memory_low()
    # Ends that were meant for the command; its own session hears of no terminal.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    life = Life(owner, rootless=users)
    life.run()


def _enter(owner: _socket.socket, *, users: bool) -> None:
    rootless.enter(users=users)
    if users:
        owner.send(frames.message(frames.REPLY, {"map": True}))
        if not owner.recv(1):
            raise SystemExit
        rootless.become_root()
    # Nothing below its /proc/PID leads anybody to the layers or the control socket.
    prctl.set_dumpable(0)
