# SPDX-License-Identifier: GPL-3.0-or-later
"""Who `--user` means: /etc/passwd and /etc/group of the rootfs, read without leaving it.

The files belong to the image and may be hostile: they are resolved within the rootfs, must be
regular files, are read up to a bound, and lines that are not as passwd(5) and group(5) say are
passed over.
"""

from __future__ import annotations

import os
import stat

from launcher.errors import SpecError
from launcher.sys import mount
from launcher.typed import Final, Iterator, NamedTuple

__all__ = ["Account", "find"]

_LONGEST: Final = 8 << 20
_LARGEST_ID: Final = (1 << 31) - 1


class Account(NamedTuple):
    """What a user of the container is: ids, further groups, and home directory."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...]
    home: bytes


def find(root: int, user: str, group_add: tuple[str, ...] = ()) -> Account:
    """The account that `user` names: "", "uid", "name", or either with ":gid" or ":group".

    `root` is a descriptor of the rootfs. As docker: a number need not be in passwd, a name must
    be; the further groups are those of passwd's and group's, unless a group is named; without
    `user` it is uid 0. `group_add` are further groups, by name or number.
    """
    who, colon, group = user.partition(":")
    who = who or "0"
    entries = tuple(_entries(root, b"etc/passwd", 7))
    wanted = os.fsencode(who)
    number = _id(wanted)
    found = next(
        (
            line
            for line in entries
            if line[0] == wanted or (number is not None and _id(line[2]) == number)
        ),
        None,
    )
    uid = number if found is None else _id(found[2])
    if uid is None:
        raise SpecError("find user", who, "no matching entries in the container's passwd file")
    name = found[0] if found else b""
    home = found[5] if found and found[5] else b"/"
    gid = (_id(found[3]) if found else None) or 0

    groups = tuple(_entries(root, b"etc/group", 4))
    further: set[int] = set()
    if colon and group:
        gid = _group(groups, group)
    elif name:
        for line in groups:
            number = _id(line[2])
            if number is not None and name in line[3].split(b","):
                further.add(number)
    further.update(_group(groups, each) for each in group_add)
    return Account(uid, gid, tuple(sorted(further)), home)


def _group(groups: tuple[list[bytes], ...], wanted: str) -> int:
    name = os.fsencode(wanted)
    for line in groups:
        number = _id(line[2])
        if line[0] == name and number is not None:
            return number
    number = _id(name)
    if number is None:
        raise SpecError("find group", wanted, "no matching entries in the container's group file")
    return number


def _id(text: bytes) -> int | None:
    if not text.isdigit() or len(text) > 10:
        return None
    number = int(text)
    return number if number <= _LARGEST_ID else None


def _entries(root: int, path: bytes, fields: int) -> Iterator[list[bytes]]:
    try:
        fd = mount.openat2(
            root,
            path,
            # A fifo in the image's place must not hold up the start.
            os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY,
            mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS,
        )
    except OSError:
        return
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return
        content = bytearray()
        while len(content) < _LONGEST and (part := os.read(fd, 1 << 16)):
            content += part
    finally:
        os.close(fd)
    for line in bytes(content).split(b"\n"):
        parts = line.strip().split(b":")
        if parts[0] and not parts[0].startswith(b"#") and len(parts) >= fields:
            yield parts
