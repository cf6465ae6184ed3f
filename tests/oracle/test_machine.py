# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine: random histories on the model, kernel overlayfs and the union."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import LayersFactory
from tests.oracle import drawing, steps
from tests.oracle.contenders import factory, present, scratch
from tests.oracle.layers import Stack
from tests.oracle.operations import AnyOperation, Open
from tests.oracle.stacks import stacks
from tests.oracle.trial import Trial
from tests.support.transport import transports


def _has_slots(machine: History) -> bool:
    return machine.trial is not None and bool(machine.trial.opened)


def _freezable(machine: History) -> bool:
    return machine.trial is not None and machine.trial.freezable


def _drawn(draw: drawing.Draw, *, on_slots: bool = False) -> Callable[..., None]:
    """A rule that performs what `draw` draws on the tree as it is then."""

    def perform(self: History, operation: AnyOperation) -> None:
        self.perform(operation)

    perform.__name__ = draw.__name__.rstrip("_")
    operations = st.runner().flatmap(lambda machine: draw(machine.view()))
    made: Callable[..., None] = rule(operation=operations)(perform)
    return precondition(_has_slots)(made) if on_slots else made


class History(RuleBasedStateMachine):
    """One history; subclasses say where and on which contenders.

    where     -- directory of the filesystem to try
    kinds     -- contenders
    performed -- operations of all histories so far
    excused   -- how often which deviation was met
    """

    where: ClassVar[Path]
    kinds: ClassVar[list[str]]
    performed: ClassVar[int]
    excused: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self._ends = ExitStack()
        self._slot = 0
        self.trial: Trial | None = None

    @initialize(stack=stacks())
    def begin(self, stack: Stack) -> None:
        base = self._ends.enter_context(scratch(self.where))
        self.trial = Trial(base, stack, [factory(kind) for kind in self.kinds])
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

    def perform(self, operation: AnyOperation) -> None:
        assert self.trial is not None
        self.trial.perform(operation)
        if isinstance(operation, Open):
            self._slot += 1

    open = _drawn(drawing.open_)
    close = _drawn(drawing.close, on_slots=True)
    read_at = _drawn(drawing.read_at, on_slots=True)
    write_at = _drawn(drawing.write_at, on_slots=True)
    fsync = _drawn(drawing.fsync, on_slots=True)
    read = _drawn(drawing.read)
    save = _drawn(drawing.save)
    truncate = _drawn(drawing.truncate)
    mkdir = _drawn(drawing.mkdir)
    mknod = _drawn(drawing.mknod)
    symlink = _drawn(drawing.symlink)
    link = _drawn(drawing.link)
    unlink = _drawn(drawing.unlink)
    rmdir = _drawn(drawing.rmdir)
    rename = _drawn(drawing.rename)
    rename_directory = _drawn(drawing.rename_directory)
    chmod = _drawn(drawing.chmod)
    chown = _drawn(drawing.chown)
    utimens = _drawn(drawing.utimens)
    setxattr = _drawn(drawing.setxattr)
    setacl = _drawn(drawing.setacl)
    removexattr = _drawn(drawing.removexattr)
    getxattr = _drawn(drawing.getxattr)
    readlink = _drawn(drawing.readlink)
    stat = _drawn(drawing.stat_)
    list = _drawn(drawing.list_)

    def take(self, step: steps.Step) -> None:
        assert self.trial is not None
        self.trial.step(step)

    @rule()
    def compare(self) -> None:
        self.take(steps.Compare())

    @rule()
    def age(self) -> None:
        self.take(steps.Age())

    @rule()
    def forget(self) -> None:
        self.take(steps.Forget())

    @rule()
    def remount(self) -> None:
        self.take(steps.Remount())

    @rule()
    def swap(self) -> None:
        self.take(steps.Swap())

    @precondition(_freezable)
    @rule()
    def freeze(self) -> None:
        self.take(steps.Freeze())


@pytest.fixture
def tmpfs(new_layers: LayersFactory) -> Path:
    """A fresh tmpfs."""
    return new_layers("tmpfs", "1g").root


@pytest.fixture
def ext4(new_layers: LayersFactory) -> Path:
    """A fresh ext4 in a loop device."""
    return new_layers("ext4", "512m").root


def run(
    where: Path,
    kinds: Sequence[str],
    operations: int,
    *,
    steps_each: int = 50,
    random: bool = False,
    shrink: bool = True,
) -> type[History]:
    """Perform at least so many operations in histories of about `steps_each`; Mismatch if any
    contender differs. The same histories in every run unless `random`."""

    class Sized(History):
        performed = 0
        excused: ClassVar[Counter[str]] = Counter()

    Sized.where = where
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


def test_the_kernel_is_a_fair_judge(tmpfs: Path) -> None:
    """Kernel overlayfs differs from a plain directory only as `deviations` says."""
    run(tmpfs, ["kernel"], 500)


def test_the_union_in_process(tmpfs: Path) -> None:
    done = run(tmpfs, ["kernel", "inprocess"], 1000)
    print(done.performed, done.excused)
