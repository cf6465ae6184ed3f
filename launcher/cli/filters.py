# SPDX-License-Identifier: GPL-3.0-or-later
"""`--filter KEY=VALUE`, as every verb reads it. What the keys mean is each verb's.

Values of one key are alternatives, but labels have to be there all; different keys must all fit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from launcher.errors import shown
from unionfs import UsageError

__all__ = ["Filters", "any_fits", "labelled", "read_filters"]

Filters = dict[str, list[str]]


def read_filters(words: Iterable[bytes], known: tuple[str, ...]) -> Filters:
    """The values by key. Raises UsageError for a key that is not `known`."""
    found: Filters = {}
    for word in words:
        key, equals, value = os.fsdecode(word).partition("=")
        key = key.strip().lower()
        if not equals:
            raise UsageError("use filter", shown(word), "it is not of the form KEY=VALUE")
        if key not in known:
            reason = f"there is no filter {shown(key)} here (there are {', '.join(known)})"
            raise UsageError("use filter", shown(word), reason)
        found.setdefault(key, []).append(value.strip())
    return found


def any_fits(filters: Filters, key: str, fits: Callable[[str], bool]) -> bool:
    """Whether one of the values of a key fits, or nothing was said of it."""
    return key not in filters or any(fits(value) for value in filters[key])


def labelled(filters: Filters, labels: Mapping[str, str], key: str = "label") -> bool:
    """Whether all the labels asked for are there: KEY, or KEY=VALUE."""
    for wanted in filters.get(key, ()):
        name, equals, value = wanted.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True
