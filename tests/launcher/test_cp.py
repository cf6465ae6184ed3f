# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina cp`: docker's rules for where a copy goes, and that nothing inside leads out."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.command import Lamina


@pytest.fixture(scope="module", params=["running", "stopped"])
def box(request: pytest.FixtureRequest, lamina_root: Lamina) -> Iterator[str]:
    """A container with some files, that runs or does not."""
    words = ("--name", "box", "-v", "kept:/vol", "busybox")
    text = "mkdir -p /dir/sub; echo in > /dir/file; ln -s file /dir/link; exec sleep 100000"
    lamina_root.good("run", "-d", *words, "sh", "-c", text)
    lamina_root.good("exec", "box", "sh", "-c", "until [ -L /dir/link ]; do :; done")
    if request.param == "stopped":
        lamina_root.good("stop", "-t", "0", "box")
    yield "box"
    lamina_root.clear()
    lamina_root.nothing_runs()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A tree of the host's."""
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    (top / "file").write_text("host\n")
    (top / "file").chmod(0o4755)
    os.utime(top / "file", ns=(0, 1_577_836_800_123_456_789))
    (top / "sub/hard").hardlink_to(top / "file")
    (top / "link").symlink_to("/etc/passwd")
    with (top / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    os.mkfifo(top / "fifo")
    os.chown(top / "sub", 5, 6)
    return top


def listed(lamina: Lamina, path: str) -> dict[str, tarfile.TarInfo]:
    """What is at a path of the container, by name."""
    ended = subprocess.run(
        [*_command(), "cp", f"box:{path}", "-"],
        env=lamina.environment,
        capture_output=True,
        check=True,
    )
    assert ended.stderr == b""
    with tarfile.open(fileobj=io.BytesIO(ended.stdout)) as found:
        return {each.name: each for each in found.getmembers()}


def _command() -> list[str]:
    from tests.launcher.command import command_line

    return command_line()


def test_a_tree_goes_in_and_comes_out_as_it_was(
    lamina_root: Lamina, box: str, made: Path, tmp_path: Path
) -> None:
    lamina = lamina_root
    lamina.good("cp", "-a", f"{made}", "box:/whole")
    lamina.good("cp", "-a", "box:/whole", f"{tmp_path}/back")
    assert _tree(tmp_path / "back") == _tree(made)
    assert (tmp_path / "back/sparse").stat().st_blocks < 16
    assert (tmp_path / "back/file").samefile(tmp_path / "back/sub/hard")


def _tree(top: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([top, *top.rglob("*")]):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(top))] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns),
            content,
        )
    return found


def test_owners(lamina_root: Lamina, box: str, made: Path, tmp_path: Path) -> None:
    """Root's in the container, the caller's on the host, unless they are to be kept."""
    lamina_root.good("cp", str(made), "box:/owned")
    assert listed(lamina_root, "/owned/sub")["sub"].uid == 0
    lamina_root.good("cp", "-a", str(made), "box:/kept")
    kept = listed(lamina_root, "/kept/sub")["sub"]
    assert (kept.uid, kept.gid) == (5, 6)
    lamina_root.good("cp", "box:/kept", str(tmp_path / "mine"))
    assert (tmp_path / "mine/sub").stat().st_uid == os.geteuid()


