# SPDX-License-Identifier: GPL-3.0-or-later
"""The union that is a container's root filesystem: its layers, its upper, and how it behaves.

Apart from `specify`, which loads all that a start needs, for those who only read a container's
files.
"""

from __future__ import annotations

import os

from launcher.paths import Paths
from launcher.record import Record
from unionfs import MountConfig

__all__ = ["in_user_namespace", "union"]


def union(paths: Paths, record: Record) -> MountConfig:
    """What the container's root filesystem is made of.

    In a user namespace the ids of the layers are those inside: the union shows them as the ids
    that stand for them outside, and what is written lands in `upper` as it is seen inside.
    """
    directory = paths.container(record.id)
    mapping: tuple[tuple[int, int, int], ...] = ()
    gid_mapping: tuple[tuple[int, int, int], ...] = ()
    if record.userns:
        uid, gid, size = (int(each) for each in record.userns.split(":"))
        mapping, gid_mapping = ((uid, 0, size),), ((gid, 0, size),)
    return MountConfig(
        lower=record.layers,
        upper=directory + b"/upper",
        work=directory + b"/work",
        volatile=record.volatile,
        metacopy=True,
        # Nobody but lamina writes to the upper.
        journal=True,
        uidmapping=mapping,
        gidmapping=gid_mapping,
        userxattr=os.geteuid() != 0 or in_user_namespace(),
    )


def in_user_namespace() -> bool:
    """Whether uid 0 here is another uid of the machine's."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() != [b"0", b"0", b"4294967295"]
