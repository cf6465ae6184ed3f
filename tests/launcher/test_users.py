# SPDX-License-Identifier: GPL-3.0-or-later
"""`--user`: names and numbers of the rootfs's own accounts, whatever is in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.isolation import users
from launcher.isolation.users import Account


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1000::/home/alice:/bin/sh\n"
        "bob:x:+1:1::/:\nhuge:x:4294967296:0::/:\n"
    )
    (tmp_path / "etc/group").write_text("alice:x:1000:\naudio:x:29:alice,bob\nwheel:x:10:root\n")
    return tmp_path


@pytest.fixture
def fd(rootfs: Path) -> Iterator[int]:
    opened = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    yield opened
    os.close(opened)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Account(0, 0, (10,), b"/root")),
        ("alice", Account(1000, 1000, (29,), b"/home/alice")),
        ("1000", Account(1000, 1000, (29,), b"/home/alice")),
        ("alice:wheel", Account(1000, 10, (), b"/home/alice")),
        ("alice:77", Account(1000, 77, (), b"/home/alice")),
        ("4711", Account(4711, 0, (), b"/")),
        ("4711:4712", Account(4711, 4712, (), b"/")),
    ],
)
def test_accounts(fd: int, user: str, expected: Account) -> None:
    assert users.find(fd, user) == expected


def test_groups_are_added(fd: int) -> None:
    assert users.find(fd, "alice", ("wheel", "500")).additional_gids == (10, 29, 500)


@pytest.mark.parametrize("user", ["carol", "bob", "huge", "-1", "alice:nogroup", "4294967296"])
def test_what_is_not_there_is_refused(fd: int, user: str) -> None:
    with pytest.raises(SpecError, match=r"cannot find (user|group)"):
        users.find(fd, user)


def test_a_link_out_of_the_rootfs_stays_inside(rootfs: Path, fd: int) -> None:
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to("/etc/../../../../etc/shadow-of-passwd")
    with pytest.raises(SpecError):
        users.find(fd, "alice")
    (rootfs / "etc/shadow-of-passwd").write_text("alice:x:7:8::/seven:\n")
    assert users.find(fd, "alice")[:2] == (7, 8)


def test_a_fifo_does_not_hold_it_up(rootfs: Path, fd: int) -> None:
    (rootfs / "etc/passwd").unlink()
    os.mkfifo(rootfs / "etc/passwd")
    assert users.find(fd, "5") == Account(5, 0, (), b"/")