def test_where_a_copy_goes(lamina_root: Lamina, box: str, made: Path, tmp_path: Path) -> None:
    lamina = lamina_root
    lamina.good("cp", f"{made}/file", "box:/w-file")
    lamina.good("cp", f"{made}/file", "box:/dir")
    lamina.good("cp", str(made), "box:/w-tree")
    lamina.good("cp", str(made), "box:/w-tree")
    lamina.good("cp", f"{made}/sub/.", "box:/w-tree")
    names = set(listed(lamina, "/w-tree"))
    assert {"w-tree/file", "w-tree/tree/file", "w-tree/hard"} <= names
    assert set(listed(lamina, "/w-tree/sub/.")) == {".", "hard"}
    lamina.good("cp", "box:/dir/file", str(tmp_path))
    assert (tmp_path / "file").read_text() == "host\n"
    lamina.good("cp", "box:/dir/link", str(tmp_path / "l"))
    assert os.readlink(tmp_path / "l") == "file"
    lamina.good("cp", "-L", "box:/dir/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == "host\n"
    lamina.good("cp", f"{made}/file", "box:/vol/new")
    assert (lamina.root / "volumes/kept/_data/new").read_text() == "host\n"


def test_refusals(lamina_root: Lamina, box: str, made: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    for words, line in (
        ((f"{made}/file", "box:/nope/"), "copy to /nope/: there is no such directory"),
        ((f"{made}/file", "box:/nope/x"), "copy to /nope: No such file or directory"),
        ((str(made), "box:/dir/file"), "copy to /dir/file: a directory cannot be copied onto a"),
        ((f"{made}/file", "box:/dir/file/"), "copy to /dir/file/: "),
        ((f"{made}/nope", "box:/"), f"copy {made}/nope: No such file or directory"),
        (("box:/nope", str(tmp_path)), "copy /nope: No such file or directory"),
        (("box:/dir", f"{tmp_path}/plain"), f"copy to {tmp_path}/plain: a directory cannot be"),
        (("nosuch:/x", str(tmp_path)), "find container nosuch: "),
    ):
        ended = lamina_root.call("cp", *words)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith(f"lamina: cannot {line}"), ended.err
    assert lamina_root.call("cp", "a", "b").code == 2
    assert lamina_root.call("cp", "box:/a", "box:/b").code == 2


def test_a_directory_does_not_replace_a_link_nor_a_link_a_directory(
    lamina_root: Lamina, box: str, tmp_path: Path
) -> None:
    """What lies there already is not followed."""
    (tmp_path / "tree/evil").mkdir(parents=True)
    (tmp_path / "tree/evil/file").touch()
    (tmp_path / "links").mkdir()
    (tmp_path / "links/evil").symlink_to("/tmp")
    lamina_root.good("cp", f"{tmp_path}/links", "box:/onto")
    ended = lamina_root.call("cp", f"{tmp_path}/tree/.", "box:/onto")
    assert ended.err == "lamina: cannot copy evil: a directory cannot replace what is there\n"
    # And on the host, where the links are the container's.
    ended = lamina_root.call("cp", f"{tmp_path}/tree/.", "box:/other")
    target = tmp_path / "target"
    target.mkdir()
    (target / "evil").symlink_to(tmp_path / "links")
    lamina_root.good("cp", f"{tmp_path}/tree", "box:/source")
    ended = lamina_root.call("cp", "box:/source/.", str(target))
    assert ended.code == 1
    assert not (tmp_path / "links/file").exists()


def test_links_inside_lead_nowhere_else(lamina_root: Lamina, box: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret\n")
    made = tmp_path / "made"
    made.mkdir()
    (made / "absolute").symlink_to(outside)
    (made / "up").symlink_to("../" * 20 + str(outside)[1:])
    (made / "proc").symlink_to("/proc/self/root")
    (made / "file").symlink_to("/w-through")
    lamina_root.good("cp", str(made), "box:/traps")
    for trap in ("absolute", "up"):
        ended = lamina_root.call("cp", f"box:/traps/{trap}/secret", str(tmp_path / "got"))
        assert ended.code == 1
        ended = lamina_root.call("cp", str(outside / "secret"), f"box:/traps/{trap}/x")
        assert ended.code == 1
    ended = lamina_root.call("cp", f"box:/traps/proc{outside}/secret", str(tmp_path / "got"))
    assert ended.code == 1
    lamina_root.good("cp", str(outside / "secret"), "box:/traps/file")
    assert set(listed(lamina_root, "/w-through")) == {"w-through"}
    assert not Path("/w-through").exists()
    assert os.listdir(outside) == ["secret"]
    assert not (tmp_path / "got").exists()


def test_archives(lamina_root: Lamina, box: str, made: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    subprocess.run(["tar", "-C", str(made.parent), "-czf", str(archive), "tree"], check=True)
    with archive.open("rb") as stream:
        subprocess.run(
            [*_command(), "cp", "-", "box:/tmp"],
            env=lamina_root.environment,
            stdin=stream,
            check=True,
        )
    assert {"tree/file", "tree/sub/hard", "tree/link"} <= set(listed(lamina_root, "/tmp/tree"))
    for name in ("../x", "/etc/x"):
        with tarfile.open(archive, "w") as bad:
            bad.addfile(tarfile.TarInfo(name))
        with archive.open("rb") as stream:
            ended = subprocess.run(
                [*_command(), "cp", "-", "box:/tmp"],
                env=lamina_root.environment,
                stdin=stream,
                capture_output=True,
                check=False,
            )
        assert ended.returncode == 1
        assert ended.stderr.startswith(b"lamina: cannot copy "), ended.stderr
    ended_in = lamina_root.call("cp", "-", "box:/tmp", input=b"no archive")
    assert ended_in.code == 1
    assert ended_in.err.count("\n") == 1
