# SPDX-License-Identifier: GPL-3.0-or-later
"""What containers are called: 64 hex digits, and a name of two words where none is given.

The words are lamina's own: how a place is, and who charted, drew or described places.
"""

from __future__ import annotations

import os

__all__ = ["identifier", "invented", "is_name"]

_ADJECTIVES = """
    amber balmy bold brisk bright calm candid clear coastal copper cosy crisp deft distant early
    earnest eastern fabled fair fertile fleet fond frank fresh gentle gilded glad golden grand
    green hardy hazel hearty hidden humble inner jolly keen kindly lasting level lively lofty lucid
    lunar mellow merry mild mossy neat nimble noble northern open outer patient placid plain polar
    proud quiet rapid remote restful rocky rosy sandy serene shady silver simple sober solar sound
    southern spry stately steady still sturdy sunny sure tidal tidy tranquil trusty upper verdant
    vivid warm western wide windy wise woody young
"""

_SURNAMES = """
    alidrisi amundsen anaximander apian arrowsmith banks barents barth batuta behaim bell bering
    blaeu bowen brahe buache burton byrd cabot cano cassini champlain cook coronelli dampier david
    delisle dufour earhart ellis eratosthenes fiennes flinders franklin frobisher gama gerritsz
    greely hakluyt hanno hedin hipparchus hondius hudson humboldt ibnmajid janssonius kingsley
    kircher lambert laperouse livingstone magellan malaspina mercator mollweide monte muller munster
    nansen nares nordenskjold ortelius oughtred park parry petermann peutinger piccard pinzon piri
    polo ptolemy pytheas reclus rennell ross saxton scoresby scott seller shackleton snyder speed
    strabo tasman tharp thevet toscanelli valck vancouver vespucci visscher wallis weddell wilkes
    wright xuanzang zhenghe
"""

_START = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_REST = frozenset(_START + "_.-")


def identifier() -> str:
    """A new id: 64 hex digits, which do not all of the first twelve look like a number.

    As docker: an id whose short form is all digits would be taken for a number by other tools.
    """
    while True:
        id = os.urandom(32).hex()
        if not id[:12].isdecimal():
            return id


def invented(attempt: int = 0) -> str:
    """A name of two words; from the second attempt on with a number behind it."""
    number = int.from_bytes(os.urandom(8), "little")
    words = []
    for each in (_ADJECTIVES.split(), _SURNAMES.split()):
        number, index = divmod(number, len(each))
        words.append(each[index])
    name = "_".join(words)
    return f"{name}{number % 10 ** min(attempt, 9)}" if attempt else name


def is_name(text: str) -> bool:
    """Whether a person may call a container or a volume so: [a-zA-Z0-9][a-zA-Z0-9_.-]+."""
    return len(text) > 1 and text[0] in _START and _REST.issuperset(text)
