# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount commands of peers, the user's own among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.layers import Stack
from bench.peers import BadPeer, Lower, chosen, parse, standard

STACK = Stack(
    Path("/g/3"), (Path("/g/3/0"), Path("/g/3/1")), Path("/g/u"), Path("/g/w"), Path("/g/m")
)


def test_places_are_filled_in() -> None:
    peer = parse("mine=my-fs -o 'a b,lowerdir={lower},upperdir={upper},workdir={work}' {merged}")
    assert peer.name == "mine"
    assert peer.mount_words(STACK) == [
        "my-fs",
        "-o",
        "a b,lowerdir=/g/3/0:/g/3/1,upperdir=/g/u,workdir=/g/w",
        "/g/m",
    ]


def test_a_suffix_goes_behind_each_layer() -> None:
    assert f"{Lower(('/a', '/b')):=RO}" == "/a=RO:/b=RO"
    peer = parse("mine=my-fs {upper}=RW:{lower:=RO} {merged}")
    assert peer.mount_words(STACK)[1] == "/g/u=RW:/g/3/0=RO:/g/3/1=RO"


def test_braces_can_be_doubled() -> None:
    assert parse("x=fs {{}} {lower} {merged}").mount_words(STACK)[1] == "{}"


def test_kernel_overlayfs_gets_short_names() -> None:
    (overlayfs,) = (peer for peer in standard() if peer.name == "overlayfs")
    assert "lowerdir=0:1,upperdir=/g/u,workdir=/g/w" in overlayfs.mount_words(STACK)


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("fs {lower} {merged}", "not of the form NAME=COMMAND"),
        ("=fs {lower} {merged}", "not of the form NAME=COMMAND"),
        ("x=", "not of the form NAME=COMMAND"),
        ("a b=fs {lower} {merged}", "a name has no blanks"),
        ("a/b=fs {lower} {merged}", "a name has no blanks"),
        ("x=fs 'a {lower} {merged}", "No closing quotation in its command"),
        ("x=fs {lower} {mergd}", "{mergd} is not a place"),
        ("x=fs {lower} {}", "{} is not a place"),
        ("x=fs {lower", "in '{lower'"),
        ("x=fs {lower}", "has no {merged}"),
        ("x=fs {merged}", "has no {lower}"),
    ],
)
def test_a_bad_definition_is_refused_in_one_line(definition: str, reason: str) -> None:
    with pytest.raises(BadPeer) as caught:
        parse(definition)
    assert str(caught.value).startswith("cannot use the peer ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_peers_are_chosen_by_name_in_the_usual_order() -> None:
    peers = chosen(["fuse-overlayfs", "plain"], ["mine=fs {lower} {merged}"])
    assert [peer.name for peer in peers] == ["plain", "fuse-overlayfs", "mine"]


def test_unknown_and_repeated_names_are_refused() -> None:
    with pytest.raises(BadPeer, match="cannot use the peer zfs: there are plain, overlayfs"):
        chosen(["zfs"], [])
    with pytest.raises(BadPeer, match="the name is taken"):
        chosen([], ["plain=fs {lower} {merged}"])
