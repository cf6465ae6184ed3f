# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of mounts: which daemon serves which union, written down by the daemon itself.

One file a mount, in /run/lamina/mounts for root and $XDG_RUNTIME_DIR/lamina/mounts (failing that
/tmp/lamina-UID/mounts) for others. It says what /proc/self/mountinfo cannot: the layers, the
daemon, since when. mountinfo stays the truth about what is mounted; an entry is believed only if
it belongs to whoever mounted the filesystem, and an entry whose mount is gone is dropped.

A file is named MINOR-PID after the mount's device number, and holds NAME=VALUE pairs, each ended
by a NUL byte: paths hold any other.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from unionfs.config import MountConfig
from unionfs.fuse.mountinfo import Mounted, mounts
from unionfs.options import Choices, OptionError, apply_options, format_options
from unionfs.typed import Final, NamedTuple

__all__ = ["Entry", "alive", "drop_stale", "find", "forget", "record", "started", "unions"]

_SIZE_LIMIT: Final = 16 << 20  # bytes; thousands of layers with the longest of paths


class Entry(NamedTuple):
    """What a daemon said of its mount.

    mountpoint -- where it was mounted
    fstype     -- as mountinfo has it
    config     -- the union
    transport  -- the one that serves it
    pid, start -- the daemon: its process id, and its start time in clock ticks since boot
                  (proc_pid_stat(5)), which tells it from a later process of the same id
    since      -- when it was mounted, seconds since the epoch
    log        -- the file where the daemon writes what goes wrong, if it has one
    """

    mountpoint: bytes
    fstype: str
    config: MountConfig
    transport: str
    pid: int
    start: int
    since: int
    log: bytes | None = None


def record(device: str, entry: Entry) -> bytes | None:
    """Write the entry of a mount; where it was written, or None where there is no place for it."""
    directory = _own_directory()
    if directory is None:
        return None
    path = b"%s/%s%d" % (directory, _prefix(device), entry.pid)
    fields: dict[bytes, bytes] = {
        b"mountpoint": entry.mountpoint,
        b"fstype": os.fsencode(entry.fstype),
        b"options": format_options(entry.config),
        b"transport": entry.transport.encode(),
        b"pid": b"%d" % entry.pid,
        b"start": b"%d" % entry.start,
        b"since": b"%d" % entry.since,
    }
    if entry.log is not None:
        fields[b"log"] = entry.log
    data = b"".join(b"%s=%s\0" % field for field in fields.items())
    unfinished = path + b"~"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(unfinished, flags, 0o644)
        with open(fd, "wb", buffering=0) as stream:
            stream.write(data)
        os.rename(unfinished, path)
    except OSError:
        return None
    # The device number is this mount's now: whoever had it before is gone.
    for name in _names(directory):
        if name.startswith(_prefix(device)) and not path.endswith(b"/" + name):
            forget(b"%s/%s" % (directory, name))
    return path


def forget(path: bytes | None) -> None:
    """Remove an entry that `record` wrote."""
    if path is not None:
        with contextlib.suppress(OSError):
            os.unlink(path)


def find(mounted: Mounted) -> Entry | None:
    """What is written of a mount by its daemon, if that lives, or by one that died on it."""
    owner = mounted.user_id
    if owner is None:
        return None
    prefix = _prefix(mounted.device)
    dead: Entry | None = None
    for directory in _directories(owner):
        for name in _names(directory):
            if not name.startswith(prefix):
                continue
            entry = _read(b"%s/%s" % (directory, name), owner)
            if entry is None or entry.fstype != mounted.fstype:
                continue
            if alive(entry):
                return entry
            # Device numbers come again: a dead daemon's must still be where it was.
            if entry.mountpoint == mounted.mountpoint:
                dead = entry
    return dead


def unions() -> list[tuple[Mounted, Entry | None]]:
    """Every union mounted in this namespace, with what is written of it."""
    found: dict[str, tuple[Mounted, Entry | None]] = {}
    table = mounts()
    for mounted in table:
        if not mounted.fstype.startswith("fuse."):
            continue
        known = found.get(mounted.device)
        # Bind mounts share the device; the mount itself is where it was mounted, or came first.
        if known and (known[1] is None or known[1].mountpoint != mounted.mountpoint):
            continue
        entry = known[1] if known else find(mounted)
        if entry is not None or mounted.fstype == "fuse.lamina":
            found[mounted.device] = (mounted, entry)
    drop_stale(table)
    return list(found.values())


def drop_stale(table: list[Mounted]) -> None:
    """Remove the caller's own entries whose daemon is gone and whose mount is, too."""
    mounted = {entry.device.partition(":")[2].encode() for entry in table}
    own = os.geteuid()
    for directory in _directories(own):
        for name in _names(directory):
            minor, _, _ = name.partition(b"-")
            path = b"%s/%s" % (directory, name)
            if minor in mounted:
                continue
            entry = _read(path, own)
            if entry is None or not alive(entry):
                forget(path)


def alive(entry: Entry) -> bool:
    """Whether the daemon of an entry still runs."""
    return started(entry.pid) == entry.start


def started(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            after_name = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in (b"Z", b"X") else int(after_name[19])


def _prefix(device: str) -> bytes:
    return device.partition(":")[2].encode() + b"-"


def _names(directory: bytes) -> list[bytes]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _directories(owner: int) -> Iterator[bytes]:
    """Where the entries of a user's mounts may be."""
    if owner == 0:
        yield b"/run/lamina/mounts"
        return
    standard = b"/run/user/%d" % owner
    chosen = os.environb.get(b"XDG_RUNTIME_DIR", standard)
    if owner == os.geteuid() and chosen != standard and chosen.startswith(b"/"):
        yield chosen + b"/lamina/mounts"
    yield standard + b"/lamina/mounts"
    yield b"/tmp/lamina-%d/mounts" % owner


def _own_directory() -> bytes | None:
    """The directory for one's own entries, made if need be; None if none can be trusted."""
    own = os.geteuid()
    for directory in _directories(own):
        above, parent = os.path.dirname(os.path.dirname(directory)), os.path.dirname(directory)
        try:
            # $XDG_RUNTIME_DIR may be another user's, after su(1) or setpriv(1).
            if above != b"/tmp" and os.lstat(above).st_uid != own:
                continue
            mode = 0o755 if own == 0 else 0o700
            for path in (parent, directory):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, mode)
                found = os.lstat(path)
                if not stat.S_ISDIR(found.st_mode) or found.st_uid != own or found.st_mode & 0o022:
                    raise PermissionError
        except OSError:
            continue
        return directory
    return None


def _read(path: bytes, owner: int) -> Entry | None:
    """The entry in a file of `owner`'s; None if it is another's or not an entry."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as stream:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != owner:
                return None
            data = stream.read(_SIZE_LIMIT) or b""
    except OSError:
        return None
    fields: dict[bytes, bytes] = {}
    for pair in data.split(b"\0"):
        name, _, value = pair.partition(b"=")
        fields[name] = value
    choices = Choices()
    try:
        apply_options(fields[b"options"], choices)
        return Entry(
            fields[b"mountpoint"],
            os.fsdecode(fields[b"fstype"]),
            choices.union(userxattr=False),
            fields[b"transport"].decode(),
            int(fields[b"pid"]),
            int(fields[b"start"]),
            int(fields[b"since"]),
            fields.get(b"log"),
        )
    except (KeyError, ValueError, OptionError):
        return None
