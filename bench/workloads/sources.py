# SPDX-License-Identifier: GPL-3.0-or-later
"""Real work on source trees: unpack one, throw one away, git."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from bench import processes
from bench.layers import EPOCH, Layout, age, source_tree
from bench.results import Row
from bench.session import Session
from bench.sizes import Sizes
from bench.workloads.scenario import Scenario, Step, one_layer

GROUP = "real work"
ARCHIVE = "source.tar"
GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@localhost",
    "GIT_AUTHOR_DATE": f"{EPOCH} +0000",
    "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@localhost",
    "GIT_COMMITTER_DATE": f"{EPOCH} +0000",
}


def _build_archive(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    source_tree(layer / "source", sizes.source_files)
    (layer / "place").mkdir()
    age(layer)
    with tarfile.open(layout.extras / ARCHIVE, "w") as archive:
        archive.add(layer / "source", "unpacked")
    return layout


def _build_repository(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    repository = layer / "repository"
    source_tree(repository, sizes.source_files, seed=11)
    age(repository)
    for words in (
        ["init", "-q"],
        # Only times and sizes: inode numbers cannot agree with the index in a copy of the layer,
        # and all peers shall do the same work.
        ["config", "core.checkStat", "minimal"],
        ["config", "core.trustctime", "false"],
        ["config", "gc.auto", "0"],
        ["add", "-A"],
        ["commit", "-q", "-m", "all"],
    ):
        processes.run(["git", "-C", os.fspath(repository), *words], seconds=300, env=GIT)
    return layout


def _untar(session: Session) -> float:
    archive = session.layout.extras / ARCHIVE
    return session.command("tar", "-xf", archive, "-C", session.merged / "place").ns / 1e6


def _remove(session: Session, tree: str) -> float:
    return session.command("rm", "-rf", session.merged / tree).ns / 1e6


def _git_status(session: Session) -> float:
    finished = session.command("git", "status", "--porcelain", cwd="repository", env=GIT)
    if finished.output:
        raise processes.CommandFailed(f"git status shows a change: {finished.output.split()[-1]}")
    return finished.ns / 1e6


def _git_clone(session: Session) -> float:
    source, target = session.merged / "repository", session.merged / "clone"
    return session.command("git", "clone", "-q", "--local", source, target, env=GIT).ns / 1e6


def scenarios(sizes: Sizes) -> list[Scenario]:
    tree = f"{sizes.source_files} files"
    unpack = (
        Step(Row(GROUP, "untar", "ms", f"{tree}, with owners and times"), _untar),
        Step(Row(GROUP, "rm -rf of new files", "ms", f"the {tree} just unpacked"),
             lambda session: _remove(session, "place/unpacked")),
        Step(Row(GROUP, "rm -rf of lower files", "ms", f"{tree} of a lower layer"),
             lambda session: _remove(session, "source")),
    )  # fmt: skip
    git = (
        Step(Row(GROUP, "git status, first", "ms", f"{tree}, nothing changed"), _git_status),
        Step(Row(GROUP, "git status, again", "ms"), _git_status),
        Step(Row(GROUP, "git clone --local", "ms", f"{tree}; objects are hard links"), _git_clone),
    )
    return [
        Scenario(name="sources: untar", build=_build_archive, steps=unpack, on_disc=True,
                 needs=("tar",), rehearse=True),
        Scenario(name="sources: git", build=_build_repository, steps=git, needs=("git",),
                 rehearse=True),
    ]  # fmt: skip
