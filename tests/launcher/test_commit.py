# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina commit`, `diff` and `squash`: what a container changed becomes a layer, in full."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.command import Lamina

# Every kind of change that a layer has to spell out.
_CHANGES = (
    "mv /ren /moved; echo more >> /moved/sub/kept; echo two >> /d/one; rm /gone; rm -r /opq;"
    " mkdir /opq; echo p > /opq/p; chmod 711 /large; ln /large /linked; mkdir -p /new/dir;"
    " echo n > /new/dir/file; ln -s file /new/dir/link; mkfifo /new/fifo"
)
# What shows all of it, a line an object.
_SHOW = (
    "cd /; find . -xdev ! -path './etc*' ! -path './proc*' ! -path './sys*' ! -path './dev*'"
    " ! -name . ! -path './run*' | sort | while read f; do"
    " stat -c '%n %F %a %u %g' $f; [ -d $f ] || stat -c '%h %s %Y' $f;"
    " [ ! -f $f ] || md5sum < $f; done"
)


def make_base(place: Path) -> Path:
    """The tree of an image with hard links, a file capability and odd times."""
    (place / "bin").mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", place / "bin")
    for name in (
        *("sh", "mv", "rm", "mkdir", "chmod", "ln", "find", "sort", "stat", "md5sum", "mkfifo"),
        *("sleep", "cat", "ls", "true"),
    ):
        (place / "bin" / name).symlink_to("busybox")
    for name in ("d/e", "ren/sub", "opq"):
        (place / name).mkdir(parents=True)
    (place / "d/one").write_text("one\n")
    (place / "d/e/hard").hardlink_to(place / "d/one")
    (place / "other").hardlink_to(place / "d/one")
    (place / "ren/sub/kept").write_text("kept\n")
    (place / "gone").write_text("gone\n")
    (place / "opq/o").write_text("o\n")
    (place / "large").write_bytes(os.urandom(1 << 20))
    os.setxattr(place / "large", "user.note", b"kept")
    os.utime(place / "large", ns=(0, 1_577_836_800_123_456_789))
    os.chown(place / "d/e", 3_000_000, 7)
    return place


@pytest.fixture
def base(lamina: Lamina, tmp_path: Path) -> Iterator[str]:
    """An image of `make_base`; it goes with the test, as do all that are made of it."""
    before = set(lamina.good("images", "-q", "--no-trunc").split())
    lamina.good("import", str(make_base(tmp_path / "base")), "base")
    yield "base"
    lamina.clear()
    made = set(lamina.good("images", "-q", "--no-trunc").split()) - before
    lamina.good("rmi", "-f", *made)


@pytest.fixture
def changed(lamina: Lamina, base: str) -> str:
    """A running container of it, with all the changes."""
    lamina.good("run", "-d", "--name", "box", base, "/bin/sleep", "100000")
    lamina.good("exec", "box", "/bin/sh", "-c", _CHANGES)
    return "box"


def topmost(lamina: Lamina, image: str) -> tarfile.TarFile:
    """The archive of an image's topmost layer."""
    store = json.loads((lamina.root / "index.json").read_text())
    digest = next(
        each["digest"]
        for each in store["manifests"]
        if each.get("annotations", {}).get("org.opencontainers.image.ref.name") == image
    )
    blobs = lamina.root / "blobs/sha256"
    manifest = json.loads((blobs / digest[7:]).read_text())
    return tarfile.open(blobs / manifest["layers"][-1]["digest"][7:])


def test_the_image_is_what_the_container_was(lamina: Lamina, changed: str) -> None:
    shown = lamina.good("exec", changed, "/bin/sh", "-c", _SHOW)
    id = lamina.good("commit", changed, "made")
    assert id.startswith("sha256:")
    # The container goes on.
    assert lamina.good("exec", changed, "/bin/sh", "-c", "echo alive") == "alive\n"
    assert lamina.good("run", "--rm", "made", "/bin/sh", "-c", _SHOW) == shown
    lines = shown.splitlines()
    assert lines[lines.index("./other regular file 644 0 0") + 1].startswith("3 8 ")


