# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives and layers: what becomes of each kind of entry, and that nothing is lost on the way."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from launcher.image import compression, tar
from launcher.image.compare import differences
from launcher.image.layermarks import of_caller
from launcher.image.pack import pack
from launcher.image.store import Store
from launcher.image.tar import Entry
from launcher.image.tarread import Reader, Whole
from launcher.image.tarwrite import Writer
from tests.image.conftest import archive, make_image, reading


def _tree(root: Path) -> Path:
    """One of every kind."""
    root.mkdir()
    (root / "file").write_bytes(b"content")
    os.chown(root / "file", 2_097_152, 4_294_967_293)
    (root / "file").chmod(0o6711)
    os.setxattr(root / "file", "user.binary", b"\0\n=\xff")
    os.setxattr(
        root / "file",
        "security.capability",
        bytes.fromhex("0100000200040000000000000000000000000000"),
    )
    os.link(root / "file", root / "again")
    with (root / "sparse").open("wb") as file:
        file.truncate(600 << 20)
        file.seek(50 << 20)
        file.write(b"in the middle")
    (root / ("long" * 60)).mkdir()
    (root / ("long" * 60) / ("name" * 60)).write_bytes(b"l")
    (root / "link").symlink_to("x/" * 150)
    os.close(os.open(os.fsencode(root) + b"/not utf-8 \xff\n", os.O_CREAT | os.O_WRONLY))
    os.mkfifo(root / "fifo")
    os.mknod(root / "disc", 0o60600, os.makedev(260, 70_000))
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(0, -1_500_000_001), follow_symlinks=False)
    return root


def _packed(root: Path) -> bytes:
    fd = os.open(root, os.O_RDONLY)
    try:
        return archive(lambda writer: _pack(fd, writer))
    finally:
        os.close(fd)


def _pack(fd: int, writer: Writer, marks: bool = False) -> None:
    pack(fd, writer, of_caller() if marks else None)


def test_a_tree_comes_back_as_it_was(tmp_path: Path, store: Store) -> None:
    tree = _tree(tmp_path / "tree")
    _, (layer,) = make_image(store, _packed(tree))
    assert list(differences(os.fsencode(tree), layer.tree)) == []
    assert os.stat(layer.tree + b"/sparse").st_blocks < 100


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree")
    once = _packed(tree)
    subprocess.run(["cp", "-a", tree, tmp_path / "copy"], check=True)
    assert _packed(tmp_path / "copy") == once
    assert len(once) < 100_000


def test_gnu_tar_reads_what_is_written_and_the_other_way_round(
    tmp_path: Path, store: Store
) -> None:
    tree = _tree(tmp_path / "tree")
    xattrs = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--sparse"]
    target = tmp_path / "out"
    target.mkdir()
    packed = tmp_path / "packed.tar"
    packed.write_bytes(_packed(tree))
    subprocess.run(["tar", *xattrs, "-C", target, "-xpf", packed], check=True)
    assert list(differences(os.fsencode(tree), os.fsencode(target))) == []
    for form in ("posix", "gnu"):
        made = tmp_path / f"{form}.tar"
        options = xattrs if form == "posix" else ["--sparse", "--numeric-owner"]
        subprocess.run(
            ["tar", *options, f"--format={form}", "-C", tree, "-cf", made, "."], check=True
        )
        _, (layer,) = make_image(store, made.read_bytes(), name=f"{form}:1")
        found = list(differences(os.fsencode(tree), layer.tree))
        if form == "posix":
            assert found == []
        else:  # this format has whole seconds, and no xattrs
            assert all(line.endswith(("its time differs", "its xattrs differ")) for line in found)


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_of_every_pax_format(tmp_path: Path, store: Store, version: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "sparse").open("wb") as file:
        for number in range(50):
            file.seek(number << 20)
            file.write(b"%d" % number)
        file.truncate(60 << 20)
    made = tmp_path / "made.tar"
    form = ["--format=posix", "--sparse", f"--sparse-version={version}"]
    subprocess.run(["tar", *form, "-C", tree, "-cf", made, "."], check=True)
    assert made.stat().st_size < 1 << 20
    _, (layer,) = make_image(store, made.read_bytes())
    assert list(differences(os.fsencode(tree), layer.tree)) == []


