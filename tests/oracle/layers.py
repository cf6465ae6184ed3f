# SPDX-License-Identifier: GPL-3.0-or-later
"""Lower layers as data: their description, what they merge to, and writing both to disk.

The merge here is written from overlayfs.rst and shares nothing with unionfs: what it gives is the
model's initial content. Drawing random layers is in `stacks`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from tests.oracle.values import Bytes, Octal

PREFIX = b"trusted.overlay."
SECOND = 1_000_000_000
EPOCH = 1_000_000_000 * SECOND
"""All times in layers lie here, in 2001, so that whatever happens in the test is later."""


@dataclass(frozen=True)
class Meta:
    """Attributes of an object in a layer; the time is in seconds after EPOCH."""

    mode: Octal
    uid: int = 0
    gid: int = 0
    time: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class File:
    meta: Meta
    data: Bytes = b""


@dataclass(frozen=True)
class Dir:
    meta: Meta = Meta(Octal(0o755))
    opaque: bool = False
    redirect: bytes | None = None


@dataclass(frozen=True)
class SoftLink:
    meta: Meta
    content: bytes


@dataclass(frozen=True)
class Special:
    """FIFO, socket or device; the mode holds the type."""

    meta: Meta
    device: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class HardLink:
    """One more name of an object that the layer has under another path."""

    to: bytes


@dataclass(frozen=True)
class Whiteout:
    """Character device 0:0, or (as a file) an empty file with overlay.whiteout."""

    as_file: bool = False


Thing: TypeAlias = File | Dir | SoftLink | Special | HardLink | Whiteout
Layer: TypeAlias = tuple[tuple[bytes, Thing], ...]
"""Paths without slash at the ends, parents first."""
Stack: TypeAlias = tuple[Layer, ...]
"""Lower layers, topmost first."""


@dataclass(eq=False)
class Leaf:
    """An object with however many names; equal only to itself."""

    thing: File | SoftLink | Special | Whiteout
    names: int = 0


@dataclass
class Tree:
    """A directory and what is in it, of one layer or merged."""

    thing: Dir
    children: dict[bytes, Leaf | Tree] = field(default_factory=dict)

    def find(self, path: bytes) -> Leaf | Tree | None:
        at: Leaf | Tree | None = self
        for name in path.split(b"/"):
            if not isinstance(at, Tree):
                return None
            at = at.children.get(name)
        return at

    def walk(self, above: bytes = b"") -> Iterator[tuple[bytes, Leaf | Tree]]:
        for name, child in sorted(self.children.items()):
            path = above + name
            yield path, child
            if isinstance(child, Tree):
                yield from child.walk(path + b"/")


def parse(layer: Layer) -> Tree:
    """The nested form of a layer."""
    root = Tree(Dir())
    for path, thing in sorted(layer, key=lambda item: isinstance(item[1], HardLink)):
        above, _, name = path.rpartition(b"/")
        parent = root.find(above) if above else root
        assert isinstance(parent, Tree), f"{path!r}: no such parent in the layer"
        assert name not in parent.children, f"{path!r}: twice in the layer"
        if isinstance(thing, Dir):
            parent.children[name] = Tree(thing)
            continue
        if isinstance(thing, HardLink):
            leaf = root.find(thing.to)
            assert isinstance(leaf, Leaf), f"{path!r}: link to {thing.to!r}"
        else:
            leaf = Leaf(thing)
        leaf.names += 1
        parent.children[name] = leaf
    return root


def merge(stack: Stack) -> Tree:
    """What the layers show together, as a plain tree without marks."""
    merged = Tree(Dir())
    for layer in reversed(stack):
        merged = _put_over(parse(layer), merged, merged)
    return merged


def _put_over(top: Tree, below: Tree | None, root: Tree) -> Tree:
    """One layer's directory over the merged directory that it covers.

    `root` is what all layers below show; an absolute redirect starts there, a relative one is a
    sibling of what the directory would cover (overlayfs.rst, "renaming directories").
    """
    result = Tree(replace(top.thing, opaque=False, redirect=None))
    if below is not None:
        result.children.update(below.children)
    for name, child in top.children.items():
        if isinstance(child, Leaf):
            if isinstance(child.thing, Whiteout):
                result.children.pop(name, None)
            else:
                result.children[name] = child
            continue
        redirect = child.thing.redirect
        covered: Leaf | Tree | None
        if child.thing.opaque:
            covered = None
        elif redirect is not None and redirect.startswith(b"/"):
            covered = root.find(redirect[1:])
        else:
            covered = None if below is None else below.children.get(redirect or name)
        over = covered if isinstance(covered, Tree) else None
        result.children[name] = _put_over(child, over, root)
    return result


class Writer:
    """Writes trees to disk, with their marks; remembers objects for their further names."""

    def __init__(self) -> None:
        self._written: dict[Leaf, bytes] = {}
        self._names: dict[Leaf, int] = {}

    def write(self, tree: Tree, root: Path) -> None:
        """Fill the empty directory `root`."""
        self._directory(tree, os.fsencode(root))

    def hide(self, shadow: Path) -> None:
        """Give each object the names that its layer has and the merged tree does not show.

        They count in st_nlink: see deviations, "hidden-links".
        """
        number = 0
        for leaf, path in self._written.items():
            for _ in range(leaf.names - self._names[leaf]):
                os.link(path, shadow / str(number), follow_symlinks=False)
                number += 1

    def _directory(self, tree: Tree, path: bytes) -> None:
        xwhiteouts = False
        for name, child in tree.children.items():
            below = path + b"/" + name
            if isinstance(child, Tree):
                os.mkdir(below)
                self._directory(child, below)
            else:
                self._leaf(child, below)
                xwhiteouts |= isinstance(child.thing, Whiteout) and child.thing.as_file
        marks = []
        if tree.thing.opaque:
            marks.append((PREFIX + b"opaque", b"y"))
        elif xwhiteouts:
            marks.append((PREFIX + b"opaque", b"x"))
        if tree.thing.redirect is not None:
            marks.append((PREFIX + b"redirect", tree.thing.redirect))
        _dress(path, tree.thing.meta, marks)

    def _leaf(self, leaf: Leaf, path: bytes) -> None:
        self._names[leaf] = self._names.get(leaf, 0) + 1
        if leaf in self._written:
            os.link(self._written[leaf], path, follow_symlinks=False)
            return
        self._written[leaf] = path
        thing = leaf.thing
        if isinstance(thing, Whiteout):
            if thing.as_file:
                os.mknod(path, stat.S_IFREG | 0o644)
                os.setxattr(path, PREFIX + b"whiteout", b"")
            else:
                os.mknod(path, stat.S_IFCHR, 0)
            return
        if isinstance(thing, File):
            with open(path, "wb") as stream:
                stream.write(bytes(thing.data))
        elif isinstance(thing, SoftLink):
            os.symlink(thing.content, path)
        else:
            os.mknod(path, thing.meta.mode, os.makedev(*thing.device))
        _dress(path, thing.meta, [])


def _dress(path: bytes, meta: Meta, marks: list[tuple[bytes, bytes]]) -> None:
    """Attributes in the order in which none undoes another.

    chown clears set-id bits and capabilities (chown(2)); an access ACL sets the mode (acl(5)).
    """
    os.chown(path, meta.uid, meta.gid, follow_symlinks=False)
    if not os.path.islink(path):
        os.chmod(path, stat.S_IMODE(meta.mode))
    for name, value in (*meta.xattrs, *marks):
        os.setxattr(path, name, value, follow_symlinks=False)
    when = EPOCH + meta.time * SECOND
    os.utime(path, ns=(when, when), follow_symlinks=False)
