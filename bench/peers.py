# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared. A peer is a mount command with places for the layers; the plain directory, the
floor, has none.

The places of a command: `{lower}` is the colon list of the lower layers, topmost first;
`{lower:=RO}` puts `=RO` behind each of them; `{upper}`, `{work}` and `{merged}` are directories.
The command is split into words as a shell does it, but no shell runs it. It may stay in the
foreground or put itself into the background.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import string
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.layers import Stack

PLAIN = "plain"
OVERLAYFS = "overlayfs"
FUSE_OVERLAYFS = "fuse-overlayfs"
SUBJECT = "lamina-device"
LIBRARY_VERSIONS = ("fusermount", "FUSE library", "using")
PLACES = {"lower", "upper", "work", "merged"}


class BadPeer(Exception):
    """A peer's definition that cannot be used; the text is for a person."""


class Lower(tuple[str, ...]):
    """The lower layers as they go into a command: joined by colons, each with a suffix if asked."""

    __slots__ = ()

    def __format__(self, suffix: str) -> str:
        return ":".join(path + suffix for path in self)


@dataclass(frozen=True, slots=True)
class Peer:
    """`words` is the mount command, empty for the plain directory. `version_words` asks for the
    version, of which the report shows the line with a digit. With `short` the command runs in the
    directory of the layers and names them relatively, because mount(2) takes 4095 bytes of options.
    `package` is the Debian package that brings it."""

    name: str
    words: tuple[str, ...] = ()
    version_words: tuple[str, ...] = ()
    short: bool = False
    package: str = ""

    @property
    def plain(self) -> bool:
        return not self.words

    @property
    def command(self) -> str:
        """As the report shows it."""
        return shlex.join(self.words) if self.words else "(no mount: a copy of the layers)"

    def mount_words(self, stack: Stack) -> list[str]:
        lower = Lower(
            os.fspath(path.relative_to(stack.base) if self.short else path) for path in stack.lower
        )
        places = {
            "upper": os.fspath(stack.upper),
            "work": os.fspath(stack.work),
            "merged": os.fspath(stack.merged),
        }
        return [word.format(lower=lower, **places) for word in self.words]

    def version(self) -> str:
        if self.name == OVERLAYFS:
            return f"Linux {platform.release()}"
        if not self.version_words:
            return ""
        try:
            said = processes.run(self.version_words, seconds=20).output
        except (processes.CommandFailed, processes.TookTooLong):
            return ""
        lines = [line for line in said.splitlines() if any(c.isdigit() for c in line)]
        own = [line for line in lines if not line.startswith(LIBRARY_VERSIONS)]
        return (own or lines or [""])[0].strip()


def parse(definition: str) -> Peer:
    """A user's own peer, `NAME=mount command`; raises BadPeer."""
    name, equals, command = definition.partition("=")
    name = name.strip()
    if not equals or not name or not command.strip():
        raise BadPeer(f"cannot use the peer {definition!r}: it is not of the form NAME=COMMAND")
    if "/" in name or any(c.isspace() or c in "|<>&," for c in name):
        raise BadPeer(f"cannot use the peer {name!r}: a name has no blanks and none of / | < > & ,")
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise BadPeer(f"cannot use the peer {name}: {error} in its command") from None
    seen = set[str]()
    for word in words:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(word)]
        except ValueError as error:
            raise BadPeer(f"cannot use the peer {name}: {error} in {word!r}") from None
        for field in fields:
            if field is None:
                continue
            if field not in PLACES:
                places = " ".join(sorted("{" + place + "}" for place in PLACES))
                raise BadPeer(
                    f"cannot use the peer {name}: {{{field}}} is not a place; there are {places}"
                )
            seen.add(field)
    for needed in ("lower", "merged"):
        if needed not in seen:
            raise BadPeer(f"cannot use the peer {name}: its command has no {{{needed}}}")
    return Peer(name, words)


def lamina_words() -> tuple[str, ...]:
    """The `lamina` of the environment that runs the bench, else of the path, else this source."""
    beside = Path(sys.executable).with_name("lamina")
    if beside.exists():
        return (os.fspath(beside),)
    found = shutil.which("lamina")
    if found is not None:
        return (found,)
    source = Path(__file__).parents[1]
    return ("env", f"PYTHONPATH={source}", sys.executable, "-m", "unionfs")


def standard() -> tuple[Peer, ...]:
    """The peers that every run has unless it names others."""
    options = "lowerdir={lower},upperdir={upper},workdir={work}"
    lamina = lamina_words()
    return (
        Peer(PLAIN),
        Peer(
            OVERLAYFS,
            ("mount", "-t", "overlay", "overlay", "-o", options, "{merged}"),
            short=True,
        ),
        Peer(
            FUSE_OVERLAYFS,
            ("fuse-overlayfs", "-f", "-o", options, "{merged}"),
            ("fuse-overlayfs", "--version"),
            package="fuse-overlayfs",
        ),
        Peer(
            "unionfs-fuse",
            ("unionfs", "-f", "-o", "cow", "{upper}=RW:{lower:=RO}", "{merged}"),
            ("unionfs", "--version"),
            package="unionfs-fuse",
        ),
        Peer(
            "mergerfs",
            ("mergerfs", "-f", "-o", "category.create=ff", "{upper}=RW:{lower:=RO}", "{merged}"),
            ("mergerfs", "--version"),
            package="mergerfs",
        ),
        *(
            Peer(
                f"lamina-{transport}",
                (*lamina, "mount", "-f", "--transport", transport, "-o", options, "{merged}"),
                (*lamina, "--version"),
            )
            for transport in ("device", "pyfuse3")
        ),
    )


def chosen(names: Sequence[str], own: Sequence[str]) -> tuple[Peer, ...]:
    """The standard peers called `names` (all for none) and the user's own; raises BadPeer."""
    peers = {peer.name: peer for peer in standard()}
    for name in names:
        if name not in peers:
            raise BadPeer(f"cannot use the peer {name}: there are {', '.join(peers)}")
    kept = [peer for peer in peers.values() if not names or peer.name in names]
    for definition in own:
        peer = parse(definition)
        if peer.name in peers or any(peer.name == other.name for other in kept):
            raise BadPeer(f"cannot use the peer {peer.name}: the name is taken")
        kept.append(peer)
    return tuple(kept)
