# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling the kernel, unasked, that something it remembers does not hold any more.

Only what cannot block may be sent while requests are served: dropping attributes takes no lock
that a waiting request could hold. Dropping pages or names does, and is not offered.
"""

from __future__ import annotations

import os

from unionfs.fuse import wire

_pack = wire.INVAL_INODE.pack
_SIZE = wire.INVAL_INODE.size


class Notifier:
    """Sends notifications on one session's descriptor."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def attributes_changed(self, node: int) -> None:
        """Have the kernel ask for the attributes of a node again, and for its ACLs."""
        try:
            # A negative offset leaves the pages alone (fuse_reverse_inval_inode).
            os.write(self._fd, _pack(_SIZE, wire.NOTIFY_INVAL_INODE, 0, node, -1, 0))
        except OSError:
            # ENOENT: the kernel does not know the node. Anything else: the session is ending.
            return
