# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine: random histories, drawn and shrunk by Hypothesis, each one a trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, TypeAlias

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.oracle import drawing, steps
from tests.oracle.contenders import factory, present, scratch
from tests.oracle.layers import Stack
from tests.oracle.operations import Open
from tests.oracle.stacks import stacks
from tests.oracle.trial import Trial

Action: TypeAlias = drawing.Operations | steps.Step

# How often each kind of action is drawn; one of them, chosen for each history, much more often.
_WEIGHTS: tuple[tuple[drawing.Drawing, int], ...] = (
    (drawing.making, 4),
    (drawing.removing, 2),
    (drawing.renaming, 4),
    (drawing.content, 3),
    (drawing.opening, 2),
    (drawing.sharing, 4),
    (drawing.descriptors, 2),
    (drawing.attributes, 4),
    (drawing.looking, 2),
    (drawing.watching, 4),
    (drawing.replacing, 3),
    (drawing.inheriting, 2),
    (drawing.nameless, 2),
    (drawing.holes, 2),
)
_ACCENT = 8
_STEPS: tuple[tuple[steps.Step, int], ...] = (
    (steps.Compare(), 3),
    (steps.Forget(), 3),
    (steps.Age(), 3),
    (steps.Remount(), 1),
    (steps.Swap(), 1),
    (steps.Freeze(), 2),
)
_STEP_LIST = [step for step, weight in _STEPS for _ in range(weight)]
_STEP_WEIGHT = 2


@st.composite
def _actions(draw: st.DrawFn) -> Action:
    """What is done next."""
    machine = draw(st.runner())
    assert isinstance(machine, History)
    view = machine.view()
    choices: list[drawing.Drawing | None] = []
    for number, (chosen, weight) in enumerate(_WEIGHTS):
        if chosen in drawing.EXTENDED and "pyfuse3" in machine.kinds:
            continue
        if drawing.sensible(chosen, view):
            choices += [chosen] * (weight + _ACCENT * (number == machine.accent))
    choices += [None] * _STEP_WEIGHT
    drawn = drawing.pick(draw, choices)
    return drawing.pick(draw, _STEP_LIST) if drawn is None else drawn(draw, view)


class History(RuleBasedStateMachine):
    """One history; subclasses say where and on which contenders.

    where     -- directory of the filesystem to try
    lowers    -- directory of the filesystem for the lower layers
    kinds     -- contenders
    performed -- operations of all histories so far
    excused   -- how often which deviation was met
    """

    where: ClassVar[Path]
    lowers: ClassVar[Path]
    kinds: ClassVar[list[str]]
    performed: ClassVar[int]
    excused: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self._ends = ExitStack()
        self._slot = 0
        self.accent = 0
        self.trial: Trial | None = None

    @initialize(stack=stacks(), accent=st.integers(0, len(_WEIGHTS)))
    def begin(self, stack: Stack, accent: int) -> None:
        self.accent = accent
        base = self._ends.enter_context(scratch(self.where))
        lowers = self._ends.enter_context(scratch(self.lowers))
        factories = [factory(kind) for kind in self.kinds]
        self.trial = Trial(base, stack, factories, lowers)
        self._ends.callback(self.trial.abandon)

    def teardown(self) -> None:
        try:
            if self.trial is not None:
                type(self).performed += self.trial.performed
                if not self.trial.failed:
                    self.trial.finish()
                type(self).excused.update(self.trial.excused)
        finally:
            self._ends.close()

    def view(self) -> drawing.View:
        assert self.trial is not None
        return drawing.View.of(self.trial.model, self.trial.opened, self._slot)

    @rule(action=_actions())
    def act(self, action: Action) -> None:
        assert self.trial is not None
        if isinstance(action, steps.Step):
            if self.trial.freezable or action != steps.Freeze():
                self.trial.step(action)
            return
        for operation in action:
            if not self.trial.possible(operation):
                continue
            self.trial.perform(operation)
            if isinstance(operation, Open):
                self._slot += 1


def run(
    where: Path,
    kinds: Sequence[str],
    operations: int,
    *,
    steps_each: int = 50,
    random: bool = False,
    shrink: bool = True,
    lowers: Path | None = None,
) -> type[History]:
    """Perform at least so many operations in histories of about `steps_each`; Mismatch if any
    contender differs. The same histories in every run unless `random`."""

    class Sized(History):
        performed = 0
        excused: ClassVar[Counter[str]] = Counter()

    Sized.where = where
    Sized.lowers = lowers or where
    Sized.kinds = present(kinds)
    chosen = settings(
        max_examples=max(1, operations // steps_each),
        stateful_step_count=steps_each,
        derandomize=not random,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        print_blob=False,
        report_multiple_bugs=False,
    )
    while Sized.performed < operations:
        before = Sized.performed
        run_state_machine_as_test(Sized, settings=chosen)
        assert Sized.performed > before, "no operation was performed"
        if not random:
            break
    return Sized
