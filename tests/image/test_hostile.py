# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be refused, and how: one line that says what and where, and a store as before."""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.errors import LaunchError
from launcher.image import tar
from launcher.image.importing import import_image
from launcher.image.loading import load
from launcher.image.tar import Entry
from launcher.image.tarwrite import Writer
from tests.image.conftest import archive
from tests.image.hostile import Arena, attack


@pytest.fixture
def arena() -> Iterator[Arena]:
    with tempfile.TemporaryDirectory(prefix="lamina-hostile-", dir="/dev/shm") as place:
        yield Arena(Path(place))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_bent_archives_break_no_rule(chance: random.Random) -> None:
    with tempfile.TemporaryDirectory(prefix="lamina-hostile-", dir="/dev/shm") as place:
        attack(Arena(Path(place)), chance)


def _file(name: bytes, **more: object) -> Callable[[Writer], None]:
    return lambda writer: writer.add_bytes(Entry(name, tar.FILE, **more), b"x")  # type: ignore[arg-type]


def _entry(entry: Entry) -> Callable[[Writer], None]:
    return lambda writer: writer.add(entry)


def _both(*fills: Callable[[Writer], None]) -> Callable[[Writer], None]:
    def fill(writer: Writer) -> None:
        for each in fills:
            each(writer)

    return fill


