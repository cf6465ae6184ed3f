# SPDX-License-Identifier: GPL-3.0-or-later
"""`Flattened`: the topmost layers of random histories, written out as one, show the same tree."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings

from tests.cli.test_model import Tree, make_cd, operations, space
from unionfs import FlatItem, Flattened, MountConfig

__all__ = ["space"]


def write_out(flat: Flattened, target: Path) -> list[FlatItem]:
    """Make a layer directory of the items, in the order they come."""
    first: dict[tuple[int, int], Path] = {}
    items = []
    directories = []
    for item in flat:
        items.append(item)
        path = target / os.fsdecode(item.path)
        if item.mark == "whiteout":
            os.mknod(path, stat.S_IFCHR, 0)
            continue
        if item.mark == "opaque":
            os.setxattr(path, "trusted.overlay.opaque", b"y")
            continue
        found = item.found
        assert found is not None
        mode = found.st_mode
        assert path.parent.is_dir(), path
        if stat.S_ISDIR(mode):
            path.mkdir(exist_ok=path == target)
            directories.append(item)
        elif item.identity in first:
            path.hardlink_to(first[item.identity])
            continue
        elif stat.S_ISLNK(mode):
            os.symlink(flat.target(item), path)
        elif stat.S_ISREG(mode):
            fd = flat.open(item)
            with open(fd, "rb") as file:
                path.write_bytes(file.read())
        else:
            os.mknod(path, mode, found.st_rdev)
        if found.st_nlink > 1 and not stat.S_ISDIR(mode):
            first[item.identity] = path
        os.chown(path, found.st_uid, found.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            os.chmod(path, stat.S_IMODE(mode))
        for name, value in flat.xattrs(item):
            os.setxattr(path, name, value, follow_symlinks=False)
        os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns), follow_symlinks=False)
    return items


def names(tree: Tree) -> set[frozenset[bytes]]:
    """Which paths are one file."""
    groups: dict[int, set[bytes]] = {}
    for path, node in tree.walk():
        if not node.is_dir:
            groups.setdefault(node.ino, set()).add(path)
    return {frozenset(group) for group in groups.values()}


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("metacopy", [False, True])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=operations, second=operations)
@example(first=[("exchange", 14, 0, b"b")], second=[("write", 28, 0, b"a")])
def test_histories(
    space: Path,
    journal: bool,
    metacopy: bool,
    first: list[tuple[str, int, int, bytes]],
    second: list[tuple[str, int, int, bytes]],
) -> None:
    """The second history on a union whose upper is the first one's; each upper as a layer by
    itself, and both as one."""
    with tempfile.TemporaryDirectory(dir=space) as made:
        root = Path(made)
        for name in ("cd", "one", "work-one", "two", "work-two", "flat-one", "flat-two", "all"):
            (root / name).mkdir(mode=0o755)
        make_cd(root / "cd")
        base = os.fsencode(root)
        lower: tuple[bytes, ...] = (base + b"/cd",)
        for name, history in (("one", first), ("two", second)):
            upper, work = base + b"/" + name.encode(), base + b"/work-" + name.encode()
            config = MountConfig(
                lower=lower, upper=upper, work=work, metacopy=metacopy, journal=journal
            )
            tree = Tree(config)
            try:
                for operation in history:
                    tree.apply(operation)
                after, linked = tree.faces(), names(tree)
                with Flattened((upper,), lower, work=work) as flat:
                    write_out(flat, root / f"flat-{name}")
                (root / f"alone-{name}").mkdir(mode=0o755)
                with Flattened((upper,), lower, work=work, alone=True) as flat:
                    items = write_out(flat, root / f"alone-{name}")
            finally:
                tree.union.close()
            assert {item.mark for item in items} == {""}
            again = Tree(MountConfig(lower=(base + b"/alone-" + name.encode(),)))
            try:
                assert again.faces() == after
                assert names(again) == linked
            finally:
                again.union.close()
            lower = (base + b"/flat-" + name.encode(), *lower)
            again = Tree(MountConfig(lower=lower))
            try:
                assert again.faces() == after
                assert names(again) == linked
            finally:
                again.union.close()
        with Flattened(lower[:2], lower[2:]) as flat:
            write_out(flat, root / "all")
        again = Tree(MountConfig(lower=(base + b"/all", lower[2])))
        try:
            assert again.faces() == after
        finally:
            again.union.close()
        (root / "whole").mkdir()
        with Flattened(lower) as flat:
            items = write_out(flat, root / "whole")
        assert {item.mark for item in items} == {""}
        again = Tree(MountConfig(lower=(base + b"/whole",)))
        try:
            assert again.faces() == after
        finally:
            again.union.close()
