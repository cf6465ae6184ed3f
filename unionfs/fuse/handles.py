# SPDX-License-Identifier: GPL-3.0-or-later
"""Open files by the number the kernel knows them by."""

from __future__ import annotations

from unionfs.fuse.backing import Backing
from unionfs.node import File


class Handle:
    """One open file.

    file    -- the union's open file
    backing -- how the kernel reads and writes it
    node    -- id of the node it was opened by (a renewed node has a new one)
    maps    -- opened for reading and writing in passthrough: it may be mapped shared, and what is
               written through the mapping changes the file behind the kernel's attributes
    """

    __slots__ = ("backing", "file", "maps", "node")

    def __init__(self, file: File, backing: Backing, node: int, maps: bool) -> None:
        self.file = file
        self.backing = backing
        self.node = node
        self.maps = maps
