# SPDX-License-Identifier: GPL-3.0-or-later
"""Records: whatever a container was asked to be comes back from its file as it was."""

from __future__ import annotations

import json
import types
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from launcher.record import Record, decode, encode


def sample(kind: Any, depth: int = 0) -> Any:
    """A value of an annotation in which no field has its default."""
    if kind is bytes:
        return b"word\xff"
    if kind in (str, int, bool):
        return {str: "text", int: 7, bool: True}[kind]
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if parts[-1] is Ellipsis:
            return (sample(parts[0]), sample(parts[0]))
        return tuple(sample(each) for each in parts)
    if isinstance(kind, types.UnionType):
        return sample(next(each for each in get_args(kind) if each is not type(None)))
    hints = get_type_hints(kind)
    return kind(**{name: sample(each) for name, each in hints.items()})


def test_every_field_survives() -> None:
    made = sample(Record)
    read = decode(encode(made))
    assert read == made
    assert read.resources == made.resources
    assert type(read.mounts[0]) is type(made.mounts[0])
    assert type(read.resources.blkio_read_bps[0]) is type(made.resources.blkio_read_bps[0])


def test_none_stays_none() -> None:
    made = sample(Record)._replace(health=None, oom_score_adj=None)
    assert decode(encode(made)) == made


@pytest.mark.parametrize(
    "change",
    [
        {"tty": "yes"},
        {"layers": 5},
        {"mounts": {"kind": "bind"}},
        {"resources": None},
        {"unheard": 1},
        {"labels": "a"},
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, object]) -> None:
    fields = json.loads(encode(sample(Record)))
    with pytest.raises((ValueError, TypeError, KeyError)):
        decode(json.dumps({**fields, **change}).encode())
