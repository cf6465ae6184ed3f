# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: when there is one, when it is believed, and what it says.

That a difference told with its help is what a walk finds is held by the histories of
`cli/test_model` and of the oracle.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.core.conftest import ROOT, Bench
from unionfs import diff, journal
from unionfs.config import MountConfig
from unionfs.union import Union


@pytest.fixture
def cd(bench: Bench) -> Bench:
    bench.lower(0, {"a/b/file": b"1", "c/file": b"2", "file": b"3"})
    return bench


def said(bench: Bench) -> journal.Changed | None:
    return journal.read(bench.path("work"), bench.path("upper"))


def changed(*directories: bytes, mixed: bool) -> journal.Changed:
    return journal.Changed(frozenset(directories), mixed)


def told(bench: Bench, *, journaled: bool = True) -> list[bytes]:
    lower = (bench.path("low0"),)
    changes = diff(
        bench.path("upper"), lower, work=bench.path("work"), detail=False, journaled=journaled
    )
    return [change.kind.encode() + b" " + change.path for change in changes]


def test_there_is_none_unless_asked_for(cd: Bench) -> None:
    cd.mount()
    cd.write("a/new", b"")
    assert said(cd) is None


def test_directories_are_named_as_they_are_copied_up(cd: Bench) -> None:
    cd.mount(journal=True)
    assert said(cd) == changed(mixed=False)
    cd.write("a/b/new", b"")
    cd.mkdir("c/fresh")
    cd.write("c/fresh/new", b"")
    assert said(cd) == changed(b"a", b"a/b", b"c", mixed=False)


def test_a_move_into_a_new_directory_is_told(cd: Bench) -> None:
    cd.mount(journal=True)
    cd.mkdir("fresh")
    cd.write("fresh/1", b"")
    cd.rename("fresh/1", "fresh/2")
    cd.rename("file", "a/file")
    assert said(cd) == changed(b"a", mixed=False)
    cd.rename("c/file", "fresh/file")
    assert said(cd) == changed(b"a", b"c", mixed=True)
    assert told(cd) == told(cd, journaled=False)


def test_a_link_in_a_new_directory_is_told(cd: Bench) -> None:
    cd.mount(journal=True)
    cd.mkdir("fresh")
    cd.link("file", "fresh/other")
    assert said(cd) == changed(mixed=True)
    assert told(cd) == told(cd, journaled=False)


def test_it_is_what_a_difference_goes_by(cd: Bench) -> None:
    """A change of which it does not know, made behind the union, is not looked for."""
    cd.mount(journal=True)
    cd.write("a/new", b"")
    cd.close()
    os.mkdir(cd.path("upper/c"))
    Path(os.fsdecode(cd.path("upper/c/unseen"))).touch()
    assert b"A /c/unseen" not in told(cd)
    assert b"A /c/unseen" in told(cd, journaled=False)


def test_it_goes_on_at_the_next_mount(cd: Bench) -> None:
    cd.mount(journal=True)
    cd.write("a/new", b"")
    cd.mount(journal=True)
    cd.write("c/new", b"")
    assert said(cd) == changed(b"a", b"c", mixed=False)
    cd.mount(read_only=True)
    assert said(cd) == changed(b"a", b"c", mixed=False)


def test_an_upper_that_is_not_empty_gets_none(cd: Bench) -> None:
    os.mkdir(cd.path("upper/c"))
    cd.mount(journal=True)
    cd.write("a/new", b"")
    assert said(cd) is None


def test_a_mount_without_it_ends_it(cd: Bench) -> None:
    cd.mount(journal=True)
    cd.write("a/new", b"")
    cd.mount()
    cd.write("c/new", b"")
    cd.mount(journal=True)
    assert said(cd) is None
    assert told(cd) == [b"A /a/new", b"A /c/new"]


def test_a_mount_by_the_kernel_ends_it(cd: Bench) -> None:
    cd.mount(journal=True)
    cd.write("a/new", b"")
    cd.close()
    os.mkdir(cd.path("merged"))
    directories = [os.fsdecode(cd.path(name)) for name in ("low0", "upper", "work", "merged")]
    options = "lowerdir={},upperdir={},workdir={}".format(*directories[:3])
    words = ["mount", "-t", "overlay", "-o", options, "overlay", directories[3]]
    subprocess.run(words, check=True)
    try:
        Path(directories[3], "c/new").touch()
    finally:
        subprocess.run(["umount", directories[3]], check=True)
    assert said(cd) is None
    assert told(cd) == [b"A /a/new", b"A /c/new"]


def test_that_of_another_boot_is_not_believed(cd: Bench) -> None:
    cd.mount(journal=True)
    cd.write("a/new", b"")
    cd.close()
    path = Path(os.fsdecode(cd.path("work/work/journal")))
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    content = path.read_bytes()
    assert boot in content
    path.write_bytes(content.replace(boot, boot[::-1]))
    assert said(cd) is None
    cd.mount(journal=True)
    assert said(cd) is None


def test_that_of_a_copied_upper_is_not_believed(cd: Bench) -> None:
    cd.mount(journal=True)
    cd.write("a/new", b"")
    cd.close()
    for name in ("upper", "work"):
        os.rename(cd.path(name), cd.path(name + ".old"))
        subprocess.run(["cp", "-a", cd.path(name + ".old"), cd.path(name)], check=True)
    assert said(cd) is None


def test_a_kill_loses_nothing(cd: Bench) -> None:
    lower, upper, work = (cd.path(name) for name in ("low0", "upper", "work"))
    child = os.fork()
    if child == 0:
        union = Union(MountConfig(lower=(lower,), upper=upper, work=work, journal=True))
        found = union.lookup(union.root, b"a")
        if found is not None:
            union.mkdir(found[0], b"new", 0o755, ROOT)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    # A record that was being written.
    with open(work + b"/work/journal", "ab") as file:
        file.write(b"Dc/fi")
    cd.mount(journal=True)
    cd.write("c/new", b"")
    found_now = said(cd)
    assert found_now is not None
    assert found_now.directories >= {b"a", b"c"}
    assert told(cd) == [b"A /a/new", b"A /c/new"]


def test_what_cannot_be_written_ends_it(cd: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disc: the change goes on as it can, the journal does not."""
    cd.mount(journal=True)
    cd.write("a/new", b"")

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        cd.write("c/new", b"")
    assert said(cd) is None
    cd.write("a/b/new", b"")
    assert told(cd) == [b"A /a/b/new", b"A /a/new", b"A /c/new"]
