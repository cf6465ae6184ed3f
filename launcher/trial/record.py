# SPDX-License-Identifier: GPL-3.0-or-later
"""What a try is, and the directory that keeps it: ROOT/tries/ID.

    try.json       this record, written whole or not at all
    lock           held (flock(2)) by whoever runs, applies or discards it
    log            what the servers of its unions had to say
    N/upper, work  the N-th union's changes, and where it works; N/lower is a mount point
    changes.json   what it changed, looked at once when the command had ended (`changes`)
    applied/N/     the N-th apply: its journal and what it replaced (`journal`)
    merged         where the union is mounted, in a mount namespace of the try's own

A try holds nothing open and has no row in the database: the directory is all there is of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator

from launcher import treeremoval
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.typed import Any, Final, NamedTuple

__all__ = [
    "Place",
    "Trial",
    "all_tries",
    "create",
    "find",
    "hold",
    "load",
    "remove",
    "save",
    "state_of",
    "store",
    "sweep",
    "sync",
    "whole",
]

_UNFIT: Final = frozenset("/\0")


class Place(NamedTuple):
    """One union of a try.

    mountpoint -- where it is in the tree that the command sees; the first is b"/" if there is one
    lower      -- the directory of the host's that it covers
    nosuid, noexec -- as the host has it mounted
    """

    mountpoint: bytes
    lower: bytes
    nosuid: bool = False
    noexec: bool = False


class Trial(NamedTuple):
    """One try. Times are nanoseconds since the epoch.

    directory -- where it is kept; not in try.json
    base      -- the directory that the command sees as its root: b"/" but in tests
    started   -- before the command began; what the host changes is stamped with later times
    finished  -- when it ended; 0 while it runs, or if lamina was killed with it
    status    -- the command's exit status
    boot      -- of the kernel that ran it, as it calls itself
    synced    -- its upper layers are on disc: it outlives a loss of power
    userxattr -- the marks are of the kind that an ordinary user can write
    """

    id: str
    directory: bytes
    base: bytes
    args: tuple[bytes, ...]
    cwd: bytes
    network: str
    userxattr: bool
    places: tuple[Place, ...]
    started: int
    finished: int = 0
    status: int = 0
    boot: str = ""
    synced: bool = False

    def upper(self, place: int) -> bytes:
        return b"%s/%d/upper" % (self.directory, place)

    def work(self, place: int) -> bytes:
        return b"%s/%d/work" % (self.directory, place)

    def seen(self, place: int) -> bytes:
        """Where an ordinary user's stage mounts what the union stands on: see `stage`."""
        return b"%s/%d/lower" % (self.directory, place)

    @property
    def merged(self) -> bytes:
        return self.directory + b"/merged"

    @property
    def applied(self) -> bytes:
        return self.directory + b"/applied"


def create(
    paths: Paths,
    base: bytes,
    args: tuple[bytes, ...],
    cwd: bytes,
    network: str,
    places: tuple[Place, ...],
    *,
    userxattr: bool,
) -> Trial:
    """A new try, its directories made. Raises LaunchError."""
    paths.ensure()
    identity = os.urandom(6).hex()
    directory = paths.tries + b"/" + identity.encode()
    started = time.time_ns()
    trial = Trial(
        identity, directory, base, args, cwd, network, userxattr, places, started,
        boot=boot_id(),
    )  # fmt: skip
    try:
        os.makedirs(paths.tries, 0o700, exist_ok=True)
        os.mkdir(directory, 0o700)
        os.mkdir(trial.merged, 0o700)
        os.close(os.open(directory + b"/log", os.O_WRONLY | os.O_CREAT, 0o600))
        for number in range(len(places)):
            os.mkdir(b"%s/%d" % (directory, number), 0o700)
            for path in (trial.upper(number), trial.work(number), trial.seen(number)):
                os.mkdir(path, 0o700)
            _look_like(trial.upper(number), places[number].lower)
    except OSError as error:
        with contextlib.suppress(OSError):
            treeremoval.remove_own(directory)
        raise LaunchError("keep a try in", directory, error) from error
    save(trial)
    return trial


def _look_like(upper: bytes, lower: bytes) -> None:
    """A union's top has the attributes of its topmost layer: make them those of the host's."""
    found = os.stat(lower)
    if os.geteuid() == 0:
        os.chown(upper, found.st_uid, found.st_gid)
    os.chmod(upper, found.st_mode & 0o7777)
    for name in os.listxattr(lower):
        if name.startswith("system.posix_acl"):
            with contextlib.suppress(OSError):
                os.setxattr(upper, name, os.getxattr(lower, name))
    os.utime(upper, ns=(found.st_atime_ns, found.st_mtime_ns))


def save(trial: Trial) -> None:
    """Write try.json, on disc when this returns. Raises LaunchError."""
    fields = {
        "id": trial.id,
        "base": os.fsdecode(trial.base),
        "args": [os.fsdecode(word) for word in trial.args],
        "cwd": os.fsdecode(trial.cwd),
        "network": trial.network,
        "userxattr": trial.userxattr,
        "places": [
            [os.fsdecode(each.mountpoint), os.fsdecode(each.lower), each.nosuid, each.noexec]
            for each in trial.places
        ],
        "started": trial.started,
        "finished": trial.finished,
        "status": trial.status,
        "boot": trial.boot,
        "synced": trial.synced,
    }
    store(trial.directory, b"try.json", json.dumps(fields).encode("ascii"))


