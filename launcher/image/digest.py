# SPDX-License-Identifier: GPL-3.0-or-later
"""SHA-256, as all digests of images are.

`hashlib` loads the whole of OpenSSL, which takes longer than to hash what a small change needs; so
it is loaded where there is much to hash, for which it is several times as fast as Python's own.
"""

from __future__ import annotations

from launcher.typed import Any, Final

__all__ = ["Digest", "of"]

_MUCH: Final = 2 << 20


class Digest:
    """A digest under way."""

    __slots__ = ("_few", "_hash", "_size")

    def __init__(self) -> None:
        self._few: list[bytes] = []
        self._size = 0
        self._hash: Any = None

    def update(self, data: bytes) -> None:
        """Take in more."""
        if self._hash is not None:
            self._hash.update(data)
            return
        self._few.append(data)
        self._size += len(data)
        if self._size > _MUCH:
            from hashlib import sha256

            self._hash = sha256()
            for each in self._few:
                self._hash.update(each)
            self._few.clear()

    def hexdigest(self) -> str:
        """What it comes to, in hex."""
        if self._hash is not None:
            return str(self._hash.hexdigest())
        return of(b"".join(self._few))


def of(content: bytes) -> str:
    """The digest of what is little, in hex."""
    return str(_own()(content).hexdigest())


def _own() -> Any:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:  # since Python 3.12
        try:
            from _sha2 import sha256  # type: ignore[import-not-found]
        except ImportError:  # an interpreter that has OpenSSL's alone
            from hashlib import sha256
    return sha256
