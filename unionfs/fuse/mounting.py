# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting a mount and the descriptor of its session, and taking it down again.

Root mounts by mount(2). Everybody else, and root where mount(2) is refused, asks fusermount3,
which is setuid and hands the descriptor over a socket (`_FUSE_COMMFD`, fusermount3(1)). Nothing
here speaks the protocol.
"""

from __future__ import annotations

import ctypes
import errno
import os

from unionfs.config import SessionConfig
from unionfs.errors import UnionError
from unionfs.fuse.mountinfo import mounts, topmost
from unionfs.typed import Final

_DEVICE: Final = b"/dev/fuse"
_COMM: Final = "_FUSE_COMMFD"

# mount(2) flags, with the names they have in mount(8) and in SessionConfig.
_FLAGS: Final = (
    ("read_only", "ro", 1 << 0),
    ("nosuid", "nosuid", 1 << 1),
    ("nodev", "nodev", 1 << 2),
    ("noexec", "noexec", 1 << 3),
    ("sync", "sync", 1 << 4),
    ("dirsync", "dirsync", 1 << 7),
    ("noatime", "noatime", 1 << 10),
    ("nodiratime", "nodiratime", 1 << 11),
    ("strictatime", "strictatime", 1 << 24),
    ("lazytime", "lazytime", 1 << 25),
)
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8


class Mount:
    """A mount that this process made, from then until it is taken down.

    fd         -- the session's descriptor, non-blocking; closing it aborts the session
    mountpoint -- resolved, as the mount table has it
    connection -- the number N of /sys/fs/fuse/connections/N, or None if it cannot be told
    """

    __slots__ = ("_by_helper", "_device", "fd", "mountpoint")

    def __init__(self, fd: int, mountpoint: bytes, by_helper: bool) -> None:
        self.fd = fd
        self.mountpoint = mountpoint
        self._by_helper = by_helper
        mounted = topmost(mountpoint, mounts())
        self._device = mounted.device if mounted is not None else ""

    @property
    def connection(self) -> int | None:
        # fusectl(5): connections are numbered by the minor number of the mount's device.
        return int(self._device.partition(":")[2]) if self._device else None

    @property
    def standing(self) -> bool:
        """Whether the mount is still what its mount point shows."""
        mounted = topmost(self.mountpoint, mounts())
        return mounted is not None and mounted.device == self._device

    def unmount(self, *, lazy: bool = False) -> bool:
        """Take the mount down; False if it is busy. True also where it was gone already.

        Blocks while the kernel writes back what it holds of the mount, so the session must be
        served meanwhile: call it from another thread. `lazy` detaches and waits for nothing.
        """
        if not self.standing:
            return True
        if self._by_helper:
            return _helper_unmount(self.mountpoint, lazy) or not self.standing
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
        if _libc().umount2(self.mountpoint, flags) == 0:
            return True
        number = ctypes.get_errno()
        if number == errno.EINVAL:  # not a mount point any more
            return True
        if number == errno.EBUSY:
            return False
        raise UnionError("unmount", self.mountpoint, os.strerror(number))

    def write_back(self) -> None:
        """Have the kernel send what it holds of files mapped through the mount (syncfs(2))."""
        try:
            fd = os.open(self.mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if self.standing:
                _libc().syncfs(fd)
        finally:
            os.close(fd)

    def end(self) -> None:
        """Leave nothing behind: what is still mounted is detached, and the session aborted."""
        try:
            if self.standing:
                self.unmount(lazy=True)
        finally:
            os.close(self.fd)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def mount(session: SessionConfig) -> Mount:
    """Mount where the session says. Raises UnionError naming the mount point or the device."""
    session = _decided(session)
    mountpoint = os.path.realpath(session.mountpoint)
    try:
        found = os.lstat(mountpoint)
    except OSError as error:
        raise UnionError("mount on", session.mountpoint, error) from error
    kind = found.st_mode & 0o170000
    if kind != 0o040000:  # mount(2) would accept a file, and nothing could be done with it
        raise UnionError("mount on", session.mountpoint, os.strerror(errno.ENOTDIR))
    if os.geteuid() == 0:
        fd = _mount_directly(session, mountpoint, kind)
        if fd >= 0:
            return Mount(fd, mountpoint, False)
    if session.contexts:
        reason = f"only mount(2) as root takes {session.contexts[0][0]}="
        raise UnionError("mount on", session.mountpoint, reason)
    return Mount(_mount_by_helper(session, mountpoint), mountpoint, True)


def _decided(session: SessionConfig) -> SessionConfig:
    """With everything that was left open decided by who mounts."""
    root = os.geteuid() == 0
    return session._replace(
        allow_other=root if session.allow_other is None else session.allow_other,
        nosuid=not root if session.nosuid is None else session.nosuid,
        nodev=not root if session.nodev is None else session.nodev,
    )


def _mount_directly(session: SessionConfig, mountpoint: bytes, kind: int) -> int:
    """mount(2); the session's descriptor, or -1 where it takes privileges that are not there."""
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return -1
    except OSError as error:
        raise UnionError("open", _DEVICE, error) from error
    data = [
        b"fd=%d,rootmode=%o,user_id=%d,group_id=%d" % (fd, kind, os.geteuid(), os.getegid()),
        b"default_permissions",
    ]
    if session.allow_other:
        data.append(b"allow_other")
    # In quotes, since the categories of a context are separated by commas (mount(8)).
    data += [b'%s="%s"' % (name.encode(), value) for name, value in session.contexts]
    flags = sum(bit for name, _, bit in _FLAGS if getattr(session, name))
    kind_name = f"fuse.{session.subtype}" if session.subtype else "fuse"
    done = _libc().mount(
        os.fsencode(session.fsname),
        mountpoint,
        kind_name.encode(),
        ctypes.c_ulong(flags),
        b",".join(data),
    )
    if done == 0:
        return fd
    number = ctypes.get_errno()
    os.close(fd)
    if number == errno.EPERM:
        return -1
    if number == errno.EINVAL and session.contexts:
        reason = f"the kernel does not take {session.contexts[0][0]}= (is SELinux active here?)"
        raise UnionError("mount on", session.mountpoint, reason)
    raise UnionError("mount on", session.mountpoint, os.strerror(number))