def store(directory: bytes, name: bytes, content: bytes) -> None:
    """Put a file into a directory in one step, on disc when this returns. Raises LaunchError."""
    path = directory + b"/" + name
    try:
        fd = os.open(path + b".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        os.rename(path + b".new", path)
        _sync_directory(directory)
    except OSError as error:
        raise LaunchError("write", path, error) from error


def _sync_directory(directory: bytes) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def load(directory: bytes) -> Trial:
    """The try that a directory keeps. Raises LaunchError where its try.json is not one."""
    path = directory + b"/try.json"
    try:
        with open(path, "rb") as file:
            value: Any = json.loads(file.read())
        return Trial(
            str(value["id"]),
            directory,
            os.fsencode(value["base"]),
            tuple(os.fsencode(word) for word in value["args"]),
            os.fsencode(value["cwd"]),
            str(value["network"]),
            bool(value["userxattr"]),
            tuple(
                Place(os.fsencode(mountpoint), os.fsencode(lower), bool(nosuid), bool(noexec))
                for mountpoint, lower, nosuid, noexec in value["places"]
            ),
            int(value["started"]),
            int(value["finished"]),
            int(value["status"]),
            str(value["boot"]),
            bool(value["synced"]),
        )
    except OSError as error:
        raise LaunchError("read", path, error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise LaunchError("read", path, f"it is damaged: {error}") from error


def all_tries(paths: Paths) -> list[Trial]:
    """Every try there is, the newest first; damaged ones are left out."""
    try:
        names = os.listdir(paths.tries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LaunchError("list tries in", paths.tries, error) from error
    found = []
    for name in names:
        if b"." in name:  # half removed
            continue
        with contextlib.suppress(LaunchError):
            found.append(load(paths.tries + b"/" + name))
    return sorted(found, key=lambda each: each.started, reverse=True)


def find(paths: Paths, reference: str) -> Trial:
    """The try that an id, or an unambiguous beginning of one, stands for. Raises LaunchError."""
    try:
        names = sorted(os.fsdecode(name) for name in os.listdir(paths.tries) if b"." not in name)
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise LaunchError("list tries in", paths.tries, error) from error
    matching = [name for name in names if name.startswith(reference)]
    if not reference or _UNFIT & set(reference) or not matching:
        raise LaunchError("find try", reference, "there is none of that id")
    if len(matching) > 1 and reference not in matching:
        raise LaunchError("find try", reference, f"{len(matching)} ids begin so")
    name = reference if reference in matching else matching[0]
    return load(paths.tries + b"/" + os.fsencode(name))


@contextlib.contextmanager
def hold(trial: Trial) -> Iterator[int]:
    """Be the only one who works on a try; gives the lock's descriptor. Raises LaunchError."""
    fd = _lock(trial)
    if fd is None:
        reason = "another lamina works on it"
        raise LaunchError("use try", trial.id, reason)
    try:
        yield fd
    finally:
        os.close(fd)


def _lock(trial: Trial) -> int | None:
    path = trial.directory + b"/lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LaunchError("lock", path, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.stat(path)
    except (BlockingIOError, FileNotFoundError):
        os.close(fd)
        return None
    if not os.path.samestat(found, os.fstat(fd)):
        os.close(fd)
        return None
    return fd


def state_of(trial: Trial) -> str:
    """running, broken (lamina was killed while it ran), kept, or applied (nothing is left)."""
    fd = _lock(trial)
    if fd is None:
        return "running" if not trial.finished else "kept"
    os.close(fd)
    return "kept" if whole(trial) else "broken"


def whole(trial: Trial) -> bool:
    """Whether the command ended, and no loss of power may have taken anything of it since."""
    return bool(trial.finished) and (trial.synced or trial.boot == boot_id())


def boot_id() -> str:
    """What the running kernel calls this boot (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def sync(trial: Trial) -> Trial:
    """Have the upper layers of a try on disc, at the cost of what they hold. Raises LaunchError."""
    try:
        for number in range(len(trial.places)):
            for above, inner, names in os.walk(trial.upper(number)):
                for name in [*names, *inner, b"."]:
                    _sync_object(above + b"/" + name)
    except OSError as error:
        raise LaunchError("keep try", trial.id, error) from error
    trial = trial._replace(synced=True)
    save(trial)
    return trial


def _sync_object(path: bytes) -> None:
    if stat.S_IFMT(os.lstat(path).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError:
        return  # a mode that its own user may not read: only its content is at risk
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(trial: Trial) -> None:
    """Throw a try away with everything in it; call it while holding it. Raises LaunchError.

    It is renamed first, so that a kill leaves no half of a try behind that passes for one.
    """
    gone = trial.directory + b".gone"
    try:
        if os.path.lexists(gone):
            _remove_tree(gone)
        os.rename(trial.directory, gone)
        _remove_tree(gone)
    except OSError as error:
        raise LaunchError("discard try", trial.id, error) from error


def _remove_tree(directory: bytes) -> None:
    try:
        treeremoval.remove_own(directory)
    except PermissionError:
        if os.geteuid() == 0:
            raise
        # What a union of an ordinary user's had made for itself when it was killed.
        from launcher.trial.users import within

        within(lambda: treeremoval.remove_own(directory))


def sweep(paths: Paths) -> None:
    """Remove what a `remove` that was killed has left."""
    with contextlib.suppress(OSError):
        for name in os.listdir(paths.tries):
            if name.endswith(b".gone"):
                _remove_tree(paths.tries + b"/" + name)
