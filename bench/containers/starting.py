# SPDX-License-Identifier: GPL-3.0-or-later
"""From the start of the command to its end, for a container whose program does nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench.containers.engines import Engine
from bench.progress import Progress
from bench.statistics import Summary, summary


def measure(
    engines: Sequence[Engine], rounds: int, seed: int, progress: Progress
) -> dict[str, Summary]:
    """Milliseconds by engine: each once a round, in an order drawn anew for each round."""
    order = random.Random(seed)
    samples: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(rounds):
        progress.at("start to end of `true`", f"round {number + 1} of {rounds}", None)
        for engine in order.sample(list(engines), len(engines)):
            samples[engine.name].append(engine.run(engine.foreground) / 1e6)
    progress.end()
    summaries = {name: summary(values) for name, values in samples.items()}
    return {name: found for name, found in summaries.items() if found is not None}
