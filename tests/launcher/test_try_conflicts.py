# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host changed since is not overwritten; what fails leaves no trace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.sys import files
from launcher.trial import carry, copying
from tests.launcher.trials import Ground, settle
from tests.support.layers import Layers


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def hidden(root: Path) -> list[Path]:
    return list(root.rglob(".lamina*"))


AFTER = "after the try began"


@pytest.mark.parametrize(
    ("script", "meanwhile", "path", "reason"),
    [
        ("echo x >> f", "echo y > f", "/f", "it was changed " + AFTER),
        ("echo x >> f", "chmod 600 f", "/f", "it was changed " + AFTER),
        ("echo x >> f", "rm f", "/f", "it was deleted " + AFTER),
        ("echo x >> f", "echo z > g; mv g f", "/f", "it was changed " + AFTER),
        ("echo x >> f", "rm f; mkdir f", "/f", "it was changed " + AFTER),
        ("chmod 600 f", "chmod 640 f", "/f", "it was changed " + AFTER),
        ("rm f", "echo y > f", "/f", "it was changed " + AFTER),
        ("rm -r d", "echo y > d/deep/new", "/d", "it was changed " + AFTER),
        ("rm -r d", "echo y >> d/deep/f", "/d", "it was changed " + AFTER),
        ("echo x > n", "echo y > n", "/n", "something of that name was made " + AFTER),
        ("mkdir n", "echo y > n", "/n", "something of that name was made " + AFTER),
        ("mv f n", "echo y > n", "/n", "something of that name was made " + AFTER),
        ("mv f n", "echo y >> f", "/n", "what it was renamed from was changed " + AFTER),
        ("mv d n", "chmod 700 d", "/n", "what it was renamed from was changed " + AFTER),
        ("echo x > d/n", "rm -r d", "/d/n", "its directory is gone"),
        ("rm -r d; echo x > d", "echo y > d/new", "/d", "it was changed " + AFTER),
    ],
)
def test_a_change_that_the_host_has_overtaken_is_refused(
    ground: Ground, script: str, meanwhile: str, path: str, reason: str
) -> None:
    ground.write("f")
    ground.write("d/deep/f")
    ground.run(script)
    settle()
    subprocess.run(["sh", "-euc", meanwhile], cwd=ground.root, check=True)
    assert ground.conflicts() == {path: reason}


def test_what_the_host_changes_while_the_command_runs_is_refused(ground: Ground) -> None:
    ground.write("f")
    ground.write("d/f")
    ground.write("kept")

    def meanwhile() -> None:
        (ground.root / "f").write_text("host\n")
        (ground.root / "d/new").write_text("host\n")
        (ground.root / "n").write_text("host\n")

    ground.run("echo x >> f; rm -r d; echo x > n; echo x >> kept", meanwhile)
    during = "the host changed it while the command ran"
    assert ground.conflicts() == {"/f": during, "/d": during, "/n": during}
    assert ground.apply("/kept").failed == ()
    assert (ground.root / "kept").read_text() == "old\nx\n"


def test_what_does_no_harm_is_no_conflict(ground: Ground) -> None:
    ground.write("gone")
    ground.write("d/f")
    ground.run("rm gone; mkdir new; echo x > new/f; echo x > d/mine")
    (ground.root / "gone").unlink()
    (ground.root / "new").mkdir()
    (ground.root / "new/theirs").touch()
    (ground.root / "d/theirs").touch()
    assert ground.conflicts() == {}
    assert ground.apply().failed == ()
    assert sorted(os.listdir(ground.root / "new")) == ["f", "theirs"]
    assert ground.undo() == []
    assert sorted(os.listdir(ground.root / "new")) == ["theirs"]


def test_force_writes_and_undo_brings_the_hosts_own_back(ground: Ground) -> None:
    ground.write("f")
    ground.write("d/f")
    ground.run("echo x >> f; rm -r d; echo x > n; echo x > m")
    (ground.root / "f").write_text("host\n")
    (ground.root / "d/new").write_text("host\n")
    (ground.root / "n").write_text("host\n")
    (ground.root / "m").mkdir()
    (ground.root / "m/inside").write_text("host\n")
    before = ground.seen(inodes=True)
    assert ground.apply(force=True).failed == ()
    assert (ground.root / "f").read_text() == "old\nx\n"
    assert (ground.root / "n").read_text() == (ground.root / "m").read_text() == "x\n"
    assert not (ground.root / "d").exists()
    assert ground.undo() == []
    assert ground.seen(inodes=True) == before


def test_undo_refuses_what_was_changed_since_the_apply(ground: Ground) -> None:
    for name in ("changed", "mode", "gone", "kept"):
        ground.write(name)
    ground.run(
        "for f in changed mode; do echo x >> $f; done; rm gone; mkdir new; echo x > new/f;"
        "echo x > added; chmod 600 kept"
    )
    ground.apply()
    settle()
    (ground.root / "changed").write_text("host\n")
    (ground.root / "mode").chmod(0o640)
    (ground.root / "kept").chmod(0o640)
    (ground.root / "gone").write_text("host\n")
    (ground.root / "new/theirs").write_text("host\n")
    (ground.root / "added").unlink()
    changed = "it was changed after the apply"
    assert ground.refusals() == {
        "/changed": changed,
        "/mode": changed,
        "/kept": changed,
        "/gone": "something else is there by now",
        "/new": "something was put into it after the apply",
        "/added": "it was deleted after the apply",
    }


