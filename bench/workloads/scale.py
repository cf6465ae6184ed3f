# SPDX-License-Identifier: GPL-3.0-or-later
"""Scale: many layers, large directories, several clients at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.layers import Layout, age, grid
from bench.results import Row
from bench.sizes import Sizes
from bench.workloads.scenario import Scenario, one_layer, per_operation

GROUP = "scale"
LAYERS = "cold walk by layers"
LISTINGS = "first listing by entries"


def _build_layers(count: int, base: Path, sizes: Sizes) -> Layout:
    """The same tree for any number of layers: each directory is in all of them, its files are
    dealt out among them."""
    extras = base / "extras"
    extras.mkdir(parents=True)
    layers = tuple(base / str(number) for number in range(count))
    for number, layer in enumerate(layers):
        grid(layer / "walked", sizes.layered_dirs, 0)
        for d in range(sizes.layered_dirs):
            for f in range(number, sizes.layered_files, count):
                (layer / "walked" / f"d{d:03d}" / f"f{f:05d}").write_bytes(b"x")
        age(layer)
    return Layout(layers, extras)


def _build_listings(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    for entries in sizes.listings:
        grid(layer / f"of-{entries}", max(1000 // entries, 1), entries)
    age(layer)
    return layout


def _build_clients(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    for clients in sizes.clients:
        grid(layer / f"by-{clients}", _client_dirs(sizes), sizes.files, b"x")
        grid(layer / f"new-{clients}", _client_dirs(sizes), 0)
    age(layer)
    return layout


def _client_dirs(sizes: Sizes) -> int:
    """As many directories as can be dealt out evenly to any of the numbers of clients."""
    most = max(sizes.clients)
    return (sizes.dirs + most - 1) // most * most


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def scenarios(sizes: Sizes) -> list[Scenario]:
    found = [
        Scenario(
            name=f"scale: {_plural(count, 'layer')}",
            build=partial(_build_layers, count),
            steps=(
                per_operation(
                    Row(GROUP, f"cold walk, {_plural(count, 'layer')}", "µs/entry",
                        "every directory listed, every entry looked at", LAYERS, count),
                    "walk", "walked", dirs=sizes.layered_dirs,
                ),
            ),
        )
        for count in sizes.layers
    ]  # fmt: skip
    listings = tuple(
        per_operation(
            Row(GROUP, f"first listing, {entries} entries", "µs/entry",
                "of one directory" if entries >= 1000 else "of several such directories",
                LISTINGS, entries),
            "list", f"of-{entries}", dirs=max(1000 // entries, 1),
        )
        for entries in sizes.listings
    )  # fmt: skip
    found.append(Scenario(name="scale: directories", build=_build_listings, steps=listings))
    clients = tuple(
        per_operation(
            Row(GROUP, f"{name}, {_plural(count, 'client')}", "µs",
                "wall time over the operations of all", f"{name} by clients", count),
            operation, tree.format(count), dirs=_client_dirs(sizes), files=sizes.files,
            clients=count, **given,
        )
        for name, operation, tree, given in (
            ("cold stat", "stat", "by-{}", {}),
            ("create", "create", "new-{}", {"prefix": "c"}),
        )
        for count in sizes.clients
    )  # fmt: skip
    found.append(Scenario(name="scale: clients", build=_build_clients, steps=clients))
    return found
