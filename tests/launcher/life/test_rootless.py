# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of an ordinary user, with and without subordinate ids."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path

import pytest

from launcher.sys import mount, process
from tests.launcher.command import Lamina
from tests.launcher.test_user_namespaces import SUBIDS, USER_ID, replace_file
from tests.support.clock import wait_until
from tests.support.user import in_child


def as_ordinary(tmp_path: Path, work: object, *, granted: bool, mode: int = 0o666) -> None:
    """Call `work` with a command of an ordinary user's, who has subids or not.

    Its account, and a /dev/fuse of that mode, which is as udev makes it, exist for it only.
    """
    # Not below pytest's directory: each other run of pytest on the machine closes that to others.
    home = Path(tempfile.mkdtemp(prefix="lamina-ordinary-", dir="/tmp"))
    os.chown(home, USER_ID, USER_ID)
    fuse = tmp_path / "fuse"
    os.mknod(fuse, mode | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
    fuse.chmod(mode)
    for name in ("/etc/subuid", "/etc/subgid"):
        Path(name).touch()

    def run() -> None:
        process.unshare(process.CLONE_NEWNS)
        mount.mount_setattr(mount.AT_FDCWD, b"/", recursive=True, propagation=mount.MS_PRIVATE)
        tree = mount.open_tree(mount.AT_FDCWD, os.fsencode(fuse), recursive=False)
        mount.move_mount(tree, os.open("/dev/fuse", os.O_PATH | os.O_CLOEXEC))
        replace_file(tmp_path, "/etc/passwd", f"ordinary:x:{USER_ID}:{USER_ID}::/:/bin/sh\n")
        line = f"ordinary:{SUBIDS}:65536\n" if granted else ""
        for name in ("/etc/subuid", "/etc/subgid"):
            replace_file(tmp_path, name, line)
        os.setgroups([])
        os.setresgid(USER_ID, USER_ID, USER_ID)
        os.setresuid(USER_ID, USER_ID, USER_ID)
        os.environ["XDG_RUNTIME_DIR"] = str(home / "run")
        os.environ["HOME"] = str(home)
        lamina = Lamina(home / "root")
        try:
            work(lamina)  # type: ignore[operator]
        finally:
            lamina.finish()

    try:
        in_child(run, 300)
    finally:
        shutil.rmtree(home)


@pytest.mark.parametrize("granted", [False, True])
def test_an_ordinary_user_s_container(tmp_path: Path, granted: bool) -> None:
    def work(lamina: Lamina) -> None:
        ended = lamina.call("run", "--rm", "busybox", "sh", "-c", "id -u; cat /proc/self/uid_map")
        assert (ended.code, ended.err) == (0, "")
        maps = [line.split() for line in ended.lines[1:]]
        assert ended.lines[0] == "0"
        assert maps[0] == ["0", str(USER_ID), "1"]
        assert maps[1:] == ([["1", str(SUBIDS), "65536"]] if granted else [])
        id = lamina.start("busybox", "sh", "-c", "echo x >> /kept; sleep 1000")
        wait_until(lambda: lamina("exec", id, "cat", "/kept").out == "x\n", "the first line")
        if granted:
            lamina("exec", id, "sh", "-c", "touch /theirs; chown 1000:1000 /theirs")
            assert lamina("exec", "-u", "1000", id, "id", "-u").lines == ["1000"]
        lamina("restart", "-t", "0", id)
        wait_until(lambda: lamina("exec", id, "cat", "/kept").out == "x\nx\n", "the second line")
        supervisor = lamina.running(id)["supervisor"]
        # Of a process that is not dumpable even its own user sees nothing (proc(5)).
        assert os.stat(f"/proc/{supervisor}/fd").st_uid == 0
        lamina("stop", "-t", "0", id)
        assert lamina.status(id).startswith("Exited (137)")
        lamina("start", id)
        assert lamina.running(id)["supervisor"] != supervisor
        os.kill(lamina.running(id)["supervisor"], signal.SIGKILL)
        wait_until(lambda: not lamina.remains(), "all to be gone", 30)
        assert lamina.status(id).startswith("Exited (137)")
        last = lamina.start("--rm", "busybox", "sh", "-c", "touch /mine; chown 7:7 /mine; sleep 99")
        lamina("kill", last)
        wait_until(lambda: lamina.ids() == [id], "it to be removed")

    as_ordinary(tmp_path, work, granted=granted)


def test_a_device_that_is_closed_is_told_in_one_line(tmp_path: Path) -> None:
    def work(lamina: Lamina) -> None:
        ended = lamina.call("run", "--rm", "busybox", "true")
        assert (ended.code, ended.err.count("\n")) == (125, 1)
        assert "/dev/fuse is not open to this user" in ended.err
        assert lamina.ids() == []

    as_ordinary(tmp_path, work, granted=True, mode=0o600)


def test_what_is_missing_is_said_once(tmp_path: Path) -> None:
    def work(lamina: Lamina) -> None:
        ended = lamina.call("run", "--rm", "--pids-limit", "20", "busybox", "true")
        assert ended.code == 0
        if ended.err:  # no cgroup is delegated
            assert ended.err.count("\n") == 1
            assert "no cgroup is delegated" in ended.err

    as_ordinary(tmp_path, work, granted=False)


def test_what_belongs_to_subordinate_ids_is_removed(tmp_path: Path) -> None:
    def work(lamina: Lamina) -> None:
        text = "mkdir -m 700 /tmp/d && touch /tmp/d/file"
        lamina(
            "run", "--name", "made", "-u", "5", "-v", "volume:/var/tmp", "busybox", "sh", "-c", text
        )
        lamina("run", "--rm", "-u", "5", "-v", "volume:/tmp", "busybox", "sh", "-c", text)
        inside = lamina.root / "containers" / lamina.ids()[0] / "upper/tmp/d"
        assert inside.stat().st_uid == SUBIDS + 4
        lamina("rm", "made")
        assert lamina.ids() == []
        lamina("volume", "rm", "volume")
        assert os.listdir(lamina.root / "volumes") == []

    as_ordinary(tmp_path, work, granted=True)


def test_namespaces_of_the_host_s(tmp_path: Path) -> None:
    def work(lamina: Lamina) -> None:
        shared = [f"--{each}=host" for each in ("pid", "ipc", "uts", "network", "cgroupns")]
        text = (
            "for n in pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done; ls /sys/class/net"
        )
        lines = lamina("run", "--rm", *shared, "busybox", "sh", "-c", text).lines
        names = ("pid", "ipc", "uts", "net", "cgroup")
        assert lines[:5] == [os.readlink(f"/proc/self/ns/{each}") for each in names]
        assert "lo" in lines

    as_ordinary(tmp_path, work, granted=True)
