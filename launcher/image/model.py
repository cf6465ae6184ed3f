# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is to whoever starts a container on it.

The fields of `ImageConfig` are those of the OCI image specification (config.md, "Properties",
`config`), and docker's `Healthcheck` and `Shell`. Where layers lie and how they came there is the
store's.
"""

from __future__ import annotations

from launcher.typed import NamedTuple

__all__ = ["Health", "Image", "ImageConfig"]


class Health(NamedTuple):
    """A health check. Times are in nanoseconds, 0 means the default (30 s, 30 s, 0 s, 5 s).

    `test` is as docker's: ("NONE",), ("CMD", word …) or ("CMD-SHELL", line); () inherits.
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ImageConfig(NamedTuple):
    """How a container of the image starts unless it is told otherwise."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    health: Health | None = None
    shell: tuple[str, ...] = ()


class Image(NamedTuple):
    """An image that can be run now.

    id      -- 64 hex digits: the digest of its configuration
    name    -- as the store knows it (busybox:latest), or "" if it has none
    layers  -- directories, topmost first, ready to be the lower layers of a union
    """

    id: str
    name: str
    layers: tuple[bytes, ...]
    config: ImageConfig
