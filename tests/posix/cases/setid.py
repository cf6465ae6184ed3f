# SPDX-License-Identifier: GPL-3.0-or-later
"""Set-id bits and file capabilities fall with a change of content (inode(7), capabilities(7))."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.posix.expect import fails, mode
from tests.posix.scene import ANNE, file
from tests.posix.table import Facility, Steps, needs
from tests.support.syscall import fallocate
from tests.support.user import as_user

# struct vfs_cap_data, revision 2, effective: cap_net_raw permitted (capabilities(7)).
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def _append(name: str) -> None:
    with open(name, "ab") as stream:
        stream.write(b"x")


def _open_truncate(name: str) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_TRUNC))


def _ftruncate(name: str) -> None:
    fd = os.open(name, os.O_WRONLY)
    os.ftruncate(fd, 1)
    os.close(fd)


CHANGES: dict[str, Callable[[str], None]] = {
    "write": _append,
    "truncate": lambda name: os.truncate(name, 1),
    "ftruncate": _ftruncate,
    "open_truncate": _open_truncate,
}


def cleared_by_users() -> Steps:
    """Any change of content by who is not root clears them, the owner's too."""
    for change in CHANGES:
        for uid in (ANNE, 0):
            file(f"{change}{uid}", b"content", 0o6777, uid)
    yield

    def act() -> None:
        for change, function in CHANGES.items():
            for uid in (ANNE, 0):
                function(f"{change}{uid}")

    as_user(ANNE, act)
    for change in CHANGES:
        for uid in (ANNE, 0):
            assert mode(f"{change}{uid}") == 0o777, f"{change} of the file of {uid}"


def made_with_them() -> Steps:
    """A new file keeps those it is made with, of whoever makes it and however (open(2))."""
    os.chmod(".", 0o777)
    yield

    def act() -> None:
        os.umask(0o022)
        for number, flags in enumerate((0, os.O_TRUNC, os.O_EXCL, os.O_TRUNC | os.O_EXCL)):
            os.close(os.open(f"{number}", os.O_WRONLY | os.O_CREAT | flags, 0o6777))
            assert mode(f"{number}") == 0o6755, f"made with {flags:#o}"

    as_user(ANNE, act)


def kept_by_root() -> Steps:
    """Root (CAP_FSETID) changes the content without clearing them."""
    for change in CHANGES:
        file(change, b"content", 0o6755, ANNE)
    yield
    for change, function in CHANGES.items():
        function(change)
        assert mode(change) == 0o6755, change


def kept_by_reading() -> Steps:
    """Opening, reading, times and xattrs leave them."""
    file("f", b"content", 0o6777, ANNE)
    yield

    def act() -> None:
        os.close(os.open("f", os.O_RDWR))
        Path("f").read_bytes()
        os.utime("f")
        os.setxattr("f", "user.k", b"v")

    as_user(ANNE, act)
    assert mode("f") == 0o6777


def cleared_only_once_needed() -> Steps:
    """A write clears; the bits set again stay until the next write."""
    file("f", b"content", 0o4755, ANNE)
    yield

    def act() -> None:
        fd = os.open("f", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"1")
        assert mode("f") == 0o755
        os.fchmod(fd, 0o4755)
        assert mode("f") == 0o4755
        os.write(fd, b"2")
        assert mode("f") == 0o755
        os.close(fd)

    as_user(ANNE, act)


@needs(Facility.FALLOCATE)
def cleared_by_fallocate() -> Steps:
    """fallocate(2) is a change of content."""
    file("f", b"content", 0o6777, ANNE)
    yield

    def act() -> None:
        fd = os.open("f", os.O_WRONLY)
        fallocate(fd, 0, 0, 10_000)
        os.close(fd)

    as_user(ANNE, act)
    assert mode("f") == 0o777


def capabilities_cleared() -> Steps:
    """File capabilities fall with a write, a truncation, and a change of owner, root's too."""
    changes: dict[str, Callable[[str], None]] = {
        "write": _append,
        "truncate": lambda name: os.truncate(name, 1),
        "chown": lambda name: os.chown(name, ANNE, ANNE),
    }
    for change in changes:
        file(change, b"content", 0o755)
        os.setxattr(change, "security.capability", CAPABILITY)
    yield
    for change, function in changes.items():
        assert os.getxattr(change, "security.capability") == CAPABILITY
        function(change)
        with fails(errno.ENODATA, what=change):
            os.getxattr(change, "security.capability")
        assert "security.capability" not in os.listxattr(change)


def capabilities_kept() -> Steps:
    """They stay through a change of mode, times and name."""
    file("f", b"content", 0o755)
    os.setxattr("f", "security.capability", CAPABILITY)
    yield
    os.chmod("f", 0o700)
    os.utime("f")
    os.rename("f", "g")
    assert os.getxattr("g", "security.capability") == CAPABILITY


def setuid_takes_effect() -> Steps:
    """A set-user-ID program runs as its owner."""
    Path("id").write_bytes(Path("/usr/bin/id").read_bytes())
    os.chown("id", ANNE, ANNE)
    os.chmod("id", 0o6755)
    yield

    def run() -> str:
        return subprocess.run(["./id", "-u"], capture_output=True, text=True, check=True).stdout

    assert as_user(10005, run).strip() == str(ANNE)
