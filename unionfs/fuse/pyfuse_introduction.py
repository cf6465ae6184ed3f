# SPDX-License-Identifier: GPL-3.0-or-later
"""The first exchange with the kernel, to which more is added than libfuse can ask for.

A flag of INIT holds if both sides name it. Some that a union wants concern the kernel alone, or
come with requests in a form libfuse passes on, and yet neither libfuse nor pyfuse3 lets a
filesystem name them. So libfuse first speaks to a socket: it is handed the kernel's INIT there, its
answer is completed, and then the session's descriptor takes the socket's place under the same
number.
"""

from __future__ import annotations

import os
import socket

import pyfuse3
import trio

from unionfs.fuse import wire
from unionfs.fuse.negotiation import read_offer
from unionfs.typed import Final

__all__ = ["Introduction", "completed"]

# What is added, and why:
#   DONT_MASK            the umask comes with the request: a default ACL replaces it (acl(5))
#   CACHE_SYMLINKS       a target never changes
#   EXPLICIT_INVAL_DATA  cached pages stay when attributes are fetched: nobody else writes.
#                        It takes the place of AUTO_INVAL_DATA, with which each own write would
#                        cost the pages it wrote
#   PARALLEL_DIROPS      lookups in one directory need not wait for one another in the kernel
#   NO_EXPORT_SUPPORT    node ids do not outlive the mount, so file handles must not
# Not HANDLE_KILLPRIV_V2 and SETXATTR_EXT: libfuse hides what then comes with the requests. Not
# NO_OPENDIR_SUPPORT: pyfuse3 knows a directory that is read only by its handle.
_ADDED: Final = (
    wire.DONT_MASK
    | wire.CACHE_SYMLINKS
    | wire.EXPLICIT_INVAL_DATA
    | wire.PARALLEL_DIROPS
    | wire.NO_EXPORT_SUPPORT
)
_MAX_BACKGROUND: Final = 64
_CONGESTION: Final = 48


class Introduction:
    """A session between its mount and its first request.

    number -- the descriptor libfuse is to use; libfuse's from `pyfuse3.init` on
    """

    __slots__ = ("_device", "_ours", "number")

    def __init__(self, device: int) -> None:
        """``device`` is the session's descriptor, which is taken over."""
        self._device = device
        # pyfuse3 reads after it has waited, and takes "nothing there" for the session's end.
        os.set_blocking(device, True)
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.number = theirs.detach()

    def close(self) -> None:
        """Give up the session's descriptor under its own number."""
        self._ours.close()
        if self._device >= 0:
            os.close(self._device)
            self._device = -1

    async def make(self) -> None:
        """Bring kernel and libfuse together; afterwards `pyfuse3.main` serves the mount.

        Raises OSError where the mount is gone or one of them does not agree.
        """
        device = self._device
        await trio.lowlevel.wait_readable(device)
        request = os.read(device, 2 * wire.MIN_READ_BUFFER)
        self._ours.send(request)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_answered, nursery.cancel_scope)
            await pyfuse3.main()
        os.write(device, completed(request, self._ours.recv(wire.MIN_READ_BUFFER)))
        os.dup2(device, self.number, inheritable=False)
        self.close()

    async def _end_when_answered(self, scope: trio.CancelScope) -> None:
        await trio.lowlevel.wait_readable(self._ours)
        scope.cancel()


def completed(request: bytes, answer: bytes) -> bytes:
    """libfuse's answer to INIT with the flags added that the kernel offers.

    Raises OSError where the answer is a refusal.
    """
    length, error, unique = wire.OUT_HEADER.unpack_from(answer)
    if error:
        raise OSError(-error, os.strerror(-error))
    if length < wire.OUT_SIZE + wire.INIT_OUT.size:
        return answer
    fields = list(wire.INIT_OUT.unpack_from(answer, wire.OUT_SIZE))
    flags, flags2 = fields[3], fields[10]
    added = _ADDED & read_offer(request).flags
    if added & wire.EXPLICIT_INVAL_DATA:
        flags &= ~wire.AUTO_INVAL_DATA
    fields[3] = flags | added & 0xFFFF_FFFF
    if flags & wire.INIT_EXT:
        fields[10] = flags2 | added >> 32
    fields[4] = max(fields[4], _MAX_BACKGROUND)
    fields[5] = max(fields[5], _CONGESTION)
    return wire.OUT_HEADER.pack(length, error, unique) + wire.INIT_OUT.pack(*fields)
