# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags of `run` and `create`: what record they make, and the line where they make none."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.context import Context
from launcher.errors import LaunchError
from launcher.image.model import Health, Image, ImageConfig
from launcher.options import FLAGS, RUN_FLAGS, record_of
from launcher.paths import Paths
from launcher.record import (
    LogOptions,
    Port,
    Record,
    RequestedDevice,
    RequestedMount,
    RestartPolicy,
)
from launcher.spec import BlockThrottle, BlockWeight
from unionfs import Command, parse_words

NOW = 1_700_000_000_000_000_000
CONFIG = ImageConfig(
    user="daemon",
    env=("PATH=/bin", "LANG=C", "EDITOR=vi"),
    entrypoint=("/entry", "-x"),
    cmd=("serve",),
    working_dir="/srv",
    labels=(("a", "image"), ("b", "image")),
    exposed_ports=("80/tcp",),
    volumes=("/data",),
    stop_signal="SIGINT",
    health=Health(("CMD", "check"), interval=5, retries=2),
)
PLAIN = ImageConfig(cmd=("sh",))


def read(*words: str, config: ImageConfig = PLAIN) -> Record:
    """The record that `lamina run` makes of words; the image is `img` unless words name one."""
    given = [os.fsencode(each) for each in words]
    if b"img" not in given:
        given.append(b"img")
    arguments = parse_words(Command("lamina run", "", "", RUN_FLAGS, ordered=True), given)
    assert arguments is not None
    context = Context(Paths(b"/nowhere", b"/nowhere"), False, None, [])
    image = Image("ab" * 32, "img:latest", (b"/layer",), config)
    return record_of(arguments, context, image, NOW)


def block_device() -> tuple[str, int, int]:
    """A block device of this machine's: its path and numbers."""
    for name in sorted(os.listdir("/sys/block")):
        path = f"/dev/{name}"
        if os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode):
            device = os.stat(path).st_rdev
            return path, os.major(device), os.minor(device)
    raise AssertionError("this machine has no block device")


def fields(made: Record, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(made, name) for name in names)


DEFAULTS = read()


# -- one flag, one field ---------------------------------------------------------------------------

RESOURCES: list[tuple[list[str], dict[str, object]]] = [
    (["-m", "64m"], {"memory": 64 << 20}),
    (["--memory=1.5g", "--memory-swap", "2g"], {"memory": 3 << 29, "memory_swap": 2 << 30}),
    (["-m64m", "--memory-swap=-1"], {"memory": 64 << 20, "memory_swap": -1}),
    (["--memory-reservation", "8192k"], {"memory_reservation": 8 << 20}),
    (["--memory-swappiness", "0"], {"memory_swappiness": 0}),
    (["--memory-swappiness=-1"], {}),
    (["--oom-kill-disable"], {"oom_kill_disable": True}),
    (["--cpus", "0.5"], {"cpu_quota": 50_000, "cpu_period": 100_000}),
    (["-c", "512"], {"cpu_shares": 512}),
    (["--cpu-quota", "20000", "--cpu-period", "50000"], {"cpu_quota": 20000, "cpu_period": 50000}),
    (["--cpuset-cpus", "0-1", "--cpuset-mems", "0"], {"cpuset_cpus": "0-1", "cpuset_mems": "0"}),
    (["--pids-limit", "100"], {"pids": 100}),
    (["--pids-limit", "-1"], {"pids": -1}),
    (["--pids-limit", "0"], {}),
    (["--blkio-weight", "300"], {"blkio_weight": 300}),
]


@pytest.mark.parametrize(("words", "expected"), RESOURCES)
def test_limits(words: list[str], expected: dict[str, object]) -> None:
    assert read(*words).resources == DEFAULTS.resources._replace(**expected)  # type: ignore[arg-type]


def test_limits_of_a_device() -> None:
    path, major, minor = block_device()
    made = read(
        *("--device-read-bps", f"{path}:1m", "--device-write-bps", f"{path}:2k"),
        *("--device-read-iops", f"{path}:3", "--device-write-iops", f"{path}:4"),
        *("--blkio-weight-device", f"{path}:50"),
    ).resources
    assert made.blkio_read_bps == (BlockThrottle(major, minor, 1 << 20),)
    assert made.blkio_write_bps == (BlockThrottle(major, minor, 2 << 10),)
    assert made.blkio_read_iops == (BlockThrottle(major, minor, 3),)
    assert made.blkio_write_iops == (BlockThrottle(major, minor, 4),)
    assert made.blkio_weight_device == (BlockWeight(major, minor, 50),)


