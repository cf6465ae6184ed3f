# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: any bytes but NUL and slash, up to 255 of them."""

from __future__ import annotations

import os

from tests.posix.expect import content, exists
from tests.posix.scene import LONG, directory, file
from tests.posix.table import Facility, Steps, needs

ODD = (
    b"\xff\xfe",
    b"caf\xe9",
    b"\xc3\x28",
    b"new\nline",
    b" space ",
    b"...",
    b"-rf",
    b"tab\tbell\a",
    "Grüße-日本-🎈".encode(),
    b"a\\b",
    b"a:b,c=d",
    b"%s%n",
    b"\x01",
)


def odd_bytes() -> Steps:
    """Names that are not UTF-8, or hold spaces, newlines and what options are made of."""
    for name in ODD:
        file(name, name)
    yield
    assert sorted(os.listdir(b".")) == sorted(ODD)
    for name in ODD:
        assert content(name) == name
        os.chmod(name, 0o600)
        os.rename(name, name + b"2")
        os.link(name + b"2", name)
        os.unlink(name + b"2")
        assert os.stat(name).st_mode & 0o777 == 0o600
    for name in ODD:
        os.unlink(name)
        assert not exists(name)
        os.mkdir(name)
    assert sorted(os.listdir(b".")) == sorted(ODD)


def longest_name() -> Steps:
    """A name of 255 bytes can be made, renamed, linked, listed and removed."""
    file(LONG, b"long")
    yield
    assert os.listdir(".") == [LONG]
    other = "m" * 255
    os.rename(LONG, other)
    os.link(other, LONG)
    assert sorted(os.listdir(".")) == [other, LONG]
    os.unlink(other)
    with open(LONG, "ab") as stream:
        stream.write(b"er")
    os.unlink(LONG)
    for name in (LONG, other):
        directory(name)
    os.rmdir(LONG)
    os.symlink(other, LONG)
    assert os.readlink(LONG) == other
    os.unlink(LONG)
    os.mkfifo(LONG)
    os.unlink(LONG)


def longest_name_replaced() -> Steps:
    """The longest name serves when it hides, is hidden and comes back."""
    directory(LONG)
    file(f"{LONG}/{LONG}")
    yield
    os.unlink(f"{LONG}/{LONG}")
    os.rmdir(LONG)
    assert not exists(LONG)
    os.mkdir(LONG)
    assert os.listdir(LONG) == []
    os.rename(LONG, "short")
    assert not exists(LONG)


@needs(Facility.PLAIN)
def names_of_the_other_format() -> Steps:
    """A name with the look of another format's mark is a name like any other."""
    names = [".wh.name", ".wh..wh..opq", ".wh.", ".fuse_hidden0001", "#1", "work", "index"]
    for name in names:
        file(name, name.encode())
    file("name")
    yield
    assert sorted(os.listdir(".")) == sorted([*names, "name"])
    for name in names:
        assert content(name) == name.encode()
        os.unlink(name)
        assert not exists(name)
        os.mkdir(name)
