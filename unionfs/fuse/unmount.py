# SPDX-License-Identifier: GPL-3.0-or-later
"""Ending a mount from outside: detach it, and wait until its daemon has let go of the layers.

Also repairs a mount point whose daemon died: such a mount answers ENOTCONN ("Transport endpoint is
not connected") to everything but its own removal (fuse(4)).
"""

from __future__ import annotations

import ctypes
import errno
import os
import select

from unionfs.errors import UnionError, shown
from unionfs.fuse import registry
from unionfs.fuse.mountinfo import Mounted, located, mounts, topmost
from unionfs.typed import Final

__all__ = ["unmount"]

_MNT_DETACH: Final = 2  # umount(2)
_UMOUNT_NOFOLLOW: Final = 8
_PATIENCE: Final = 60.0  # seconds for a daemon to end once nothing is mounted any more
_NAMED_HOLDERS: Final = 3


def unmount(path: bytes, *, lazy: bool = False) -> None:
    """Take down the union mounted on `path`; on return its daemon is gone too.

    With `lazy` the mount leaves the tree at once, and its daemon ends when nobody uses it any
    more; nothing is waited for. Raises UnionError if nothing of ours is mounted there, or it is in
    use, or the caller may not.
    """
    table = mounts()
    mounted = _mounted_on(path, table)
    if mounted is None:
        raise UnionError("unmount", path, _why_not(path))
    entry = registry.find(mounted)
    if entry is None and mounted.fstype != "fuse.lamina":
        raise UnionError("unmount", path, f"it is not a lamina mount but {mounted.fstype}")
    dead = _disconnected(mounted.mountpoint) if entry is None else not registry.alive(entry)
    pidfd = -1 if entry is None or dead else _pidfd(entry)
    try:
        _detach(path, mounted.mountpoint, lazy=lazy or dead)
        if pidfd >= 0 and not lazy:
            assert entry is not None
            _await_end(path, pidfd, entry.pid)
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    registry.drop_stale(mounts())


def _mounted_on(path: bytes, table: list[Mounted]) -> Mounted | None:
    """The mount on a path as a person writes it; the mount point itself is looked at last."""
    found = topmost(located(path), table)
    return found if found is not None else topmost(os.path.realpath(path), table)


def _why_not(path: bytes) -> str:
    try:
        os.stat(path)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "nothing is mounted there"


def _disconnected(mountpoint: bytes) -> bool:
    try:
        os.stat(mountpoint)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def _pidfd(entry: registry.Entry) -> int:
    """A descriptor of the daemon's process, -1 if it has just ended."""
    try:
        pidfd = os.pidfd_open(entry.pid)
    except ProcessLookupError:
        return -1
    if registry.alive(entry):
        return pidfd
    os.close(pidfd)
    return -1


def _await_end(path: bytes, pidfd: int, pid: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_PATIENCE * 1000):
        reason = f"it is unmounted, but its daemon (process {pid}) has not ended yet"
        raise UnionError("wait for the end of", path, reason)


def _detach(path: bytes, mountpoint: bytes, *, lazy: bool) -> None:
    if os.geteuid() == 0:
        error = _umount2(mountpoint, _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0))
        if error == 0:
            return
        reason = _busy(mountpoint) if error == errno.EBUSY else os.strerror(error)
    else:
        import subprocess

        words = ["fusermount3", "-u", *(["-z"] if lazy else []), "--"]
        command = [*map(os.fsencode, words), mountpoint]
        environment = os.environ | {"LC_ALL": "C"}
        try:
            done = subprocess.run(command, capture_output=True, env=environment, check=False)
        except OSError as failure:
            raise UnionError("run fusermount3 to unmount", path, failure) from failure
        if done.returncode == 0:
            return
        complaint = done.stderr.decode(errors="backslashreplace").strip().rpartition(": ")[2]
        busy = complaint == os.strerror(errno.EBUSY)
        reason = _busy(mountpoint) if busy else shown(complaint or "fusermount3 refused")
    raise UnionError("unmount", path, reason)


def _umount2(mountpoint: bytes, flags: int) -> int:
    """umount2(2); 0 or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.umount2(mountpoint, flags) == 0 else ctypes.get_errno()


def _busy(mountpoint: bytes) -> str:
    """That it is in use, and by whom as far as the caller may know."""
    holders = _holders(mountpoint)
    if not holders:
        return "it is in use"
    more = len(holders) - _NAMED_HOLDERS
    names = ", ".join(holders[:_NAMED_HOLDERS]) + (f" and {more} more" if more > 0 else "")
    return f"it is in use by {names}"


def _holders(mountpoint: bytes) -> list[str]:
    """Processes with a directory, program or file below the mount point, or a mount there."""
    inside = mountpoint.rstrip(b"/") + b"/"
    holders = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        process = f"/proc/{pid}"
        if any(link == mountpoint or link.startswith(inside) for link in _links(process)):
            try:
                with open(f"{process}/comm", "rb") as stream:
                    name = shown(stream.read().rstrip(b"\n"))
            except OSError:
                continue
            holders.append(f"{name} (process {pid})")
    covered = sum(entry.mountpoint.startswith(inside) for entry in mounts())
    if covered:
        holders.append(f"{covered} mount{'s' if covered > 1 else ''} inside it")
    return holders


def _links(process: str) -> list[bytes]:
    """Where a process's links point; reading them asks nothing of the filesystem."""
    names = [f"{process}/{name}" for name in ("cwd", "root", "exe")]
    for listed in ("fd", "map_files"):
        try:
            names += [f"{process}/{listed}/{name}" for name in os.listdir(f"{process}/{listed}")]
        except OSError:
            continue
    links = []
    for name in names:
        try:
            links.append(os.readlink(os.fsencode(name)))
        except OSError:
            continue
    return links
