# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: the order in which walls go up, what a spec turns into, and what is refused."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher import plan, steps
from launcher.errors import SpecError
from launcher.isolation import capabilities
from launcher.spec import ContainerSpec, IdMapping, Mount, Namespace, Rlimit, Root, User
from launcher.sys import mount as kernel
from launcher.sys import process
from launcher.sys.libc import syscall
from tests.launcher import box
from tests.support.user import in_child

NOWHERE = Path("/nowhere")
V2 = plan.Host((plan.Hierarchy(b"", b"cgroup2", ()),))
KEYCTL = {"x86_64": 250, "aarch64": 219}[platform.machine()]
USER_NAMESPACE = Namespace("user")


def make(described: ContainerSpec, host: plan.Host = V2) -> list[steps.Step]:
    return list(plan.make(described, host))


def kinds(made: list[steps.Step]) -> list[type]:
    return [type(each) for each in made]


def in_order(made: list[steps.Step], *expected: type) -> bool:
    positions = [kinds(made).index(each) for each in expected]
    return positions == sorted(positions)


def default(**fields: object) -> ContainerSpec:
    return box.spec(NOWHERE, box.process(["true"]))._replace(**fields)  # type: ignore[arg-type]


def test_rights_shrink_in_the_only_order_that_works() -> None:
    made = make(default(seccomp=b"\0" * 8))
    assert in_order(
        made,
        steps.EnterRoot,
        steps.Filesystem,
        steps.MaskPath,
        steps.PivotRoot,
        steps.LoadSeccomp,
        steps.DropBounding,
        steps.SetUser,
        steps.SetCapabilities,
        steps.SetParentDeathSignal,
        steps.CloseDescriptors,
        steps.Exec,
    )
    assert kinds(made)[-1] is steps.Exec


def test_the_launchers_keys_are_left_behind() -> None:
    assert steps.NewKeyring in kinds(make(default()))
    assert steps.NewKeyring in kinds(list(plan.enter(box.process(["true"]))))

    def change() -> tuple[int, int]:
        before = session_keyring()
        process.join_session_keyring()
        return before, session_keyring()

    before, after = in_child(change)
    assert before != after


def session_keyring() -> int:
    """The serial number of this process's session keyring, made if there is none (keyctl(2))."""
    number: int = syscall(KEYCTL, 0, ctypes.c_int(-3), ctypes.c_int(1))
    assert number > 0
    return number


def test_without_new_privileges_the_filter_comes_last() -> None:
    made = make(box.spec(NOWHERE, box.process(["true"], no_new_privileges=True), seccomp=b"\0" * 8))
    assert in_order(
        made, steps.SetCapabilities, steps.SetNoNewPrivileges, steps.LoadSeccomp, steps.Exec
    )


def test_nothing_of_the_host_is_named_after_the_root_changes() -> None:
    made = make(default())
    later = made[kinds(made).index(steps.PivotRoot) :]
    of_the_host = (steps.Bind, steps.EnterRoot, steps.Filesystem, steps.MaskPath, steps.Sysctl)
    assert not [each for each in later if isinstance(each, of_the_host)]


def test_masks_cover_what_is_read_only() -> None:
    made = make(default(masked_paths=(b"/proc/sys/kernel",), readonly_paths=(b"/proc/sys",)))
    assert in_order(made, steps.ReadOnlyPath, steps.MaskPath)


def test_the_root_becomes_read_only_after_all_that_is_made_in_it() -> None:
    made = make(default(root=Root(b"/nowhere", readonly=True)))
    position = kinds(made).index(steps.ReadOnlyRoot)
    made_in_it = (steps.Filesystem, steps.Bind, steps.MakeNode, steps.MakeDirectory)
    assert not [each for each in made[position:] if isinstance(each, made_in_it)]


def test_devices_are_nodes_for_root_and_binds_in_a_user_namespace() -> None:
    nodes = [each for each in make(default()) if isinstance(each, steps.MakeNode)]
    assert {each.path for each in nodes} >= {b"/dev/null", b"/dev/tty"}
    maps = (IdMapping(0, 100000, 65536),)
    described = default(uid_mappings=maps, gid_mappings=maps)
    described = described._replace(namespaces=(*described.namespaces, USER_NAMESPACE))
    made = make(described)
    assert kinds(made)[0] is steps.BecomeRoot
    assert steps.MakeNode not in kinds(made)
    assert b"/dev/null" in {each.source for each in made if isinstance(each, steps.Bind)}


def test_a_single_mapped_group_asks_for_no_groups_and_no_tty_group() -> None:
    maps = (IdMapping(0, 1000, 1),)
    described = default(uid_mappings=maps, gid_mappings=maps)
    made = make(described._replace(namespaces=(*described.namespaces, USER_NAMESPACE)))
    assert next(each for each in made if isinstance(each, steps.SetUser)).groups is None
    pts = next(each for each in made if isinstance(each, steps.Filesystem) and b"pts" in each.path)
    assert b"gid" not in dict(pts.options)


