# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process in a container can see and reach; each test fails if its wall is missing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from launcher import start
from launcher.isolation import capabilities, namespaces, rootfs
from launcher.spec import Mount, Namespace, Resources, Rlimit, Root, User
from launcher.sys import mount, process
from tests.launcher import box
from tests.launcher.box import run, spec
from tests.support.user import in_child


def script(root: Path, text: str, **fields: object) -> box.Ended:
    return run(spec(root, box.process(text), **fields))


def status(text: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key: value.strip() for key, value in pairs}


def test_it_runs(root: Path) -> None:
    assert run(spec(root, box.process(["true"]))).code == 0
    assert run(spec(root, box.process(["sh", "-c", "exit 7"]))).code == 7


def test_output_and_errors_stay_apart(root: Path) -> None:
    ended = script(root, "echo out; echo err >&2")
    assert (ended.out, ended.err) == ("out\n", "err\n")


def test_every_namespace_is_its_own(root: Path) -> None:
    listed = script(root, "for n in pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done")
    own = [os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "mnt", "uts", "ipc", "net", "cgroup")]
    assert len(listed.lines) == 6
    assert not set(listed.lines) & set(own)


@pytest.mark.parametrize("kind", ["pid", "uts", "ipc", "network", "cgroup"])
def test_a_namespace_not_asked_for_is_the_hosts(root: Path, kind: str) -> None:
    described = spec(root, box.process(f"readlink /proc/self/ns/{namespaces.FILES[kind]}"))
    kept = tuple(each for each in described.namespaces if each.type != kind)
    ended = run(described._replace(namespaces=kept, hostname=b""))
    assert ended.lines == [os.readlink(f"/proc/self/ns/{namespaces.FILES[kind]}")]


def test_it_is_the_first_process_and_sees_no_other(root: Path) -> None:
    assert script(root, "echo $$; ls -d /proc/[0-9]*").lines[:2] == ["1", "/proc/1"]
    pids = script(root, "ls /proc | grep -c '^[0-9]'").lines
    assert int(pids[0]) <= 4


def test_the_host_name_is_set_inside_only(root: Path) -> None:
    before = os.uname().nodename
    described = spec(root, box.process("hostname; cat /proc/sys/kernel/domainname"))
    assert run(described._replace(hostname=b"inside", domainname=b"example")).lines == [
        "inside",
        "example",
    ]
    assert os.uname().nodename == before


def test_there_is_no_network_but_loopback(root: Path) -> None:
    assert script(root, "ls /sys/class/net").lines == ["lo"]
    assert script(root, "ping -c 1 -w 5 127.0.0.1").code == 0


def test_the_root_is_the_rootfs_and_the_host_is_gone(root: Path) -> None:
    ended = script(root, "ls /; cat /proc/self/mountinfo; ls /..; ls /proc/1/root")
    assert str(root) not in ended.out.replace(f" {root} ", " ", 1)
    mounts = script(root, "cut -d' ' -f5 /proc/self/mountinfo").lines
    outside = {"/", "/proc", "/dev", "/sys"}
    assert outside <= set(mounts)
    assert not [each for each in mounts if not each.startswith(("/proc", "/dev", "/sys"))][1:]


def test_capabilities_are_the_default_set_and_no_more(root: Path) -> None:
    said = status(script(root, "cat /proc/self/status").out)
    wanted = capabilities.mask(capabilities.DEFAULT) & capabilities.held()
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(said[name], 16) == wanted, name
    for name in ("CapInh", "CapAmb"):
        assert int(said[name], 16) == 0, name
    # What may not be done without them cannot be done.
    assert script(root, "mount -t tmpfs none /mnt").code != 0


def test_a_capability_that_the_machine_lacks_is_left_out(root: Path) -> None:
    everything = box.process("cat /proc/self/status", granted=frozenset(capabilities.NAMES))
    said = status(run(spec(root, everything)).out)
    assert int(said["CapEff"], 16) == capabilities.held()


