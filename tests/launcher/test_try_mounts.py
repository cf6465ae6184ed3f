# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file systems of a machine a try covers, read from its mount table."""

from __future__ import annotations

import pytest

from launcher.trial.mounts import Mounted, layout, visible


@pytest.fixture(autouse=True)
def _every_path_is_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.isdir", lambda path: not path.endswith(b".conf"))


def mount(number: int, parent: int, where: str, kind: str = "ext4", options: str = "rw") -> Mounted:
    return Mounted(number, parent, where.encode(), frozenset(options.split(",")), kind)


MACHINE = [
    mount(1, 0, "/"),
    mount(2, 1, "/proc", "proc"),
    mount(3, 1, "/dev", "devtmpfs"),
    mount(4, 3, "/dev/shm", "tmpfs"),
    mount(5, 1, "/home", "xfs"),
    mount(6, 1, "/var", "btrfs", "rw,nosuid,noexec"),
    mount(7, 6, "/var/lib/nfs/rpc_pipefs", "rpc_pipefs"),
    mount(8, 1, "/usr", "ext4", "ro"),
    mount(9, 1, "/tmp", "tmpfs"),
    mount(10, 1, "/mnt/ssh", "fuse.sshfs"),
    mount(11, 1, "/mnt/ntfs", "fuseblk"),
    mount(12, 6, "/var/lib/lamina/extra"),
    mount(13, 1, "/etc/resolv.conf"),
    mount(14, 1, "/net", "nfs4"),
    mount(15, 1, "/auto", "autofs"),
]


def test_what_can_be_written_gets_a_union_of_its_own() -> None:
    found = layout(MACHINE, b"/", (b"/var/lib/lamina",))
    assert [each.mountpoint for each in found.places] == [
        b"/",
        b"/home",
        b"/mnt/ntfs",
        b"/tmp",
        b"/var",
    ]
    var = found.places[-1]
    assert (var.lower, var.nosuid, var.noexec) == (b"/var", True, True)
    assert found.shown == (b"/etc/resolv.conf", b"/mnt/ssh", b"/net", b"/usr")


def test_a_root_elsewhere_has_its_own_part_of_the_table() -> None:
    found = layout(MACHINE, b"/var", (b"/var/lib/lamina",))
    assert [(each.mountpoint, each.lower) for each in found.places] == [(b"/", b"/var")]
    assert found.places[0].nosuid
    found = layout(MACHINE, b"/mnt", ())
    assert [(each.mountpoint, each.lower) for each in found.places] == [
        (b"/", b"/mnt"),
        (b"/ntfs", b"/mnt/ntfs"),
    ]
    assert found.shown == (b"/ssh",)


def test_what_is_covered_is_not_seen() -> None:
    table = [
        mount(1, 0, "/"),
        mount(2, 1, "/a/b", "xfs"),
        mount(3, 1, "/a", "ext4"),  # after /a/b, which it covers
        mount(4, 3, "/a/b", "btrfs"),
        mount(5, 4, "/a/b", "tmpfs"),  # on top of it
        mount(6, 4, "/a/b/c", "ext4"),  # within what is covered
        mount(7, 5, "/a/b/d", "ext4"),
    ]
    assert [each.number for each in visible(table)] == [1, 3, 5, 7]
