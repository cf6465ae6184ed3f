# SPDX-License-Identifier: GPL-3.0-or-later
"""Two containers that edit the nasty image in every way that a layer has trouble with, committed.

Each line goes through a union that says it in short (redirect, metadata only, index), and has to be
said in full in a layer. How the layers travel is in `roundtrips`.
"""

from __future__ import annotations

from pathlib import Path

from bench.images.engines import Engine
from bench.images.trees import Tree, differences, read
from bench.processes import run

SECONDS = 900.0
TOOLS = ("cat", "chmod", "chown", "ln", "mkdir", "mkfifo", "mknod", "mv", "rm", "sh", "touch")

_FIRST = r"""
mv /whiteout /moved && echo added > /moved/added && rm /moved/one
rm -r /opaque && mkdir /opaque && echo fresh > /opaque/fresh
chmod 4711 /marked && touch -d '2001-02-03 04:05:06' '/far owner' && chown 5:6 /setuid
echo more >> '/link one' && ln /linked '/link three' && rm '/link two'
rm -r '/becomes file' && echo file > '/becomes file'
mv '/becomes directory' /goes/away && mkdir '/becomes directory'
echo in > '/becomes directory/in'
mkdir -p /new/deep && ln -s ../x /new/deep/link && mkfifo -m 620 /new/fifo
mknod -m 640 /new/zero c 1 5 && echo one > /new/one && ln /new/one /new/two
mv /sticky /new/sticky && touch /new/sticky/inside
rm '/long symlink' && ln -s else '/long symlink'
chmod 700 /. && mv /deep* /deeper
"""
_SECOND = r"""
mkdir /into && mv /moved '/into/moved again' && chmod 705 '/into/moved again'
echo changed >> '/into/moved again/added' && echo again >> '/link three'
rm -r /goes && mkdir /goes && mv /new/deep /goes/deep && touch -d '2002-02-02 02:02:02' /new/fifo
rm /new/one && chmod 600 /new/two && mv /deeper /deepest && echo end > /deepest/end
rm -r /new/sticky && mv /opaque/fresh /opaque/kept && chmod 751 /.
"""


def edited(engine: Engine, base: Path, image: str) -> tuple[str, list[str]]:
    """The name of the image after both; and where a committed image is not what the container
    was. Raises CommandFailed.
    """
    found: list[str] = []
    for number, script in enumerate((_FIRST, _SECOND), 1):
        name, made = f"edit{number}", f"{image.partition(':')[0]}:{number}"
        words = ("--network", "none", image, "/bin/sh", "-ec", script)
        engine.run("run", "--name", name, *words)
        engine.run("commit", name, made)
        wanted = exported(engine, base / name, name)
        engine.run("rm", name)
        seen = seen_of(engine, base / f"{name}-committed", made)
        found += [f"as committed ({number}): {each}" for each in differences(wanted, seen)]
        image = made
    return image, found


def seen_of(engine: Engine, place: Path, image: str) -> Tree:
    """What a container of an image has for its root."""
    engine.run("create", "--name", "seen", image, "/none")
    tree = exported(engine, place, "seen")
    engine.run("rm", "seen")
    return tree


def exported(engine: Engine, place: Path, container: str) -> Tree:
    """What a container has for its root, by `export` and GNU tar."""
    place.mkdir()
    archive = place.with_name(place.name + ".tar")
    engine.run("export", "-q", "-o", archive, container)
    xattrs = ("--xattrs", "--xattrs-include=*", "--numeric-owner", "-p")
    run(["tar", *xattrs, "-C", str(place), "-xf", str(archive)], seconds=SECONDS)
    return read(place)
