# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs of images, word by word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from launcher.cli.progress import Progress
from launcher.image.store import Store
from launcher.paths import Paths
from tests.image.conftest import make_image
from tests.image.test_store import _layer


class Ended:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.rows = [line.split() for line in self.out.splitlines()]


class Run(Protocol):
    """lamina with the test's store."""

    def __call__(self, *words: str, stdin: bytes = b"") -> Ended: ...


@pytest.fixture
def run(paths: Paths) -> Run:
    program = Path(sys.executable).with_name("lamina")
    environment = {**os.environ, "LAMINA_ROOT": os.fsdecode(paths.root), "TZ": "UTC"}

    def lamina(*words: str, stdin: bytes = b"") -> Ended:
        done = subprocess.run([program, *words], env=environment, input=stdin, capture_output=True)
        texts = (done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        return Ended(subprocess.CompletedProcess(words, done.returncode, *texts))

    return lamina


def test_images_tag_history_and_rmi(run: Run, store: Store) -> None:
    image, _ = make_image(
        store, _layer("a", bytes(1000)), _layer("b", bytes(500)), name="one/two:3"
    )
    listed = run("images")
    assert listed.rows[0] == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert listed.rows[1][:3] == ["one/two", "3", image[:12]]
    assert listed.rows[1][-1] == "1.5kB"
    assert run("images", "-q", "--no-trunc").out == f"sha256:{image}\n"
    assert run("tag", "one/two:3", "docker.io/library/four").code == 0
    form = "{{.Repository}}:{{.Tag}}"
    assert run("images", "--format", form).out == "four:latest\none/two:3\n"
    assert run("images", "--format", form, "four").out == "four:latest\n"
    assert run("images", "-q", "-f", "reference=one/*").out == f"{image[:12]}\n"
    assert run("images", "-q", "-f", "dangling=true").out == ""
    assert run("images", "-f", "colour=red").code == 2
    history = run("history", "--format", "{{.ID}} {{.Size}}", "four")
    assert history.out == f"{image[:12]} 500B\n<missing> 1kB\n"
    assert run("rmi", "four").out == "Untagged: four:latest\n"
    gone = run("rmi", "nothing", image[:5])
    assert gone.code == 1
    assert gone.err == "lamina: cannot find image nothing: there is none of that name or id\n"
    assert gone.rows[0] == ["Untagged:", "one/two:3"]
    assert gone.rows[1] == ["Deleted:", f"sha256:{image}"]
    assert len(run("images").rows) == 1


def test_import_load_and_save_through_pipes(run: Run, store: Store) -> None:
    made = run("import", "-c", 'CMD ["x"]', "-", "piped", stdin=_layer("a"))
    assert (made.code, made.err) == (0, "")
    image = made.out.strip().removeprefix("sha256:")
    assert len(image) == 64
    again = run("load", stdin=b"not an archive")
    assert again.code == 1
    assert again.err.startswith("lamina: cannot load standard input: ")
    assert again.err.count("\n") == 1
    refused = run("import", "-", "UPPER", stdin=_layer("a"))
    assert refused.err.startswith("lamina: cannot use image name UPPER: ")
    assert run("save", "nothing").code == 1
    assert run("save", "--format", "cpio", "piped").code == 2


def test_df_shares_and_fsck_complains(run: Run, store: Store, paths: Paths) -> None:
    base = _layer("base", bytes(2000))
    make_image(store, base, _layer("x", bytes(1000)), name="x:1")
    _, (layer, _) = make_image(store, base, _layer("y", bytes(500)), name="y:1")
    table = run("df", "--format", "{{.Type}} {{.TotalCount}} {{.Size}} {{.Reclaimable}}")
    assert table.out.splitlines()[0] == "Images 2 3.5kB 3.5kB (100%)"
    told = run("df", "-v")
    assert ["x", "1"] in [row[:2] for row in told.rows]
    (row,) = [row for row in told.rows if row[:2] == ["x", "1"]]
    assert row[-4:] == ["3kB", "2kB", "1kB", "0"]
    assert [layer.tree[-64:][:12].decode(), "2kB"] in [row[:2] for row in told.rows]
    assert run("fsck").out == ""
    os.unlink(layer.tree + b"/base")
    broken = run("fsck")
    assert broken.code == 1
    assert "base: it is missing" in broken.out
    assert broken.err.startswith("lamina: cannot vouch for ")
    assert run("fsck", "--repair").code == 0
    assert run("fsck").code == 0


def test_progress_shows_rate_and_time_left() -> None:
    line = Progress("load").line(50_000_000, 200_000_000, 1.0)
    assert line == "load  [#####---------------]  25%  50MB/200MB  50MB/s  0:04 left"
    assert Progress("load").line(3000, 0, 1.0) == "load  3kB  3kB/s"
