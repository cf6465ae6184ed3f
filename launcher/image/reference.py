# SPDX-License-Identifier: GPL-3.0-or-later
"""How images are named: REPOSITORY[:TAG][@DIGEST], as docker has it.

A name is kept in its short form: `docker.io/library/debian` is `debian`. The grammar is that of the
OCI distribution specification ("Pulling manifests").
"""

from __future__ import annotations

from launcher.errors import LaunchError
from launcher.typed import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import re

__all__ = ["Reference", "of", "short", "tagged"]

_LOWER: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_SEPARATORS: Final = str.maketrans("._-", "///")
_MOST: Final = 255
_MOST_PLAIN: Final = 128


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
    if _is_plain(text):
        repository, _, tag = text.partition(":")
        return Reference(short(repository), tag)
    found = _grammar().match(text)
    if found is None or len(found[1]) > _MOST:
        return None
    return Reference(short(found[1]), found[2] or "", found[3] or "")


def _is_plain(text: str) -> bool:
    """Whether it is a name of lower case letters and digits, with single separators between them.

    Most are; it saves loading and compiling the grammar, which takes as long as a small commit.
    """
    repository, colon, tag = text.partition(":")
    words = (repository + colon.replace(":", "/") + tag).translate(_SEPARATORS).split("/")
    return (
        len(text) <= _MOST_PLAIN
        and "/" not in tag
        and all(words)
        and _LOWER.issuperset("".join(words))
    )


def _grammar() -> re.Pattern[str]:
    import re

    part = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    label = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
    host = rf"(?:{label}(?:\.{label})*|\[[0-9a-f:]+\])(?::[0-9]+)?/"
    return re.compile(
        rf"((?:{host})?{part}(?:/{part})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?"
        r"(?:@(sha256:[0-9a-f]{64}))?\Z"
    )


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
