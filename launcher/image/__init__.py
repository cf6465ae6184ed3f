# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: read-only layers and a configuration, by a name."""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from launcher.image.model import Image
    from launcher.paths import Paths

__all__ = ["find"]


def find(paths: Paths, reference: str) -> Image:
    """The image that a name or an id stands for, ready to be run.

    `busybox` is made when it is first asked for, `host` is the machine's own root; a name that was
    given to another image stands for that. Raises LaunchError, "cannot find image …".
    """
    from launcher.image import builtin

    if reference in ("host", "host:latest") or reference == builtin.HOST_ID:
        return builtin.host()
    from launcher.image.found import find as find_stored

    return find_stored(paths, reference)
