# SPDX-License-Identifier: GPL-3.0-or-later
"""Metadata: one client, one lower layer, a tree of its own for each kind of cold access."""

from __future__ import annotations

from pathlib import Path

from bench.layers import Layout, age, blob, grid
from bench.results import Row
from bench.sizes import KIB, Sizes
from bench.workloads.scenario import Scenario, one_layer, per_operation

GROUP = "metadata"
READ = ("looked-at", "missing", "listed", "opened")
CHANGED = ("chmodded", "renamed", "unlinked")


def _row(name: str, note: str = "", unit: str = "µs") -> Row:
    return Row(GROUP, name, unit, note)


def _build(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    for tree in READ + CHANGED:
        grid(layer / tree, sizes.dirs, sizes.files, blob(4 * KIB, 1) if tree == "opened" else b"x")
    grid(layer / "new", sizes.dirs, 4)
    age(layer)
    return layout


def scenarios(sizes: Sizes) -> list[Scenario]:
    tree: dict[str, object] = {"dirs": sizes.dirs, "files": sizes.files}
    again: dict[str, object] = {**tree, "passes": sizes.warm_passes, "warm": 1}
    absent: dict[str, object] = {"prefix": "absent"}
    reading = (
        per_operation(_row("cold stat", "lstat of every file of a lower layer, once"), "stat",
                      "looked-at", **tree),
        per_operation(_row("warm stat", "the same files again"), "stat", "looked-at", **again),
        per_operation(_row("negative lookup, first", "names that no layer has"), "missing",
                      "missing", **tree, **absent),
        per_operation(_row("negative lookup, again"), "missing", "missing", **again, **absent),
        per_operation(_row("listing, first", "opendir, readdir to the end, closedir",
                           "µs/entry"), "list", "listed", **tree),
        per_operation(_row("listing, again", unit="µs/entry"), "list", "listed", **again),
        per_operation(_row("open+read+close, first", "4 KiB of lower files, not looked up before"),
                      "open", "opened", **tree),
        per_operation(_row("open+read+close, again", "the names are known"), "open", "opened",
                      **tree, warm=1),
    )  # fmt: skip
    writing = (
        per_operation(_row("create", "new files in directories of a lower layer"), "create", "new",
                      **tree, prefix="c"),
        per_operation(_row("mkdir"), "mkdir", "new", **tree, prefix="m"),
        per_operation(_row("symlink"), "symlink", "new", **tree, prefix="l"),
        per_operation(_row("chmod", "of new files"), "chmod", "new", **tree, prefix="c"),
        per_operation(_row("rename", "of new files"), "rename", "new", **tree, prefix="c", to="r"),
        per_operation(_row("unlink", "of new files"), "unlink", "new", **tree, prefix="r"),
        per_operation(_row("chmod of a lower file", "1 byte is copied up"), "chmod", "chmodded",
                      **tree),
        per_operation(_row("rename of a lower file", "copy-up and whiteout"), "rename", "renamed",
                      **tree),
        per_operation(_row("unlink of a lower file", "whiteout"), "unlink", "unlinked", **tree),
    )  # fmt: skip
    return [
        Scenario(name="metadata: read", build=_build, steps=reading, repeats=sizes.micro_repeats),
        Scenario(name="metadata: write", build=_build, steps=writing, repeats=sizes.micro_repeats),
    ]
