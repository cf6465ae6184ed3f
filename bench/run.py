# SPDX-License-Identifier: GPL-3.0-or-later
"""The run: rounds of all scenarios, each on all peers in an order shuffled anew.

Interleaving is what makes the numbers comparable: whatever else the machine does meets all peers.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench import environment, layers
from bench.client import Client
from bench.client import client as make_client
from bench.ground import Ground, NoGround, ground
from bench.layers import Layout, grid
from bench.peers import PLAIN, Peer
from bench.processes import CommandFailed, TookTooLong
from bench.progress import Progress
from bench.results import Results, Row
from bench.session import PREFIX, CannotMount, NotApplicable, Session, session
from bench.sizes import Sizes
from bench.workloads.scenario import Scenario, Step

COLD = (
    "a fresh mount for each peer, scenario and round, nothing looked up before; the layers' own "
    "entries and data are in the kernel's caches"
)
COLD_DISC = (
    "a fresh mount for each peer, scenario and round, after the kernel's caches were emptied "
    "(drop_caches 3): the disc is in it"
)
MERGED = re.compile(rf"\b{PREFIX}\w{{8}}/(?:merged/|(merged))")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


class Interrupted(BaseException):
    """SIGINT or SIGTERM: stop, clean up, write what is done."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into Interrupted; later ones must not disturb the cleaning
    up."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run. `grounds` are the arguments of `ground`; the first gets all scenarios."""

    sizes: Sizes
    peers: Sequence[Peer]
    scenarios: Sequence[Scenario]
    grounds: Sequence[str]
    rounds: int | None = None
    drop_caches: bool = False
    seed: int = 1


@dataclass(slots=True)
class _Place:
    """A ground with the layers built on it so far, and who is done with what on it."""

    ground: Ground
    number: int
    peers: list[Peer] = field(default_factory=list)
    layouts: dict[str, Layout] = field(default_factory=dict)
    prints: dict[str, int] = field(default_factory=dict)
    given_up: set[tuple[str, str]] = field(default_factory=set)