def test_a_user_has_ids_groups_and_no_capabilities(root: Path) -> None:
    made = box.process("id -u; id -g; id -G; cat /proc/self/status", user=User(1000, 1000, (29,)))
    ended = run(spec(root, made))
    assert ended.lines[:3] == ["1000", "1000", "1000 29"]
    said = status(ended.out)
    assert (int(said["CapPrm"], 16), int(said["CapEff"], 16)) == (0, 0)
    assert int(said["CapBnd"], 16) == capabilities.mask(capabilities.DEFAULT)


def test_a_user_can_open_its_output_again(root: Path) -> None:
    ended = run(spec(root, box.process("echo again > /dev/stdout", user=User(1000, 1000))))
    assert (ended.code, ended.out) == (0, "again\n")


def test_ambient_capabilities_reach_a_users_program(root: Path) -> None:
    granted = frozenset({"CAP_NET_BIND_SERVICE"})
    rights = capabilities.of_user(granted, 0)._replace(inheritable=granted, ambient=granted)
    made = box.process("grep CapEff /proc/self/status", user=User(1000, 1000), rights=rights)
    assert int(status(run(spec(root, made)).out)["CapEff"], 16) == capabilities.mask(granted)


@pytest.mark.parametrize("asked", [True, False])
def test_no_new_privileges(root: Path, asked: bool) -> None:
    made = box.process("grep NoNewPrivs /proc/self/status", no_new_privileges=asked)
    assert status(run(spec(root, made)).out)["NoNewPrivs"] == str(int(asked))


# Of docker's own defaults, in its words: what is taken from the code could shrink with it.
CLOSED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
    *("/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list"),
    *("/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"),
)
FIXED = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def test_what_docker_closes_is_closed(root: Path) -> None:
    assert {os.fsdecode(each) for each in rootfs.MASKED} >= set(CLOSED)
    assert {os.fsdecode(each) for each in rootfs.READONLY} >= set(FIXED)
    mounts = [line.split() for line in script(root, "cat /proc/mounts").lines]
    options = {fields[1]: fields[3].split(",") for fields in mounts}
    covered = {fields[1] for fields in mounts}
    for path in filter(os.path.exists, (*CLOSED, *FIXED)):
        assert path in covered
        # A device is covered by /dev/null, of which nothing is to be kept.
        assert (path in CLOSED and not os.path.isdir(path)) or "ro" in options[path], path


def test_masked_paths_say_nothing(root: Path) -> None:
    hidden = [os.fsdecode(each) for each in rootfs.MASKED if os.path.exists(each)]
    assert "/proc/keys" in hidden
    assert "/sys/firmware" in hidden
    for path in hidden:
        assert os.path.isdir(path) or os.access(path, os.R_OK)
        ended = script(root, f"if [ -d {path} ]; then ls -A {path}; else cat {path}; fi")
        assert (ended.code, ended.out) == (0, ""), path
    # Without the mask there is something to see: this test can fail.
    bare = script(root, "cat /proc/interrupts", masked_paths=())
    assert bare.out != ""


def test_read_only_paths_cannot_be_written(root: Path) -> None:
    text = "echo 77 > /proc/sys/kernel/shmmni && echo written"
    ended = script(root, text)
    assert "written" not in ended.out
    assert "Read-only file system" in ended.err
    assert "written" in script(root, text, readonly_paths=()).out
    for path in (
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_seqnum",
    ):
        assert script(root, f"echo 0 > {path}").code != 0


def test_a_read_only_root(fresh_root: Path) -> None:
    described = spec(fresh_root, box.process("touch /tmp/x; echo $?; touch /dev/shm/x; echo $?"))
    frozen = described._replace(root=Root(os.fsencode(fresh_root), readonly=True))
    assert run(frozen).lines == ["1", "0"]
    assert run(described).lines == ["0", "0"]


def test_devices_are_the_few_and_work(root: Path) -> None:
    ended = script(
        root,
        "ls /dev; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x > /dev/null;"
        " echo x > /dev/full; stat -c %a /dev/null /dev/shm /dev/pts/ptmx; readlink /dev/ptmx",
    )
    names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert " ".join(ended.lines[:14]) == names
    assert ended.lines[14:] == ["4", "4", "666", "1777", "666", "pts/ptmx"]
    assert "No space left" in ended.err


