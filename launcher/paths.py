# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the launcher keeps what outlives a command, and what does not outlive the machine's uptime.

    ROOT/lamina.db                            containers and images (SQLite, WAL)
    ROOT/oci-layout index.json blobs/sha256/  the images, an OCI image layout
    ROOT/layers/sha256/DIFFID/                their layers, unpacked once, never written again
    ROOT/containers/ID/                       config.json, upper/, work/, merged/, log
    ROOT/tries/ID/                            what `lamina try` keeps (`trial`)
    RUN/containers/ID/                        lock, control (socket), running.json
    RUN/events                                what happened lately

Nothing is made here but by `ensure`. Paths are bytes without a slash at the end.
"""

from __future__ import annotations

import os

from launcher.errors import LaunchError
from launcher.typed import NamedTuple

__all__ = ["Paths", "chosen"]


class Paths(NamedTuple):
    """The two places. `root` lasts; what `run` says is true while a lock in it is held."""

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
        # In /tmp somebody else may have been first.
        if os.geteuid() != 0 and os.lstat(self.run).st_uid != os.geteuid():
            raise LaunchError("use directory", self.run, "it belongs to another user")


def chosen(root: bytes | None = None) -> Paths:
    """The places to use: `root` (`--root`) or LAMINA_ROOT, else what the user's rights give.

    A root of one's own has its runtime directory inside, so that two roots never share a lock and
    removing one leaves nothing. XDG_RUNTIME_DIR and XDG_DATA_HOME are those of the XDG base
    directory specification.
    """
    environment = os.environb
    euid = os.geteuid()
    if euid == 0:
        default, run = b"/var/lib/lamina", b"/run/lamina"
    else:
        home = environment.get(b"HOME", b"/")
        default = (environment.get(b"XDG_DATA_HOME") or home + b"/.local/share") + b"/lamina"
        run = (environment.get(b"XDG_RUNTIME_DIR") or b"/tmp/lamina-%d" % euid) + b"/lamina"
    wanted = root or environment.get(b"LAMINA_ROOT")
    if not wanted:
        return Paths(default, run)
    place = os.path.realpath(wanted)
    return Paths(default, run) if place == default else Paths(place, place + b"/run")
