# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's files as its processes see them, whether it runs or not.

Of one that runs they are reached through its first process, volumes and tmpfs and all. For one that
does not, its union is mounted for this process alone, with its volumes; that ends with the process
at the latest. Every path is resolved in the container's root and cannot lead out of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from launcher import record as records
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.record import Record
from launcher.state import Entry
from launcher.sys import mount
from launcher.typed import Final, NamedTuple

__all__ = ["Inside", "opened"]

_RESOLVE: Final = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS


class Inside(NamedTuple):
    """The files of a container.

    root -- descriptor of its root directory (O_PATH)
    uid, gid -- what its root is called outside
    """

    root: int
    uid: int
    gid: int

    def open(self, path: bytes, flags: int) -> int:
        """Open a path inside; the descriptor is the caller's. OSError."""
        return mount.openat2(self.root, path.lstrip(b"/") or b".", flags, _RESOLVE)


@contextlib.contextmanager
def opened(paths: Paths, entry: Entry) -> Iterator[Inside]:
    """Open a container's files. Raises LaunchError."""
    record = records.load(paths, entry.row.id)
    uid, gid = 0, 0
    if record.userns:
        uid, gid = (int(each) for each in record.userns.split(":")[:2])
    running = entry.running
    if running is not None and running.pid:
        root = _root_of(running.pid, record)
        try:
            yield Inside(root, uid, gid)
        finally:
            os.close(root)
        return
    if running is not None:
        raise LaunchError("reach the files of", entry.row.name, "it is just starting or ending")
    with _mounted(paths, record) as root:
        yield Inside(root, uid, gid)


def _root_of(pid: int, record: Record) -> int:
    try:
        if os.geteuid() != 0:
            _join_users(pid)
        return os.open(b"/proc/%d/root" % pid, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LaunchError("reach the files of", record.name, error) from error


def _join_users(pid: int) -> None:
    """Become root of the user namespace that an ordinary user's container lives in.

    By its first process: its supervisor lets nobody look at it.
    """
    from launcher.supervisor import rootless
    from launcher.sys import process

    fd = os.open(b"/proc/%d/ns/user" % pid, os.O_RDONLY | os.O_CLOEXEC)
    try:
        process.setns(fd, process.CLONE_NEWUSER)
    finally:
        os.close(fd)
    rootless.become_root()


@contextlib.contextmanager
def _mounted(paths: Paths, record: Record) -> Iterator[int]:
    """The root of a container that does not run, with its volumes, for this process alone."""
    from launcher.supervisor import rootless
    from launcher.supervisor.serving import Serving

    ordinary = rootless.needed()
    if ordinary:
        rootless.become()
    else:
        rootless.enter(users=False)
    # Serving makes files with the modes it is asked for; so does who writes here.
    before = os.umask(0)
    serving = Serving(paths, record, rootless=ordinary)
    try:
        serving.wait()
        root = os.open(serving.merged, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _mount_volumes(paths, record, Inside(root, 0, 0))
            yield root
        finally:
            os.close(root)
    finally:
        serving.end()
        os.umask(before)


def _mount_volumes(paths: Paths, record: Record, inside: Inside) -> None:
    """What is mounted when it runs: directories and files of the host's, and volumes."""
    from launcher import volumes

    for each in record.mounts:
        if each.kind == "volume":
            source = volumes.data(paths, each.source)
        elif each.kind == "bind":
            source = os.fsencode(each.source)
        else:
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target = inside.open(os.fsencode(each.destination), os.O_PATH)
            try:
                tree = mount.open_tree(mount.AT_FDCWD, source, recursive=True)
                try:
                    if "ro" in each.options or "readonly" in each.options:
                        mount.mount_setattr(
                            tree, b"", recursive=True, wanted=mount.MOUNT_ATTR_RDONLY
                        )
                    mount.move_mount(tree, target)
                finally:
                    os.close(tree)
            finally:
                os.close(target)