_OVERLAY = ((b"trusted.overlay.opaque", b"y"),)
_REFUSED = {
    "up": (_file(b"a/../../x"), "a/../../x: a name that leads out"),
    "absolute": (_file(b"/x"), "/x: an absolute name"),
    "device mark": (
        _entry(Entry(b"x", tar.CHARACTER_DEVICE, device=(0, 0))),
        "x: a device 0:0, which a union takes for a mark",
    ),
    "xattr mark": (_file(b"x", xattrs=_OVERLAY), "x: the xattr trusted.overlay.opaque"),
    "directory xattr mark": (
        _entry(Entry(b"x/", tar.DIRECTORY, xattrs=((b"user.overlay.redirect", b"/etc"),))),
        "x/: the xattr user.overlay.redirect",
    ),
    "inside a mark": (_file(b".wh.a/b"), ".wh.a/b: it lies inside a mark"),
    "empty mark": (_file(b"a/.wh."), "a/.wh.: a name that is reserved"),
    "mark of up": (_file(b".wh..."), ".wh...: a name that is reserved"),
    "hard link out": (
        _entry(Entry(b"x", tar.HARD_LINK, link=b"../outside/file")),
        "../outside/file: a hard link to that leads out",
    ),
    "hard link to nothing": (_entry(Entry(b"x", tar.HARD_LINK, link=b"y")), "x: a hard link to y"),
    "hard link to directory": (
        _both(_entry(Entry(b"d", tar.DIRECTORY)), _entry(Entry(b"x", tar.HARD_LINK, link=b"d"))),
        "x: a hard link to the directory d",
    ),
    "symlink out": (
        _both(_entry(Entry(b"out", tar.SYMLINK, link=b"../outside")), _file(b"out/file")),
        "out: a symbolic link that leads to no directory of the layer",
    ),
    "symlink loop": (
        _both(_entry(Entry(b"out", tar.SYMLINK, link=b"out")), _file(b"out/file")),
        "out/file: Too many levels of symbolic links",
    ),
    "long name": (_file(b"x" * 256), "File name too long"),
    "file as directory": (_both(_file(b"f"), _file(b"f/x")), "f: it is not a directory"),
    "owner": (_file(b"x", uid=(1 << 32) - 1), "x: a user or group id out of range"),
    "top as a file": (_file(b"."), ".: the top of a layer can only be a directory"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_what_is_refused_says_what_and_where(arena: Arena, name: str) -> None:
    fill, said = _REFUSED[name]
    source = arena.place / "layer.tar"
    source.write_bytes(archive(_both(_file(b"before"), fill)))
    before = arena.state()
    with pytest.raises(LaunchError, match=r"^cannot import ") as caught:
        import_image(arena.paths, os.fsencode(source), "x")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert arena.state() == before


def test_a_symlink_leads_on_inside_the_layer_only(arena: Arena) -> None:
    source = arena.place / "layer.tar"
    source.write_bytes(
        archive(
            _both(
                _entry(Entry(b"outside", tar.DIRECTORY)),
                _entry(Entry(b"out", tar.SYMLINK, link=b"/" + os.fsencode(arena.outside))),
                _entry(Entry(b"in", tar.SYMLINK, link=b"/../outside")),
                _file(b"in/file"),
            )
        )
    )
    before = arena._beside()
    import_image(arena.paths, os.fsencode(source), "x")
    assert arena._beside() == before
    (layer,) = (arena.place / "root/layers/sha256").iterdir()
    assert (layer / "outside/file").read_bytes() == b"x"


def test_a_bomb_is_stopped(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    source = arena.place / "bomb.tar.gz"
    with gzip.open(source, "wb", 1) as file:
        file.write(bytes(64 << 20))
    before = arena.state()
    monkeypatch.setenv("LAMINA_MAX_LAYER_SIZE", "1m")
    with pytest.raises(LaunchError, match="more than 1048576 bytes"):
        load(arena.paths, os.fsencode(source))
    many = arena.place / "many.tar"
    many.write_bytes(archive(_both(*[_file(b"%d" % number) for number in range(101)])))
    monkeypatch.setenv("LAMINA_MAX_LAYER_FILES", "100")
    before = arena.state()
    with pytest.raises(LaunchError, match="more than 100 entries"):
        import_image(arena.paths, os.fsencode(many), "x")
    assert arena.state() == before


def _docker(layer: bytes, diff_id: str, config: object = None) -> bytes:
    document = {"os": "linux", "rootfs": {"diff_ids": [f"sha256:{diff_id}"]}}
    listed = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l.tar"]}]

    def fill(writer: Writer) -> None:
        body = json.dumps(document if config is None else config).encode()
        writer.add_bytes(Entry(b"c.json", tar.FILE), body)
        writer.add_bytes(Entry(b"l.tar", tar.FILE), layer)
        writer.add_bytes(Entry(b"manifest.json", tar.FILE), json.dumps(listed).encode())

    return archive(fill)


def test_a_layer_of_another_digest_is_refused(arena: Arena) -> None:
    layer = archive(_file(b"x"))
    source = arena.place / "image.tar"
    source.write_bytes(_docker(layer, "0" * 64))
    before = arena.state()
    with pytest.raises(LaunchError, match=r"layer 000000000000: its diff id is sha256:\w+ and"):
        load(arena.paths, os.fsencode(source))
    assert arena.state() == before
    source.write_bytes(_docker(layer, hashlib.sha256(layer).hexdigest()))
    load(arena.paths, os.fsencode(source))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("text", "c.json: it is not an object"),
        ({"rootfs": {"diff_ids": ["sha256:x"]}}, "c.json: diff_ids: sha256:x is no sha256 digest"),
        ({"rootfs": {"diff_ids": []}}, "not as many Layers as c.json has diff ids"),
        ({"config": {"Env": "\0"}}, "c.json: its Env is not a list of texts"),
        ({"os": "plan9"}, "c.json: it is for plan9"),
    ],
)
def test_absurd_configurations_are_refused(arena: Arena, config: object, said: str) -> None:
    source = arena.place / "image.tar"
    source.write_bytes(_docker(archive(_file(b"x")), "0" * 64, config))
    before = arena.state()
    with pytest.raises(LaunchError) as caught:
        load(arena.paths, os.fsencode(source))
    assert said in str(caught.value)
    assert arena.state() == before


@pytest.mark.parametrize("cut", [1, 511, 512, 1024, 1500])
def test_a_truncated_archive_is_refused(arena: Arena, cut: int) -> None:
    source = arena.place / "layer.tar"
    source.write_bytes(archive(_both(_file(b"one"), _file(b"two")))[:-cut])
    if cut in (1, 511, 512):  # one block of the two that mark the end is left
        import_image(arena.paths, os.fsencode(source), "x")
        return
    before = arena.state()
    with pytest.raises(LaunchError, match=r"ends (too early|in the middle)"):
        import_image(arena.paths, os.fsencode(source), "x")
    assert arena.state() == before
