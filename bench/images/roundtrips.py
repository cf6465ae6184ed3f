# SPDX-License-Identifier: GPL-3.0-or-later
"""A nasty set of layers, sent from lamina through another tool and back.

The other tool does not only pass the blobs on: it unpacks them to a tree of its own, and makes
layers of that tree again. Three layers are written by hand, two more come from commits (`edits`).
Trees are compared as they are seen at the end, whole; and both sides' images are run by the other.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.containers.engines import BUSYBOX
from bench.images import edits
from bench.images.engines import SECONDS, Engine, lamina, podman
from bench.images.trees import Tree, differences, read, to_the_second
from bench.processes import run

NAME = "localhost/nasty:latest"
_PLAIN = "localhost/nasty:plain"
_WHEN = 1_700_000_000_123_456_789


def names() -> tuple[str, ...]:
    """The ways there and back."""
    return tuple(_WAYS)


def measure(way: str, base: Path) -> list[str]:
    """What differs after one way there and back; nothing should. Raises CommandFailed."""
    base.mkdir()
    archive = base / "nasty.tar"
    # podman 4.3 loads no layer with sparse entries in it ("archive/tar: write too long").
    _make_archive(base / "layers", archive, sparse=way != "podman")
    here = lamina(base / "here")
    here.run("load", "-q", "-i", archive)
    image, found = edits.edited(here, base, _PLAIN)
    here.run("tag", image, NAME)
    wanted = edits.seen_of(here, base / "wanted", NAME)
    return found + _WAYS[way](here, base, wanted)


def _through_podman(here: Engine, base: Path, wanted: Tree) -> list[str]:
    """podman loads it, commits a container of it with one more file, and saves that."""
    other = podman(base / "podman")
    here.run("save", "-q", "-o", base / "there.tar", NAME)
    other.run("load", "-q", "-i", base / "there.tar")
    found = _runs(other, NAME, ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"))
    other.run("create", "--name", "there", "--network", "none", NAME, "/none")
    tree = Path(other.run("mount", "there").strip())
    there = read(tree)
    found += [f"as podman has it: {each}" for each in differences(wanted, there)]
    (tree / "one more").write_text("made by podman")
    os.utime(tree / "one more", (1_700_000_000, 1_700_000_000))
    there = read(tree)
    other.run("umount", "there")
    other.run("commit", "-q", "there", "localhost/back:latest")
    other.run("save", "-q", "-o", base / "back.tar", "localhost/back:latest")
    back = lamina(base / "back")
    back.run("load", "-q", "-i", base / "back.tar")
    found += _runs(back, "localhost/back:latest", ())
    seen = edits.seen_of(back, base / "seen", "localhost/back:latest")
    return found + [f"as it came back: {each}" for each in differences(there, seen)]


def _through_umoci(here: Engine, base: Path, wanted: Tree) -> list[str]:
    """umoci unpacks it, adds a layer of one file, and makes one layer of the whole tree.

    umoci writes times in whole seconds: what it has written itself is compared so.
    """
    here.run("save", "-q", "--format", "oci-dir", "-o", base / "oci", NAME)
    image = f"{base / 'oci'}:{NAME}"
    # umoci takes no colon in the tag of an image: the layout gets another name for it.
    _rename(base / "oci", "nasty")
    image = f"{base / 'oci'}:nasty"
    run(["umoci", "unpack", "--image", image, str(base / "bundle")], seconds=SECONDS)
    there = read(base / "bundle/rootfs")
    found = [f"as umoci has it: {each}" for each in differences(wanted, there)]
    (base / "one more").write_text("added by umoci")
    insert = ["umoci", "insert", "--image", image, str(base / "one more"), "/one more"]
    run(insert, seconds=SECONDS)
    added = lamina(base / "added")
    added.run("load", "-q", "-i", base / "oci")
    seen = edits.seen_of(added, base / "with", "nasty:latest")
    if seen.pop("one more", None) is None:
        found.append("one more: it did not come back")
    found += [f"with one more layer: {each}" for each in differences(wanted, seen)]
    layout = f"{base / 'made'}"
    run(["umoci", "init", "--layout", layout], seconds=SECONDS)
    run(["umoci", "new", "--image", f"{layout}:made"], seconds=SECONDS)
    run(["umoci", "unpack", "--image", f"{layout}:made", str(base / "empty")], seconds=SECONDS)
    shutil.rmtree(base / "empty/rootfs")
    run(
        ["cp", "-a", str(base / "bundle/rootfs"), str(base / "empty/rootfs")],
        seconds=SECONDS,
    )
    there = read(base / "empty/rootfs")
    run(["umoci", "repack", "--image", f"{layout}:made", str(base / "empty")], seconds=SECONDS)
    back = lamina(base / "back")
    back.run("load", "-q", "-i", layout)
    found += _runs(back, "made:latest", ())
    seen = edits.seen_of(back, base / "seen", "made:latest")
    there, seen = to_the_second(there), to_the_second(seen)
    return found + [f"as it came back: {each}" for each in differences(there, seen)]


_WAYS: dict[str, Callable[[Engine, Path, Tree], list[str]]] = {
    "podman": _through_podman,
    "umoci": _through_umoci,
}


def _rename(layout: Path, name: str) -> None:
    path = layout / "index.json"
    index = json.loads(path.read_text())
    for each in index["manifests"]:
        each["annotations"]["org.opencontainers.image.ref.name"] = name
    path.write_text(json.dumps(index))


def _runs(engine: Engine, image: str, options: Sequence[str]) -> list[str]:
    """Whether a container of an image finds there what the commits made."""
    words = ("run", "--rm", "--network", "none", *options, image)
    said = engine.run(*words, "/bin/cat", "/into/moved again/added", "/link three")
    wanted = "added\nchanged\nlmore\nagain\n"
    return [] if said == wanted else [f"run by {engine.name} it says {said!r}"]


# -- the layers -----------------------------------------------------------------------------------


def _make_archive(place: Path, archive: Path, *, sparse: bool) -> None:
    """docker's kind of archive of three layers, each packed by GNU tar from a directory."""
    layers = [_first(place / "1"), _second(place / "2"), _third(place / "3")]
    packed: list[bytes] = []
    for layer in layers:
        # From the leaves up: what is made in a directory changes its time.
        for path in sorted(layer.rglob("*"), key=lambda each: -len(each.parts)):
            os.utime(path, ns=(_WHEN, _WHEN), follow_symlinks=False)
        os.utime(layer, ns=(_WHEN, _WHEN))
        target = layer.with_suffix(".tar")
        words = ["tar", "--format=posix", "--xattrs", "--xattrs-include=*"]
        words += ["--sparse"] if sparse else []
        words += ["--numeric-owner", "--sort=name", "-C", str(layer), "-cf", str(target), "."]
        run(words, seconds=SECONDS)
        packed.append(target.read_bytes())
    diff_ids = ["sha256:" + hashlib.sha256(each).hexdigest() for each in packed]
    document = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
        "os": "linux",
        "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    files = [f"{number}/layer.tar" for number in range(len(packed))]
    manifest = [{"Config": "config.json", "RepoTags": [_PLAIN], "Layers": files}]
    with tarfile.open(archive, "w") as outer:
        _add(outer, "config.json", json.dumps(document).encode())
        for name, data in zip(files, packed, strict=True):
            _add(outer, name, data)
        _add(outer, "manifest.json", json.dumps(manifest).encode())


