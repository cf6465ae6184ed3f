# SPDX-License-Identifier: GPL-3.0-or-later
"""From a record to a specification: what each field of a container comes to, without a start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher import specify
from launcher.errors import LaunchError
from launcher.isolation import capabilities, rootfs
from launcher.paths import Paths
from launcher.record import Record, RequestedDevice, RequestedMount
from launcher.rootunion import union
from launcher.spec import (
    ContainerSpec,
    Device,
    DeviceRule,
    IdMapping,
    Mount,
    Resources,
    Rlimit,
    User,
)

Make = Callable[..., ContainerSpec]

PLAIN = Record(
    id="ab" * 32,
    name="box",
    image="busybox",
    image_id="cd" * 32,
    created=1,
    layers=(b"/top", b"/bottom"),
    args=(b"sh", b"-c", b"true"),
    hostname="box",
    seccomp="unconfined",
)
IMAGE_PATH = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(os.fsencode(tmp_path / "root"), os.fsencode(tmp_path / "run"))


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def make(paths: Paths, root_fd: int) -> Make:
    def made(**fields: object) -> ContainerSpec:
        record = PLAIN._replace(**fields)  # type: ignore[arg-type]
        return specify.specification(paths, record, root_fd, b"/merged")

    return made


def kinds(spec: ContainerSpec) -> set[str]:
    return {each.type for each in spec.namespaces}


def mounted(spec: ContainerSpec) -> dict[bytes, Mount]:
    return {each.destination: each for each in spec.mounts}


def test_a_plain_container_has_all_walls(make: Make) -> None:
    spec = make()
    assert kinds(spec) == {"pid", "mount", "uts", "ipc", "network", "cgroup"}
    assert all(each.path is None for each in spec.namespaces)
    assert (spec.masked_paths, spec.readonly_paths) == (rootfs.MASKED, rootfs.READONLY)
    assert spec.devices == rootfs.DEVICES
    assert spec.resources.devices == rootfs.DEVICE_RULES
    assert spec.mounts[: len(rootfs.default_mounts())] == rootfs.default_mounts()
    assert spec.process.capabilities == capabilities.of_user(capabilities.DEFAULT, 0)
    assert (spec.hostname, spec.root.path, spec.root.readonly) == (b"box", b"/merged", False)
    assert spec.rootfs_propagation == "rprivate"


def test_the_files_of_names_are_the_containers_own(make: Make, paths: Paths) -> None:
    found = mounted(make())
    for name in (b"hosts", b"hostname", b"resolv.conf"):
        source = paths.container(PLAIN.id) + b"/" + name
        assert found[b"/etc/" + name] == Mount(b"/etc/" + name, "bind", source, ("rbind",))
    mine = RequestedMount("bind", "/mine", "/etc/hosts")
    assert mounted(make(mounts=(mine,)))[b"/etc/hosts"].source == b"/mine"


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"pid": "host"}, {"pid"}),
        ({"ipc": "host"}, {"ipc"}),
        ({"uts": "host"}, {"uts"}),
        ({"network": "host"}, {"network"}),
        ({"cgroupns": "host"}, {"cgroup"}),
    ],
)
def test_what_is_shared_with_the_host(
    make: Make, fields: dict[str, object], missing: set[str]
) -> None:
    everything = {"pid", "mount", "uts", "ipc", "network", "cgroup"}
    spec = make(**fields)
    assert kinds(spec) == everything - missing
    assert (spec.hostname == b"") == ("uts" in missing)


def test_shared_memory(make: Make) -> None:
    assert "size=4096" in mounted(make(shm_size=4096))[b"/dev/shm"].options
    assert b"/dev/shm" not in mounted(make(ipc="none"))
    assert mounted(make(ipc="host"))[b"/dev/shm"].source == b"/dev/shm"


def test_mounts_replace_the_default_ones_and_lie_below_each_other(make: Make) -> None:
    asked = (
        RequestedMount("tmpfs", "", "/a/b", ("size=1",)),
        RequestedMount("bind", "/h", "/a", ("missing", "ro")),
        RequestedMount("volume", "vol", "/v", ("nocopy", "anonymous", "label=a=b")),
        RequestedMount("volume", "vol", "/w", ("subpath=x/y", "bind")),
        RequestedMount("bind", "/s", "/dev/shm", ("z", "rslave")),
    )
    spec = make(mounts=asked)
    order = [each.destination for each in spec.mounts]
    assert order.index(b"/a") < order.index(b"/a/b")
    assert order.index(b"/dev") < order.index(b"/dev/shm")
    found = mounted(spec)
    assert len(found) == len(spec.mounts)
    assert found[b"/a"] == Mount(b"/a", "bind", b"/h", ("rbind", "ro"))
    assert found[b"/a/b"] == Mount(b"/a/b", "tmpfs", b"tmpfs", ("size=1",))
    assert found[b"/v"].source.endswith(b"/root/volumes/vol/_data")
    assert found[b"/v"].options == ("rbind",)
    assert found[b"/w"].source == found[b"/v"].source
    assert (found[b"/w"].below, found[b"/w"].options) == (b"x/y", ("bind",))
    assert found[b"/dev/shm"] == Mount(b"/dev/shm", "bind", b"/s", ("rbind", "rslave"))
    assert spec.rootfs_propagation == "rslave"


def test_users(make: Make, paths: Paths) -> None:
    spec = make(user="alice", group_add=("wheel", "77"))
    assert spec.process.user == User(1000, 1000, (10, 29, 77))
    assert not spec.process.capabilities.effective
    assert b"HOME=/home/alice" in spec.process.env
    with pytest.raises(LaunchError, match="cannot find user bob: no matching entries"):
        make(user="bob")
    spec = make(userns="1000:2000:300")
    assert "user" in kinds(spec)
    assert spec.uid_mappings == (IdMapping(0, 1000, 300),)
    assert spec.gid_mappings == (IdMapping(0, 2000, 300),)
    config = union(paths, PLAIN._replace(userns="1000:2000:300"))
    assert (config.uidmapping, config.gidmapping) == (((1000, 0, 300),), ((2000, 0, 300),))
    assert config.lower == PLAIN.layers
    # A sysfs of another's network cannot be mounted.
    shared = mounted(make(userns="1000:2000:300", network="host"))[b"/sys"]
    assert (shared.type, shared.source) == ("bind", b"/sys")


def test_variables_in_dockers_order(make: Make) -> None:
    assert make().process.env == (IMAGE_PATH, b"HOSTNAME=box", b"HOME=/root")
    spec = make(env=(b"A=1", b"PATH=/bin", b"HOME=/x"), tty=True)
    assert spec.process.env == (b"PATH=/bin", b"HOSTNAME=box", b"TERM=xterm", b"A=1", b"HOME=/x")
    assert spec.process.terminal


def test_privileged(make: Make) -> None:
    spec = make(privileged=True, systempaths=False)
    assert spec.process.capabilities.effective == frozenset(capabilities.NAMES)
    assert (spec.masked_paths, spec.readonly_paths, spec.seccomp) == ((), (), None)
    assert spec.resources.devices == (DeviceRule(True),)
    assert {each.path for each in spec.devices} > {each.path for each in rootfs.DEVICES}
    assert not [each for each in spec.mounts if "ro" in each.options]
    less = make(privileged=True, cap_drop=("SYS_ADMIN",))
    assert "CAP_SYS_ADMIN" not in less.process.capabilities.bounding


def test_devices(make: Make) -> None:
    asked = (RequestedDevice("/dev/null", "/dev/mine", "r"),)
    spec = make(devices=asked, device_rules=("b 7:* rw",))
    assert spec.devices[-1] == Device(
        b"/dev/mine", "c", 1, 3, 0o666, 0, os.stat("/dev/null").st_gid, b"/dev/null"
    )
    assert spec.resources.devices[-2:] == (
        DeviceRule(True, "c", 1, 3, "r"),
        DeviceRule(True, "b", 7, None, "rw"),
    )
    with pytest.raises(LaunchError, match="cannot add device /dev/nope: No such file"):
        make(devices=(RequestedDevice("/dev/nope", "/dev/nope"),))


def test_the_rest_is_handed_on(make: Make) -> None:
    spec = make(
        read_only=True,
        cwd=b"/work",
        init=True,
        no_new_privileges=True,
        oom_score_adj=5,
        ulimits=("nofile=5:6",),
        sysctls=(("kernel.msgmax", "1"),),
        resources=Resources(memory=1 << 30),
        domainname="lan",
        systempaths=False,
    )
    process = spec.process
    assert (process.args, process.cwd, process.init) == (PLAIN.args, b"/work", True)
    assert (process.no_new_privileges, process.oom_score_adj) == (True, 5)
    assert process.rlimits == (Rlimit("RLIMIT_NOFILE", 5, 6),)
    assert (spec.root.readonly, spec.domainname) == (True, b"lan")
    assert spec.sysctl == (("kernel.msgmax", "1"),)
    assert spec.resources.memory == 1 << 30
    assert (spec.masked_paths, spec.readonly_paths) == ((), ())


def test_a_further_process(root_fd: int) -> None:
    record = PLAIN._replace(env=(b"A=1", b"B=2"), cwd=b"/work", user="alice", init=True)
    made = specify.process_of(
        record, root_fd, args=(b"ls",), env=(b"B=3",), user="0", terminal=True
    )
    assert (made.args, made.cwd, made.init, made.terminal) == ((b"ls",), b"/work", False, True)
    assert (made.user.uid, made.capabilities.effective) == (0, capabilities.DEFAULT)
    assert {b"A=1", b"B=3", b"TERM=xterm", b"HOME=/root"} <= set(made.env)
    same = specify.process_of(record, root_fd, args=(b"ls",), cwd=b"/", privileged=True)
    assert (same.user.uid, same.cwd) == (1000, b"/")
    assert same.capabilities.bounding == frozenset(capabilities.NAMES)