FIELDS: list[tuple[list[str], dict[str, object]]] = [
    (["--name", "web"], {"name": "web"}),
    (["-it", "img"], {"tty": True, "interactive": True}),
    (["--rm"], {"auto_remove": True}),
    (["--rm", "--rm=false"], {}),
    (["-a", "STDOUT", "-a", "stderr"], {"attach": ("stdout", "stderr")}),
    (["-w", "/a/../b/"], {"cwd": b"/b"}),
    (["-u", "7:8", "--group-add", "9"], {"user": "7:8", "group_add": ("9",)}),
    (["--init", "--read-only"], {"init": True, "read_only": True}),
    (["-h", "box", "--domainname=lan"], {"hostname": "box", "domainname": "lan"}),
    (["-l", "a=b=c", "--label", "d"], {"labels": (("a", "b=c"), ("d", ""))}),
    (["--annotation", "a=b"], {"annotations": (("a", "b"),)}),
    (["--ulimit", "nofile=5:6"], {"ulimits": ("nofile=5:6",)}),
    (["--sysctl", "net.a=1"], {"sysctls": (("net.a", "1"),)}),
    (["--cap-add", "all", "--cap-drop", "chown"], {"cap_add": ("all",), "cap_drop": ("chown",)}),
    (["--privileged"], {"privileged": True, "seccomp": "unconfined", "systempaths": False}),
    (["--security-opt", "no-new-privileges"], {"no_new_privileges": True}),
    (["--security-opt", "no-new-privileges:false"], {}),
    (["--security-opt", "seccomp=unconfined"], {"seccomp": "unconfined"}),
    (["--security-opt", "systempaths=unconfined"], {"systempaths": False}),
    (["--security-opt=apparmor=unconfined"], {"apparmor": "unconfined"}),
    (["--security-opt=label=disable"], {"selinux": "disable"}),
    (["--device", "/dev/fuse"], {"devices": (RequestedDevice("/dev/fuse", "/dev/fuse"),)}),
    (["--device", "/dev/a:/dev/b:r"], {"devices": (RequestedDevice("/dev/a", "/dev/b", "r"),)}),
    (["--device", "/dev/a:rw"], {"devices": (RequestedDevice("/dev/a", "/dev/a", "rw"),)}),
    (["--device-cgroup-rule", "c 1:* rw"], {"device_rules": ("c 1:* rw",)}),
    (
        ["--pid", "host", "--ipc=host", "--cgroupns", "host"],
        {"pid": "host", "ipc": "host", "cgroupns": "host"},
    ),
    (["--ipc", "shareable", "--cgroupns", "private", "--userns=host"], {}),
    (["--ipc", "none"], {"ipc": "none"}),
    (["--pid", "container:x"], {"pid": "container:x"}),
    (["--uts", "host"], {"uts": "host", "hostname": os.uname().nodename}),
    (["--net", "host"], {"network": "host", "hostname": os.uname().nodename}),
    (["--userns", "auto"], {"userns": "auto"}),
    (["--userns", "auto:size=10"], {"userns": "auto:10"}),
    (["--userns", "1:2:3"], {"userns": "1:2:3"}),
    (["--shm-size", "1g"], {"shm_size": 1 << 30}),
    (["--oom-score-adj", "-5"], {"oom_score_adj": -5}),
    (["--restart", "on-failure:3"], {"restart": RestartPolicy("on-failure", 3)}),
    (["--restart", "always"], {"restart": RestartPolicy("always")}),
    (["--stop-signal", "RTMIN+1"], {"stop_signal": int(signal.SIGRTMIN) + 1}),
    (["--stop-signal", "hup", "--stop-timeout=-1"], {"stop_signal": 1, "stop_timeout": -1}),
    (["--stop-signal", "9"], {"stop_signal": 9}),
    (["--health-cmd", "x y"], {"health": Health(("CMD-SHELL", "x y"))}),
    (
        [
            "--health-cmd=x",
            "--health-interval",
            "1m30s",
            "--health-timeout=500ms",
            "--health-retries=4",
            "--health-start-period=1.5s",
            "--health-start-interval=2s",
        ],
        {"health": Health(("CMD-SHELL", "x"), 90 * 10**9, 5 * 10**8, 15 * 10**8, 2 * 10**9, 4)},
    ),
    (["--log-driver", "none"], {"log": LogOptions("none")}),
    (
        ["--log-opt", "max-size=10m", "--log-opt=max-file=3"],
        {"log": LogOptions(max_size=10**7, max_file=3)},
    ),
    (["--detach-keys", "ctrl-a,b"], {"detach_keys": "ctrl-a,b"}),
    (["--pidfile", "/run/x.pid"], {"pid_file": "/run/x.pid"}),
    (["--volatile"], {"volatile": True}),
    (["--expose", "53/udp", "--expose", "7-8"], {"exposed": ("53/udp", "7/tcp", "8/tcp")}),
    (["--add-host", "a:1.2.3.4", "--add-host", "b=[::1]"], {"extra_hosts": ("a:1.2.3.4", "b:::1")}),
    (
        ["--dns=1.1.1.1", "--dns-search=x", "--dns-opt=y"],
        {"dns": ("1.1.1.1",), "dns_search": ("x",), "dns_options": ("y",)},
    ),
    (
        ["--net=host", "-p", "80"],
        {
            "network": "host",
            "hostname": os.uname().nodename,
            "ports": (Port(80),),
            "exposed": ("80/tcp",),
        },
    ),
    (
        ["--net=none", "-p", "127.0.0.1:8000-8001:80-81/udp"],
        {
            "ports": (Port(80, "udp", 8000, "127.0.0.1"), Port(81, "udp", 8001, "127.0.0.1")),
            "exposed": ("80/udp", "81/udp"),
        },
    ),
    (
        ["--net=none", "-p", "[::1]::80"],
        {"ports": (Port(80, "tcp", 0, "::1"),), "exposed": ("80/tcp",)},
    ),
    (["--pull", "never", "--platform", "linux"], {}),
    (
        ["--tmpfs", "/t"],
        {"mounts": (RequestedMount("tmpfs", "", "/t", ("noexec", "nosuid", "nodev")),)},
    ),
    (
        ["--tmpfs", "/t:exec,size=1m,mode=700"],
        {
            "mounts": (
                RequestedMount(
                    "tmpfs", "", "/t", ("nosuid", "nodev", "exec", "size=1048576", "mode=700")
                ),
            )
        },
    ),
    (
        ["-v", "/h:/c:ro,rslave"],
        {"mounts": (RequestedMount("bind", "/h", "/c", ("missing", "ro", "rslave")),)},
    ),
    (
        ["-v", "./h:/c"],
        {"mounts": (RequestedMount("bind", os.path.join(os.getcwd(), "h"), "/c", ("missing",)),)},
    ),
    (["-v", "name:/c:nocopy"], {"mounts": (RequestedMount("volume", "name", "/c", ("nocopy",)),)}),
    (
        ["--mount", "src=vv,dst=/c,volume-nocopy,volume-label=a=b,readonly"],
        {"mounts": (RequestedMount("volume", "vv", "/c", ("nocopy", "label=a=b", "ro")),)},
    ),
    (
        ["--mount", "type=bind,source=/h,destination=/c,ro=true,bind-propagation=rshared"],
        {"mounts": (RequestedMount("bind", "/h", "/c", ("ro", "rshared")),)},
    ),
    (
        ["--mount", 'type=bind,"source=/a,b",target=/c,bind-nonrecursive=true'],
        {"mounts": (RequestedMount("bind", "/a,b", "/c", ("bind",)),)},
    ),
    (
        ["--mount", "type=tmpfs,target=/c,tmpfs-size=64k,tmpfs-mode=1770"],
        {
            "mounts": (
                RequestedMount(
                    "tmpfs", "", "/c", ("noexec", "nosuid", "nodev", "size=65536", "mode=1770")
                ),
            )
        },
    ),
]


