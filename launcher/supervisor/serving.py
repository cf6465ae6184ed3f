# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's union, mounted and served on a thread of its supervisor.

The mount is in the supervisor's own mount namespace and ends with it at the latest.
"""

from __future__ import annotations

import os

import unionfs
from launcher import rootunion
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.record import Record
from launcher.sys import mount
from unionfs.light import contextlib, threading

__all__ = ["Serving"]

_PATIENCE = 10.0  # seconds that an unmount may take


class Serving:
    """One served union. `merged` is where it is mounted."""

    __slots__ = ("_failure", "_ready", "_session", "_thread", "_union", "merged")

    def __init__(self, paths: Paths, record: Record, *, rootless: bool) -> None:
        """Open the union. Raises LaunchError where a layer is missing or of no use."""
        if rootless and not os.access("/dev/fuse", os.R_OK | os.W_OK):
            # Nor may fusermount3, which opens it with its caller's rights.
            reason = (
                "/dev/fuse is not open to this user (udev opens it to all: chmod 666 /dev/fuse)"
            )
            raise LaunchError("mount the union of", record.id[:12], reason)
        self.merged = paths.container(record.id) + b"/merged"
        config = rootunion.union(paths, record)
        # What is set-user-ID or a device in the image works in the container: nothing of it is in
        # anybody else's reach.
        self._session = unionfs.SessionConfig(
            mountpoint=self.merged,
            transport="device",
            allow_other=True,
            nosuid=False,
            nodev=False,
            passthrough=not rootless,
        )
        try:
            self._union = unionfs.Union(config)
        except unionfs.UnionError as error:
            raise LaunchError("mount the union of", record.id[:12], str(error)) from error
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="union", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            unionfs.serve(
                self._union, self._session, self._ready.set, transport="device", registered=False
            )
        except BaseException as error:
            self._failure = error
            if not isinstance(error, unionfs.UnionError):
                raise
        finally:
            self._ready.set()

    def wait(self) -> None:
        """Return once the mount answers. Raises LaunchError where it could not be made."""
        self._ready.wait()
        if self._failure is not None:
            raise LaunchError("mount the union on", self.merged, str(self._failure))

    def end(self) -> None:
        """Unmount, and return when all that was written is in the upper layer.

        Nothing may use the mount any more but what ends of itself.
        """
        with contextlib.suppress(OSError):  # where it never came to a mount
            mount.umount(self.merged, mount.MNT_DETACH)
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            self._union.close()
