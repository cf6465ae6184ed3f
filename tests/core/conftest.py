# SPDX-License-Identifier: GPL-3.0-or-later
"""A `Bench` of layers and a union over them, driven by paths."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from unionfs.config import MountConfig
from unionfs.union import Caller, File, Node, Stat, Union

ROOT = Caller(0, 0)


class Bench:
    """Directories upper, work, low0, low1 … on one filesystem, and at most one union over them."""

    def __init__(self, top: bytes) -> None:
        self.top = top
        self.union: Union | None = None
        self._lowers: tuple[bytes, ...] = ()
        for name in (b"upper", b"work"):
            os.mkdir(top + b"/" + name)

    def path(self, layer: str, path: str = "") -> bytes:
        return os.path.join(self.top, os.fsencode(layer), os.fsencode(path))

    def lower(self, index: int, tree: dict[str, Any]) -> bytes:
        """Fill low<index> from {name: content | None (directory) | callable(path)}."""
        root = self.path(f"low{index}")
        os.makedirs(root, exist_ok=True)
        fill(root, tree)
        return root

    def mount(self, lowers: int = 1, *, upper: bool = True, **options: Any) -> Union:
        self.close()
        paths = tuple(self.path(f"low{index}") for index in range(lowers))
        for path in paths:
            os.makedirs(path, exist_ok=True)
        if upper:
            options.setdefault("upper", self.path("upper"))
            options.setdefault("work", self.path("work"))
        self.union = Union(MountConfig(lower=paths, **options))
        return self.union

    @property
    def mounted(self) -> Union:
        assert self.union is not None
        return self.union

    def find(self, path: str | bytes) -> tuple[Node, Stat] | None:
        union = self.mounted
        node, status = union.root, union.stat(union.root)
        for step in os.fsencode(path).split(b"/"):
            if not step:
                continue
            found = union.lookup(node, step)
            if found is None:
                return None
            node, status = found
        return node, status

    def node(self, path: str | bytes) -> Node:
        found = self.find(path)
        assert found is not None, path
        return found[0]

    def stat(self, path: str | bytes) -> Stat:
        found = self.find(path)
        assert found is not None, path
        return found[1]

    def place(self, path: str | bytes) -> tuple[Node, bytes]:
        above, _, name = os.fsencode(path).rpartition(b"/")
        return self.node(above), name

    def names(self, path: str = "") -> set[bytes]:
        listing = self.mounted.opendir(self.node(path))
        listed = [name for name, _ in listing.entries]
        for name, number in listing.numbers.items():
            found = self.mounted.lookup(listing.node, name)
            assert found is not None
            assert found[1].ino == number, name
        assert len(listed) == len(set(listed))
        assert listed[:2] == [b".", b".."]
        return set(listed[2:])

    def read(self, path: str | bytes) -> bytes:
        file = self.open(path, os.O_RDONLY)
        try:
            return file.read(1 << 24, 0)
        finally:
            self.mounted.release(file)

    def open(self, path: str | bytes, flags: int) -> File:
        return self.mounted.open(self.node(path), flags, ROOT)

    def write(self, path: str | bytes, data: bytes, mode: int = 0o644) -> Node:
        parent, name = self.place(path)
        node, _, file = self.mounted.create(
            parent, name, mode, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, ROOT
        )
        try:
            file.write(data, 0)
        finally:
            self.mounted.release(file)
        return node

    def mkdir(self, path: str, mode: int = 0o755) -> Node:
        parent, name = self.place(path)
        return self.mounted.mkdir(parent, name, mode, ROOT)[0]

    def unlink(self, path: str) -> None:
        self.mounted.unlink(*self.place(path))

    def rmdir(self, path: str) -> None:
        self.mounted.rmdir(*self.place(path))

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        parent, name = self.place(old)
        newparent, newname = self.place(new)
        self.mounted.rename(parent, name, newparent, newname, flags)

    def link(self, old: str, new: str) -> None:
        parent, name = self.place(new)
        self.mounted.link(self.node(old), parent, name)

    def close(self) -> None:
        if self.union is not None:
            self.union.close()
            self.union = None


def fill(root: bytes, tree: dict[str, Any]) -> None:
    for name, content in tree.items():
        path = os.path.join(root, os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if content is None:
            os.makedirs(path, exist_ok=True)
        elif callable(content):
            content(path)
        else:
            with open(path, "wb") as file:
                file.write(content)


@pytest.fixture
def bench() -> Iterator[Bench]:
    top = tempfile.mkdtemp(prefix="lamina-core-", dir="/dev/shm").encode()
    made = Bench(top)
    before = len(os.listdir("/proc/self/fd"))
    try:
        yield made
        made.close()
        assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"
        work = made.path("work", "work")
        if os.path.isdir(work):
            assert set(os.listdir(work)) <= {b"incompat", b"journal"}, (
                "temporaries were left in work"
            )
    finally:
        made.close()
        shutil.rmtree(top)
