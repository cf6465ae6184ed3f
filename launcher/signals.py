# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals as people write them: TERM, SIGTERM, 15, RTMIN+3.

`signal` of the standard library loads `enum`, so the numbers come from the C module beneath it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

from launcher.errors import SpecError
from launcher.typed import Final

__all__ = ["name_of", "number"]

_NUMBERS: Final[dict[str, int]] = {
    name[3:]: int(getattr(_signal, name))
    for name in dir(_signal)
    if name.startswith("SIG") and not name.startswith("SIG_")
}
_LAST: Final = 64


def number(text: str, what: str = "use signal") -> int:
    """The number of a signal. Raises SpecError for one that there is not."""
    upper = text.upper().removeprefix("SIG")
    if upper in _NUMBERS:
        return _NUMBERS[upper]
    found = 0
    if upper.isascii() and upper.isdecimal():
        found = int(upper)
    for name, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        offset = upper.removeprefix(name)
        if offset != upper and offset.isascii() and offset.isdecimal():
            found = _NUMBERS[name[:-1]] + sign * int(offset)
    if not 0 < found <= _LAST:
        raise SpecError(what, text, "there is none of that name or number")
    return found


def name_of(signal_number: int) -> str:
    """SIGTERM for 15; a real-time signal relative to SIGRTMIN."""
    aliases = ("CLD", "POLL", "IOT")
    for name, each in _NUMBERS.items():
        if each == signal_number and name not in aliases:
            return f"SIG{name}"
    return f"SIGRTMIN+{signal_number - _NUMBERS['RTMIN']}"
