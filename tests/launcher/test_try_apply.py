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


MOVES = {
    "swap": "mv a t; mv b a; mv t b",
    "chain": "mv c d2; mv b c; mv a b",
    "into itself": "mv a t; mkdir a; mv t a/old",
    "inner out": "mv a/in top; echo more > top/new",
    "outer and inner": "mv a z; mv z/in z/out; rm z/f",
    "inner out, outer gone": "mv a/in top; rm -r a",
    "inner out, outer replaced": "mv a/in top; rm -r a; echo file > a",
    "over a deleted one": "rm -r b; mv a b",
    "over a deleted one, replaced": "rm -r b; mv a b; mkdir a; echo new > a/f",
    "deep": "mkdir -p n/e/w; mv a n/e/w/a; mv b n/e/b; mv n/e/w/a/in n/in",
    "files swap": "mv a/f t; mv b/f a/f; mv t b/f",
    "file into a moved directory": "mv a z; mv b/f z/from-b; echo x >> z/from-b",
    "written and renamed within a moved one": "mv a z; mv z/f z/g; echo x >> z/g",
    "parent becomes child": "mv a/in t; mv a t/a; mv t a",
}


@pytest.mark.parametrize("name", MOVES)
def test_renamed_directories_and_files(ground: Ground, name: str) -> None:
    for each in "abc":
        ground.write(f"{each}/f", f"f of {each}\n")
        ground.write(f"{each}/in/deep/g", f"g of {each}\n")
    before = ground.seen(inodes=True)
    wanted: dict[str, object] = {}

    def script(merged: Path) -> None:
        subprocess.run(["bash", "-euc", MOVES[name]], cwd=merged, check=True)
        wanted.update(snapshot(merged))

    ground.run(script)
    assert ground.conflicts() == {}
    assert ground.apply().failed == ()
    assert ground.seen() == wanted
    assert ground.refusals() == {}
    assert ground.undo() == []
    assert ground.seen(inodes=True) == before


def test_a_choice_brings_along_what_it_needs(ground: Ground) -> None:
    ground.write("a/f")
    ground.write("b")
    ground.write("c")
    ground.run(
        "mkdir -p new/in; echo x > new/in/f; echo x > new/g; echo x >> b; mv a z; echo x > z/h"
    )
    assert ground.apply("/new/in/f").failed == ()
    assert (ground.root / "new/in/f").exists()
    assert not (ground.root / "new/g").exists()
    assert (ground.root / "b").read_text() == "old\n"
    assert ground.apply("/z/h").failed == ()
    assert sorted(os.listdir(ground.root / "z")) == ["f", "h"]
    assert ground.conflicts() == {}
    assert ground.apply().failed == ()
    assert (ground.root / "new/g").exists()
    assert (ground.root / "b").read_text() == "old\nx\n"
    # One apply after the other is taken back.
    for _ in range(3):
        assert ground.refusals() == {}
        assert ground.undo() == []
    assert sorted(os.listdir(ground.root)) == ["a", "b", "c"]
    assert ground.conflicts() == {}


def test_what_a_renamed_directory_holds_can_be_applied_later(ground: Ground) -> None:
    ground.write("a/f")
    ground.write("a/sub/g")
    ground.write("a/sub/h")
    ground.run("mv a z; echo x >> z/f; rm z/sub/g; mv z/sub/h z/h; echo x > z/new")
    assert ground.apply("/z/h").failed == ()
    assert (ground.root / "z/h").exists()
    assert (ground.root / "z/f").read_text() == "old\n"
    assert ground.conflicts() == {}
    assert ground.apply("/z/f").failed == ()
    assert ground.apply().failed == ()
    assert sorted(os.listdir(ground.root / "z")) == ["f", "h", "new", "sub"]
    assert os.listdir(ground.root / "z/sub") == []
    for _ in range(3):
        assert ground.undo() == []
    assert sorted(os.listdir(ground.root / "a")) == ["f", "sub"]


def test_all_names_of_a_changed_file_change(ground: Ground) -> None:
    file = ground.write("one")
    os.link(file, ground.root / "two")
    (ground.root / "d").mkdir()
    os.link(file, ground.root / "d/three")
    ground.run("echo x >> two")
    assert ground.apply().failed == ()
    numbers = {(ground.root / name).stat().st_ino for name in ("one", "two", "d/three")}
    assert len(numbers) == 1
    assert file.read_text() == "old\nx\n"


def test_where_only_metadata_was_copied_up_only_metadata_is_applied(ground: Ground) -> None:
    file = ground.write("f", "content\n")
    ground.write("g", "content of g\n")
    number = file.stat().st_ino
    ground.run("chmod 600 f; mv g h; chmod 640 h", metacopy=True)
    assert ground.apply().failed == ()
    assert file.stat().st_ino == number
    assert file.stat().st_mode & 0o777 == 0o600
    assert (ground.root / "h").read_text() == "content of g\n"
    assert (ground.root / "h").stat().st_mode & 0o777 == 0o640


def test_sockets_are_left_out(ground: Ground) -> None:
    script = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'; echo x > f"
    assert [item.path for item in ground.run(script)] == [b"/f"]


def test_a_program_that_runs_can_be_replaced(ground: Ground) -> None:
    program = ground.root / "sleep"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    ground.run("cp /bin/true sleep.new; mv sleep.new sleep")
    running = subprocess.Popen([program, "60"])
    try:
        assert ground.apply().failed == ()
        assert program.read_bytes() == Path("/bin/true").read_bytes()
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()


def test_names_of_any_bytes(ground: Ground) -> None:
    top = os.fsencode(ground.root)
    names = [b"new\nline", b"\xff\xfe", b" ", b"-rf", b"*", b"\x1b[31m", "ü".encode()]
    for name in names:
        with open(top + b"/" + name, "w"):
            pass

    def script(merged: Path) -> None:
        for name in names:
            with open(os.fsencode(merged) + b"/" + name, "w") as file:
                file.write("x")
            os.mkdir(os.fsencode(merged) + b"/d" + name)

    ground.run(script)
    assert ground.apply().failed == ()
    for name in names:
        assert os.stat(top + b"/" + name).st_size == 1
        assert os.path.isdir(top + b"/d" + name)
