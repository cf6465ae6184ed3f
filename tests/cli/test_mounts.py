# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina mounts` and `lamina umount`: what is mounted, and that it can be ended or repaired."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Lamina, run_lamina
from tests.support.clock import wait_until
from tests.support.daemon import wait_gone
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, run
from unionfs.config import MountConfig
from unionfs.fuse import registry
from unionfs.fuse.mountinfo import Mounted, mounts, topmost


def listed(layers: Layers) -> dict[str, Any] | None:
    """The record of the mount on `layers.merged`."""
    found = json.loads(run_lamina("mounts", "--json").stdout)
    return next((one for one in found if one["merged"] == str(layers.merged)), None)


def mount(layers: Layers, *words: str) -> int:
    """Mount the usual layers; the daemon's process id."""
    run_lamina("mount", *words, "--lower", layers.lower, "--upper", layers.upper, layers.merged)
    record = listed(layers)
    assert record is not None
    assert isinstance(record["daemon"], int)
    return record["daemon"]


def test_record(cd: Layers, lamina: Lamina, transport: str) -> None:
    before = int(time.time())
    pid = mount(cd, "--transport", transport)
    record = listed(cd)
    assert record is not None
    since = time.strptime(record.pop("since"), "%Y-%m-%dT%H:%M:%SZ")
    assert before <= time.mktime(since) - time.timezone <= time.time()
    assert record == {
        "merged": str(cd.merged),
        "source": "lamina",
        "state": "ok",
        "lower": [str(cd.lower)],
        "data": [],
        "upper": str(cd.upper),
        "work": str(cd.root / ".upper.work"),
        "format": "overlay",
        "daemon": pid,
        "transport": transport,
        "log": None,
    }
    lamina("umount", cd.merged)
    assert listed(cd) is None
    assert registry.started(pid) is None, "umount returned before the daemon had ended"


def test_table(cd: Layers, lamina: Lamina) -> None:
    pid = mount(cd)
    header, *rows = lamina("mounts").stdout.splitlines()
    (row,) = (row for row in rows if row.startswith(f"{cd.merged} "))
    assert " ".join(header.split()) == "MERGED LOWER UPPER SINCE DAEMON TRANSPORT STATE"
    for name, cell in (("LOWER", cd.lower), ("UPPER", cd.upper), ("DAEMON", pid), ("STATE", "ok")):
        assert row[header.index(name) :].startswith(str(cell))
    lamina("umount", cd.merged)


def test_many_layers_are_counted(cd: Layers, lamina: Lamina) -> None:
    words: list[str | Path] = []
    for number in range(40):
        words += ["--lower", cd.more(f"l{number}")]
    lamina("mount", *words, cd.merged)
    shown = f"{cd.root}/l0:{cd.root}/l1:{cd.root}/l2 and 37 more"
    assert re.search(f"^{cd.merged} +{shown} +- ", lamina("mounts").stdout, re.MULTILINE)
    lamina("umount", cd.merged)


def test_dead_and_repaired(cd: Layers, lamina: Lamina, transport: str) -> None:
    """After a SIGKILL the mount answers nothing; umount makes the directory usable again."""
    pid = mount(cd, "--transport", transport)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: registry.started(pid) is None, "the daemon has died")
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.listdir(cd.merged)
    record = listed(cd)
    assert record is not None
    assert record["state"] == "dead"
    done = lamina("mount", "--lower", cd.lower, cd.merged, status=1)
    assert f"has died; run: lamina umount {cd.merged}" in done.stderr
    lamina("umount", cd.merged)
    assert listed(cd) is None
    assert os.listdir(cd.merged) == []
    mount(cd, "--transport", transport)
    lamina("umount", cd.merged)


def test_dead_with_somebody_inside(cd: Layers, lamina: Lamina) -> None:
    """The repair does not wait for those who still hold something of the dead mount."""
    pid = mount(cd)
    holder = subprocess.Popen(["sleep", "600"], cwd=cd.merged)
    try:
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        lamina("umount", cd.merged)
        assert mount_at(cd.merged) is None
    finally:
        holder.kill()
        holder.wait()


def test_busy(cd: Layers, lamina: Lamina) -> None:
    """Busy: it says so and names who holds it; --lazy detaches, and the daemon ends afterwards."""
    pid = mount(cd)
    holder = subprocess.Popen(["sleep", "600"], cwd=cd.merged / "letters")
    try:
        done = lamina("umount", cd.merged, status=1)
        assert done.stderr == (
            f"lamina: cannot unmount {cd.merged}: it is in use by sleep (process {holder.pid})\n"
        )
        record = listed(cd)
        assert record is not None
        assert record["state"] == "ok"
        lamina("umount", "--lazy", cd.merged)
        assert mount_at(cd.merged) is None
        assert os.readlink(f"/proc/{holder.pid}/cwd").endswith("letters")
        assert Path(f"/proc/{pid}").exists()
    finally:
        holder.kill()
        holder.wait()
    wait_gone(pid)


def test_a_mount_inside(cd: Layers, lamina: Lamina) -> None:
    mount(cd)
    run("mount", "-t", "tmpfs", "inner", str(cd.merged / "empty"))
    done = lamina("umount", cd.merged, status=1)
    assert done.stderr.endswith("it is in use by 1 mount inside it\n")
    done = lamina("umount", cd.merged / "empty", status=1)
    assert done.stderr.endswith("it is not a lamina mount but tmpfs\n")
    run("umount", str(cd.merged / "empty"))
    lamina("umount", cd.merged)


