# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon that serves a union over pyfuse3 and lets a test look inside.

It takes one JSON object as its argument: `config` and `session` (keywords of `MountConfig` and
`SessionConfig`), `ready` (descriptor to write a byte to), `state` (path), `limit` (seconds it may
live), and, where wanted, `held` (a FIFO: each long copy and each fsync waits until somebody opens
it for writing) and `faults` (file name → error number or text of an exception that looking up the
name raises). On SIGUSR1, and once more after the session, it writes what it holds to `state`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections import Counter
from typing import Any, NoReturn

from unionfs.config import MountConfig, SessionConfig
from unionfs.copyup import CopyUp
from unionfs.errors import UnionError
from unionfs.fuse import pyfuse
from unionfs.fuse.pyfuse_handlers import Handlers
from unionfs.node import Caller, File, Node, Stat
from unionfs.union import Union


class Watched(Union):
    """A union that counts the verbs by which it is asked."""

    def __init__(self, config: MountConfig, faults: dict[str, str]) -> None:
        super().__init__(config)
        self.asked: Counter[str] = Counter()
        self._faults = {os.fsencode(name): fault for name, fault in faults.items()}

    def lookup(self, parent: Node, name: bytes) -> tuple[Node, Stat] | None:
        self.asked["lookup"] += 1
        if name in self._faults:
            _fail(self._faults[name])
        return super().lookup(parent, name)

    def stat(self, node: Node, file: File | None = None) -> Stat:
        self.asked["stat"] += 1
        return super().stat(node, file)

    def readlink(self, node: Node) -> bytes:
        self.asked["readlink"] += 1
        return super().readlink(node)

    def open(self, node: Node, flags: int, caller: Caller | None = None) -> File:
        self.asked["open"] += 1
        return super().open(node, flags, caller)


def _fail(fault: str) -> NoReturn:
    if fault.isdigit():
        raise OSError(int(fault), os.strerror(int(fault)))
    raise ValueError(fault)


def _count_reads(asked: Counter[str]) -> None:
    read = Handlers.read

    async def counted(self: Handlers, fh: int, off: int, size: int) -> bytes:
        asked["read"] += 1
        return await read(self, fh, off, size)

    Handlers.read = counted  # type: ignore[method-assign]


def _hold(fifo: str, asked: Counter[str]) -> None:
    """Let the work that is done off the serving thread wait for the test."""
    copy, fsync = CopyUp.copy, File.fsync

    def wait() -> None:
        with open(fifo, "rb"):
            pass

    def held_copy(self: CopyUp) -> None:
        if self.long:
            asked["copy"] += 1
            wait()
        copy(self)

    def held_fsync(self: File, datasync: bool) -> None:
        asked["fsync"] += 1
        wait()
        fsync(self, datasync)

    CopyUp.copy = held_copy  # type: ignore[method-assign]
    File.fsync = held_fsync  # type: ignore[method-assign]


def main(asked: dict[str, Any]) -> int:
    """Serve as asked; the exit status."""
    signal.alarm(asked["limit"])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    config = dict(asked["config"])
    config["lower"] = tuple(map(os.fsencode, config["lower"]))
    for key in ("upper", "work"):
        if key in config:
            config[key] = os.fsencode(config[key])
    union = Watched(MountConfig(**config), asked.get("faults", {}))
    session = dict(asked["session"])
    mountpoint = os.fsencode(session.pop("mountpoint"))
    _count_reads(union.asked)
    if "held" in asked:
        _hold(asked["held"], union.asked)

    def report(*_: object) -> None:
        nodes = list(union.nodes.values())
        state = {
            "nodes": len(nodes),
            "lookups": sum(node.nlookup for node in nodes),
            "files": sum(len(node.files or ()) for node in nodes),
            "descriptors": len(os.listdir("/proc/self/fd")) - 1,
            "asked": dict(union.asked),
        }
        with open(asked["state"] + ".new", "w") as stream:
            json.dump(state, stream)
        os.rename(asked["state"] + ".new", asked["state"])

    signal.signal(signal.SIGUSR1, report)
    try:
        pyfuse.serve(
            union,
            SessionConfig(mountpoint=mountpoint, transport="pyfuse3", **session),
            lambda: os.close(asked["ready"]) if os.write(asked["ready"], b"\n") else None,
        )
    except UnionError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        report()
        union.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
