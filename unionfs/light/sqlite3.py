# SPDX-License-Identifier: GPL-3.0-or-later
"""`connect`, `Connection`, `Error` and `IntegrityError`, as in the standard library's sqlite3.

They are the same ones. `sqlite3` itself also loads `datetime`, for columns that hold dates.
"""

from __future__ import annotations

TYPE_CHECKING = False

if not TYPE_CHECKING:
    from _sqlite3 import Connection, Error, IntegrityError, connect

    __all__ = ["Connection", "Error", "IntegrityError", "connect"]
