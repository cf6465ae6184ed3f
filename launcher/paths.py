# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the launcher keeps what outlives a command, and what does not outlive the machine's uptime.

    ROOT/lamina.db                            containers and images (SQLite, WAL)
    ROOT/oci-layout index.json blobs/sha256/  the images, an OCI image layout
    ROOT/layers/sha256/DIFFID/                their layers, unpacked once, never written again
    ROOT/containers/ID/                       config.json, upper/, work/, merged/, log
    ROOT/tries/ID/                            what `lamina try` keeps (`trial`)
    RUN/containers/ID/                        lock, control (socket), running.json

Nothing is made here but by `ensure`. Paths are bytes without a slash at the end.
"""

from __future__ import annotations

import os

from launcher.errors import LaunchError
from launcher.typed import NamedTuple

__all__ = ["Paths", "chosen"]


class Paths(NamedTuple):
    """The two places. `root` lasts, `run` is empty after a boot."""

    root: bytes
    run: bytes

    @property
    def database(self) -> bytes:
        return self.root + b"/lamina.db"

    @property
    def layers(self) -> bytes:
        return self.root + b"/layers"

    @property
    def containers(self) -> bytes:
        return self.root + b"/containers"

    @property
    def tries(self) -> bytes:
        return self.root + b"/tries"

    def container(self, id: str) -> bytes:
        """The directory of one container that lasts as long as the container."""
        return self.containers + b"/" + id.encode()

    def runtime(self, id: str) -> bytes:
        """The directory of one container that is there while it is started."""
        return self.run + b"/containers/" + id.encode()

    def ensure(self) -> None:
        """Make the places, for their owner only. Raises LaunchError."""
        for path in (self.root, self.containers, self.run, self.run + b"/containers"):
            try:
                os.makedirs(path, 0o700, exist_ok=True)
            except OSError as error:
                raise LaunchError("use directory", path, error) from error


def chosen(root: bytes | None = None) -> Paths:
    """The places to use: `root` (`--root`) or LAMINA_ROOT, else what the user's rights give.

    With a root of one's own the runtime directory is told apart by it, so that two roots never
    share a lock. XDG_RUNTIME_DIR and XDG_DATA_HOME are those of the XDG base directory
    specification.
    """
    environment = os.environb
    euid = os.geteuid()
    home = environment.get(b"HOME", b"/")
    if _as_root():
        default, run = b"/var/lib/lamina", b"/run/lamina"
    else:
        default = (environment.get(b"XDG_DATA_HOME") or home + b"/.local/share") + b"/lamina"
        run = (environment.get(b"XDG_RUNTIME_DIR") or b"/tmp/lamina-%d" % euid) + b"/lamina"
    wanted = root or environment.get(b"LAMINA_ROOT")
    if not wanted:
        return Paths(default, run)
    place = os.path.realpath(wanted)
    if place == default:
        return Paths(default, run)
    # Not hashlib: this lies on the way of every start.
    from binascii import crc32

    label = b"%08x%08x" % (crc32(place), crc32(place[::-1]))
    return Paths(place, run + b"-" + label)


def _as_root() -> bool:
    return os.geteuid() == 0 and b"LAMINA_ROOTLESS" not in os.environb
