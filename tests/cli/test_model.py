# SPDX-License-Identifier: GPL-3.0-or-later
"""`diff` and `explain` against what they claim, on random histories of random unions.

A difference is right if it turns the tree before into the tree after: the moves, deletions and
additions that it lists, and nothing else, give the paths that are there, and exactly those objects
differ that it calls changed. An explanation is right if the object it names is the one shown.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.mounttable import run
from unionfs import journal
from unionfs.changes import Change, diff
from unionfs.config import Format, MountConfig
from unionfs.node import Caller, Node
from unionfs.provenance import explain
from unionfs.union import Union

CALLER = Caller(0, 0)
_RENAME_EXCHANGE = 2


class Face(NamedTuple):
    """What a user sees of one object; of a directory, not its times."""

    type: int
    mode: int
    owner: tuple[int, int]
    content: bytes
    mtime: int
    xattrs: dict[bytes, bytes]


class Tree:
    """A union with its objects by path, as the operations below need it."""

    def __init__(self, config: MountConfig) -> None:
        self.union = Union(config)

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Every path with its node, parents first; b"" is the root."""
        steps: list[tuple[bytes, Node]] = [(b"", self.union.root)]
        while steps:
            path, node = steps.pop()
            yield path, node
            if node.is_dir:
                for name, _ in sorted(self.union.opendir(node).entries)[2:]:
                    found = self.union.lookup(node, name)
                    assert found is not None, path + b"/" + name
                    found[0].nlookup += 1
                    steps.append((path + b"/" + name, found[0]))

    def faces(self) -> dict[bytes, Face]:
        return {path: self.face(node) for path, node in self.walk() if path}

    def face(self, node: Node) -> Face:
        union = self.union
        found = union.stat(node)
        content = b""
        if stat.S_ISREG(found.mode):
            file = union.open(node, os.O_RDONLY, CALLER)
            content = file.read(1 << 16, 0)
            union.release(file)
        elif stat.S_ISLNK(found.mode):
            content = union.readlink(node)
        return Face(
            stat.S_IFMT(found.mode),
            found.mode,
            (found.uid, found.gid),
            content,
            0 if node.is_dir else found.mtime_ns,
            {name: union.getxattr(node, name) for name in union.listxattr(node)},
        )

    def apply(self, operation: tuple[str, int, int, bytes]) -> None:
        """One change to objects picked by number; one that the tree refuses changes nothing."""
        verb, first, second, name = operation
        objects = list(self.walk())
        directories = [(path, node) for path, node in objects if node.is_dir]
        path, node = objects[first % len(objects)]
        parent = directories[second % len(directories)][1]
        directory, _, own = path.rpartition(b"/")
        above = dict(directories)[directory] if path else None
        with contextlib.suppress(OSError):
            self._do(verb, above, own, node, parent, name)

    def _do(
        self, verb: str, above: Node | None, own: bytes, node: Node, parent: Node, name: bytes
    ) -> None:
        union = self.union
        if verb == "create":
            _, _, file = union.create(parent, name, 0o644, os.O_RDWR | os.O_EXCL, CALLER)
            file.write(b"new", 0)
            union.release(file)
        elif verb == "write":
            file = union.open(node, os.O_WRONLY, CALLER)
            file.write(name, 1)
            union.release(file)
        elif verb == "touch":  # opened for writing, nothing written
            union.release(union.open(node, os.O_WRONLY, CALLER))
        elif verb == "mkdir":
            union.mkdir(parent, name, 0o755, CALLER)
        elif verb == "symlink":
            union.symlink(parent, name, b"target", CALLER)
        elif verb == "link":
            union.link(node, parent, name)
        elif verb == "chmod":
            union.setattr(node, mode=0o600 | len(name) % 8)
        elif verb == "chown":
            union.setattr(node, uid=len(own) + len(name))
        elif verb == "times":
            union.setattr(node, mtime_ns=1_000_000_000)
        elif verb == "xattr":
            union.setxattr(node, b"user." + name, b"value")
        elif above is not None:
            if verb == "rename":
                union.rename(above, own, parent, name)
            elif verb == "exchange":
                union.rename(above, own, parent, name, _RENAME_EXCHANGE)
            elif verb == "remove":
                self._remove(above, own, node)

    def _remove(self, above: Node, name: bytes, node: Node) -> None:
        if not node.is_dir:
            self.union.unlink(above, name)
            return
        for entry, _ in self.union.opendir(node).entries[2:]:
            found = self.union.lookup(node, entry)
            assert found is not None
            found[0].nlookup += 1
            self._remove(node, entry, found[0])
        self.union.rmdir(above, name)