def test_devices_not_allowed_cannot_be_opened(root: Path, make_group: box.MakeGroup) -> None:
    # A device that anyone may open where it may be used at all.
    text = "mknod -m 666 /dev/fuse c 10 229 && : < /dev/fuse && echo opened"
    limited = make_group(Resources(devices=rootfs.DEVICE_RULES))
    ended = run(spec(root, box.process(text)), limited)
    assert "opened" not in ended.out
    assert "Operation not permitted" in ended.err
    free = make_group(Resources())
    assert "opened" in run(spec(root, box.process(text)), free).out


def test_no_descriptor_is_inherited(root: Path) -> None:
    ends = socket.socketpair()
    for each in ends:
        each.set_inheritable(True)
    spare = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(spare, True)
    try:
        # The last is the one by which ls reads the directory.
        assert script(root, "ls /proc/self/fd").lines == ["0", "1", "2", "3"]
    finally:
        os.close(spare)
        for each in ends:
            each.close()


def test_ignored_and_blocked_signals_are_not_inherited(root: Path) -> None:
    said = status(run(spec(root, box.process(["cat", "/proc/self/status"]))).out)
    # Python itself ignores SIGPIPE.
    assert int(said["SigIgn"], 16) == 0
    assert int(said["SigBlk"], 16) == 0


def test_limits_are_set_and_lowered_where_they_cannot_be_raised(root: Path) -> None:
    made = box.process("ulimit -n; ulimit -c", rlimits=(Rlimit("RLIMIT_NOFILE", 100, 200),))
    assert run(spec(root, made)).lines[0] == "100"
    made = box.process("ulimit -Hn", rlimits=(Rlimit("RLIMIT_NOFILE", 1 << 19, 1 << 19),))
    ended = run(spec(root, made))
    can_raise = "CAP_SYS_RESOURCE" in capabilities.names(capabilities.held())
    if can_raise:
        assert (ended.lines, ended.warnings) == ([str(1 << 19)], ())
    else:
        assert int(ended.lines[0]) < 1 << 19
        assert len(ended.warnings) == 1
        assert "RLIMIT_NOFILE" in ended.warnings[0]


def test_settings_of_its_namespaces(root: Path) -> None:
    described = spec(root, box.process("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni"))
    wanted = (("net.ipv4.ip_forward", "1"), ("kernel.shmmni", "77"))
    assert run(described._replace(sysctl=wanted)).lines == ["1", "77"]
    assert Path("/proc/sys/kernel/shmmni").read_text().strip() != "77"


def test_working_directory_umask_and_oom_score(root: Path, fresh_root: Path) -> None:
    made = box.process("pwd; umask; cat /proc/self/oom_score_adj", cwd=b"/new/dir")
    ended = run(spec(fresh_root, made._replace(oom_score_adj=500)))
    assert ended.lines == ["/new/dir", "0022", "500"]
    assert (fresh_root / "new/dir").is_dir()


def test_binds_read_only_and_writable(root: Path, fresh_root: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "file").write_text("from the host\n")
    mounts = (
        *rootfs.default_mounts(),
        Mount(b"/data", "bind", os.fsencode(shared), ("rbind",)),
        Mount(b"/locked", "bind", os.fsencode(shared), ("rbind", "ro")),
        Mount(b"/etc/one", "bind", os.fsencode(shared / "file"), ("bind", "ro")),
    )
    text = "cat /data/file /etc/one; echo x > /data/new; echo x > /locked/new; echo x > /etc/one"
    ended = run(spec(fresh_root, box.process(text), mounts=mounts))
    assert ended.out == "from the host\nfrom the host\n"
    assert ended.err.count("Read-only file system") == 2
    assert (shared / "new").read_text() == "x\n"


