# SPDX-License-Identifier: GPL-3.0-or-later
"""A union's own marks: nobody inside the mount sees, forges or lifts one."""

from __future__ import annotations

import errno
import os
import stat

from tests.posix.expect import content, exists, fails, listing
from tests.posix.scene import directory, file
from tests.posix.table import Facility, Steps, needs


@needs(Facility.UNION)
def no_whiteout_device() -> Steps:
    """EPERM: the device 0:0 would be a whiteout."""
    file("f")
    yield
    for name in ("new", "f"):
        with fails(errno.EPERM, errno.EEXIST):
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(0, 0))
    assert listing() == ["f"]


@needs(Facility.UNION)
def marks_are_not_listed() -> Steps:
    """No private attribute shows after copies, renames, and what is made over removed names."""
    directory("d")
    directory("d/sub")
    file("d/f", b"f")
    os.link("d/f", "d/g")
    yield
    os.chmod("d/f", 0o600)
    os.rename("d/sub", "d/sub2")
    os.rename("d", "e")
    os.unlink("e/g")
    os.mkdir("e/g")
    for name in (".", "e", "e/f", "e/g", "e/sub2"):
        assert os.listxattr(name) == [], name
        for prefix in ("trusted", "user"):
            for mark in ("opaque", "redirect", "origin", "metacopy", "nlink", "impure"):
                with fails(errno.ENODATA, what=f"{prefix}.overlay.{mark} of {name}"):
                    os.getxattr(name, f"{prefix}.overlay.{mark}")


@needs(Facility.UNION)
def forged_marks_do_nothing() -> Steps:
    """An attribute with the name of a mark is an attribute or refused, never obeyed."""
    directory("d")
    file("d/f", b"f")
    file("g", b"g")
    yield
    for prefix in ("trusted", "user"):
        for mark, value in (
            ("opaque", b"y"),
            ("redirect", b"/elsewhere"),
            ("whiteout", b"y"),
            ("metacopy", b""),
            ("origin", b"junk"),
        ):
            for name in ("d", "g"):
                key = f"{prefix}.overlay.{mark}"
                try:
                    os.setxattr(name, key, value)
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL):
                        raise
                else:
                    assert os.getxattr(name, key) == value
                    assert key in os.listxattr(name)
                    os.removexattr(name, key)
                    with fails(errno.ENODATA):
                        os.getxattr(name, key)
                    os.setxattr(name, key, value)
                assert listing("d") == ["f"]
                assert content("g") == b"g"
    os.rename("d", "e")
    assert content("e/f") == b"f"
    file("e/new")
    assert listing("e") == ["f", "new"]


@needs(Facility.UNION)
def removed_stays_removed() -> Steps:
    """What was removed from a directory does not come back by its rename or a new one."""
    directory("d")
    for name in "abc":
        file(f"d/{name}")
    yield
    os.unlink("d/a")
    os.rename("d", "e")
    assert listing("e") == ["b", "c"]
    os.mkdir("d")
    assert listing("d") == []
    os.unlink("e/b")
    os.unlink("e/c")
    os.rmdir("e")
    os.rename("d", "e")
    assert listing("e") == []
    for name in "abc":
        assert not exists(f"e/{name}")
