# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept and what is thrown away; what `fsck` sees; and that no kill leaves a lie."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher import containers
from launcher import record as records
from launcher.errors import LaunchError
from launcher.image import catalog, find, tar
from launcher.image.check import check
from launcher.image.collect import collect, remove
from launcher.image.loading import load
from launcher.image.saving import save
from launcher.image.store import Store
from launcher.image.tar import Entry
from launcher.paths import Paths
from launcher.record import Record
from launcher.record import save as save_record
from launcher.state import State
from tests.image.conftest import archive, make_image


def _layer(name: str, content: bytes = b"content") -> bytes:
    return archive(lambda writer: writer.add_bytes(Entry(name.encode(), tar.FILE), content))


def _container(paths: Paths, image: str, layers: Sequence[bytes]) -> None:
    record = Record("c" * 64, "user", "x", image, 1, tuple(layers), (b"sh",))
    os.makedirs(paths.container(record.id))
    save_record(paths, record)
    with State(paths) as state:
        state.add(record)


def _faults(store: Store, *, repair: bool = False) -> list[str]:
    return [f"{each.thing}: {each.reason}" for each in check(store, repair=repair)]


def _files(paths: Paths) -> list[str]:
    root = Path(os.fsdecode(paths.root))
    places = (root / "blobs/sha256", root / "layers/sha256", root / "incoming")
    return sorted(str(each.relative_to(root)) for place in places for each in place.iterdir())


def test_layers_are_shared_and_go_with_the_last_image(store: Store, paths: Paths) -> None:
    base = _layer("base")
    one, (shared, _) = make_image(store, base, _layer("one"), name="one:1")
    two, _ = make_image(store, base, _layer("two"), name="two:1")
    assert len(os.listdir(paths.layers + b"/sha256")) == 3
    removed = remove(store, "one:1", force=False)
    assert removed.untagged == ("one:1",)
    assert removed.deleted[0] == one
    assert os.path.isdir(shared.tree)
    assert remove(store, two[:12], force=False).untagged == ("two:1",)
    assert _files(paths) == []
    assert json.loads(Path(os.fsdecode(paths.root), "index.json").read_text())["manifests"] == []


@pytest.mark.parametrize("name", ["chosen", ""])
def test_no_container_is_made_of_an_image_that_goes_meanwhile(
    store: Store, paths: Paths, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_image(store, _layer("x"), name="x:1")
    found = find(paths, "x:1")
    record = Record("c" * 64, name, "x:1", found.id, 1, found.layers, (b"sh",))
    save = records.save

    def save_and_remove(*words: Any, **named: Any) -> None:
        """The last instant before the container is entered."""
        save(*words, **named)
        with contextlib.suppress(LaunchError):  # the second time
            remove(store, "x:1", force=False)

    monkeypatch.setattr(records, "save", save_and_remove)
    with pytest.raises(LaunchError, match=r"cannot find image x:1: it has just been removed"):
        containers.create(paths, record)
    monkeypatch.undo()
    collect(store, wait=True)
    with pytest.raises(LaunchError, match=r"cannot find image x:1: it has been removed"):
        containers.create(paths, record)
    assert os.listdir(paths.containers) == []
    make_image(store, _layer("x"), name="x:1")
    containers.create(paths, record)
    with pytest.raises(LaunchError, match="is made of it"):
        remove(store, "x:1", force=False)
    assert os.path.isdir(found.layers[0])


@pytest.mark.slow
def test_a_layer_deeper_than_calls_can_follow_goes_too(store: Store, paths: Paths) -> None:
    deep = b"a/" * 1100
    make_image(store, archive(lambda writer: writer.add(Entry(deep, tar.DIRECTORY))), name="deep:1")
    remove(store, "deep:1", force=False)
    assert [name for name in _files(paths) if "incoming" in name or "layers" in name] == []


def test_one_of_several_names_is_only_taken_away(store: Store) -> None:
    image, _ = make_image(store, _layer("x"), name="x:1")
    make_image(store, _layer("x"), name="y:1")
    assert remove(store, "x:1", force=False) == (("x:1",), ())
    assert catalog.names_of(store.db, image) == ["y:1"]
    make_image(store, _layer("x"), name="z:1")
    with pytest.raises(LaunchError, match="several repositories"):
        remove(store, image, force=False)


def test_an_image_in_use_stays_and_its_layers_outlive_it(store: Store, paths: Paths) -> None:
    image, (layer,) = make_image(store, _layer("x"), name="x:1")
    _container(paths, image, [layer.tree])
    with pytest.raises(LaunchError, match=r"^cannot remove image x:1: container user is made of"):
        remove(store, "x:1", force=False)
    assert remove(store, "x:1", force=True).deleted[0] == image
    assert os.path.isdir(layer.tree)  # the container stands on it
    collect(store, wait=True)
    assert os.path.isdir(layer.tree)


def test_nothing_is_thrown_away_while_somebody_adds(store: Store, paths: Paths) -> None:
    make_image(store, _layer("x"), name="x:1")
    before = _files(paths)
    with store.adding():
        remove(store, "x:1", force=False)
        assert set(before) <= set(_files(paths))
    collect(store, wait=True)
    assert _files(paths) == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("touch {tree}/x", "x: its time differs"),
        ("rm {tree}/x", "x: it is missing"),
        ("touch {tree}/y", "y: it was added"),
        ("chmod u+s {tree}/x", "x: its mode differs"),
        ("setfattr -n trusted.overlay.opaque -v y {tree}", "its xattrs differ"),
        ("rm -r {tree}", "it is missing"),
        ("echo '{{}}' > {root}/index.json", "index.json: it does not say what the database does"),
    ],
)
def test_fsck_sees_and_mends(store: Store, paths: Paths, harm: str, said: str) -> None:
    _, (layer,) = make_image(store, _layer("x"))
    assert _faults(store) == []
    root = os.fsdecode(paths.root)
    subprocess.run(harm.format(tree=os.fsdecode(layer.tree), root=root), shell=True, check=True)
    assert any(said in fault for fault in _faults(store)), _faults(store)
    _faults(store, repair=True)
    assert _faults(store) == []


