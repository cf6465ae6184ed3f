# SPDX-License-Identifier: GPL-3.0-or-later
"""All workloads, in the order in which a round does them and the report shows them."""

from __future__ import annotations

from collections.abc import Sequence

from bench.sizes import Sizes
from bench.workloads import (
    builds,
    copyup,
    data,
    databases,
    footprint,
    metadata,
    packages,
    scale,
    sources,
)
from bench.workloads.scenario import Scenario

MODULES = (metadata, data, copyup, scale, footprint, sources, builds, databases, packages)


class NoSuchWorkload(Exception):
    """A word that no workload has in its name; the text is for a person."""


def scenarios(sizes: Sizes, words: Sequence[str] = ()) -> list[Scenario]:
    """Those with one of the words in their name or in the name of one of their rows; all of them
    for no words. Raises NoSuchWorkload."""
    every = [scenario for module in MODULES for scenario in module.scenarios(sizes)]
    for word in words:
        if not any(_named(scenario, word) for scenario in every):
            names = ", ".join(scenario.name for scenario in every)
            raise NoSuchWorkload(f"cannot use the workload {word}: there are {names}")
    return [s for s in every if not words or any(_named(s, word) for word in words)]


def _named(scenario: Scenario, word: str) -> bool:
    names = [scenario.name, *(f"{step.row.group} {step.row.name}" for step in scenario.steps)]
    return any(word.lower() in name.lower() for name in names)
