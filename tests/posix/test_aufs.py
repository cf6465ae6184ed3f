# SPDX-License-Identifier: GPL-3.0-or-later
"""The aufs format: its marks on the layers, and what it does in place of a redirect."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from tests.conftest import MountUnion
from tests.posix.expect import content, fails, listing
from tests.support.face import differences, faces
from tests.support.layers import Layers


def _tree(place: Path) -> None:
    (place / "d" / "sub").mkdir(parents=True)
    (place / "d" / "f").write_bytes(b"f")
    (place / "d" / "sub" / "g").write_bytes(b"g")
    (place / "f").write_bytes(b"top")


def test_marks_on_the_layer(layers: Layers, mount_union: MountUnion) -> None:
    """.wh.NAME hides, .wh..wh..opq makes opaque; neither shows, and both work after a remount."""
    _tree(layers.lower)
    daemon = mount_union(format="aufs")
    merged = layers.merged
    (merged / "f").unlink()
    shutil.rmtree(merged / "d")
    (merged / "d").mkdir()
    (merged / "d" / "new").write_bytes(b"new")
    assert (layers.upper / ".wh.f").is_file()
    assert (layers.upper / "d" / ".wh..wh..opq").is_file()
    for _ in range(2):
        assert listing(str(merged)) == ["d"]
        assert listing(str(merged / "d")) == ["new"]
        daemon.restart()
    (merged / "f").write_bytes(b"again")
    assert not (layers.upper / ".wh.f").exists()
    daemon.restart()
    assert content(str(merged / "f")) == b"again"


def test_layers_of_others(layers: Layers, mount_union: MountUnion) -> None:
    """A stack as container images have it: whiteouts and opaque directories in a lower layer."""
    _tree(layers.lower)
    middle = layers.more("middle")
    (middle / ".wh.f").touch()
    (middle / "d").mkdir()
    (middle / "d" / ".wh.f").touch()
    (middle / "d" / "sub").mkdir()
    (middle / "d" / "sub" / ".wh..wh..opq").touch()
    (middle / "d" / "sub" / "own").touch()
    mount_union(lowers=[middle, layers.lower], format="aufs")
    assert listing(str(layers.merged)) == ["d"]
    assert listing(str(layers.merged / "d")) == ["sub"]
    assert listing(str(layers.merged / "d" / "sub")) == ["own"]


def test_reserved_names(layers: Layers, mount_union: MountUnion) -> None:
    """Nobody inside makes, finds, moves or removes a name that is a mark."""
    _tree(layers.lower)
    mount_union(format="aufs")
    home = os.getcwd()
    os.chdir(layers.merged)
    try:
        (layers.merged / "f").unlink()
        for name in (".wh.f", ".wh.d", ".wh..wh..opq", "d/.wh.f", "d/.wh..wh..opq"):
            for make in (
                lambda name=name: os.close(os.open(name, os.O_CREAT | os.O_WRONLY)),
                lambda name=name: os.mkdir(name),
                lambda name=name: os.symlink("x", name),
                lambda name=name: os.mkfifo(name),
                lambda name=name: os.link("d/f", name),
                lambda name=name: os.rename("d/f", name),
            ):
                with fails(errno.EPERM, errno.EINVAL, errno.EACCES, what=name):
                    make()  # type: ignore[no-untyped-call]
            for look in (os.stat, os.unlink, os.rmdir, os.listdir):
                with fails(errno.ENOENT, errno.EPERM, errno.EINVAL, what=name):
                    look(name)
        assert listing() == ["d"]
        assert listing("d") == ["f", "sub"]
    finally:
        os.chdir(home)


def test_directory_rename_is_refused_whole(layers: Layers, mount_union: MountUnion) -> None:
    """EXDEV for a directory with lower content; nothing has changed, and mv(1) goes on by copy."""
    _tree(layers.lower)
    daemon = mount_union(format="aufs")
    merged = layers.merged
    before = faces(merged)
    with fails(errno.EXDEV):
        os.rename(merged / "d", merged / "e")
    assert differences(before, faces(merged)) == []
    assert listing(str(layers.upper)) == []
    shutil.move(merged / "d", merged / "e")
    for _ in range(2):
        assert listing(str(merged)) == ["e", "f"]
        assert content(str(merged / "e" / "sub" / "g")) == b"g"
        daemon.restart()
    # A directory of upper alone moves as ever.
    os.rename(merged / "e", merged / "d")
    assert listing(str(merged / "d")) == ["f", "sub"]
    (merged / "d" / "f").unlink()
    daemon.restart()
    assert listing(str(merged / "d")) == ["sub"]
