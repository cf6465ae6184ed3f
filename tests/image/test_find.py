# SPDX-License-Identifier: GPL-3.0-or-later
"""From a name to something that can be run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launcher.errors import LaunchError
from launcher.image import find
from launcher.image.importing import import_image
from launcher.paths import Paths


def test_busybox_is_made_when_it_is_first_asked_for(paths: Paths) -> None:
    image = find(paths, "busybox")
    assert image.name == "busybox:latest"
    assert image.config.cmd == ("sh",)
    assert any(each.startswith("PATH=") for each in image.config.env)
    (layer,) = image.layers
    assert os.stat(layer + b"/tmp").st_mode & 0o7777 == 0o1777
    assert os.readlink(layer + b"/bin/ls") == b"busybox"
    assert b"root:x:0:0" in Path(os.fsdecode(layer + b"/etc/passwd")).read_bytes()
    done = subprocess.run(["chroot", layer, "/bin/sh", "-c", "echo hi"], capture_output=True)
    assert done.stdout == b"hi\n"
    assert find(paths, "busybox:latest") == image
    assert find(paths, image.id[:7]) == image


def test_many_at_once_make_one_busybox(paths: Paths) -> None:
    code = (
        "import sys; from launcher.image import find; from launcher.paths import Paths;"
        "print(find(Paths(sys.argv[1].encode(), sys.argv[2].encode()), 'busybox').id)"
    )
    command = [sys.executable, "-c", code, *(os.fsdecode(each) for each in paths)]

    def make(_: int) -> str:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert done.stderr == ""
        return done.stdout

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(make, range(6)))) == 1
    assert len(os.listdir(paths.layers + b"/sha256")) == 1
    assert os.listdir(paths.root + b"/incoming") == []


def test_host_is_the_machines_own_root(paths: Paths) -> None:
    image = find(paths, "host")
    assert image.layers == (b"/",)
    assert image.name == "host:latest"
    assert find(paths, image.id) == image


def test_what_is_not_there_is_one_line(paths: Paths) -> None:
    with pytest.raises(LaunchError, match=r"^cannot find image nothing: "):
        find(paths, "nothing")


def test_import_of_a_directory_keeps_what_is_in_it(paths: Paths, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir(0o751)
    (tree / "file").write_bytes(b"content")
    os.utime(tree / "file", ns=(5, 1_234_567_890_123_456_789))
    os.chown(tree / "file", 3_000_000, 4_000_000)
    os.chmod(tree / "file", 0o4711)
    os.link(tree / "file", tree / "other")
    os.symlink("nowhere", tree / "link")
    os.mkfifo(tree / "fifo")
    os.setxattr(tree / "file", "user.x", b"\0\xff")
    imported = import_image(paths, os.fsencode(tree), "one:two", ["CMD echo hi", "ENV A=b"])
    image = find(paths, "one:two")
    assert image.id == imported.id
    assert image.config.cmd == ("/bin/sh", "-c", "echo hi")
    assert image.config.env == ("A=b",)
    made = Path(os.fsdecode(image.layers[0]))
    assert made.stat().st_mode == tree.stat().st_mode
    found, wanted = (made / "file").stat(), (tree / "file").stat()
    assert found[:2] == (wanted[0], found[1])
    assert (found.st_uid, found.st_gid, found.st_nlink) == (3_000_000, 4_000_000, 2)
    assert found.st_mtime_ns == 1_234_567_890_123_456_789
    assert os.getxattr(made / "file", "user.x") == b"\0\xff"
    assert (made / "other").samefile(made / "file")
    assert os.readlink(made / "link") == "nowhere"
    assert (made / "fifo").is_fifo()


def test_the_store_is_an_image_layout(paths: Paths) -> None:
    image = find(paths, "busybox")
    root = Path(os.fsdecode(paths.root))
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((root / "index.json").read_bytes())
    (entry,) = index["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "busybox:latest"
    blobs = root / "blobs/sha256"
    manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_bytes())
    assert manifest["config"]["digest"] == f"sha256:{image.id}"
    for each in (entry, manifest["config"], *manifest["layers"]):
        blob = blobs / each["digest"].removeprefix("sha256:")
        assert blob.stat().st_size == each["size"]
        summed = subprocess.run(["sha256sum", blob], check=True, capture_output=True, text=True)
        assert summed.stdout.split()[0] == blob.name
