# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina run`: each wall that a flag raises or takes down, seen from inside.

How walls are built is tested in test_walls; here the command must ask for them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.isolation import capabilities
from launcher.sys import process
from tests.launcher.command import Lamina, command_line
from tests.support.clock import wait_until

SPACES = ("pid", "mnt", "uts", "ipc", "net", "cgroup", "user")
SHOW = "for n in pid mnt uts ipc net cgroup user; do readlink /proc/self/ns/$n; done"


def hosts() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in SPACES}


def spaces(lamina: Lamina, *flags: str) -> set[str]:
    """Which namespaces a container shares with the host."""
    found = dict(zip(SPACES, lamina.script(*flags, SHOW), strict=True))
    return {name for name, link in hosts().items() if found[name] == link}


def status_of(lines: list[str]) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name: value.strip() for name, _, value in pairs}


def test_nothing_is_shared_but_users(lamina: Lamina) -> None:
    assert spaces(lamina) == {"user"}


@pytest.mark.parametrize(
    ("flags", "shared"),
    [
        (["--pid", "host"], {"pid", "user"}),
        (["--ipc", "host", "--uts", "host"], {"ipc", "uts", "user"}),
        (["--network", "host", "--cgroupns", "host"], {"net", "cgroup", "user"}),
        (["--userns", "auto"], set()),
    ],
)
def test_what_is_shared_is_what_was_asked_for(
    lamina: Lamina, flags: list[str], shared: set[str]
) -> None:
    assert spaces(lamina, *flags) == shared


def test_namespaces_of_another_container(lamina: Lamina) -> None:
    id = lamina.start("--name", "first", "busybox", "sleep", "1000")
    pid = lamina.pid(id)
    theirs = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in SPACES}
    flags = [f"--{name}=container:first" for name in ("pid", "ipc", "network")]
    sharing = lamina.good("create", *flags, "busybox", "sh", "-c", SHOW).strip()
    lamina.good("rename", "first", "other")
    found = dict(zip(SPACES, lamina.good("start", "-a", sharing).splitlines(), strict=True))
    joined = {name for name in SPACES if found[name] == theirs[name]}
    # Who shares a network shares its host name.
    assert joined == {"pid", "ipc", "net", "uts", "user"}
    ended = lamina.call("run", "--pid", "container:nope", "busybox")
    assert ended.code == 125
    assert "cannot find container nope" in ended.err


def test_shared_memory_of_another_container(lamina: Lamina) -> None:
    id = lamina.start("--name", "first", "busybox", "sh", "-c", "echo 1 > /dev/shm/a; sleep 999")
    lamina.good("exec", id, "sh", "-c", "until [ -s /dev/shm/a ]; do :; done")
    text = "cat /dev/shm/a; echo 2 > /dev/shm/b; grep -c ' /dev/shm ' /proc/mounts"
    for flags in ([], ["--userns", "300000:400000:1000"], ["--read-only"]):
        assert lamina.script("--ipc", "container:first", *flags, text) == ["1", "1"]
        assert lamina.good("exec", id, "sh", "-c", "cat /dev/shm/b; rm /dev/shm/b") == "2\n"
    assert not os.path.exists("/dev/shm/b")
    assert lamina.script("ls /dev/shm") == []
    lamina.start("--name", "second", "--ipc", "private", "busybox", "sleep", "999")
    ended = lamina.call("run", "--ipc", "container:second", "busybox")
    assert ended.code == 125
    assert "cannot join IPC of container second: it was made with --ipc private" in ended.err