def _add(outer: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    outer.addfile(entry, io.BytesIO(data))


def _first(root: Path) -> Path:
    """Every type and attribute."""
    root.mkdir(parents=True)
    root.chmod(0o751)
    (root / "bin").mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in edits.TOOLS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "plain").write_text("plain")
    (root / "empty").touch()
    (root / "setuid").write_text("s")
    os.chown(root / "setuid", 1000, 1001)
    (root / "setuid").chmod(0o6755)
    (root / "far owner").write_text("o")
    os.chown(root / "far owner", 3_000_000_000, 4_000_000_000)
    (root / "capable").write_text("c")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(root / "capable", "security.capability", capability)
    (root / "marked").write_text("x")
    os.setxattr(root / "marked", "user.binary", b"\0\xff\n=")
    with (root / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(40 << 20)
        file.write(b"end")
    (root / "linked").write_text("l")
    for name in ("link one", "link two"):
        os.link(root / "linked", root / name)
    (root / "symlink").symlink_to("../../nowhere/at/all")
    (root / "long symlink").symlink_to("t" * 200)
    os.mkfifo(root / "fifo", 0o600)
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.mknod(root / "disc", 0o60640, os.makedev(250, 70_000))
    deep = root / "/".join(["deep" * 20] * 5)
    deep.mkdir(parents=True)
    (deep / ("n" * 250)).write_text("long")
    (root / "ünïcödé ☃").write_text("u")
    os.close(os.open(os.fsencode(root) + b"/not utf-8 \xff", os.O_CREAT | os.O_WRONLY, 0o644))
    for name in ("becomes file/in it", "goes/in it", "opaque/old", "whiteout/one", "whiteout/two"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(name)
    (root / "becomes directory").write_text("f")
    (root / "sticky").mkdir(mode=0o777)
    (root / "sticky").chmod(0o1777)
    return root


def _second(root: Path) -> Path:
    """Names that go, directories that become files and back, new content above old."""
    root.mkdir()
    root.chmod(0o751)
    (root / ".wh.goes").touch()
    (root / ".wh.empty").touch()
    (root / "becomes file").write_text("now a file")
    (root / "becomes directory").mkdir()
    (root / "becomes directory/in it").write_text("i")
    (root / "opaque").mkdir()
    (root / "opaque/.wh..wh..opq").touch()
    (root / "opaque/new").write_text("n")
    (root / "whiteout").mkdir(mode=0o711)
    (root / "whiteout/.wh.one").touch()
    (root / "plain").write_text("changed")
    (root / "plain").chmod(0o600)
    return root


def _third(root: Path) -> Path:
    """What the second took away comes back as something else."""
    root.mkdir()
    root.chmod(0o755)
    (root / "goes").mkdir()
    (root / "goes/again").write_text("a")
    (root / "becomes directory").write_text("a file again")
    (root / "becomes file").mkdir()
    (root / "whiteout").mkdir(mode=0o711)
    (root / "whiteout/one").write_text("back")
    return root
