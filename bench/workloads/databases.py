# SPDX-License-Identifier: GPL-3.0-or-later
"""Real work of a database: SQLite transactions, each of them synced, on one of a lower layer."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from bench.layers import Layout, age
from bench.results import Row
from bench.session import Session
from bench.sizes import Sizes
from bench.workloads.scenario import Scenario, Step, one_layer

GROUP = "real work"
PROGRAM = Path(__file__).parents[1] / "transactions.py"
MODES = {"delete": "rollback journal", "wal": "write-ahead log"}


def _build(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    for mode in MODES:
        (layer / mode).mkdir()
        with closing(sqlite3.connect(layer / mode / "items.db")) as database, database:
            database.execute(
                "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, seen INTEGER DEFAULT 0)"
            )
            database.executemany(
                "INSERT INTO item (name) VALUES (?)", ((f"item {n}",) for n in range(1000))
            )
    age(layer)
    return layout


def _transactions(session: Session, mode: str, count: int) -> float:
    database = session.merged / mode / "items.db"
    said = session.command(sys.executable, "-I", "-S", PROGRAM, database, mode, count).output
    return int(said) / count / 1e3


def _step(mode: str, name: str, count: int) -> Step:
    return Step(
        Row(GROUP, f"SQLite, {name}", "µs", f"a transaction of {count}, an insert and an update"),
        lambda session: _transactions(session, mode, count),
    )


def scenarios(sizes: Sizes) -> list[Scenario]:
    steps = tuple(_step(mode, name, sizes.transactions) for mode, name in MODES.items())
    return [Scenario(name="databases", build=_build, steps=steps, on_disc=True, rehearse=True)]
