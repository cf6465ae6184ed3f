# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: the compiled one and the one in Python do the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.client import Client, client
from bench.layers import EPOCH, age, fingerprint, grid, large, source_tree, sparse
from bench.processes import CommandFailed, TookTooLong, run
from bench.sizes import MIB
from tests.support.clock import wait_until

DIRS, FILES = 3, 4
Do = Callable[..., float]


@pytest.fixture(params=["compiled", "fallback"])
def do(request: pytest.FixtureRequest, tmp_path: Path) -> Do:
    """Run one operation; ns for each."""
    found = client(tmp_path, () if request.param == "fallback" else ("cc", "gcc", "clang"))
    assert found.language.startswith("C " if request.param == "compiled" else "Python ")

    def ns(operation: str, **given: object) -> float:
        return found.ns_per_operation(operation, 30, **given)

    return ns


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    grid(tmp_path / "tree", DIRS, FILES, b"content")
    return tmp_path / "tree"


def names(tree: Path) -> list[str]:
    return sorted(path.relative_to(tree).as_posix() for path in tree.glob("*/*"))


def expected(prefix: str) -> list[str]:
    return [f"d{d:03d}/{prefix}{f:05d}" for d in range(DIRS) for f in range(FILES)]


def test_reading_changes_nothing(do: Do, tree: Path) -> None:
    before = fingerprint((tree,))
    for operation in ("stat", "open", "list", "walk"):
        assert do(operation, root=tree, dirs=DIRS, files=FILES, passes=2, warm=1) > 0
    assert do("missing", root=tree, dirs=DIRS, files=FILES, prefix="absent") > 0
    assert fingerprint((tree,)) == before


def test_writing_does_what_its_name_says(do: Do, tree: Path) -> None:
    size = {"root": tree, "dirs": DIRS, "files": FILES}
    do("rename", **size, to="r")
    assert names(tree) == expected("r")
    do("append", **size, prefix="r")
    assert all((tree / name).read_bytes() == b"contentx" for name in names(tree))
    do("truncate", **size, prefix="r")
    assert all((tree / name).stat().st_size == 0 for name in names(tree))
    do("chmod", **size, prefix="r")
    assert all((tree / name).stat().st_mode & 0o777 == 0o600 for name in names(tree))
    do("unlink", **size, prefix="r")
    assert names(tree) == []
    do("create", **size, prefix="c")
    do("mkdir", **size, prefix="m")
    do("symlink", **size, prefix="s", to="target")
    assert names(tree) == sorted(expected("c") + expected("m") + expected("s"))
    assert all((tree / name).is_dir() for name in expected("m"))
    assert os.readlink(tree / "d000/s00001") == "d000/target00001"


def test_several_clients_share_the_directories(do: Do, tree: Path) -> None:
    do("create", root=tree, dirs=DIRS, files=FILES, prefix="c", clients=2)
    assert names(tree) == sorted(expected("c") + expected("f"))


def test_data(do: Do, tmp_path: Path) -> None:
    path = tmp_path / "data"
    do("seqwrite", path=path, size=1 * MIB, block=65536)
    assert path.read_bytes() == b"x" * MIB
    path.write_bytes(bytes(MIB))
    written = {}
    for operation in ("randwrite", "mmapwrite", "fsync"):
        path.write_bytes(bytes(MIB))
        do(operation, path=path, size=1 * MIB, block=4096, count=3)
        content = path.read_bytes()
        written[operation] = [place for place in range(0, MIB, 4096) if content[place]]
        if operation == "mmapwrite":
            continue
        assert content.count(b"x") == 4096 * len(written[operation])
    assert written["randwrite"] == written["fsync"]
    assert 1 <= len(written["randwrite"]) <= 3
    for operation in ("seqread", "randread", "mmapread"):
        assert do(operation, path=path, size=1 * MIB, block=4096, count=3) > 0
    assert path.stat().st_size == MIB


def test_what_fails_is_named(do: Do, tree: Path) -> None:
    with pytest.raises(CommandFailed, match=r"^stat d000/absent00000: No such file or directory$"):
        do("stat", root=tree, prefix="absent")
    with pytest.raises(CommandFailed, match=r"^missing d000/f00000: exists$"):
        do("missing", root=tree)
    with pytest.raises(CommandFailed, match=r"^create d000/f00000: File exists$"):
        do("create", root=tree)
    with pytest.raises(CommandFailed, match=r"no such operation"):
        do("dance", root=tree)
    with pytest.raises(CommandFailed, match=r"no such parameter"):
        do("stat", steps=1)
    with pytest.raises(CommandFailed, match=r"short transfer"):
        do("seqread", path=tree / "d000/f00000", size=65536, block=65536)


def test_a_client_that_fails_among_several_fails_them_all(do: Do, tree: Path) -> None:
    (tree / "d001/f00000").unlink()
    with pytest.raises(CommandFailed, match=r"stat d001/f00000"):
        do("stat", root=tree, dirs=DIRS, files=FILES, clients=2)


def test_both_read_and_write_the_same_places(tmp_path: Path) -> None:
    contents = []
    for number, compilers in enumerate(((), ("cc", "gcc", "clang"))):
        found: Client = client(tmp_path, compilers)
        path = tmp_path / f"data{number}"
        found.ns_per_operation("randwrite", 30, path=path, size=MIB, block=4096, count=20)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(TookTooLong, match=r"no end in 0.3 s"):
        run(["sh", "-c", f"sleep 600 & echo $! > {tmp_path}/pid; wait"], seconds=0.3)
    pid = int((tmp_path / "pid").read_text())
    stat = Path(f"/proc/{pid}/stat")

    def ended() -> bool:
        try:
            # Killed, it may still wait for its adopter to reap it.
            return stat.read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(ended, "the child is gone")


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandFailed, match=r"^no-such-program: No such file or directory$"):
        run(["no-such-program"], seconds=5)


def test_trees_are_the_same_every_time(tmp_path: Path) -> None:
    trees = []
    for name in ("one", "two"):
        source_tree(tmp_path / name, 40)
        age(tmp_path / name)
        trees.append(
            sorted(
                (path.relative_to(tmp_path / name), path.is_dir() or path.read_bytes())
                for path in (tmp_path / name).rglob("*")
            )
        )
        assert all(path.stat().st_mtime == EPOCH for path in (tmp_path / name).rglob("*"))
    assert trees[0] == trees[1]
    assert sum(1 for _, content in trees[0] if content is not True) == 40


def test_large_and_sparse_files_have_the_data_they_should(tmp_path: Path) -> None:
    large(tmp_path / "large", 3 * MIB)
    assert (tmp_path / "large").stat().st_size == 3 * MIB
    sparse(tmp_path / "sparse", 512 * MIB, 64 * 1024)
    status = (tmp_path / "sparse").stat()
    assert status.st_size == 512 * MIB
    assert 64 * 1024 <= status.st_blocks * 512 < MIB


def test_any_change_of_a_layer_changes_its_fingerprint(tmp_path: Path) -> None:
    grid(tmp_path / "layer", 1, 2, b"x")
    before = fingerprint((tmp_path / "layer",))
    assert fingerprint((tmp_path / "layer",)) == before
    (tmp_path / "layer/d000/f00000").chmod(0o600)
    assert fingerprint((tmp_path / "layer",)) != before
