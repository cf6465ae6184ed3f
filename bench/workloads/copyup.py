# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy-up: the first change to an object of a lower layer.

A plain directory has nothing to copy up; its floor in these rows is cp(1) of the same file, and for
the small files the change alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.layers import Layout, age, blob, grid, large, sparse
from bench.results import Row
from bench.session import Session
from bench.sizes import KIB, Sizes, spoken
from bench.workloads.scenario import Scenario, Step, one_layer, per_operation

GROUP = "copy-up"
FLOOR = "plain: cp of the file"
LARGE = ("appended", "chmodded", "truncated")


def _file(tree: str) -> str:
    """Where the client finds the one file of a tree."""
    return f"{tree}/d000/f00000"


def _build_small(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    grid(layer / "small", 1, sizes.small_files, blob(4 * KIB, 3))
    age(layer)
    return layout


def _build_large(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    for tree in LARGE:
        large(layer / _file(tree), sizes.large_bytes)
    age(layer)
    return layout


def _build_sparse(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    sparse(layer / _file("sparse"), sizes.sparse_bytes, sizes.sparse_data)
    age(layer)
    return layout


def _change(row: Row, operation: str, tree: str) -> Step:
    """One change to one file, in ms."""

    def action(session: Session) -> float:
        if session.peer.plain:
            copy = session.merged / f"{tree}-copy"
            source = session.layout.lower[0] / _file(tree)
            if operation == "truncate":
                return session.loop(operation, tree, dirs=1, files=1) / 1e6
            finished = session.command(
                "cp", "--sparse=auto", "--reflink=auto", os.fspath(source), os.fspath(copy)
            )
            return finished.ns / 1e6
        return session.loop(operation, tree, dirs=1, files=1) / 1e6

    return Step(row, action)


def scenarios(sizes: Sizes) -> list[Scenario]:
    big, hollow = spoken(sizes.large_bytes), spoken(sizes.sparse_bytes)
    small = per_operation(
        Row(GROUP, "small file, 4 KiB", "µs", "open to append, write a byte, close"),
        "append", "small", dirs=1, files=sizes.small_files,
    )  # fmt: skip
    return [
        Scenario(name="copy-up: small", build=_build_small, steps=(small,), on_disc=True,
                 repeats=sizes.micro_repeats),
        Scenario(
            name="copy-up: large",
            build=_build_large,
            steps=(
                _change(Row(GROUP, f"large file, {big}", "ms", f"append a byte; {FLOOR}"),
                        "append", "appended"),
                _change(Row(GROUP, f"chmod of a large file, {big}", "ms", FLOOR),
                        "chmod", "chmodded"),
                _change(Row(GROUP, f"truncating open of a large file, {big}", "ms"),
                        "truncate", "truncated"),
            ),
            on_disc=True,
        ),
        Scenario(
            name="copy-up: sparse",
            build=_build_sparse,
            steps=(
                _change(
                    Row(GROUP, f"sparse file, {hollow}", "ms",
                        f"append a byte; {spoken(sizes.sparse_data)} of it is data; {FLOOR}"),
                    "append", "sparse",
                ),
            ),
        ),
    ]  # fmt: skip
