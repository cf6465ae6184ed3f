# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run has measured, row by row and peer by peer, and its form as JSON.

Everything a report needs is here; a report can be made again from the file alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.statistics import Summary, summary

FORMAT = "lamina-bench/1"


class BadResults(Exception):
    """A file that is not the JSON of a run; the text is for a person."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report. `unit` is that of its values, which are costs: less is better.
    Rows with the same `series` are the points of one curve over `x`."""

    group: str
    name: str
    unit: str
    note: str = ""
    series: str = ""
    x: int = 0


@dataclass(slots=True)
class Measured:
    """The samples of one row on one filesystem, and why there are none where there are none."""

    row: Row
    filesystem: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)

    def summary(self, peer: str) -> Summary | None:
        return summary(self.samples.get(peer, ()))


@dataclass(slots=True)
class PeerFacts:
    """What was compared, and how it was mounted."""

    name: str
    command: str
    version: str = ""
    absent: str = ""
    """why it took no part; empty if it did"""


@dataclass(slots=True)
class Results:
    """A whole run. `environment` and `load` are what `bench.environment` says of the machine."""

    profile: str
    subject: str
    """the peer that the bars are for"""
    started: str = ""
    finished: str = ""
    complete: bool = False
    rounds: int = 0
    cold: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    filesystems: dict[str, str] = field(default_factory=dict)
    peers: list[PeerFacts] = field(default_factory=list)
    load: list[dict[str, str]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    measured: dict[tuple[str, Row], Measured] = field(default_factory=dict)

    def at(self, filesystem: str, row: Row) -> Measured:
        return self.measured.setdefault((filesystem, row), Measured(row, filesystem))

    def sample(self, filesystem: str, row: Row, peer: str, value: float) -> None:
        self.at(filesystem, row).samples.setdefault(peer, []).append(value)

    def failure(self, filesystem: str, row: Row, peer: str, reason: str) -> None:
        self.at(filesystem, row).failures.setdefault(peer, []).append(reason)

    @property
    def present(self) -> list[str]:
        """The peers that took part, in the order in which they were named."""
        return [peer.name for peer in self.peers if not peer.absent]

    def groups(self) -> Iterator[tuple[str, str, list[Measured]]]:
        """(filesystem, group, its rows), in the order of the work."""
        found: dict[tuple[str, str], list[Measured]] = {}
        for (filesystem, row), measured in self.measured.items():
            found.setdefault((filesystem, row.group), []).append(measured)
        for (filesystem, group), rows in found.items():
            yield filesystem, group, rows

    # -- JSON -----------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        plain = asdict(replace(self, measured={}))
        plain["measured"] = [asdict(measured) for measured in self.measured.values()]
        path.write_text(json.dumps({"format": FORMAT, **plain}, indent=1, ensure_ascii=False))

    @classmethod
    def load_file(cls, path: Path) -> Results:
        """Read what `save` wrote; raises BadResults."""
        try:
            plain: dict[str, Any] = json.loads(path.read_text())
        except OSError as error:
            raise BadResults(f"cannot read {path}: {error.strerror}") from None
        except ValueError as error:
            raise BadResults(f"cannot read {path}: it is not JSON ({error})") from None
        try:
            if plain.pop("format") != FORMAT:
                raise BadResults(f"cannot read {path}: it is of another format than {FORMAT}")
            rows = plain.pop("measured")
            peers = [PeerFacts(**peer) for peer in plain.pop("peers")]
            results = cls(**plain, peers=peers)
            for entry in rows:
                row = Row(**entry.pop("row"))
                results.measured[entry["filesystem"], row] = Measured(row, **entry)
        except (AttributeError, KeyError, TypeError) as error:
            raise BadResults(f"cannot read {path}: not the results of a run ({error})") from None
        return results