@pytest.mark.parametrize(("words", "expected"), FIELDS, ids=lambda each: str(each)[:60])
def test_flags(words: list[str], expected: dict[str, object]) -> None:
    made = read(*words)
    like = DEFAULTS._replace(id=made.id, hostname=made.id[:12])
    assert made == like._replace(**expected)  # type: ignore[arg-type]


NEEDS_MORE = frozenset(
    [
        "--help",
        "--debug",
        "--detach",
        "--sig-proxy",
        "--cidfile",
        "--entrypoint",
        "--env",
        "--env-file",
        "--label-file",
        "--volumes-from",
        "--no-healthcheck",
        "--publish-all",
        "--blkio-weight-device",
        "--device-read-bps",
        "--device-write-bps",
        "--device-read-iops",
        "--device-write-iops",
    ]
)


def test_every_flag_is_held_by_a_test() -> None:
    """Those of NEEDS_MORE have a test of their own, here or in test_run."""
    arguments = Command("lamina run", "", "", FLAGS, ordered=True)
    held = set(NEEDS_MORE)
    for words, _ in RESOURCES + FIELDS:
        found = parse_words(arguments, [os.fsencode(each) for each in (*words, "img")])
        assert found is not None
        held |= found.flags.keys()
    assert {flag.key for flag in RUN_FLAGS} - held == set()


