# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a try come to the host as the union showed them, and can be taken back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.launcher.trials import Ground, snapshot


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


NASTY = """
    echo new > added; chmod 4755 added; chown 12:34 added
    echo changed >> dir/changed
    chmod 600 dir/mode; chown 5:6 dir/owner; touch -d 2001-02-03 dir/times
    setfattr -n user.colour -v blue dir/xattr
    setfacl -m u:1000:rw dir/acl; setcap cap_net_raw+ep tool
    rm dir/gone; rm -r tree
    mkdir -p fresh/deep; echo x > fresh/deep/file; touch -d 2002-03-04 fresh
    ln -s ../nowhere link; ln -sfn elsewhere oldlink
    mkfifo pipe; mknod node c 1 3; mknod block b 7 200
    mv moved-from moved-to; echo more > moved-to/inside; rm moved-to/sub/old
    mv file-from file-to
    mv both-from both-to; echo touched >> both-to
    rm -r was-dir; echo file > was-dir
    rm was-file; mkdir was-file; echo inner > was-file/inner
    rm -r opaque; mkdir opaque; echo only > opaque/only
    echo a > hard1; ln hard1 hard2; ln dir/changed hard3
    echo linked >> twin1
    ln plain plain2
    chmod 700 attr-dir; setfattr -n user.d -v 1 attr-dir
    truncate -s 64M sparse; echo end >> sparse
"""


def furnish(ground: Ground) -> None:
    for name in ("changed", "mode", "owner", "times", "xattr", "acl", "gone", "kept"):
        ground.write(f"dir/{name}")
    ground.write("tool", mode=0o755)
    ground.write("tree/a/b/c")
    ground.write("tree/top")
    ground.write("moved-from/stays")
    ground.write("moved-from/sub/old")
    ground.write("file-from", "x" * 5000)
    ground.write("both-from")
    ground.write("was-dir/inside")
    ground.write("was-file")
    ground.write("opaque/old1")
    ground.write("opaque/old2")
    ground.write("plain")
    ground.write("twin1")
    os.link(ground.root / "twin1", ground.root / "twin2")
    (ground.root / "attr-dir").mkdir()
    (ground.root / "oldlink").symlink_to("somewhere")
    subprocess.run(["setfacl", "-d", "-m", "u:7:rwx", ground.root / "attr-dir"], check=True)


def test_everything_a_command_can_change_comes_out_as_the_union_showed_it(
    ground: Ground, tmp_path: Path
) -> None:
    furnish(ground)
    before = ground.seen(inodes=True)
    wanted: dict[str, object] = {}

    def script(merged: Path) -> None:
        subprocess.run(["bash", "-euc", NASTY], cwd=merged, check=True)
        wanted.update(snapshot(merged))

    ground.run(script)
    assert ground.seen(inodes=True) == before, "nothing changes before apply"
    assert ground.conflicts() == {}

    outcome = ground.apply()

    assert outcome.failed == ()
    got = ground.seen()
    assert got == wanted
    sparse = (ground.root / "sparse").stat()
    assert sparse.st_blocks * 512 < 1 << 20
    assert (ground.root / "moved-to").stat().st_ino == before["moved-from"][8]
    assert (ground.root / "file-to").stat().st_ino == before["file-from"][8]
    assert ground.refusals() == {}

    assert ground.undo() == []

    assert ground.seen(inodes=True) == before
    # And once more: what was taken back is to be applied as before.
    assert ground.conflicts() == {}
    assert ground.apply().failed == ()
    assert ground.seen() == wanted
