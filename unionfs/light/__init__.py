# SPDX-License-Identifier: GPL-3.0-or-later
"""What the start path takes from the standard library, without loading it.

A process that serves a union, or starts a container, lives through its first tenth of a second
only once, and thousands of them may lie idle on one machine. `contextlib`, `json`, `signal` and
`threading` bring `collections`, `enum`, `functools` and `re` with them: a quarter of all that such
a process does until it serves, and a tenth of its memory. The names here are those modules as far
as they are used here, with the same behaviour; a checker sees the originals. What is not on the
start path imports the originals.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    import contextlib
    import json
    import signal
    import sqlite3
    import threading
    from collections import deque
    from queue import SimpleQueue
else:
    # The originals give the same numbers names of an enumeration.
    import _signal as signal
    from _collections import deque
    from _queue import SimpleQueue

__all__ = ["SimpleQueue", "contextlib", "deque", "json", "signal", "sqlite3", "threading"]
