# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon that serves a union over /dev/fuse and lets a test look inside.

It takes one JSON object as its argument: `config` and `session` (keywords of `MountConfig` and
`SessionConfig`), `ready` (descriptor to write a byte to), `state` (path), and, where wanted,
`withhold` (names of INIT flags that the kernel is not to have offered), `held` (a FIFO: each long
copy of data waits until somebody opens it for writing), `faults` (file name → errno, or the text of
a ValueError, that looking the name up raises) and `user` (as whom to serve). On SIGUSR1, and once
more after the session has ended, it writes its `State` to the state path.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import os
import signal
import sys
from collections import Counter
from typing import Any, NoReturn

from unionfs.config import MountConfig, SessionConfig
from unionfs.copyup import Completion, CopyUp
from unionfs.errors import UnionError
from unionfs.fuse import device, negotiation, wire
from unionfs.fuse.request import OPCODE, Message
from unionfs.node import Node, Stat
from unionfs.union import Union


class Faulty(Union):
    """A union in which looking up some names fails."""

    faults: dict[bytes, str]

    def lookup(self, parent: Node, name: bytes) -> tuple[Node, Stat] | None:
        fault = self.faults.get(name)
        if fault is not None:
            _fail(fault)
        return super().lookup(parent, name)


def _fail(fault: str) -> NoReturn:
    if fault.isdigit():
        raise OSError(int(fault), os.strerror(int(fault)))
    raise ValueError(fault)


def _count(asked: Counter[str], made: list[device.Device]) -> None:
    """Count requests by opcode, and keep hold of the session."""
    handle, init = device.Device.handle, device.Device.__init__

    def counted(self: device.Device, buffer: memoryview) -> Message | None:
        opcode = wire.IN_HEADER.unpack_from(buffer)[OPCODE]
        asked[wire.opcode_name(opcode)] += 1
        return handle(self, buffer)

    def kept(self: device.Device, *arguments: Any, **keywords: Any) -> None:
        init(self, *arguments, **keywords)
        made.append(self)

    device.Device.handle = counted  # type: ignore[method-assign]
    device.Device.__init__ = kept  # type: ignore[method-assign]


def _withhold(names: list[str]) -> None:
    read = negotiation.read_offer
    hidden = 0
    for name in names:
        hidden |= getattr(wire, name)

    def less(message: bytes | bytearray | memoryview) -> negotiation.Offer:
        offer = read(message)
        return offer._replace(flags=offer.flags & ~hidden)

    negotiation.read_offer = less


def _hold(fifo: str) -> None:
    copy, complete = CopyUp.copy, Completion.copy

    def wait() -> None:
        with open(fifo, "rb"):
            pass

    def held(self: CopyUp) -> None:
        if self.long:
            wait()
        copy(self)

    def held_completion(self: Completion) -> None:
        if self.long:
            wait()
        complete(self)

    CopyUp.copy = held  # type: ignore[method-assign]
    Completion.copy = held_completion  # type: ignore[method-assign]


def _become(user: int) -> None:
    """Go on as an ordinary user, who may not be able to read this interpreter's modules."""
    for name in ("shutil", "socket", "subprocess"):  # which `mounting` imports when it needs them
        importlib.import_module(name)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # PR_SET_DUMPABLE: /proc/self belongs to the user again (proc(5)).
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)


def main() -> int:
    logging.basicConfig(level=logging.INFO)
    asked: dict[str, Any] = json.loads(sys.argv[1])
    config: dict[str, Any] = dict(asked["config"])
    config["lower"] = tuple(os.fsencode(path) for path in config["lower"])
    for name in ("upper", "work"):
        if name in config:
            config[name] = os.fsencode(config[name])
    counts: Counter[str] = Counter()
    made: list[device.Device] = []
    _count(counts, made)
    _withhold(asked.get("withhold", []))
    if "held" in asked:
        _hold(asked["held"])
    if asked.get("user") is not None:
        _become(asked["user"])
    before = len(os.listdir("/proc/self/fd")) - 1  # `ready` is closed when it has been written
    union = Faulty(MountConfig(**config))
    union.faults = {os.fsencode(name): fault for name, fault in asked.get("faults", {}).items()}
    session = dict(asked["session"])
    mountpoint = os.fsencode(session.pop("mountpoint"))

    def report(*_: object) -> None:
        nodes = {id(node): node for node in union.nodes.values()}.values()
        state: dict[str, Any] = {
            "nodes": len(nodes),
            "lookups": sum(node.nlookup for node in nodes),
            "files": sum(len(node.files or ()) for node in nodes),
            "descriptors": len(os.listdir("/proc/self/fd")) - before,
            "asked": dict(counts),
            "handles": len(made[0].handles) if made else 0,
            "passthrough": bool(made) and made[0].backings.passthrough,
            "backings": len(made[0].backings.active) if made else 0,
            "stack_depth": made[0].terms.stack_depth if made else 0,
        }
        with open(asked["state"] + ".new", "wb") as stream:
            stream.write(json.dumps(state).encode())
        os.rename(asked["state"] + ".new", asked["state"])

    signal.signal(signal.SIGUSR1, report)
    try:
        device.serve(
            union,
            SessionConfig(mountpoint=mountpoint, transport="device", **session),
            lambda: os.close(asked["ready"]) if os.write(asked["ready"], b"\n") else None,
        )
    except UnionError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        union.close()
        report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