def _entries(*entries: Entry, content: bytes = b"") -> bytes:
    """An archive of entries; `content` is that of every file."""

    def fill(writer: Writer) -> None:
        for each in entries:
            if each.kind == tar.FILE:
                writer.add_bytes(each, content)
            else:
                writer.add(each)

    return archive(fill)


def _is_whiteout(path: bytes) -> bool:
    found = os.lstat(path)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def test_whiteouts_become_marks_and_names_again(store: Store) -> None:
    data = _entries(
        Entry(b"d/", tar.DIRECTORY),
        Entry(b"d/.wh.gone", tar.FILE),
        Entry(b".wh.kept", tar.FILE),
        Entry(b"kept", tar.FILE, mtime=1),
        Entry(b".wh.new", tar.FILE),
        Entry(b"new/", tar.DIRECTORY),
        Entry(b"o/", tar.DIRECTORY),
        Entry(b"o/x", tar.FILE),
        Entry(b"o/.wh..wh..opq", tar.FILE),
    )
    _, (layer,) = make_image(store, data)
    tree = layer.tree
    assert _is_whiteout(tree + b"/d/gone")
    assert stat.S_ISREG(os.lstat(tree + b"/kept").st_mode)
    for path in (b"/new", b"/o"):
        assert os.getxattr(tree + path, "trusted.overlay.opaque") == b"y"
    assert os.path.exists(tree + b"/o/x")
    fd = os.open(tree, os.O_RDONLY)
    try:
        again = archive(lambda writer: _pack(fd, writer, True))
    finally:
        os.close(fd)
    _, (second,) = make_image(store, again, name="second:1")
    assert list(differences(tree, second.tree)) == []


def test_later_entries_replace_earlier_ones(store: Store) -> None:
    data = _entries(
        Entry(b"a/", tar.DIRECTORY, 0o700),
        Entry(b"a/b/", tar.DIRECTORY),
        Entry(b"a/b/c", tar.FILE),
        Entry(b"a", tar.SYMLINK, link=b"z"),
        Entry(b"f", tar.FILE),
        Entry(b"f/", tar.DIRECTORY, 0o750, mtime=7),
        Entry(b"f/x", tar.FILE),
        Entry(b"f/", tar.DIRECTORY, 0o711, mtime=8),
    )
    _, (layer,) = make_image(store, data)
    assert os.readlink(layer.tree + b"/a") == b"z"
    found = os.stat(layer.tree + b"/f")
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o711, 8)
    assert os.listdir(layer.tree + b"/f") == [b"x"]


def test_what_an_archive_relies_on_is_taken_from_below(store: Store) -> None:
    """Hard links to files of lower layers, and directories without an entry of their own."""
    lower = _entries(
        Entry(b"tmp/", tar.DIRECTORY, 0o1777, 5, 6),
        Entry(b"tmp/file", tar.FILE, 0o640, 7, 8, mtime=9),
        content=b"below",
    )
    upper = _entries(Entry(b"tmp/new", tar.FILE), Entry(b"link", tar.HARD_LINK, link=b"tmp/file"))
    _, (first, second) = make_image(store, lower, upper)
    found = os.stat(second.tree + b"/tmp")
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o1777, 5, 6)
    copied = os.stat(second.tree + b"/link")
    assert (copied.st_mode & 0o7777, copied.st_uid, copied.st_mtime_ns) == (0o640, 7, 9)
    assert os.path.samefile(second.tree + b"/link", second.tree + b"/tmp/file")
    # Above other layers it is another tree, which does not get in the way of this one.
    assert second.row.tree != second.diff_id
    other = archive(lambda writer: writer.add_bytes(Entry(b"tmp/file", tar.FILE), b"other"))
    _, (_, third) = make_image(store, other, upper, name="other:1")
    assert Path(os.fsdecode(third.tree + b"/link")).read_bytes() == b"other"
    assert Path(os.fsdecode(second.tree + b"/link")).read_bytes() == b"below"
    assert first.row.tree == first.diff_id


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_compression_is_undone_and_always_the_same(kind: str) -> None:
    data = os.urandom(3 << 20) + bytes(5 << 20)
    pieces = [data[at : at + 1_000_000] for at in range(0, len(data), 1_000_000)]
    made = b"".join(compression.compressed(kind, iter(pieces)))
    assert made == b"".join(compression.compressed(kind, iter(pieces)))
    assert b"".join(compression.decompressed(kind, iter([made]))) == data
    tool = {"gzip": ["gzip", "-dc"], "zstd": ["zstd", "-dcq"]}[kind]
    assert subprocess.run(tool, input=made, capture_output=True, check=True).stdout == data