def test_refusals(cd: Layers, lamina: Lamina) -> None:
    """What is no mount point of ours is left alone; of several, the others are still taken."""
    mount(cd)
    words = (cd.root, cd.lower, cd.merged / "letters", cd.root / "no", cd.merged)
    done = lamina("umount", *words, status=1)
    assert done.stderr.splitlines() == [
        f"lamina: cannot unmount {cd.root}: it is not a lamina mount but tmpfs",
        f"lamina: cannot unmount {cd.lower}: nothing is mounted there",
        f"lamina: cannot unmount {cd.merged}/letters: nothing is mounted there",
        f"lamina: cannot unmount {cd.root}/no: No such file or directory",
    ]
    assert mount_at(cd.root) is not None
    assert mount_at(cd.merged) is None


def test_by_another_way(cd: Layers, lamina: Lamina) -> None:
    """Through a symlink, and with umount(8): the daemon ends and its record goes."""
    (cd.root / "way").symlink_to(cd.merged)
    mount(cd)
    lamina("umount", cd.root / "way")
    pid = mount(cd)
    run("umount", str(cd.merged))
    wait_gone(pid)
    assert listed(cd) is None


def test_one_over_the_other(cd: Layers, lamina: Lamina) -> None:
    """Two unions on one directory: each umount takes the topmost."""
    first = mount(cd)
    lamina("mount", "--lower", cd.lower, cd.merged)
    record = listed(cd)
    lamina("umount", cd.merged)
    assert record is not None
    assert (cd.merged / "keep").read_text() == "kept\n"
    record = listed(cd)
    assert record is not None
    assert (record["daemon"], record["upper"]) == (first, str(cd.upper))
    lamina("umount", cd.merged)
    assert mount_at(cd.merged) is None


# -- the registry by itself


def entry(**changes: Any) -> registry.Entry:
    config = MountConfig(lower=(b"/a\n\xff", b"/b=,:"), upper=b"/u", work=b"/w", userxattr=True)
    pid = os.getpid()
    start = registry.started(pid) or 0
    known = registry.Entry(b"/m\xff", "fuse.lamina", config, "device", pid, start, 123, b"/l")
    return known._replace(**changes)


def mounted(device: str, owner: int = 0) -> Mounted:
    options = (f"user_id={owner}",)
    return Mounted(device, b"/", b"/m\xff", "fuse.lamina", b"lamina", options)


def test_entries_are_read_as_written() -> None:
    written = entry()
    path = registry.record("0:4000001", written)
    assert path is not None
    try:
        assert registry.find(mounted("0:4000001")) == written
        assert registry.alive(written)
        assert registry.find(mounted("0:4000002")) is None
        assert registry.find(mounted("0:4000001", owner=1)) is None
        # Another user's file is not believed, even where one could be put.
        os.chown(path, 1, 1)
        assert registry.find(mounted("0:4000001")) is None
    finally:
        registry.forget(path)
    assert registry.find(mounted("0:4000001")) is None


def test_numbers_that_come_again() -> None:
    """Of a mount, and of a process that has ended: the dead are not taken for the living."""
    dead = entry(start=1)
    assert not registry.alive(dead)
    paths = [registry.record("0:4000003", dead)]
    try:
        assert registry.find(mounted("0:4000003")) == dead
        assert registry.find(mounted("0:4000003")._replace(mountpoint=b"/other")) is None
        assert registry.find(mounted("0:4000003")._replace(fstype="fuse.other")) is None
        child = subprocess.Popen(["sleep", "600"])
        try:
            living = entry(pid=child.pid, start=registry.started(child.pid))
            paths.append(registry.record("0:4000003", living))
            moved = mounted("0:4000003")._replace(mountpoint=b"/moved")
            assert registry.find(moved) == living
            assert paths[0] is not None
            assert not os.path.exists(paths[0])
            registry.drop_stale(mounts())
            assert registry.find(moved) == living
        finally:
            child.kill()
            child.wait()
        assert registry.started(child.pid) is None
        registry.drop_stale(mounts())
        assert registry.find(mounted("0:4000003")) is None
        assert not any(path and os.path.exists(path) for path in paths)
    finally:
        for path in paths:
            registry.forget(path)


def test_damaged_entries_are_no_entries() -> None:
    path = registry.record("0:4000004", entry())
    assert path is not None
    try:
        for damage in (b"", b"\0\0", b"mountpoint=/m\0", b"options=foo\0pid=x\0", os.urandom(500)):
            Path(os.fsdecode(path)).write_bytes(damage)
            assert registry.find(mounted("0:4000004")) is None
    finally:
        registry.forget(path)


def test_mountinfo_fields(layers: Layers) -> None:
    """Spaces, tabs, newlines and backslashes in paths; what is mounted last lies on top."""
    odd = os.fsencode(layers.more("a b")) + b"\tc\n\\040"
    os.mkdir(odd)
    for name in ("first", "second"):
        run("mount", "-t", "tmpfs", f"{name} one", os.fsdecode(odd))
    try:
        found = topmost(odd, mounts())
        assert found is not None
        assert (found.fstype, found.source, found.root) == ("tmpfs", b"second one", b"/")
        assert found.user_id is None
    finally:
        for _ in range(2):
            run("umount", os.fsdecode(odd))
