# SPDX-License-Identifier: GPL-3.0-or-later
"""The command for an ordinary user: through fusermount3, with user.* marks, to the same effect."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import json
import os
import pwd
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.clock import wait_until
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, run
from tests.support.user import in_child
from unionfs.cli import VERBS, command_line
from unionfs.fuse import registry

T = TypeVar("T")

UID = pwd.getpwnam("nobody").pw_uid  # fusermount3 asks for a name
_CLONE_NEWNS = 0x20000
_FUSE_DEVICE = os.makedev(10, 229)

# An ordinary user need not be able to read this checkout: what runs as one is loaded before.
for _module in (
    "fuse.device",
    "fuse.pyfuse",
    "fuse.unmount",
    "fuse.session",
    "fuse.daemon",
    "union",
):
    importlib.import_module(f"unionfs.{_module}")
for _verb in VERBS:
    importlib.import_module(f"unionfs.cli.{_verb}")


def as_mounter(layers: Layers, function: Callable[[], T]) -> T:
    """Run `function` as a user who may mount, in a mount namespace of its own.

    There /dev/fuse is open to all, as udev makes it; it need not be on the machine under test.
    """
    device = layers.root / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o666, _FUSE_DEVICE)
    os.chmod(device, 0o666)

    def become() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(_CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        run("mount", "--make-rprivate", "/")
        run("mount", "--bind", str(device), "/dev/fuse")
        os.environ.pop("XDG_RUNTIME_DIR", None)
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
        os.chdir(layers.root)
        try:
            return function()
        finally:
            with contextlib.suppress(ValueError, StopIteration, ProcessLookupError):
                os.kill(daemon(), signal.SIGKILL)

    return in_child(become)


def lamina(*words: str, status: int = 0) -> str:
    """Run the command in this process; what it printed, complaints included."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        result = command_line(words)
    assert result == status, printed.getvalue()
    return printed.getvalue()


def records() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(lamina("mounts", "--json"))
    return [one for one in found if one["merged"] == os.path.realpath("merged")]


def daemon() -> int:
    pid = next(one["daemon"] for one in records() if "daemon" in one)
    assert isinstance(pid, int)
    return pid


@pytest.fixture
def owned(cd: Layers) -> Layers:
    """The CD's layers, belonging to the user; the CD does not."""
    os.chown(cd.root, UID, UID)
    for path in (cd.upper, cd.work, cd.merged):
        os.chown(path, UID, UID)
    return cd


def test_the_cd_example(owned: Layers, transport: str) -> None:
    """Mount, edit, list, compare, explain, unmount, and find the edits again."""

    def act() -> None:
        words = (
            "mount",
            "--transport",
            transport,
            "--lower",
            "lower",
            "--upper",
            "upper",
            "merged",
        )
        assert lamina(*words) == ""
        entry = mount_at(os.path.realpath("merged"))
        assert entry is not None
        assert entry.fstype == "fuse.lamina"
        assert {"nosuid", "nodev", f"user_id={UID}"} <= entry.options | entry.super_options
        assert "allow_other" not in entry.super_options
        os.chown("merged", -1, -1)
        Path("merged/new").write_text("mine")
        assert os.stat("merged/new").st_uid == UID
        (record,) = records()
        assert (record["state"], record["transport"]) == ("ok", transport)
        assert lamina("diff", "merged") == "A /new\n"
        assert lamina("explain", "merged/keep").splitlines()[0] == "/keep: file"
        with pytest.raises(PermissionError):
            Path("merged/keep").write_text("not mine")
        assert lamina("umount", "merged") == ""
        assert records() == []
        lamina(*words)
        assert Path("merged/new").read_text() == "mine"
        lamina("umount", "merged")

    as_mounter(owned, act)


def test_marks_are_user_xattrs(owned: Layers) -> None:
    """userxattr is chosen by itself: an ordinary user cannot write trusted.* (xattr(7))."""
    for name in ("letters", "letters/may", "advertisement", "photos", "photos/summer"):
        os.chown(owned.lower / name, UID, UID)
    os.chown(owned.lower, UID, UID)

    def act() -> None:
        lamina("mount", "--lower", "lower", "--upper", "upper", "merged")
        os.unlink("merged/advertisement")
        os.rename("merged/photos/summer", "merged/photos/winter")
        expected = "D /advertisement\nR /photos/summer -> /photos/winter\n"
        assert lamina("diff", "merged") == expected
        told = lamina("explain", "merged/advertisement")
        assert "deleted in  upper layer" in told
        lamina("umount", "merged")
        assert "user.overlay.redirect" in os.listxattr("upper/photos/winter")
        assert lamina("diff", "--lower", "lower", "upper") == expected
        lamina("mount", "--lower", "lower", "--upper", "upper", "merged")
        assert sorted(os.listdir("merged/photos")) == ["winter"]
        assert "advertisement" not in os.listdir("merged")
        lamina("umount", "merged")

    as_mounter(owned, act)


def test_dead_and_repaired(owned: Layers, transport: str) -> None:
    def act() -> None:
        words = (
            "mount",
            "--transport",
            transport,
            "--lower",
            "lower",
            "--upper",
            "upper",
            "merged",
        )
        lamina(*words)
        pid = daemon()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: registry.started(pid) is None, "the daemon has died")
        with pytest.raises(OSError, match=r"not connected|connection abort"):
            os.listdir("merged")
        assert [one["state"] for one in records()] == ["dead"]
        assert "has died; run: lamina umount merged" in lamina(*words, status=1)
        lamina("umount", "merged")
        assert os.listdir("merged") == []

    as_mounter(owned, act)


def test_refusals(owned: Layers) -> None:
    """One line each, and nothing left behind."""

    def act() -> None:
        before = sorted(os.listdir("."))
        layers = ("--lower", "lower", "--upper", "upper")
        told = lamina("mount", *layers, "-o", "allow_root", "merged", status=2)
        assert "option 'allow_root' is for root alone" in told
        told = lamina("mount", *layers, "/usr", status=1)
        assert told.startswith("lamina: cannot mount on /usr: ")
        told = lamina("mount", "--lower", "lower", "--upper", "/usr", "merged", status=1)
        assert told == "lamina: cannot make work directory /.usr.work: Permission denied (name" + (
            " another with --work)\n"
        )
        assert told.count("\n") == 1
        told = lamina("umount", "/dev/fuse", status=1)
        assert "it is not a lamina mount" in told
        assert sorted(os.listdir(".")) == before
        if "user_allow_other" not in Path("/etc/fuse.conf").read_text().splitlines():
            told = lamina("mount", *layers, "-o", "allow_other", "merged", status=1)
            assert "user_allow_other" in told
        assert sorted(os.listdir(".")) == before

    as_mounter(owned, act)


def test_without_the_means(owned: Layers) -> None:
    """No fusermount3: the reason, and what to install."""

    def act() -> None:
        os.environ["PATH"] = "/nonexistent"
        told = lamina("mount", "--lower", "lower", "--upper", "upper", "merged", status=1)
        assert "an ordinary user needs fusermount3 to mount (install fuse3)" in told
        assert ".upper.work" not in os.listdir(".")

    as_mounter(owned, act)