class Run:
    """Fills `results`, step by step, so that they can be written whenever it is stopped."""

    def __init__(self, plan: Plan, results: Results, progress: Progress) -> None:
        self.plan = plan
        self.results = results
        self.progress = progress
        self.dice = random.Random(plan.seed)
        self.finished_at = 0.0

    def go(self) -> None:
        """All of it; raises NoGround when there is nowhere to work. Interrupted passes through."""
        results = self.results
        results.started = _now()
        results.cold = COLD_DISC if self.plan.drop_caches else COLD
        try:
            with ExitStack() as stack:
                places = self._places(stack)
                client = make_client(places[0].ground.root)
                results.environment = environment.facts(client.language)
                self._meet_peers(places, client)
                self._rounds(places, client)
                results.complete = True
        finally:
            results.finished = _now()
            self.progress.end()

    def _places(self, stack: ExitStack) -> list[_Place]:
        places: list[_Place] = []
        complaints = []
        for kind in self.plan.grounds:
            try:
                entered = stack.enter_context(ground(kind, self.plan.sizes.space))
            except NoGround as error:
                complaints.append(str(error))
                self.results.left_out[kind] = str(error)
                self.progress.say(str(error))
                continue
            name = entered.name
            if name in self.results.filesystems:
                raise NoGround(f"cannot use {kind}: there is one of the kind {name} already")
            self.results.filesystems[name] = entered.about
            places.append(_Place(entered, len(places)))
        if not places:
            raise NoGround("; ".join(complaints))
        return places

    def _meet_peers(self, places: list[_Place], client: Client) -> None:
        """Mount each peer once on each filesystem; who cannot is left out, with the reason."""
        facts = {peer.name: peer for peer in self.results.peers}
        for place in places:
            base = place.ground.root / "probe"
            (base / "extras").mkdir(parents=True)
            grid(base / "0" / "tree", 1, 1)
            layout = Layout((base / "0",), base / "extras")
            for peer in self.plan.peers:
                self.progress.at(f"peers on {place.ground.name}", peer.name, None)
                try:
                    with session(peer, layout, base, place.ground.root, client, 20) as opened:
                        opened.loop("stat", "tree")
                    place.peers.append(peer)
                except (CannotMount, CommandFailed, TookTooLong) as error:
                    reason = self._plainly(str(error), place)
                    self.results.left_out[f"{peer.name} on {place.ground.name}"] = reason
                    self.progress.say(f"without {peer.name} on {place.ground.name}: {reason}")
            shutil.rmtree(base)
        for peer in self.plan.peers:
            if not any(peer in place.peers for place in places):
                kept = facts[peer.name]
                kept.absent = self.results.left_out.pop(f"{peer.name} on {places[0].ground.name}")

    def _rounds(self, places: list[_Place], client: Client) -> None:
        sizes = self.plan.sizes
        most = self.plan.rounds or sizes.rounds_max
        least = self.plan.rounds or sizes.rounds_min
        meter = environment.LoadMeter()
        round_seconds = 0.0
        for number in range(most):
            if number >= least and self.progress.elapsed + round_seconds > sizes.budget:
                break
            start = self.progress.elapsed
            whole = self._round(places, client, number)
            self.results.load.append({"round": str(number + 1), **meter.reading()})
            if not whole:
                self.results.left_out[f"the rest of round {number + 1}"] = "the time was over"
                break
            self.finished_at = self.progress.elapsed
            round_seconds = self.finished_at - start
            self.results.rounds = number + 1

    def _round(self, places: list[_Place], client: Client, number: int) -> bool:
        """All scenarios once; False if the time was over before the last."""
        sizes = self.plan.sizes
        for place in places:
            for scenario in self.plan.scenarios:
                if not (sizes.everything_everywhere or scenario.on_disc or place.number == 0):
                    continue
                for _ in range(scenario.repeats):
                    over = self.progress.elapsed > sizes.budget
                    if number and over and not self.plan.rounds:
                        return False
                    self._scenario(place, scenario, client, number)
        return True

    def _scenario(self, place: _Place, scenario: Scenario, client: Client, number: int) -> None:
        heading = f"round {number + 1}, {place.ground.name}, {scenario.name}"
        layout = self._layout(place, scenario, client, heading)
        if layout is None:
            return
        peers = [peer for peer in place.peers if (peer.name, scenario.name) not in place.given_up]
        self.dice.shuffle(peers)
        base = layout.extras.parent
        for peer in peers:
            self.progress.at(heading, peer.name, self._left(number))
            place.ground.settle()
            if self.plan.drop_caches:
                DROP_CACHES.write_text("3")
            samples: list[tuple[Row, float]] = []
            try:
                with session(
                    peer, layout, base, place.ground.root, client, self.plan.sizes.step_seconds
                ) as opened:
                    self._steps(opened, scenario, place, samples)
            except CannotMount as error:
                self._give_up(place, scenario.steps, peer, f"cannot mount: {error}", scenario)
            if layers.fingerprint(layout.lower) != place.prints[scenario.name]:
                # mergerfs does it. What was measured is no union's work, and the layers are spoilt.
                self._give_up(place, scenario.steps, peer, "it wrote to a lower layer", scenario)
                shutil.rmtree(base)
                layout = self._build(place, scenario, base)
                continue
            for row, value in samples:
                self.results.sample(place.ground.name, row, peer.name, value)

    def _steps(
        self, opened: Session, scenario: Scenario, place: _Place, samples: list[tuple[Row, float]]
    ) -> None:
        """Do the steps until the peer does not answer in time."""
        peer = opened.peer
        for number, step in enumerate(scenario.steps):
            try:
                value = step.action(opened)
            except NotApplicable:
                continue
            except CommandFailed as error:
                self._failed(place, step.row, peer, str(error))
            except TookTooLong as error:
                self._failed(place, step.row, peer, str(error))
                reason = f"not reached after {step.row.name}"
                self._give_up(place, scenario.steps[number + 1 :], peer, reason, scenario)
                return
            else:
                samples.append((step.row, value))

    def _give_up(
        self, place: _Place, steps: Sequence[Step], peer: Peer, reason: str, scenario: Scenario
    ) -> None:
        """Never again this scenario with this peer: the rows left have a reason for no value."""
        place.given_up.add((peer.name, scenario.name))
        for step in steps:
            self._failed(place, step.row, peer, reason)

    def _failed(self, place: _Place, row: Row, peer: Peer, reason: str) -> None:
        self.results.failure(place.ground.name, row, peer.name, self._plainly(reason, place))

    def _layout(
        self, place: _Place, scenario: Scenario, client: Client, heading: str
    ) -> Layout | None:
        """The scenario's layers, built when first needed and warm in every round."""
        if scenario.name not in place.layouts:
            missing = scenario.missing()
            if missing:
                self.results.left_out[scenario.name] = f"needs {missing}"
                return None
            self.progress.at(heading, "making the layers", None)
            # Short: it goes into mount options once for each of many layers.
            base = place.ground.root / str(len(place.layouts))
            layout = self._build(place, scenario, base)
            for step in scenario.steps:
                # The order of the report is that of the work, also where the first peer fails.
                self.results.at(place.ground.name, step.row)
            if scenario.rehearse:
                self._rehearse(place, scenario, layout, client)
        layout = place.layouts[scenario.name]
        layers.fingerprint(layout.lower)
        return layout

    def _build(self, place: _Place, scenario: Scenario, base: Path) -> Layout:
        layout = scenario.build(base, self.plan.sizes)
        place.layouts[scenario.name] = layout
        place.prints[scenario.name] = layers.fingerprint(layout.lower)
        return layout

    def _rehearse(self, place: _Place, scenario: Scenario, layout: Layout, client: Client) -> None:
        base, seconds = layout.extras.parent, self.plan.sizes.step_seconds
        with session(Peer(PLAIN), layout, base, place.ground.root, client, seconds) as opened:
            for step in scenario.steps:
                try:
                    step.action(opened)
                except (CommandFailed, TookTooLong) as error:
                    reason = self._plainly(str(error), place)
                    self.progress.say(f"{step.row.name} fails on a plain directory: {reason}")

    def _left(self, done: int) -> float | None:
        """Seconds to go after so many rounds, unless a round has yet to show how long it takes."""
        if not done:
            return None
        sizes, elapsed = self.plan.sizes, self.progress.elapsed
        each = self.finished_at / done
        if self.plan.rounds:
            total = each * self.plan.rounds
        else:
            total = min(each * sizes.rounds_max, max(each * sizes.rounds_min, sizes.budget))
        return max(total - elapsed, 0)

    @staticmethod
    def _plainly(reason: str, place: _Place) -> str:
        """Without the temporary directories' names, which say nothing to the reader."""
        return MERGED.sub(r"\1", reason.replace(os.fspath(place.ground.root) + "/", ""))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