def test_default_rights(lamina: Lamina) -> None:
    text = "cat /proc/self/status /proc/1/comm; ls -1 /proc/self/fd | wc -l"
    lines = lamina.script(text)
    found = status_of(lines)
    wanted = capabilities.mask(capabilities.DEFAULT) & capabilities.held()
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(found[name], 16) == wanted, name
    assert (int(found["CapInh"], 16), int(found["CapAmb"], 16)) == (0, 0)
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")
    # 0, 1, 2 and the one that ls reads the directory by.
    assert lines[-2:] == ["sh", "4"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--cap-drop", "ALL"], frozenset[str]()),
        (["--cap-drop", "ALL", "--cap-add", "NET_RAW"], frozenset({"CAP_NET_RAW"})),
        (["--cap-add", "SYS_ADMIN"], capabilities.DEFAULT | {"CAP_SYS_ADMIN"}),
        (["--privileged"], frozenset(capabilities.NAMES)),
    ],
)
def test_rights_asked_for(lamina: Lamina, flags: list[str], expected: frozenset[str]) -> None:
    found = status_of(lamina.script(*flags, "cat /proc/self/status"))
    wanted = capabilities.mask(expected) & capabilities.held()
    assert {int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {wanted}


def test_an_ordinary_user_inside_holds_nothing(lamina: Lamina) -> None:
    lines = lamina.script("-u", "1000:29", "--group-add", "wheel", "cat /proc/self/status; id")
    found = status_of(lines)
    assert (int(found["CapPrm"], 16), int(found["CapEff"], 16)) == (0, 0)
    assert lines[-1] == "uid=1000 gid=29 groups=10(wheel)"


def test_security_options(lamina: Lamina, tmp_path: Path) -> None:
    flags = ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"]
    found = status_of(lamina.script(*flags, "cat /proc/self/status"))
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "0")
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [],'
        ' "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO",'
        ' "errnoRet": 38}]}'
    )
    flags = ["--security-opt", f"seccomp={profile}"]
    old = tmp_path / "old.json"
    old.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW",'
        ' "syscalls": [{"names": ["close_range"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    assert lamina.script("--security-opt", f"seccomp={old}", "ls /proc/self/fd | wc -l") == ["4"]
    for _ in range(2):  # compiled, and from the file it was kept in
        assert lamina.script(*flags, "mkdir /x 2>&1; echo $?") == [
            "mkdir: can't create directory '/x': Function not implemented",
            "1",
        ]


CLOSED = """
for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
    [ -e $f ] && [ $(head -c 10 $f | wc -c) != 0 ] && echo read $f; done
for d in /proc/acpi /proc/scsi /sys/firmware /proc/asound; do
    [ -e $d ] && [ "$(ls $d)" ] && echo listed $d; done
for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper; do
    [ -e $f ] && (: >> $f) 2> /dev/null && echo wrote $f; done
for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2> /dev/null && echo made a cgroup; done
mount -t tmpfs t /run 2> /dev/null && echo mounted
unshare -U true 2> /dev/null && echo unshared
mknod /tmp/disk b 7 0 && dd if=/tmp/disk of=/dev/null count=1 2> /dev/null && echo read a disc
ls /proc | grep -c '^[0-9]'
"""


def test_closed_paths_and_devices(lamina: Lamina) -> None:
    count = int(lamina.script(CLOSED)[0])
    assert count < 10  # its own processes only


def test_the_keys_of_the_caller_s_session_stay_outside(lamina: Lamina) -> None:
    """keyrings(7): a session keyring is inherited by all that a process starts."""
    number = process._NUMBERS[os.uname().machine][1]
    join = f"import ctypes; keyctl = lambda *args: ctypes.CDLL(None).syscall({number}, *args);"
    show = f"{join} print(keyctl(0, -3, 0))"  # KEYCTL_GET_KEYRING_ID of the session's
    words = ["run", "--rm", "--security-opt", "seccomp=unconfined", "host"]
    words += [sys.executable, "-c", show]
    run = f"{join} import os; keyctl(1, None); print(keyctl(0, -3, 0), flush=True);"
    run += f"os.execv({command_line()[0]!r}, {[*command_line(), *words]!r})"
    ended = subprocess.run(
        [sys.executable, "-c", run], env=lamina.environment, capture_output=True, check=True
    )
    outside, inside = map(int, ended.stdout.split())
    assert outside > 0
    assert inside != outside


def test_systempaths_unconfined_and_privileged_open_them(lamina: Lamina) -> None:
    text = "mount | grep -c -e ^masked -e 'proc/sys .*ro,'; grep -c . /proc/interrupts"
    masked, interrupts = lamina.script("--security-opt", "systempaths=unconfined", text)
    assert masked == "0"
    assert int(interrupts) > 0
    assert lamina.script("--privileged", text)[0] == "0"


def test_privileged_has_devices_and_may_write_below_sys(lamina: Lamina) -> None:
    text = (
        "grep Seccomp: /proc/self/status; mount -t tmpfs t /tmp && echo mounted;"
        " for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2> /dev/null && echo made"
        " && rmdir $d/x; done;"
        " head -c 1 /dev/loop0 > /dev/null && echo opened"
    )
    lines = lamina.script("--privileged", text)
    assert lines[0].split() == ["Seccomp:", "0"]
    assert {"mounted", "made", "opened"} <= set(lines)


