# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that serves several unions with one loop; it takes a JSON list of lists of paths.

Each is [lower, upper, work, merged]. It writes a line when all of them answer, and ends when the
last has been unmounted.
"""

from __future__ import annotations

import json
import os
import sys

from unionfs.config import MountConfig, SessionConfig
from unionfs.fuse import mounting
from unionfs.fuse.device import Device
from unionfs.fuse.loop import Loop
from unionfs.union import Union


def main() -> None:
    loop = Loop()
    sessions: list[tuple[Union, mounting.Mount, Device]] = []
    answering: list[int] = []

    def ready() -> None:
        answering.append(1)
        if len(answering) == len(sessions):
            print("ready", flush=True)

    for paths in json.loads(sys.argv[1]):
        lower, upper, work, merged = map(os.fsencode, paths)
        union = Union(MountConfig(lower=(lower,), upper=upper, work=work))
        mount = mounting.mount(SessionConfig(mountpoint=merged))
        device = Device(mount.fd, union, loop, stack_depth=1, ready=ready)
        sessions.append((union, mount, device))
    loop.run()
    for union, mount, device in sessions:
        device.close()
        mount.end()
        union.close()
    loop.close()


if __name__ == "__main__":
    main()
