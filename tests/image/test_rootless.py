# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of an ordinary user's, whose files belong to subordinate ids."""

from __future__ import annotations

import os
from pathlib import Path

from launcher.image import tar
from launcher.image.tar import Entry
from launcher.image.tarwrite import Writer
from tests.image.conftest import archive
from tests.launcher.command import Lamina
from tests.launcher.life.test_rootless import as_ordinary
from tests.launcher.test_user_namespaces import SUBIDS


def _fill(writer: Writer) -> None:
    writer.add(Entry(b"./", tar.DIRECTORY, 0o755))
    writer.add_bytes(Entry(b"theirs", tar.FILE, 0o640, 33, 44), b"content")
    writer.add(Entry(b"closed/", tar.DIRECTORY, 0o700, 33, 33))
    writer.add_bytes(Entry(b"closed/in it", tar.FILE, 0o600, 33, 33), b"hidden")
    writer.add_bytes(Entry(b".wh.gone", tar.FILE), b"")


def test_import_keeps_owners_and_fsck_agrees(tmp_path: Path) -> None:
    def work(lamina: Lamina) -> None:
        source = lamina.root.parent / "tree.tar"
        source.write_bytes(archive(_fill))
        lamina("import", str(source), "mine:1")
        (layer,) = (lamina.root / "layers/sha256").iterdir()
        found = (layer / "theirs").stat()
        assert (found.st_uid, found.st_gid) == (SUBIDS + 32, SUBIDS + 43)
        assert "mine" in lamina("images").out
        assert lamina("fsck").out == ""
        lamina("save", "-o", str(lamina.root.parent / "saved.tar"), "mine:1")
        assert "Deleted: sha256:" in lamina("rmi", "mine:1").out
        assert os.listdir(lamina.root / "layers/sha256") == []
        lamina("load", "-i", str(lamina.root.parent / "saved.tar"))
        assert lamina("fsck").out == ""
        lamina("prune", "-a")
        assert os.listdir(lamina.root / "layers/sha256") == []

    as_ordinary(tmp_path, work, granted=True)


def test_without_subordinate_ids_owners_are_left_out(tmp_path: Path) -> None:
    def work(lamina: Lamina) -> None:
        source = lamina.root.parent / "tree.tar"
        source.write_bytes(archive(_fill))
        ended = lamina.call("import", str(source), "mine:1")
        assert ended.code == 0
        assert "owners that this user cannot give files to" in ended.err
        assert lamina("fsck").out == ""

    as_ordinary(tmp_path, work, granted=False)