@pytest.mark.parametrize("tool", ["gzip", "zstd -q", "xz -0", "bzip2"])
def test_every_compression_is_read(store: Store, tool: str) -> None:
    plain = archive(lambda writer: writer.add_bytes(Entry(b"x", tar.FILE), bytes(3 << 20)))
    words = [*tool.split(), "-c"]
    made = subprocess.run(words, input=plain, capture_output=True, check=True).stdout
    with store.adding() as adding:
        layer = adding.receive(reading(made))
        assert os.stat(layer.tree + b"/x").st_size == 3 << 20
        assert (layer.row.compression != "") == (tool.split()[0] in ("gzip", "zstd"))


def test_names_that_are_not_seekable_are_read_in_order(tmp_path: Path) -> None:
    data = archive(lambda writer: writer.add_bytes(Entry(b"n" * 5000, tar.FILE), b"x" * 1000))
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with path.open("rb") as file:
        reader = Reader(Whole(file.fileno()))
        (entry,) = reader
        assert (entry.name, entry.size, reader.ended) == (b"n" * 5000, 1000, True)
        assert reader.read(entry.offset, 3) == b"xxx"


def test_what_came_through_a_link_keeps_its_looks_when_the_link_goes(store: Store) -> None:
    def fill(writer: Writer) -> None:
        writer.add(Entry(b"real/", tar.DIRECTORY, 0o755))
        writer.add(Entry(b"link", tar.SYMLINK, link=b"real"))
        writer.add(Entry(b"link/told/", tar.DIRECTORY, 0o711, mtime=5 * 10**9))
        writer.add_bytes(Entry(b"link/untold/file", tar.FILE, 0o644, mtime=7 * 10**9), b"")
        writer.add(Entry(b"link/.wh..wh..opq", tar.FILE, 0o600))
        writer.add_bytes(Entry(b"link", tar.FILE, 0o644), b"no link any more")

    _, (layer,) = make_image(store, archive(fill))
    real = layer.tree + b"/real"
    told, untold = os.stat(real + b"/told"), os.stat(real + b"/untold")
    assert (stat.S_IMODE(told.st_mode), told.st_mtime) == (0o711, 5)
    assert (stat.S_IMODE(untold.st_mode), untold.st_mtime) == (0o755, 7)
    assert of_caller().prefix + b"opaque" in map(os.fsencode, os.listxattr(real))


def test_a_hard_link_from_one_of_many_directories_into_another(store: Store) -> None:
    def fill(writer: Writer) -> None:
        writer.add_bytes(Entry(b"first/file", tar.FILE, 0o644), b"1")
        for number in range(64):
            writer.add_bytes(Entry(b"%d/file" % number, tar.FILE, 0o644), b"2")
        writer.add(Entry(b"0/link", tar.HARD_LINK, link=b"first/file"))

    _, (layer,) = make_image(store, archive(fill))
    assert os.path.samefile(layer.tree + b"/0/link", layer.tree + b"/first/file")