@pytest.mark.parametrize(
    ("options", "wanted", "cleared"),
    [
        (("ro",), kernel.MOUNT_ATTR_RDONLY, 0),
        (("ro", "rw"), 0, kernel.MOUNT_ATTR_RDONLY),
        (
            ("nosuid", "noexec", "nodev"),
            kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC | kernel.MOUNT_ATTR_NODEV,
            0,
        ),
        (("noatime",), kernel.MOUNT_ATTR_NOATIME, kernel.MOUNT_ATTR__ATIME),
    ],
)
def test_mount_options(options: tuple[str, ...], wanted: int, cleared: int) -> None:
    mounts = (Mount(b"/data", "bind", b"/srv", ("rbind", *options)),)
    bind = next(each for each in make(default(mounts=mounts)) if isinstance(each, steps.Bind))
    assert (bind.recursive, bind.wanted, bind.cleared) == (True, wanted, cleared)


def test_a_hybrid_machine_shows_every_hierarchy() -> None:
    hybrid = plan.Host(
        (
            plan.Hierarchy(b"memory", b"cgroup", ((b"memory", None),)),
            plan.Hierarchy(b"cpu,cpuacct", b"cgroup", ((b"cpu", None), (b"cpuacct", None))),
            plan.Hierarchy(b"unified", b"cgroup2", ()),
        )
    )
    made = make(default(), hybrid)
    mounted = {each.path: each.kind for each in made if isinstance(each, steps.Filesystem)}
    assert mounted[b"/sys/fs/cgroup"] == b"tmpfs"
    assert mounted[b"/sys/fs/cgroup/memory"] == b"cgroup"
    assert mounted[b"/sys/fs/cgroup/unified"] == b"cgroup2"
    assert steps.MakeSymlink(b"/sys/fs/cgroup/cpuacct", b"cpu,cpuacct") in made
    assert steps.SetAttributes(b"/sys/fs/cgroup", kernel.MOUNT_ATTR_RDONLY) in made


def test_a_description_names_each_step_and_spares_the_reader_the_filter() -> None:
    text = steps.describe(tuple(make(default(seccomp=b"\0" * 800))))
    assert "PivotRoot()" in text
    assert "LoadSeccomp(program=<800 bytes>)" in text
    assert text.splitlines()[-1].strip().endswith("env=(b'PATH=/usr/sbin:/usr/bin:/sbin:/bin',))")


def no_own(kind: str) -> Callable[[ContainerSpec], ContainerSpec]:
    def change(described: ContainerSpec) -> ContainerSpec:
        kept = tuple(each for each in described.namespaces if each.type != kind)
        return described._replace(namespaces=kept)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda it: it._replace(process=it.process._replace(args=())), "no command given"),
        (lambda it: it._replace(root=Root(b"relative")), "not absolute"),
        (lambda it: it._replace(mounts=(Mount(b"/", "tmpfs"),)), "cannot be /"),
        (lambda it: it._replace(sysctl=(("kernel.panic", "1"),)), "would be the host's"),
        (lambda it: it._replace(sysctl=(("vm/swappiness", "1"),)), "would be the host's"),
        (
            lambda it: no_own("network")(it)._replace(sysctl=(("net.ipv4.ip_forward", "1"),)),
            "network namespace is the host's",
        ),
        (no_own("uts"), "UTS namespace is the host's"),
        (no_own("mount"), "mount namespace of its own"),
        (
            lambda it: it._replace(
                process=it.process._replace(rlimits=(Rlimit("RLIMIT_WISHES", 1, 1),))
            ),
            "none of that name",
        ),
        (
            lambda it: it._replace(
                process=it.process._replace(
                    capabilities=capabilities.of_user(frozenset({"CAP_FLY"}), 0)
                )
            ),
            "none of that name",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    change: Callable[[ContainerSpec], ContainerSpec], reason: str
) -> None:
    with pytest.raises(SpecError, match=reason) as caught:
        make(change(default()))
    assert "\n" not in str(caught.value)
    assert caught.value.status == 125


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), capabilities.DEFAULT),
        (("net_admin",), ("CAP_CHOWN",), capabilities.DEFAULT - {"CAP_CHOWN"} | {"CAP_NET_ADMIN"}),
        ((), ("all",), frozenset()),
        (("chown",), ("ALL",), frozenset({"CAP_CHOWN"})),
        (("ALL",), ("SYS_ADMIN",), frozenset(capabilities.NAMES) - {"CAP_SYS_ADMIN"}),
    ],
)
def test_capabilities_are_added_and_dropped_as_docker_does(
    add: tuple[str, ...], drop: tuple[str, ...], expected: frozenset[str]
) -> None:
    assert capabilities.adjusted(add, drop) == expected


def test_only_root_holds_capabilities_at_once() -> None:
    made = make(box.spec(NOWHERE, box.process(["id"], user=User(1000, 1000))))
    rights = next(each for each in made if isinstance(each, steps.SetCapabilities))
    assert rights == steps.SetCapabilities(0, 0, 0, 0)
    bounding = next(each for each in made if isinstance(each, steps.DropBounding))
    assert bounding.keep == capabilities.mask(capabilities.DEFAULT)