def test_fsck_sees_a_blob_that_rots(store: Store, paths: Paths) -> None:
    _, (layer,) = make_image(store, _layer("x"))
    blob = Path(os.fsdecode(paths.root), "blobs/sha256", layer.digest)
    data = bytearray(blob.read_bytes())
    data[600] ^= 1
    blob.write_bytes(data)
    assert _faults(store, repair=True) == [
        f"blob {layer.digest[:12]}: its content has another digest"
    ]
    assert _faults(store) != []


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
@pytest.mark.parametrize("compress", [None, "gzip", "zstd"])
def test_what_is_saved_is_loaded_as_it_was(
    store: Store, paths: Paths, tmp_path: Path, form: str, compress: str | None
) -> None:
    image, layers = make_image(store, _layer("a"), _layer(".wh.a"), name="a/b:1")
    target = tmp_path / "saved"
    if form == "oci-dir":
        save(store, ["a/b:1"], os.fsencode(target), form, compress)
    else:
        for path in (target, tmp_path / "again"):
            with path.open("wb") as file:
                save(store, ["a/b:1"], file.fileno(), form, compress)
        assert target.read_bytes() == (tmp_path / "again").read_bytes()
    other = Paths(paths.root + b"-other", paths.run)
    loaded = load(other, os.fsencode(target))
    assert loaded.images == ((image, ("a/b:1",)),)
    with Store(other) as there:
        assert [each.diff_id for each in there.layers(image)] == [each.diff_id for each in layers]
        assert _faults(there) == []
    assert find(other, "a/b:1").id == image


# -- killed at any instant ------------------------------------------------------------------------


def _lamina(paths: Paths, *words: str) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name("lamina")
    environment = {**os.environ, "LAMINA_ROOT": os.fsdecode(paths.root)}
    return subprocess.Popen([program, *words], env=environment, stdout=subprocess.DEVNULL)


def test_a_kill_at_any_instant_leaves_garbage_and_no_lie(
    store: Store, paths: Paths, tmp_path: Path
) -> None:
    source = tmp_path / "image.tar"
    other = Paths(paths.root + b"-other", paths.run)
    with Store(other) as there:
        layers = [_layer(str(number), os.urandom(300_000)) for number in range(3)]
        image, _ = make_image(there, *layers, name="killed:1")
        with source.open("wb") as file:
            save(there, ["killed:1"], file.fileno(), "docker-archive")
    begun = time.monotonic()
    assert _lamina(paths, "load", "-i", str(source)).wait() == 0
    whole = time.monotonic() - begun
    chance = random.Random(5)
    ended = 0
    for number in range(18):
        verbs = (["load", "-i", str(source)], ["rmi", "killed:1"], ["import", str(source), "i:1"])
        process = _lamina(paths, *verbs[number % 3])
        try:
            process.wait(chance.uniform(0.2, 1.1) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        ended += process.returncode == -signal.SIGKILL
        left = [fault for fault in _faults(store) if not fault.startswith("index.json")]
        assert left == []
        for row in catalog.all_images(store.db):
            for layer in find(paths, row.id).layers:
                assert os.path.isdir(layer)
    assert ended >= 3
    collect(store, wait=True)
    assert _faults(store) == []
    assert os.listdir(paths.root + b"/incoming") == []
    load(paths, os.fsencode(source))
    assert find(paths, "killed:1").id == image
