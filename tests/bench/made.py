# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as a run would have left them, for the tests of what is said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.results import PeerFacts, Results, Row

SUBJECT = "lamina-device"
PEERS = ("plain", "overlayfs", "fuse-overlayfs", SUBJECT)
STAT = Row("metadata", "cold stat", "µs", "lstat, once")


def results(
    rows: Mapping[Row, Mapping[str, Sequence[float]]],
    *,
    filesystem: str = "tmpfs",
    peers: Sequence[str] = PEERS,
    complete: bool = True,
) -> Results:
    """A run of these peers with these samples."""
    made = Results("quick", SUBJECT, "2026-01-02T03:04:05+00:00", complete=complete, rounds=3)
    made.finished = made.started
    made.environment = {"kernel": "Linux 6.18", "CPU": "one of some kind", "client": "C"}
    made.filesystems = {filesystem: "tmpfs on nothing (rw)"}
    made.peers = [PeerFacts(name, f"mount {name} {{merged}}", "1.0") for name in peers]
    made.load = [{"round": "1", "loadavg": "0.10 0.20 0.30"}]
    for row, samples in rows.items():
        for peer, values in samples.items():
            for value in values:
                made.sample(filesystem, row, peer, value)
    return made


def steady(**medians: float) -> dict[str, list[float]]:
    """Three samples close to each median; `_` in a peer's name stands for `-`."""
    return {
        name.replace("_", "-"): [value * 0.99, value, value * 1.01]
        for name, value in medians.items()
    }