def _helper() -> str | None:
    import shutil

    return shutil.which("fusermount3", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")


def _required_helper(what: str, mountpoint: bytes) -> str:
    helper = _helper()
    if helper is None:
        raise UnionError(what, mountpoint, "fusermount3 is not installed")
    return helper


def _mount_by_helper(session: SessionConfig, mountpoint: bytes) -> int:
    """Let fusermount3 mount, and receive the session's descriptor from it."""
    import socket
    import subprocess

    helper = _required_helper("mount on", session.mountpoint)
    words = [f"fsname={_escaped(session.fsname)}"]
    if session.subtype:
        words.append(f"subtype={_escaped(session.subtype)}")
    words.append("default_permissions")
    if session.allow_other:
        words.append("allow_other")
    words += [word for name, word, _ in _FLAGS if getattr(session, name)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            done = subprocess.run(
                [helper, "-o", ",".join(words), "--", mountpoint],
                env={**os.environ, _COMM: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
            )
        fds: list[int] = []
        if done.returncode == 0:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    if not fds:
        raise UnionError("mount on", session.mountpoint, _complaint(done.stderr))
    os.set_blocking(fds[0], False)
    os.set_inheritable(fds[0], False)
    return fds[0]


def _escaped(value: str) -> str:
    """A value as fusermount3's option parser takes it: commas and backslashes escaped."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


def _complaint(stderr: bytes) -> str:
    """fusermount3's message in one line, without its own name."""
    text = b" ".join(stderr.split()).decode("utf-8", "backslashreplace")
    return text.rpartition("fusermount3: ")[2] or "fusermount3 gave no reason"


def _helper_unmount(mountpoint: bytes, lazy: bool) -> bool:
    import subprocess

    helper = _required_helper("unmount", mountpoint)
    words: list[str | bytes] = [helper, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0