def claimed(before: dict[bytes, Face], changes: list[Change]) -> dict[bytes, bytes | None]:
    """The paths that a difference leads to: path → path before, or None for what is new."""
    moves = {change.source: change.path for change in changes if change.source is not None}
    deleted = {change.path for change in changes if change.kind == "D"}
    emptied = {c.path for c in changes if c.kind == "C" and c.type != "directory"}
    result: dict[bytes, bytes | None] = {}
    for path in before:
        source = path
        while source and source not in moves:
            source = source.rpartition(b"/")[0]
        if source:
            # What is deleted at the place it came to, or above, is what was there before.
            now = moves[source] + path[len(source) :]
            ended = deleted | emptied - {now}
            gone = {place for place in ended if place.startswith(moves[source] + b"/")}
        else:
            now = path
            gone = deleted | emptied - {path}
        if not within(now, gone):
            result[now] = path
    for change in changes:
        if change.kind == "A":
            result[change.path] = None
    return result


def within(path: bytes, places: set[bytes]) -> bool:
    """Whether a path is one of the places, or lies below one."""
    while path and path not in places:
        path = path.rpartition(b"/")[0]
    return bool(path)


def check_difference(
    before: dict[bytes, Face], after: dict[bytes, Face], changes: list[Change]
) -> None:
    told = "\n".join(map(repr, changes))
    origins = claimed(before, changes)
    assert set(origins) == set(after), told
    marked = {change.path: change for change in changes if change.kind in "CR"}
    for path, source in origins.items():
        if source is None:
            assert path not in marked, told
            continue
        change = marked.get(path)
        differs = before[source] != after[path]
        assert differs == bool(change is not None and change.what), (path, source, told)
        assert change is None or change.kind == "R" or change.what, told


def check_explanations(config: MountConfig, tree: Tree, before: dict[bytes, Face]) -> None:
    nodes = {path: node for path, node in tree.walk() if path}
    for path, node in nodes.items():
        known = explain(config, path)
        shown = next(each for each in known.sightings if each.role == "shown")
        found = os.lstat(shown.layer + b"/" + shown.path)
        real = node.real_stat()
        assert (found.st_dev, found.st_ino) == (real.st_dev, real.st_ino), (path, known)
        assert (shown.number == 0) == node.is_upper, (path, known)
    for path in before.keys() - nodes.keys():
        known = explain(config, path)
        assert known.type is None, (path, known)
        assert known.decisions, (path, known)
        assert any(each.role == "hidden" for each in known.sightings), (path, known)


operations = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("create", "write", "touch", "mkdir", "symlink", "link", "chmod", "chown"),
                *("times", "xattr", "rename", "rename", "exchange", "remove", "remove"),
            ]
        ),
        st.integers(0, 40),
        st.integers(0, 20),
        st.sampled_from([b"a", b"b", b"c", b"d"]),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def space() -> Iterator[Path]:
    """A tmpfs for the layers of every example."""
    root = Path(tempfile.mkdtemp(prefix="lamina-"))
    run("mount", "-t", "tmpfs", "-o", "mode=755,size=64m", "lamina-test", str(root))
    yield root
    run("umount", str(root))
    root.rmdir()


def make_cd(root: Path) -> None:
    for directory in ("a/b/c", "b/c", "d"):
        (root / directory).mkdir(parents=True)
    for name in ("a/a", "a/b/a", "a/b/c/a", "b/a", "b/c/d", "c"):
        (root / name).write_text(f"{name}\n")
        os.utime(root / name, ns=(1, 1))
    (root / "b/b").hardlink_to(root / "c")
    (root / "b/d").symlink_to("a")


@pytest.mark.parametrize("format", ["overlay", "aufs"])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=operations, second=operations)
def test_histories(
    space: Path,
    format: Format,
    first: list[tuple[str, int, int, bytes]],
    second: list[tuple[str, int, int, bytes]],
) -> None:
    """Two histories, one on top of the other: the upper of the first is a lower of the second."""
    with tempfile.TemporaryDirectory(dir=space) as made:
        root = Path(made)
        for made_name in ("cd", "one", "two", "work-one", "work-two"):
            (root / made_name).mkdir(mode=0o755)
        make_cd(root / "cd")
        base = os.fsencode(root)
        lower: tuple[bytes, ...] = (base + b"/cd",)
        for name, history in ((b"one", first), (b"two", second)):
            upper = base + b"/" + name
            config = MountConfig(
                lower=lower,
                upper=upper,
                work=base + b"/work-" + name,
                format=format,
                journal=True,
            )
            tree = Tree(config)
            try:
                before = tree.faces()
                for operation in history:
                    tree.apply(operation)
                after = tree.faces()
                assert journal.read(base + b"/work-" + name, upper) is not None
                changes = diff(upper, lower, format=format, work=config.work)
                walked = diff(upper, lower, format=format, work=config.work, journaled=False)
                assert changes == walked
                check_difference(before, after, changes)
                check_explanations(config, tree, before)
            finally:
                tree.union.close()
            # What was listed without looking at contents is the same, but for the reasons.
            quick = diff(upper, lower, format=format, work=config.work, detail=False)
            assert [c[:4] for c in quick] == [c[:4] for c in changes]
            lower = (upper, *lower)
