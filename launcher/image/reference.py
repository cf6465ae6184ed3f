# SPDX-License-Identifier: GPL-3.0-or-later
"""How images are named: REPOSITORY[:TAG][@DIGEST], as docker has it.

A name is kept in its short form: `docker.io/library/debian` is `debian`. The grammar is that of the
OCI distribution specification ("Pulling manifests").
"""

from __future__ import annotations

import re

from launcher.errors import LaunchError
from launcher.typed import Final, NamedTuple

__all__ = ["Reference", "of", "short", "tagged"]

_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?::[0-9]+)?/"
_NAME: Final = re.compile(
    rf"((?:{_HOST})?{_PART}(?:/{_PART})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?"
    r"(?:@(sha256:[0-9a-f]{64}))?\Z"
)
_MOST: Final = 255


class Reference(NamedTuple):
    """The parts of a name; `tag` and `digest` are "" where it has none."""

    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """REPOSITORY:TAG, `latest` where none is said."""
        return f"{self.repository}:{self.tag or 'latest'}"


def of(text: str) -> Reference | None:
    """The parts of a name in its short form, or None if `text` cannot be one."""
    found = _NAME.match(text)
    if found is None or len(found[1]) > _MOST:
        return None
    return Reference(short(found[1]), found[2] or "", found[3] or "")


def short(repository: str) -> str:
    """Without what docker adds of itself."""
    for host in ("docker.io/", "index.docker.io/"):
        if repository.startswith(host):
            repository = repository[len(host) :]
            return repository.removeprefix("library/")
    return repository


def tagged(text: str) -> str:
    """REPOSITORY:TAG of a name that an image is to be given. Raises LaunchError."""
    found = of(text)
    if found is None or found.digest:
        raise LaunchError("use image name", text, "it has to be REPOSITORY[:TAG], in lower case")
    if found.repository == "host":
        raise LaunchError("use image name", text, "it stands for the machine's own root")
    return found.name