def test_a_hostile_rootfs_leads_no_mount_outside(fresh_root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (fresh_root / "escape").symlink_to(outside)
    (fresh_root / "up").symlink_to("../../../../../../" + str(outside))
    mounts = (
        *rootfs.default_mounts(),
        Mount(b"/escape/deep", "tmpfs", b"tmpfs"),
        Mount(b"/up/deep", "tmpfs", b"tmpfs"),
    )
    # Within the rootfs these lead nowhere: what is missing is made there, and nothing outside.
    for _ in range(2):
        assert run(spec(fresh_root, box.process(["true"]), mounts=mounts)).code == 0
        assert not list(outside.iterdir())
        assert (fresh_root / str(outside).lstrip("/") / "deep").is_dir()


def test_a_proc_that_is_a_symlink_does_not_lead_out(fresh_root: Path) -> None:
    (fresh_root / "proc").rmdir()
    (fresh_root / "proc").symlink_to("/tmp")
    ended = script(fresh_root, "grep -c ' /tmp proc ' /proc/self/mounts; ls /proc/self/ns/mnt")
    assert ended.lines[0] == "1"


def test_no_mount_spreads_to_a_host_that_shares_its_own(root: Path) -> None:
    """As on every machine with systemd, where all mounts are shared (mount_namespaces(7))."""

    def shared() -> tuple[str, str]:
        process.unshare(process.CLONE_NEWNS)
        mount.mount_setattr(mount.AT_FDCWD, b"/", recursive=True, propagation=mount.MS_SHARED)
        before = Path("/proc/self/mountinfo").read_text()
        running = box.Running(spec(root, box.process("echo up; exec sleep 1000")))
        running.read_line()
        during = Path("/proc/self/mountinfo").read_text()
        running.kill()
        running.end()
        return before, during

    before, during = in_child(shared)
    assert during == before


def test_cgroups_are_shown_read_only_from_its_own_on(root: Path, make_group: box.MakeGroup) -> None:
    group = make_group(Resources())
    ended = run(spec(root, box.process("cat /proc/self/cgroup; grep cgroup /proc/mounts")), group)
    for path in group.paths():
        assert os.fsdecode(path) not in ended.out
        assert "/lamina/" not in ended.out
    shown = [line.split() for line in ended.lines if " /sys/fs/cgroup" in line]
    assert shown
    assert all(fields[3].startswith("ro,") for fields in shown)
    assert script(root, "mkdir /sys/fs/cgroup/x || mkdir /sys/fs/cgroup/memory/x").code != 0


def test_an_existing_namespace_is_joined(root: Path) -> None:
    first = box.Running(spec(root, box.process("readlink /proc/self/ns/net; sleep 1000")))
    try:
        theirs = first.read_line()
        described = spec(root, box.process("readlink /proc/self/ns/net"))
        shared = tuple(
            Namespace("network", b"/proc/%d/ns/net" % first.pid) if each.type == "network" else each
            for each in described.namespaces
        )
        assert run(described._replace(namespaces=shared)).lines == [theirs]
    finally:
        first.kill()
        first.end()


def test_one_that_enters_is_hidden_until_it_is_the_program(root: Path) -> None:
    """It shows neither the launcher's arguments nor its executable while it waits inside."""
    look = (
        "read go; for p in /proc/[0-9]*; do cat $p/cmdline; echo; echo exe: `readlink $p/exe`; done"
    )
    ends = os.pipe()
    first = box.Running(spec(root, box.process(f"echo up; {look}")), stdin=ends[0])
    try:
        first.read_line()
        launch = start.launch_into(first.started, box.process(["true"]))
        with start.begin(launch):
            os.write(ends[1], b"\n")
            first.read_line()
            seen = ""
            while "lamina-exec" not in seen or "exe:" not in seen.rpartition("lamina-exec")[2]:
                seen += first.read_line() + "\n"
    finally:
        os.close(ends[1])
        first.end()
    assert "lamina-exec" in seen
    assert "python" not in seen


def test_unshare_is_what_the_spec_says(root: Path) -> None:
    launch = start.launch_of(spec(root, box.process(["true"])), box.host())
    assert launch.namespaces == (
        process.CLONE_NEWPID
        | process.CLONE_NEWNS
        | process.CLONE_NEWUTS
        | process.CLONE_NEWIPC
        | process.CLONE_NEWNET
    )