# -- between the check and the rename --------------------------------------------------------------


@pytest.fixture
def before_each_rename(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Do something right before the first rename of an apply."""

    def install(action: Callable[[], None]) -> None:
        done: list[bool] = []

        def renameat2(*arguments: object) -> None:
            if not done:
                done.append(True)
                action()
            files.renameat2(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(carry, "renameat2", renameat2)

    return install


def test_a_file_swapped_at_the_last_moment_is_put_back(
    ground: Ground, before_each_rename: Callable[[Callable[[], None]], None]
) -> None:
    file = ground.write("f")
    ground.run("echo x >> f")

    def swap() -> None:
        (ground.root / "other").write_text("host\n")
        (ground.root / "other").rename(file)

    before_each_rename(swap)
    (failure,) = ground.apply().failed
    assert failure.reason == "the host changed it meanwhile"
    assert file.read_text() == "host\n"
    assert hidden(ground.root) == []


def test_a_parent_that_becomes_a_symlink_leads_nowhere(ground: Ground, tmp_path: Path) -> None:
    ground.write("d/f")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("precious\n")
    ground.run("echo x >> d/f; echo x > d/new; chmod 777 d; rm -rf d/f2")
    (ground.root / "d").rename(ground.root / "aside")
    (ground.root / "d").symlink_to(outside)
    assert len(ground.apply(force=True).failed) == 3
    assert (outside / "f").read_text() == "precious\n"
    assert os.listdir(outside) == ["f"]
    assert outside.stat().st_mode & 0o777 != 0o777


def test_attributes_never_follow_a_symlink(ground: Ground, tmp_path: Path) -> None:
    ground.write("f")
    secret = tmp_path / "secret"
    secret.write_text("")
    secret.chmod(0o600)
    ground.run("chmod 666 f")
    (ground.root / "f").unlink()
    (ground.root / "f").symlink_to(secret)
    assert len(ground.apply(force=True).failed) == 1
    assert secret.stat().st_mode & 0o777 == 0o600


# -- what fails ------------------------------------------------------------------------------------


def test_an_immutable_file_is_reported_and_the_rest_goes_on(ground: Ground) -> None:
    file = ground.write("f")
    ground.write("g")
    ground.run("echo x >> f; echo x >> g")
    subprocess.run(["chattr", "+i", file], check=True)
    try:
        (failure,) = ground.apply(force=True).failed
    finally:
        subprocess.run(["chattr", "-i", file], check=True)
    assert failure.item.path == b"/f"
    assert failure.reason == "Operation not permitted"
    assert file.read_text() == "old\n"
    assert (ground.root / "g").read_text() == "old\nx\n"
    assert hidden(ground.root) == []
    # What failed is still in the try.
    assert ground.apply(force=True).failed == ()
    assert file.read_text() == "old\nx\n"


def test_what_lies_in_a_directory_that_cannot_be_made_is_not_tried(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.run("mkdir -p a/b; echo x > a/b/c; echo x > z")
    make = copying.make_from_view

    def refusing(view: object, path: bytes, *rest: object, **more: object) -> object:
        if path == b"/a/b":
            raise PermissionError(13, "Permission denied")
        return make(view, path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(copying, "make_from_view", refusing)
    failed = {os.fsdecode(each.item.path): each.reason for each in ground.apply().failed}
    assert failed == {
        "/a/b": "Permission denied",
        "/a/b/c": "its directory could not be made",
    }
    assert (ground.root / "z").exists()


@pytest.fixture
def small(new_layers: Callable[..., Layers], tmp_path: Path) -> Ground:
    """A fake root on a filesystem of 8 MB, the store elsewhere."""
    layers = new_layers("tmpfs", size="8m")
    return Ground(tmp_path, layers.lower)


def test_a_full_disc_leaves_every_file_whole(small: Ground) -> None:
    old = small.write("old", "o" * 100_000)
    small.write("small")
    before = small.seen(inodes=True)
    small.run(
        "head -c 3M /dev/urandom > a; head -c 3M /dev/urandom > b; head -c 3M /dev/urandom > c;"
        "head -c 1M /dev/urandom > old; rm small"
    )
    outcome = small.apply()
    reasons = {os.fsdecode(each.item.path): each.reason for each in outcome.failed}
    assert reasons["/c"] == "No space left on device"
    assert reasons["/old"] == "not tried after: No space left on device"
    assert old.read_text() == "o" * 100_000
    assert hidden(small.root) == []
    assert {os.fsdecode(each.path) for each in outcome.applied} == {"/a", "/b", "/small"}
    assert small.undo() == []
    assert small.seen(inodes=False) == {
        name: (*entry[:8], 0, *entry[9:]) for name, entry in before.items()
    }


def test_a_root_on_another_filesystem_than_the_store(small: Ground) -> None:
    small.write("f")
    small.write("tree/a/b")
    (small.root / "tree/link").symlink_to("a")
    os.link(small.root / "tree/a/b", small.root / "tree/b2")
    os.chown(small.root / "tree/a", 3, 4)
    before = small.seen()
    small.run("echo x >> f; rm -r tree; echo x > n")
    assert small.apply().failed == ()
    assert sorted(os.listdir(small.root)) == ["f", "n"]
    assert small.undo() == []
    assert small.seen() == before
