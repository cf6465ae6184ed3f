# SPDX-License-Identifier: GPL-3.0-or-later
"""How images are named."""

from __future__ import annotations

import random
import sys

import pytest

from launcher.errors import LaunchError
from launcher.image import reference
from launcher.image.reference import Reference


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("debian", Reference("debian")),
        ("docker.io/library/debian:12", Reference("debian", "12")),
        ("docker.io/some/one", Reference("some/one")),
        ("host:5000/a", Reference("host:5000/a")),
        ("host:5000", Reference("host", "5000")),
        ("a__b/c---d:E.f_", Reference("a__b/c---d", "E.f_")),
        ("a@sha256:" + "0" * 64, Reference("a", "", "sha256:" + "0" * 64)),
    ],
)
def test_the_parts_of_a_name(text: str, wanted: Reference) -> None:
    assert reference.of(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "A", "a.", "a..b", "-a", "a:b/c", "a:", ":b", "a:" + "b" * 129, "a" * 256, "a b"]
)
def test_what_is_no_name(text: str) -> None:
    assert reference.of(text) is None
    with pytest.raises(LaunchError):
        reference.tagged(text)


def test_plain_names_are_read_as_the_grammar_reads_them() -> None:
    chance = random.Random(1)
    plain = 0
    for _ in range(20_000):
        text = "".join(chance.choice("ab1:/.-_A@") for _ in range(chance.randint(0, 7)))
        if reference._is_plain(text):
            plain += 1
            found = reference._grammar().match(text)
            assert found is not None, text
            assert (found[1], found[2] or "", found[3]) == (*text.partition(":")[::2], None)
    assert plain > 500


def test_a_plain_name_loads_no_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re", None)
    assert reference.tagged("some/thing-1") == "some/thing-1:latest"