def test_an_export_is_the_same_of_both(lamina: Lamina, changed: str, tmp_path: Path) -> None:
    """Of hard links too that were changed by one name."""
    lamina.good("commit", changed, "made")
    lamina.good("create", "--name", "again", "made", "/bin/true")
    exported = []
    for name in (changed, "again"):
        lamina.good("export", "-o", str(tmp_path / name), name)
        with tarfile.open(tmp_path / name) as archive:
            exported.append({each.name: each for each in archive.getmembers()})
    one, other = ({name: each.get_info() for name, each in all_.items()} for all_ in exported)
    assert one == other
    links = {name for name, each in exported[0].items() if each.linkname == "d/e/hard"}
    assert links == {"d/one", "other"}
    assert exported[0]["d/e/hard"].size == len("one\ntwo\n")


def test_an_image_without_a_history_gets_a_step_for_each_layer(
    lamina: Lamina, base: str, tmp_path: Path
) -> None:
    """podman refuses to commit upon an image that tells of fewer layers than it has."""
    lamina.good("save", "--format", "oci-dir", "-o", str(tmp_path / "oci"), base)
    blobs = tmp_path / "oci/blobs/sha256"

    def put(value: object) -> dict[str, object]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    index = json.loads((tmp_path / "oci/index.json").read_text())
    (described,) = index["manifests"]
    manifest = json.loads((blobs / described["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    del config["history"]
    manifest["config"].update(put(config))
    described.update(put(manifest))
    described["annotations"]["org.opencontainers.image.ref.name"] = "bare:1"
    (tmp_path / "oci/index.json").write_text(json.dumps(index))
    lamina.good("load", "-i", str(tmp_path / "oci"))
    lamina.good("create", "--name", "box", "bare:1", "/bin/true")
    (tmp_path / "file").write_text("f")
    lamina.good("cp", str(tmp_path / "file"), "box:/file")
    lamina.good("commit", "box", "made:1")
    path = lamina.root / "blobs/sha256" / lamina.good("images", "-q", "--no-trunc", "made:1")[7:71]
    history = json.loads(path.read_text())["history"]
    assert [each.get("empty_layer", False) for each in history] == [False, False]


def test_the_layer_spells_everything_out(lamina: Lamina, changed: str) -> None:
    """OCI layers know no renames, no content elsewhere, and none of a union's marks."""
    lamina.good("commit", changed, "made")
    with topmost(lamina, "made:latest") as layer:
        members = {each.name.rstrip("/"): each for each in layer.getmembers()}
        assert layer.extractfile("large") is not None
    assert {".wh.ren", ".wh.gone", "opq/.wh..wh..opq", "moved/sub/kept", "opq/p"} <= set(members)
    assert members["large"].size == 1 << 20
    assert members["large"].pax_headers["SCHILY.xattr.user.note"] == "kept"
    assert members["linked"].linkname == "large"
    assert {members[each].linkname for each in ("other", "d/one")} == {"d/e/hard"}
    assert not [name for name in members if name.startswith(("bin", "opq/o", "ren"))]
    keys = {key for each in members.values() for key in each.pax_headers}
    assert not [key for key in keys if "overlay" in key]


def test_a_stopped_container_and_its_settings(lamina: Lamina, base: str) -> None:
    lamina.good(
        "create", "--name", "box", "-e", "A=1", "-w", "/d", "-u", "7", base, "/bin/ls", "-a"
    )
    lamina.good(
        *("commit", "-a", "Some One", "-m", "why", "-c", "ENV B=2", "-c", 'CMD ["/bin/true"]'),
        *("box", "made:1"),
    )
    (found,) = json.loads(lamina.good("inspect", "made:1"))
    assert (found["Author"], found["Comment"]) == ("Some One", "why")
    config = found["Config"]
    assert {"A=1", "B=2"} <= set(config["Env"])
    assert (config["WorkingDir"], config["User"]) == ("/d", "7")
    assert config["Cmd"] == ["/bin/true"]
    # Nothing was changed: a step without a layer.
    (before,) = json.loads(lamina.good("inspect", base))
    assert found["RootFS"]["Layers"] == before["RootFS"]["Layers"]


def test_again_and_again(lamina: Lamina, base: str) -> None:
    """Each layer lies upon the one before."""
    image = base
    for number in range(3):
        text = f"echo {number} > /file{number}; rm -f /file{number - 2}; mv /ren{number} /ren"
        lamina.good("create", "--name", "box", image, "/bin/sh", "-c", text + "; true")
        lamina.call("start", "-a", "box")
        image = f"made{number}"
        lamina.good("commit", "box", image)
        lamina.good("rm", "box")
    names = lamina.good("run", "--rm", image, "/bin/ls", "/").split()
    assert {"file1", "file2"} <= set(names)
    assert "file0" not in names


def test_refusals(lamina: Lamina, base: str) -> None:
    lamina.good("create", "--name", "box", base, "/bin/true")
    images = lamina.good("images", "-q")
    for words, line in (
        (("box", "UPPER"), "cannot use image name UPPER: "),
        (("nosuch", "x"), "cannot find container nosuch: "),
        (("-c", "NOSUCH x", "box"), "cannot apply change NOSUCH x: "),
    ):
        ended = lamina.call("commit", *words)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith(f"lamina: {line}")
    assert lamina.call("commit").code == 2
    assert lamina.good("images", "-q") == images
    assert not os.listdir(lamina.root / "incoming")


def test_a_paused_container_stays_paused_and_a_killed_commit_leaves_none_frozen(
    lamina: Lamina, changed: str
) -> None:
    lamina.good("pause", changed)
    lamina.good("commit", changed, "made")
    assert "Paused" in lamina.good("ps")
    lamina.good("unpause", changed)
    ended = lamina.begin("commit", changed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended.kill()
    ended.wait()
    assert lamina.good("exec", changed, "/bin/sh", "-c", "echo alive") == "alive\n"


def test_diff(lamina: Lamina, base: str) -> None:
    lamina.good("run", "-d", "--name", "box", base, "/bin/sleep", "100000")
    assert lamina.good("diff", "box") == ""
    lamina.good("exec", "box", "/bin/sh", "-c", _CHANGES)
    expected = """\
C /d
C /d/e
C /d/e/hard
C /d/one
D /gone
C /large
A /linked
A /moved
A /moved/sub
A /moved/sub/kept
A /new
A /new/dir
A /new/dir/file
A /new/dir/link
A /new/fifo
C /opq
D /opq/o
A /opq/p
C /other
D /ren
"""
    assert lamina.good("diff", "box") == expected
    lamina.good("stop", "-t", "0", "box")
    assert lamina.good("diff", "box") == expected
    ended = lamina.call("diff", "nosuch")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("lamina: cannot find container nosuch: ")


def test_diff_of_what_changes_meanwhile(lamina: Lamina) -> None:
    text = (
        "while :; do mkdir -p /a/b/c; echo > /a/b/f; mv /var /v; rm -f /v/x; echo > /v/x;"
        " mv /a/b /a/d; mv /v /var; rm -r /a; done"
    )
    id = lamina.start("busybox", "sh", "-c", text)
    for _ in range(12):
        for line in lamina("diff", id).lines:
            assert line.partition(" ")[0] in ("A", "C", "D")


def test_squash(lamina: Lamina, changed: str) -> None:
    shown = lamina.good("exec", changed, "/bin/sh", "-c", _SHOW)
    lamina.good("commit", changed, "made")
    lamina.good("run", "--name", "again", "made", "/bin/sh", "-c", "mv /moved /ren; rm -r /opq")
    lamina.good("commit", "again", "twice")
    shown = lamina.good("run", "--rm", "twice", "/bin/sh", "-c", _SHOW)
    for words, layers in ((("twice",), 1), (("-n", "2", "twice"), 2), (("again",), 1)):
        lamina.good("squash", *words, "flat")
        (found,) = json.loads(lamina.good("inspect", "flat"))
        assert len(found["RootFS"]["Layers"]) == layers
        assert lamina.good("run", "--rm", "flat", "/bin/sh", "-c", _SHOW) == shown
    images = len(lamina.good("images", "-q").split())
    ended = lamina.call("squash", "nosuch")
    assert ended.err.startswith("lamina: cannot squash nosuch: ")
    assert len(lamina.good("images", "-q").split()) == images