# -- with the image --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "args", "entrypoint"),
    [
        ([], [b"/entry", b"-x", b"serve"], 2),
        (["img", "a", "b"], [b"/entry", b"-x", b"a", b"b"], 2),
        (["--entrypoint", "/other"], [b"/other"], 1),
        (["--entrypoint", "/other", "img", "a"], [b"/other", b"a"], 1),
        (["--entrypoint=", "img", "a"], [b"a"], 0),
    ],
)
def test_entrypoint_and_command(words: list[str], args: list[bytes], entrypoint: int) -> None:
    made = read(*words, config=CONFIG)
    assert (list(made.args), made.entrypoint) == (args, entrypoint)


def test_what_no_flag_says_is_the_images() -> None:
    made = read(config=CONFIG)
    assert fields(made, "user", "cwd", "labels", "exposed", "stop_signal", "health") == (
        "daemon",
        b"/srv",
        CONFIG.labels,
        ("80/tcp",),
        signal.SIGINT,
        CONFIG.health,
    )
    (volume,) = made.mounts
    assert (volume.kind, volume.destination, volume.options) == ("volume", "/data", ("anonymous",))
    assert len(volume.source) == 64
    assert made.env == (b"PATH=/bin", b"LANG=C", b"EDITOR=vi")


def test_flags_win_over_the_image() -> None:
    words = ["-u", "0", "-w", "/", "--label", "a=flag", "-v", "mine:/data", "--stop-signal=TERM"]
    made = read(*words, "--expose=81", config=CONFIG)
    assert fields(made, "user", "cwd", "labels", "exposed", "stop_signal") == (
        "0",
        b"/",
        (("a", "flag"), ("b", "image")),
        ("80/tcp", "81/tcp"),
        signal.SIGTERM,
    )
    assert [each.source for each in made.mounts] == ["mine"]


def test_health_is_worked_in_field_by_field() -> None:
    made = read("--health-retries", "7", config=CONFIG).health
    assert made == Health(("CMD", "check"), interval=5, retries=7)
    assert read("--no-healthcheck", config=CONFIG).health is None
    none = CONFIG._replace(health=Health(("NONE",)))
    assert read(config=none).health is None
    shell = PLAIN._replace(shell=("/bin/ash", "-ec"))
    asked = read("--health-cmd", "x", config=shell).health
    assert asked is not None
    assert asked.test == ("CMD", "/bin/ash", "-ec", "x")


def test_variables_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "here")
    monkeypatch.delenv("NOT_HERE", raising=False)
    file = tmp_path / "env"
    file.write_text("\ufeff# comment\n\n  FILE=1 2\nLANG=file\nFROM_HERE\n")
    words = ["--env-file", str(file), "-e", "LANG=flag", "-e", "NEW=a=b", "-e", "EDITOR"]
    monkeypatch.delenv("EDITOR", raising=False)
    made = read(*words, "-e", "NOT_HERE", "-e", "EMPTY=", config=CONFIG)
    assert made.env == (
        b"PATH=/bin",
        b"LANG=flag",
        b"FILE=1 2",
        b"FROM_HERE=here",
        b"NEW=a=b",
        b"EMPTY=",
    )


