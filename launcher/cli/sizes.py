# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes as docker prints them: three or four digits and a unit."""

from __future__ import annotations

from launcher.typed import Final

__all__ = ["binary_size", "decimal_size"]

_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def decimal_size(size: float, digits: int = 3) -> str:
    """In units of 1000: "1.23MB", "4.5kB". Images and `history` have 3 digits, as `ps -s`."""
    return _shown(size, 1000, _DECIMAL, digits)


def binary_size(size: float, digits: int = 4) -> str:
    """In units of 1024: "1.944GiB"; memory is shown so."""
    return _shown(size, 1024, _BINARY, digits)


def _shown(size: float, base: int, units: tuple[str, ...], digits: int) -> str:
    for unit in units[:-1]:
        if size < base:
            return f"{size:.{digits}g}{unit}"
        size /= base
    return f"{size:.{digits}g}{units[-1]}"
