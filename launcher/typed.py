# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher takes from `typing`, without loading it: see `unionfs.typed`."""

from __future__ import annotations

from unionfs.typed import (
    TYPE_CHECKING,
    Any,
    Callable,
    Collection,
    Final,
    FrameType,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    ModuleType,
    MutableMapping,
    NamedTuple,
    NoReturn,
    Protocol,
    Sequence,
)

__all__ = [
    "TYPE_CHECKING",
    "Any",
    "Callable",
    "Collection",
    "Final",
    "FrameType",
    "Generator",
    "Iterable",
    "Iterator",
    "Mapping",
    "ModuleType",
    "MutableMapping",
    "NamedTuple",
    "NoReturn",
    "Protocol",
    "Sequence",
]