def test_labels_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("a=1\nb=2\n")
    made = read("--label-file", str(file), "-l", "b=3")
    assert dict(made.labels) == {"a": "1", "b": "3"}


def test_a_profile_is_kept_as_text(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert read("--security-opt", f"seccomp={file}").seccomp == file.read_text()


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--name", "a/b"], "--name a/b: a name is of letters"),
        (["--name", "x"], "--name x: a name is of letters"),
        (["-w", "rel"], "--workdir rel: it is not an absolute path"),
        (["-m", "5m"], "--memory 5m: the least is 6m"),
        (["-m", "1x"], "--memory 1x: it is not a number with a unit"),
        (["-m", "many"], "--memory many: it is not a number with a unit"),
        (["--memory-swap", "1g"], "--memory-swap 1g: it needs --memory beside it"),
        (["-m", "1g", "--memory-swap", "1m"], "--memory-swap 1m: it counts memory too"),
        (["-m", "10m", "--memory-reservation=1g"], "--memory-reservation 1g: it is more than"),
        (["--memory-swappiness", "101"], "--memory-swappiness 101: it is more than 100"),
        (["--cpus", "1000"], "--cpus 1000: this machine has"),
        (["--cpus", "0.001"], "--cpus 0.001: the least is 0.01"),
        (["--cpus=1", "--cpu-quota=5000"], "--cpus 1: --cpu-quota says the same"),
        (["--cpu-period", "10"], "--cpu-period 10: it is between 1000 and 1000000"),
        (["--cpu-quota", "10"], "--cpu-quota 10: the least is 1000"),
        (["--cpuset-cpus", "1-"], "--cpuset-cpus 1-: it is not a list"),
        (["--cpuset-cpus", "2-1"], "--cpuset-cpus 2-1: 2-1 runs backwards"),
        (["--blkio-weight", "5"], "--blkio-weight 5: it is between 10 and 1000"),
        (
            ["--device-read-bps", "/dev/null:1m"],
            "--device-read-bps /dev/null:1m: it is not a block",
        ),
        (["--device-read-bps", "1m"], "--device-read-bps 1m: it is written /dev/NAME:NUMBER"),
        (["--pids-limit", "x"], "--pids-limit x: it is not an integer"),
        (["--shm-size", "x"], "--shm-size x: it is not a number"),
        (["--oom-score-adj", "1001"], "--oom-score-adj 1001: it is more than 1000"),
        (["-h", "a b"], "--hostname a b: it is of letters"),
        (["-h", "a" * 65], "--hostname aaaa"),
        (["-h", "a", "--uts=host"], "--hostname a: --uts host shares"),
        (["--pid", "nope"], "--pid nope: it is one of host, container:ID"),
        (["--network", "bridge"], "--network bridge: it is one of none, host, container:ID"),
        (["--userns", "keep-id"], "--userns keep-id: it is host, auto"),
        (["--userns", "1:2:0"], "--userns 1:2:0: the size is 0"),
        (["--restart", "often"], "--restart often: it is one of no, always"),
        (["--restart", "always:3"], "--restart always:3: only on-failure takes"),
        (["--rm", "--restart", "always"], "--restart always: --rm removes"),
        (["--stop-signal", "SIGNOPE"], "--stop-signal SIGNOPE: there is none"),
        (["--stop-signal", "65"], "--stop-signal 65: there is none"),
        (["--stop-timeout", "1s"], "--stop-timeout 1s: it is not an integer"),
        (["--health-interval", "5"], "--health-interval 5: it is not a time"),
        (["--health-interval", "1us"], "--health-interval 1us: the least is 1ms"),
        (["--no-healthcheck", "--health-cmd=x"], "--no-healthcheck: --health-cmd asks for one"),
        (["--log-driver", "syslog"], "--log-driver syslog: it is one of"),
        (["--log-opt", "tag=x"], "--log-opt tag=x: json-file has no such option"),
        (["--log-opt", "max-file=2"], "--log-opt max-file=2: it needs a max-size"),
        (["--detach-keys", "ctrl-"], "--detach-keys ctrl-: ctrl- is neither"),
        (["--cap-add", "FLY"], "capability FLY: there is none of that name"),
        (["--ulimit", "nope=1"], "cannot set ulimit nope"),
        (["--device", "dev"], "--device dev: dev is not an absolute path"),
        (["--device", "/dev/a:/dev/b:x"], "--device /dev/a:/dev/b:x: x is not made of"),
        (["--device-cgroup-rule", "c 1 r"], "--device-cgroup-rule c 1 r: it is written as"),
        (["--security-opt", "nope"], "--security-opt nope: there is no such option"),
        (["--security-opt", "seccomp=/nope"], "cannot read seccomp profile /nope: No such file"),
        (["--security-opt", "label=type:x"], "--security-opt label=type:x: SELinux"),
        (["--sysctl", "a"], "--sysctl a: it is written NAME=VALUE"),
        (["-e", "=x"], "--env =x: a variable needs a name"),
        (["--env-file", "/nope"], "--env-file /nope: No such file"),
        (["-a", "all"], "--attach all: it is one of stdin"),
        (["--pull", "always"], "--pull always: images are not fetched"),
        (["--platform", "plan9/vax"], "--platform plan9/vax: this machine is linux/"),
        (["-P"], "--publish all: there is no bridge"),
        (["-p", "80"], "--publish 80: there is no bridge"),
        (["-p", "99999", "--net=host"], "--publish 99999: ports are between"),
        (["-p", "x:1:2", "--net=host"], "--publish x:1:2: x is not an address"),
        (["-p", "1-2:5-7", "--net=host"], "--publish 1-2:5-7: the two ranges"),
        (["-p", "1/icmp", "--net=host"], "--publish 1/icmp: the protocol"),
        (
            ["--net=container:x", "--dns=1.1.1.1"],
            "--dns 1.1.1.1: --network container:x has its own",
        ),
        (["--add-host", "a"], "--add-host a: it is written NAME:ADDRESS"),
        (["--add-host", "a:b"], "--add-host a:b: b is not an address"),
        (["--dns", "a"], "--dns a: a is not an address"),
        (["-v", "a"], "--volume a: the path in the container is not absolute"),
        (["-v", "/a:/"], "--volume /a:/: the path in the container cannot be /"),
        (["-v", "a b:/c"], "--volume a b:/c: a volume's name"),
        (["-v", "/a:/b:fast"], "--volume /a:/b:fast: there is no option fast"),
        (["-v", "/a:/b:ro,rw"], "--volume /a:/b:ro,rw: only one of ro, rw"),
        (["-v", "vv:/b:shared"], "--volume vv:/b:shared: propagation is for directories"),
        (["-v", "/a:/c", "--tmpfs", "/c/"], "mount point /c: two mounts"),
        (["--tmpfs", "/c:fast"], "--tmpfs /c:fast: there is no option fast"),
        (["--mount", "type=bind,target=/c"], "it needs a source"),
        (["--mount", "type=bind,src=/a"], "it needs a target"),
        (["--mount", "type=cloud,target=/c"], "type cloud is none of"),
        (["--mount", "type=tmpfs,src=/a,dst=/c"], "a tmpfs has no source"),
        (["--mount", "type=bind,src=/a,dst=/c,tmpfs-size=1"], "tmpfs-size is for type=tmpfs"),
        (["--mount", "src=vv,dst=/c,volume-subpath=../x"], "volume-subpath leaves the volume"),
        (["--mount", "type=tmpfs,dst=/c,tmpfs-mode=9"], "tmpfs-mode=9 is not octal"),
        (["--mount", "dst=/c,what=1"], "what=1 is not known here"),
        (["--mount", '"dst=/c'], "is not closed"),
    ],
    ids=lambda each: str(each)[:60],
)
def test_refused(words: list[str], line: str) -> None:
    with pytest.raises(LaunchError) as caught:
        read(*words)
    assert line in str(caught.value)
    assert str(caught.value).startswith("cannot ")
    assert caught.value.status == 125


def test_an_image_without_a_command_needs_one() -> None:
    with pytest.raises(LaunchError, match="no command was given"):
        read(config=ImageConfig())
    with pytest.raises(LaunchError, match="no command was given"):
        read("--entrypoint=", config=CONFIG)
