# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed of it all: a read-only disc and an empty directory, by the command alone.

The disc is a filesystem image mounted read-only; its checksum is taken before and after.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import LayersFactory
from tests.posix.expect import fails, listing
from tests.support.daemon import command, environment, wait_gone
from tests.support.face import Face, differences, faces
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, run, unmount_all


class Disc(NamedTuple):
    """A disc in its drive: the image, and where it is mounted."""

    image: Path
    path: Path

    def checksum(self) -> str:
        return hashlib.sha256(self.image.read_bytes()).hexdigest()


def lamina(*words: str | Path) -> str:
    """Run the command as a person does; what it prints. It must succeed."""
    done = subprocess.run(
        command(*map(str, words)), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def layers(new_layers: LayersFactory) -> Iterator[Layers]:
    layers = new_layers("ext4", "64m")
    yield layers
    if mount_at(layers.merged):
        subprocess.run(command("umount", str(layers.merged)), env=environment(), check=False)


@pytest.fixture
def disc(layers: Layers) -> Iterator[Disc]:
    """A disc of letters and photos."""
    tree = layers.more("tree")
    (tree / "letters" / "1998").mkdir(parents=True)
    (tree / "letters" / "1998" / "may").write_text("Dear reader,\n")
    (tree / "letters" / "1998" / "june").write_text("Dear reader, again,\n")
    (tree / "letters" / "1998" / "june").chmod(0o640)
    (tree / "photos").mkdir()
    (tree / "photos" / "größe.jpg").write_bytes(os.urandom(300_000))
    (tree / "photos" / "best.jpg").symlink_to("größe.jpg")
    (tree / "README").write_text("A disc.\n")
    (tree / "advertisement").write_text("Buy!\n")
    os.link(tree / "README", tree / "LIESMICH")
    image = layers.root / "disc.img"
    run("truncate", "-s", "8m", str(image))
    run("mkfs.ext4", "-q", "-F", "-d", str(tree), str(image))
    place = layers.more("disc")
    run("mount", "-t", "ext4", "-o", "loop,ro", str(image), str(place))
    yield Disc(image, place)
    unmount_all(layers.merged)
    unmount_all(place)


def _seen(place: Path) -> dict[str, Face]:
    found = {name: face._replace(ino=0) for name, face in faces(place).items()}
    found.pop("lost+found", None)
    return found


def test_the_picture(layers: Layers, disc: Disc, transport: str) -> None:
    """Union, read, edit, delete, rename; the disc is as it was, the edits are where they belong."""
    before, checksum = _seen(disc.path), disc.checksum()
    edits, merged = layers.upper, layers.merged
    mounting = ("mount", "--transport", transport, "--lower", disc.path, "--upper", edits)

    # "union them; read the union and get the CD"
    lamina(*mounting, merged)
    entry = mount_at(merged)
    assert entry is not None
    assert (entry.fstype, "rw" in entry.options) == ("fuse.lamina", True)
    assert differences(before, _seen(merged)) == []
    assert listing(str(edits)) == [], "reading leaves no trace"

    # "edit in it and the edits land in the empty directory"
    with open(merged / "letters" / "1998" / "june", "a") as stream:
        stream.write("P.S.\n")
    (merged / "advertisement").unlink()
    (merged / "photos").rename(merged / "pictures")
    (merged / "letters" / "1999").mkdir()
    (merged / "letters" / "1999" / "january").write_text("New year.\n")
    (merged / "LIESMICH").chmod(0o600)
    june = edits / "letters" / "1998" / "june"
    assert june.read_text() == "Dear reader, again,\nP.S.\n"
    assert june.stat().st_mode & 0o777 == 0o640
    assert not (edits / "letters" / "1998" / "may").exists()
    assert not (edits / "pictures" / "größe.jpg").exists(), "a renamed directory is not copied"

    # "read again and the edited file wins over the CD's"
    after = _seen(merged)
    assert after["letters/1998/june"].content.endswith(b"P.S.\n")
    assert "advertisement" not in after
    assert not {name for name in after if name.startswith("photos")}
    assert after["pictures/größe.jpg"].content == before["photos/größe.jpg"].content
    assert after["README"].mode & 0o777 == 0o600, "two names of one file stay one file"
    assert differences(before, _seen(disc.path)) == []

    changes = json.loads(lamina("diff", "--json", merged))
    assert json.dumps(changes).count("advertisement") == 1
    assert lamina("diff", merged).splitlines() == [
        "C /LIESMICH",
        "C /README",
        "D /advertisement",
        "C /letters/1998/june",
        "A /letters/1999",
        "A /letters/1999/january",
        "R /photos -> /pictures",
    ]
    assert str(merged) in lamina("mounts")
    assert str(edits) in lamina("explain", merged / "letters" / "1998" / "june")
    assert str(disc.path) in lamina("explain", merged / "letters" / "1998" / "may")

    # Mount again and find the edits.
    lamina("umount", merged)
    assert mount_at(merged) is None
    assert listing(str(merged)) == []
    lamina(*mounting, merged)
    assert differences(after, _seen(merged)) == []
    lamina("umount", merged)

    # The disc alone, read-only, and with fresh directories, is the disc.
    lamina("mount", "--transport", transport, "--lower", disc.path, merged)
    assert differences(before, _seen(merged)) == []
    with fails(errno.EROFS):
        (merged / "README").chmod(0o600)
    lamina("umount", merged)
    assert disc.checksum() == checksum


def test_fstab_words(layers: Layers, disc: Disc, transport: str) -> None:
    """The same by `-o lowerdir=…`, as mount(8) and fuse-overlayfs take it, with two discs."""
    second = layers.more("second:disc")
    (second / "README").write_text("The second disc.\n")
    escaped = str(second).replace(":", "\\:")
    options = f"lowerdir={escaped}:{disc.path},upperdir={layers.upper},workdir={layers.work}"
    lamina("mount", "--transport", transport, "-o", options, layers.merged)
    assert (layers.merged / "README").read_text() == "The second disc.\n"
    assert (layers.merged / "letters" / "1998" / "may").exists()
    (layers.merged / "README").unlink()
    assert not (layers.merged / "README").exists()
    lamina("umount", layers.merged)
    assert (second / "README").exists()


def test_repair_of_a_dead_mount(layers: Layers, disc: Disc, transport: str) -> None:
    """The daemon is killed; `lamina umount` takes the dead mount away, and the edits are kept."""
    words = ("mount", "--transport", transport, "--lower", disc.path, "--upper", layers.upper)
    lamina(*words, layers.merged)
    (layers.merged / "README").write_text("edited\n")
    daemons = [
        entry["daemon"]
        for entry in json.loads(lamina("mounts", "--json"))
        if entry["merged"] == str(layers.merged)
    ]
    assert len(daemons) == 1
    os.kill(daemons[0], 9)
    wait_gone(daemons[0])
    with fails(errno.ENOTCONN):
        os.listdir(layers.merged)
    lamina("umount", layers.merged)
    assert mount_at(layers.merged) is None
    lamina(*words, layers.merged)
    assert (layers.merged / "README").read_text() == "edited\n"
    lamina("umount", layers.merged)