def test_devices(lamina: Lamina) -> None:
    text = (
        "ls /dev; head -c 1 /dev/loop0 > /dev/null && echo readable;"
        " (: >> /dev/loop0) 2> /dev/null || echo not writable;"
        " mknod /tmp/zero c 1 5 && head -c 1 /tmp/zero | wc -c"
    )
    flags = ["--device", "/dev/null:/dev/other", "--device", "/dev/loop0:r"]
    lines = lamina.script(*flags, text)
    assert {"other", "loop0", "null", "readable", "not writable", "1"} <= set(lines)
    rule = ["--device-cgroup-rule", "b 7:* r"]
    text = (
        "mknod /tmp/d b 7 0; head -c 1 /tmp/d > /tmp/out 2> /dev/null && echo read || echo denied"
    )
    assert lamina.script(text) == ["denied"]
    assert lamina.script(*rule, text) == ["read"]
    ended = lamina.call("run", "--device", "/etc/passwd", "busybox")
    assert ended.code == 125
    assert "cannot add device /etc/passwd: it is not a device" in ended.err


def test_users_of_its_own(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tmp_path.chmod(0o755)
    text = (
        "cat /proc/self/uid_map; touch /mine; "
        "stat -c %u:%g /mine /etc/passwd /etc/hosts /v /b/file;"
        " chown 7:8 /mine; echo more >> /etc/passwd && echo written; touch /v/x"
    )
    flags = ["--userns", "300000:400000:1000", "-v", f"{tmp_path}:/b", "-v", "vol:/v"]
    id = lamina.good("create", *flags, "busybox", "sh", "-c", text).strip()
    lines = lamina.good("start", "-a", id).splitlines()
    assert lines[0].split() == ["0", "300000", "1000"]
    # What the host's root owns belongs to nobody inside.
    assert lines[1:] == ["0:0", "0:0", "0:0", "0:0", "65534:65534", "written"]
    upper = lamina.root / "containers" / id / "upper"
    assert ((upper / "mine").stat().st_uid, (upper / "mine").stat().st_gid) == (7, 8)
    assert (upper / "etc/passwd").stat().st_uid == 0
    assert (lamina.root / "volumes/vol/_data/x").stat().st_uid == 300000


def test_automatic_users_never_meet(lamina: Lamina) -> None:
    ids = [lamina.good("create", "--userns", "auto:size=5", "busybox").strip() for _ in range(2)]
    ranges = [lamina.config(id)["userns"].split(":") for id in ids]
    firsts = sorted(int(each[0]) for each in ranges)
    assert firsts[1] - firsts[0] == 5
    assert {each[2] for each in ranges} == {"5"}


def test_names(lamina: Lamina) -> None:
    flags = ["-h", "box", "--domainname", "lan", "--add-host", "a:1.2.3.4", "--dns", "9.9.9.9"]
    flags += ["--dns-search", "x.y", "--dns-option", "ndots:2"]
    text = "hostname; cat /proc/sys/kernel/domainname /etc/hostname; echo; cat /etc/hosts"
    lines = lamina.script(*flags, f"{text} /etc/resolv.conf")
    assert lines[:3] == ["box", "lan", "box"]
    assert {"127.0.0.1\tlocalhost", "127.0.1.1\tbox.lan box", "1.2.3.4\ta"} <= set(lines)
    assert lines[-3:] == ["nameserver 9.9.9.9", "search x.y", "options ndots:2"]
    id = lamina.good("create", "busybox", "hostname").strip()
    assert lamina.good("start", "-a", id) == id[:12] + "\n"


def test_sysctls_and_scores(lamina: Lamina) -> None:
    flags = ["--sysctl", "kernel.msgmax=1234", "--oom-score-adj", "321"]
    text = "cat /proc/sys/kernel/msgmax /proc/self/oom_score_adj"
    assert lamina.script(*flags, text) == ["1234", "321"]
    ended = lamina.call("run", "--sysctl", "vm.swappiness=1", "busybox")
    assert ended.code == 125
    assert "cannot set sysctl vm.swappiness: it is not of a namespace" in ended.err


def test_init_is_closed_to_the_command(lamina: Lamina) -> None:
    """It has the command's own user and rights, and is the launcher's program."""
    text = "cat /proc/1/comm; readlink /proc/1/exe; ls /proc/1/fd; for n in maps environ; do"
    text += " head -c 1 /proc/1/$n; done 2>&1 | grep -v denied"
    ended = lamina.call("run", "--rm", "--init", "busybox", "sh", "-c", text)
    assert ended.out == "lamina-init\n"


def test_init_reaps(lamina: Lamina) -> None:
    """What loses its parent is reaped, though the command itself never reaps anything."""
    text = "sh -c 'sleep 0.01 &'; exec sleep 1000"
    id = lamina.start("--init", "busybox", "sh", "-c", text)
    first = lamina.pid(id)
    assert Path(f"/proc/{first}/comm").read_text() == "lamina-init\n"

    def only_the_command() -> bool:
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [Path(f"/proc/{each}/cmdline").read_bytes() for each in children] == [
            b"sleep\0001000\0"
        ]

    wait_until(only_the_command, "the orphan is reaped")
