# SPDX-License-Identifier: GPL-3.0-or-later
"""How much an archive from elsewhere may unpack to: what tells a big image from a bomb."""

from __future__ import annotations

import os

from launcher.errors import LaunchError
from launcher.typed import Final, NamedTuple

__all__ = ["Limits", "chosen", "read_size"]

_UNITS: Final = {b"k": 10, b"m": 20, b"g": 30, b"t": 40}


class Limits(NamedTuple):
    """For one layer.

    size    -- bytes of its archive, decompressed
    files   -- entries
    layers  -- of one image; kernel overlayfs takes 500
    json    -- bytes of one manifest or configuration
    """

    size: int = 64 << 30
    files: int = 4_000_000
    layers: int = 500
    json: int = 8 << 20


def chosen() -> Limits:
    """The limits of the environment: LAMINA_MAX_LAYER_SIZE (512m, 20g …), LAMINA_MAX_LAYER_FILES.

    Raises LaunchError for a value that is none.
    """
    limits = Limits()
    for variable, field in (
        (b"LAMINA_MAX_LAYER_SIZE", "size"),
        (b"LAMINA_MAX_LAYER_FILES", "files"),
    ):
        value = os.environb.get(variable)
        if value:
            number = read_size(value)
            if number is None:
                raise LaunchError(
                    "use limit", variable, "its value is not a number, as 512m or 20g"
                )
            limits = limits._replace(**{field: number})
    return limits


def read_size(text: bytes) -> int | None:
    """Bytes, with k, m, g or t for powers of 1024; None if it is no size."""
    text = text.strip().lower()
    text = text.removesuffix(b"ib" if text.endswith(b"ib") else b"b")
    shift = _UNITS.get(text[-1:], 0)
    digits = text[:-1] if shift else text
    return int(digits) << shift if digits.isdigit() else None
