# SPDX-License-Identifier: GPL-3.0-or-later
"""User namespaces' id maps: which ids an ordinary user may hand out, and writing the maps.

Root writes them itself. An ordinary user may map only itself (user_namespaces(7)); for the
ranges that /etc/subuid and /etc/subgid grant, newuidmap(1) and newgidmap(1) write them.
"""

from __future__ import annotations

import os

from launcher.errors import LaunchError
from launcher.spec import IdMapping
from launcher.typed import NamedTuple

__all__ = ["IdMaps", "of_caller", "outside", "write"]


class IdMaps(NamedTuple):
    """The two maps of one user namespace."""

    uid: tuple[IdMapping, ...]
    gid: tuple[IdMapping, ...]


def of_caller() -> IdMaps:
    """The widest maps that an ordinary user's container can have: itself as 0, then its subids.

    Without subids, or without newuidmap(1), only uid 0 and gid 0 exist inside.
    """
    uid, gid = os.geteuid(), os.getegid()
    uids, gids = (tuple(_granted(path, uid)) for path in (b"/etc/subuid", b"/etc/subgid"))
    if not (uids and gids and _program("newuidmap") and _program("newgidmap")):
        uids = gids = ()
    return IdMaps(_after(IdMapping(0, uid, 1), uids), _after(IdMapping(0, gid, 1), gids))


def outside(maps: tuple[IdMapping, ...], number: int) -> int | None:
    """The host's id behind the container's `number`, if there is one."""
    for each in maps:
        if each.container_id <= number < each.container_id + each.size:
            return each.host_id + number - each.container_id
    return None


def write(pid: int, maps: IdMaps) -> None:
    """Write both maps of the new user namespace that `pid` is in."""
    uid, gid = maps
    direct = os.geteuid() == 0 and _may_write(b"/proc/%d/uid_map" % pid)
    single = (
        len(uid) == len(gid) == 1
        and uid[0][1:] == (os.geteuid(), 1)
        and gid[0][1:] == (os.getegid(), 1)
    )
    if direct:
        _write_map(pid, b"gid_map", gid)
        _write_map(pid, b"uid_map", uid)
    elif single:
        _write(b"/proc/%d/setgroups" % pid, b"deny")
        _write_map(pid, b"gid_map", gid)
        _write_map(pid, b"uid_map", uid)
    else:
        _run("newgidmap", pid, gid)
        _run("newuidmap", pid, uid)


def _may_write(path: bytes) -> bool:
    return os.access(path, os.W_OK)


def _after(first: IdMapping, ranges: tuple[tuple[int, int], ...]) -> tuple[IdMapping, ...]:
    maps = [first]
    next_id = first.container_id + first.size
    for start, size in ranges:
        maps.append(IdMapping(next_id, start, size))
        next_id += size
    return tuple(maps)


def _granted(path: bytes, uid: int) -> list[tuple[int, int]]:
    """The ranges of subuid(5): lines of NAME:START:SIZE, by login name or number."""
    names = {b"%d" % uid}
    try:
        names.update(
            line.split(b":", 1)[0]
            for line in _lines(b"/etc/passwd")
            if line.split(b":")[2:3] == [b"%d" % uid]
        )
        lines = _lines(path)
    except OSError:
        return []
    ranges = []
    for line in lines:
        parts = line.strip().split(b":")
        if len(parts) == 3 and parts[0] in names and parts[1].isdigit() and parts[2].isdigit():
            ranges.append((int(parts[1]), int(parts[2])))
    return ranges


def _lines(path: bytes) -> list[bytes]:
    with open(path, "rb") as file:
        return file.read().splitlines()


def _write_map(pid: int, name: bytes, maps: tuple[IdMapping, ...]) -> None:
    # The kernel takes one write only, of at most 340 lines.
    _write(b"/proc/%d/%s" % (pid, name), b"".join(b"%d %d %d\n" % tuple(each) for each in maps))


def _write(path: bytes, content: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, content)
        finally:
            os.close(fd)
    except OSError as error:
        raise LaunchError("map users into the container through", path, error) from error


def _program(name: str) -> str | None:
    # newuidmap is set-user-ID: it is taken from where the system keeps such, not from PATH.
    for directory in ("/usr/bin", "/bin", "/usr/local/bin"):
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    return None


def _run(name: str, pid: int, maps: tuple[IdMapping, ...]) -> None:
    path = _program(name)
    if path is None:
        reason = "it is not installed (Debian: uidmap)"
        raise LaunchError("map users into the container with", name, reason)
    args = [path, str(pid), *(str(number) for each in maps for number in each)]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    said_read, said_write = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
        actions.append((os.POSIX_SPAWN_DUP2, said_write, 2))
        child = os.posix_spawn(path, args, {"PATH": "/usr/bin:/bin"}, file_actions=actions)
    finally:
        os.close(null)
        os.close(said_write)
    with open(said_read, "rb") as file:
        said = file.read().decode(errors="replace").strip().replace("\n", "; ")
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise LaunchError("map users into the container with", path, said or "it was refused")
