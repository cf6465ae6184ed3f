# SPDX-License-Identifier: GPL-3.0-or-later
"""Every case of the table on every kind of tree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from tests.posix.cases import TABLE
from tests.posix.kind import Kind, Tree, kinds
from tests.posix.table import Case

KINDS = {kind.name: kind for kind in kinds()}


class Trees:
    """The trees of this run: each made when its first case runs, and again should it break."""

    def __init__(self, cases: list[Case]) -> None:
        self._cases = cases
        self._current: Tree | None = None

    def of(self, kind: Kind) -> Tree:
        tree = self._current
        if tree is not None and (tree.kind is not kind or not tree.usable):
            self.close()
            tree = None
        if tree is None:
            tree = self._current = Tree(kind, kind.table(self._cases))
        return tree

    def close(self) -> None:
        tree, self._current = self._current, None
        if tree is not None:
            tree.remove()


@pytest.fixture(scope="module")
def trees(request: pytest.FixtureRequest) -> Iterator[Trees]:
    """One tree at a time: the rows come kind by kind."""
    nightly = request.config.getoption("--nightly")
    opened = Trees([case for case in TABLE if nightly or not case.nightly])
    yield opened
    opened.close()


def rows() -> list[ParameterSet]:
    """Each kind with each of its cases; a deviation on purpose must show (xfail_strict)."""
    found = []
    for kind in KINDS.values():
        for case in kind.table(TABLE):
            marks = [pytest.mark.nightly] if case.nightly or kind.nightly else []
            if case.name in kind.deviates:
                marks.append(pytest.mark.xfail(reason=kind.deviates[case.name], strict=True))
            found.append(pytest.param(kind.name, case, id=f"{kind.name}:{case.name}", marks=marks))
    return found


@pytest.mark.parametrize(("kind", "case"), rows())
def test_case(trees: Trees, kind: str, case: Case) -> None:
    trees.of(KINDS[kind]).run(case)
