# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite transactions on one database, timed inside: `python -I transactions.py FILE MODE COUNT`.

A program for a process of its own; prints the ns that the transactions took altogether, from the
opening of the database to its closing.
"""

from __future__ import annotations

import sqlite3
import sys
from time import perf_counter_ns


def main(path: str, mode: str, count: int) -> int:
    start = perf_counter_ns()
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous=FULL")
        (set_mode,) = database.execute(f"PRAGMA journal_mode={mode}").fetchone()
        if set_mode != mode:
            print(f"journal mode {mode} is refused: {set_mode}", file=sys.stderr)
            return 1
        for number in range(count):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO item (name) VALUES (?)", (f"new {number}",))
            old = number * 7 % 900 + 1
            database.execute("UPDATE item SET seen = seen + 1 WHERE id = ?", (old,))
            database.execute("COMMIT")
    finally:
        database.close()
    print(perf_counter_ns() - start)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
