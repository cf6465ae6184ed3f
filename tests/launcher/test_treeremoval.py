# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing what containers leave: deep, odd, and other people's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher import treeremoval


def test_all_kinds_of_files_go_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    tree = tmp_path / "tree"
    (tree / "sub/empty").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    (tree / "sub/link").symlink_to(outside)
    (tree / "sub/nowhere").symlink_to("nowhere")
    os.mkfifo(tree / "sub/pipe")
    (tree / "odd\n\udcff").write_text("")
    treeremoval.remove(os.fsencode(tree))
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert os.listdir(outside) == ["kept"]
    treeremoval.remove(os.fsencode(tree))  # gone already


def test_a_tree_deeper_than_descriptors_reach(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    treeremoval.remove(os.fsencode(tree))
    assert os.listdir(tmp_path) == []


def test_a_name_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("tree")
    here = os.open(tmp_path, os.O_PATH)
    try:
        for name in (b"link", b"file", b"gone"):
            treeremoval.remove_at(here, name)
        assert os.listdir(tmp_path) == ["tree"]
        assert os.listdir(tmp_path / "tree/sub") == ["file"]
        treeremoval.remove_at(here, b"tree")
    finally:
        os.close(here)
    assert os.listdir(tmp_path) == []


def test_a_file_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        treeremoval.remove(os.fsencode(tmp_path / "file"))
