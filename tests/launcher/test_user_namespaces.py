# SPDX-License-Identifier: GPL-3.0-or-later
"""User namespaces: root's ranges, and containers of an ordinary user with and without subids."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import prctl
import pytest

from launcher import idmap, start
from launcher.cgroup import hierarchies
from launcher.cgroup.directory import Directory
from launcher.cgroup.group import Group
from launcher.spec import IdMapping, Mount, Namespace, Resources, User
from launcher.sys import mount, process
from tests.launcher import box
from tests.launcher.box import run, spec
from tests.support.user import in_child

USER_ID = 4242
SUBIDS = 1_000_000_000


def test_root_inside_is_nobody_outside(fresh_root: Path) -> None:
    maps = (IdMapping(0, 200_000, 65_536),)
    for path in (fresh_root, *fresh_root.rglob("*")):
        os.lchown(path, 200_000, 200_000)
    for each in list(fresh_root.parents)[:4]:
        if str(each).startswith("/tmp/"):
            each.chmod(0o755)
    text = (
        "id -u; cat /proc/self/uid_map; touch /tmp/mine; stat -c %u /tmp/mine;"
        " cat /proc/self/setgroups; : < /dev/null; echo x > /dev/null; ls /dev/pts/ptmx;"
        " mount -t tmpfs t /mnt; chown 1:1 /tmp/mine && echo chowned; hostname"
    )
    described = spec(fresh_root, box.process(text), uid_mappings=maps, gid_mappings=maps)
    described = described._replace(namespaces=(*described.namespaces, Namespace("user")))
    ended = run(described)
    assert ended.lines[0] == "0"
    assert ended.lines[1].split() == ["0", "200000", "65536"]
    assert ended.lines[2:] == ["0", "allow", "/dev/pts/ptmx", "chowned", "box"]
    found = (fresh_root / "tmp/mine").stat()
    assert (found.st_uid, found.st_gid) == (200_001, 200_001)


def test_what_only_the_host_may_reach_can_be_mounted(fresh_root: Path, tmp_path: Path) -> None:
    """Root inside may search neither the way to its root filesystem nor that to a bound file."""
    maps = (IdMapping(0, 200_000, 65_536),)
    for path in (fresh_root, *fresh_root.rglob("*")):
        os.lchown(path, 200_000, 200_000)
    secret = tmp_path / "closed"
    secret.mkdir()
    (secret / "file").write_text("bound\n")
    for each in (tmp_path, secret):
        each.chmod(0o700)
        os.chown(each, 4242, 4242)
    described = spec(fresh_root, box.process("cat /mnt/file"), uid_mappings=maps, gid_mappings=maps)
    bound = Mount(b"/mnt/file", "bind", os.fsencode(secret / "file"))
    described = described._replace(
        namespaces=(*described.namespaces, Namespace("user")),
        mounts=(*described.mounts, bound),
    )
    assert run(described).lines == ["bound"]


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """An ordinary user with no name, and a rootfs of its own."""
    root = box.make_rootfs(tmp_path / "rootfs")
    for path in (tmp_path, root, *root.rglob("*")):
        os.lchown(path, USER_ID, USER_ID)
    for each in list(tmp_path.parents)[:2]:
        each.chmod(0o755)
    return root


def replace_file(directory: Path, name: str, content: str) -> None:
    """Put a file in the place of another, for this mount namespace."""
    new = directory / name.replace("/", "-")
    new.write_text(content)
    tree = mount.open_tree(mount.AT_FDCWD, os.fsencode(new), recursive=False)
    target = os.open(name, os.O_PATH | os.O_CLOEXEC)
    mount.move_mount(tree, target)


def become_ordinary() -> None:
    os.setgroups([])
    os.setresgid(USER_ID, USER_ID, USER_ID)
    os.setresuid(USER_ID, USER_ID, USER_ID)
    # A supervisor is not dumpable.
    prctl.set_dumpable(0)


def rootless(root: Path, text: str, *, granted: bool, uid: int = 0) -> box.Ended:
    """Run a script in a container that an ordinary user starts, with subids `granted` or not."""
    etc = root.parent / "etc"
    etc.mkdir()
    for name in ("/etc/subuid", "/etc/subgid"):
        Path(name).touch()

    def as_user() -> box.Ended:
        # The account exists for this process only.
        process.unshare(process.CLONE_NEWNS)
        mount.mount_setattr(mount.AT_FDCWD, b"/", recursive=True, propagation=mount.MS_PRIVATE)
        replace_file(etc, "/etc/passwd", f"ordinary:x:{USER_ID}:{USER_ID}::/:/bin/sh\n")
        line = f"ordinary:{SUBIDS}:65536\n" if granted else ""
        for name in ("/etc/subuid", "/etc/subgid"):
            replace_file(etc, name, line)
        become_ordinary()
        maps = idmap.of_caller()
        made = box.process(text, user=User(uid, uid))
        described = spec(root, made, uid_mappings=maps.uid, gid_mappings=maps.gid)
        return run(described._replace(namespaces=(*described.namespaces, Namespace("user"))))

    return in_child(as_user)


def test_an_ordinary_user_without_subids(account: Path) -> None:
    text = (
        "id -u; cat /proc/self/uid_map; cat /proc/self/setgroups; touch /tmp/mine;"
        " echo $$; echo x > /dev/null; ls /sys/class/net; hostname; cat /proc/keys"
    )
    ended = rootless(account, text, granted=False)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.lines
    assert lines[1].split() == ["0", str(USER_ID), "1"]
    assert [lines[0], *lines[2:]] == ["0", "deny", "1", "lo", "box"]
    assert (account / "tmp/mine").stat().st_uid == USER_ID


def test_an_ordinary_user_with_subids(account: Path) -> None:
    assert shutil.which("newuidmap"), "Debian: uidmap"
    text = (
        "cat /proc/self/uid_map; cat /proc/self/setgroups; id -u; id -g; touch /tmp/theirs;"
        " grep CapEff /proc/self/status"
    )
    ended = rootless(account, text, granted=True, uid=1000)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.lines
    assert [line.split() for line in lines[:2]] == [
        ["0", str(USER_ID), "1"],
        ["1", str(SUBIDS), "65536"],
    ]
    assert lines[2:5] == ["allow", "1000", "1000"]
    assert lines[5].split()[1] == "0000000000000000"
    assert (account / "tmp/theirs").stat().st_uid == SUBIDS + 999


@pytest.mark.parametrize("init", [False, True])
def test_an_ordinary_user_enters(account: Path, init: bool) -> None:
    def as_user() -> tuple[int, list[str], str]:
        become_ordinary()
        maps = idmap.of_caller()
        made = box.process("echo up; sleep 1000 & wait", init=init)
        described = spec(account, made, uid_mappings=maps.uid, gid_mappings=maps.gid)
        described = described._replace(namespaces=(*described.namespaces, Namespace("user")))
        first = box.Running(described)
        first.read_line()
        theirs = os.readlink(f"/proc/{first.pid}/ns/net") if not init else ""
        reader, writer = os.pipe()
        further = box.process("id -u; readlink /proc/self/ns/net; hostname")
        started = start.start(start.launch_into(first.started, further, stdio=(0, writer, 2)))
        os.close(writer)
        code = box.wait(started)
        with open(reader) as file:
            lines = file.read().splitlines()
        first.kill()
        first.end()
        return code, lines, theirs

    code, lines, theirs = in_child(as_user)
    assert (code, lines[0], lines[2]) == (0, "0", "box")
    assert theirs in ("", lines[1])


def test_an_ordinary_users_limits(account: Path) -> None:
    """They hold below a delegated v2 cgroup; where there is none, what is missing is said."""
    v2 = [each for each in hierarchies.find() if each.version == 2]
    delegated = v2[0].path + b"/test-delegated-%d" % os.getpid()
    offered = "pids" in v2[0].controllers

    def as_user() -> tuple[list[bytes], tuple[str, ...], int | None, str]:
        become_ordinary()
        maps = idmap.of_caller()
        made = box.process("cat /proc/self/cgroup; for i in 1 2 3 4 5 6 7; do sleep 1000 & done")
        described = spec(account, made, uid_mappings=maps.uid, gid_mappings=maps.gid)
        described = described._replace(namespaces=(*described.namespaces, Namespace("user")))
        with Group.create("limited", Resources(pids=5)) as group:
            ended = run(described, group)
            limit = group.accounts().pids_limit
            paths = list(group.paths())
        assert not [path for path in paths if os.path.exists(path)]
        return paths, group.missing, limit, ended.err

    def in_delegated() -> tuple[list[bytes], tuple[str, ...], int | None, str]:
        (Path(os.fsdecode(delegated)) / "cgroup.procs").write_text(str(os.getpid()))
        return as_user()

    if not offered:
        paths, missing, _, _ = in_child(as_user)
        assert paths == []
        assert missing == ("all (no cgroup is delegated to this user)",)
        return
    # As systemd delegates: the directory and the files by which processes and controllers move.
    (Path(os.fsdecode(v2[0].path)) / "cgroup.subtree_control").write_text("+pids")
    os.mkdir(delegated)
    try:
        for name in (b"", b"/cgroup.procs", b"/cgroup.subtree_control", b"/cgroup.threads"):
            os.chown(delegated + name, USER_ID, USER_ID)
        paths, missing, limit, said = in_child(in_delegated)
        assert [os.path.dirname(path) for path in paths] == [delegated + b"/lamina"]
        assert (missing, limit) == ((), 5)
        assert "can't fork" in said
    finally:
        Directory(delegated).remove()
