# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs side by side: what became faster or slower, and whether that is more than scatter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.peers import OVERLAYFS
from bench.results import Measured, Results
from bench.statistics import Summary, apart, ratio

NOTABLE = 0.05
"""a change of the median by less than this is not worth a word"""


@dataclass(frozen=True, slots=True)
class Change:
    """One row on one peer, before and now. `relative` is the change once that of kernel overlayfs
    in the same row is taken out: what is left when the machine itself was faster or slower."""

    measured: Measured
    peer: str
    before: Summary
    now: Summary
    times: float
    relative: float | None

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, or empty for a change within the scatter."""
        if not apart(self.before, self.now) or abs(self.times - 1) < NOTABLE:
            return ""
        return "faster" if self.times < 1 else "slower"


def changes(before: Results, now: Results) -> Iterator[Change]:
    """For every row and peer that both runs have, in the order of the newer one."""
    earlier = {
        (measured.filesystem, measured.row.group, measured.row.name): measured
        for measured in before.measured.values()
    }
    for measured in now.measured.values():
        old = earlier.get((measured.filesystem, measured.row.group, measured.row.name))
        if old is None or old.row.unit != measured.row.unit:
            continue
        machine = ratio(measured.summary(OVERLAYFS), old.summary(OVERLAYFS))
        for peer in now.present:
            first, second = old.summary(peer), measured.summary(peer)
            times = ratio(second, first)
            if first is None or second is None or times is None:
                continue
            relative = times / machine if machine and peer != OVERLAYFS else None
            yield Change(measured, peer, first, second, times, relative)


def caveats(before: Results, now: Results) -> list[str]:
    """Why the two runs may not be comparable."""
    found = []
    if before.profile != now.profile:
        found.append(f"the earlier run was {before.profile}, this one is {now.profile}")
    for key in ("kernel", "CPU", "memory", "client"):
        old, new = before.environment.get(key), now.environment.get(key)
        if old != new:
            found.append(f"{key}: {old} then, {new} now")
    if before.cold != now.cold:
        found.append(f"cold meant: {before.cold}")
    for name, about in now.filesystems.items():
        old = before.filesystems.get(name)
        if old is not None and old.partition(" ")[0] != about.partition(" ")[0]:
            found.append(f"{name}: {old} then, {about} now")
    versions = {peer.name: peer.version for peer in before.peers}
    for peer in now.peers:
        if peer.name in versions and versions[peer.name] != peer.version:
            found.append(f"{peer.name}: {versions[peer.name]} then, {peer.version} now")
    return found
