# SPDX-License-Identifier: GPL-3.0-or-later
"""The filesystem that all layers of a run lie on: a tmpfs of its own, the machine's ext4 (or one in
a loop image), or wherever the user points. It is empty at the start and gone at the end."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import mounttable, processes
from bench.sizes import MIB, spoken

KINDS = ("tmpfs", "ext4", "loop")
PREFIX = "lb-"
"""Short: the paths of a hundred layers go into one mount option."""
SHARED_MEMORY = Path("/dev/shm")


class NoGround(Exception):
    """There is no such filesystem to be had here; the text is for a person."""


@dataclass(frozen=True, slots=True)
class Ground:
    """`root` is the bench's own directory on it; `name` is what the report calls it."""

    name: str
    root: Path
    about: str
    fast: bool
    """in memory: nothing is ever written back"""

    def settle(self) -> None:
        """Let what was written reach the disc, so that nobody's writing is in another's time."""
        if not self.fast:
            processes.run(["sync", "-f", os.fspath(self.root)], seconds=300)


@contextmanager
def ground(kind: str, space: int) -> Iterator[Ground]:
    """Make the place for one run, `kind` being one of KINDS or a directory; raises NoGround when it
    cannot be had or has fewer than `space` bytes free."""
    if kind == "tmpfs":
        maker = _tmpfs()
    elif kind == "loop":
        maker = _loop(space)
    elif kind == "ext4":
        home = _machines_ext4()
        maker = _loop(space) if home is None else _directory(home, "ext4")
    else:
        maker = _directory(Path(kind), "")
    with maker as place:
        free = os.statvfs(place.root)
        if free.f_bavail * free.f_frsize < space:
            raise NoGround(
                f"cannot use {kind}: {spoken(space // MIB * MIB)} are needed there, "
                f"{free.f_bavail * free.f_frsize // MIB} MiB are free"
            )
        try:
            yield place
        finally:
            clear(place.root)


def clear(root: Path) -> None:
    """End every process and mount that an interrupted session left below `root`."""
    for mount in mounttable.below(root):
        if mount.point != root:
            with suppress(processes.CommandFailed, processes.TookTooLong):
                processes.run(["umount", "-l", os.fspath(mount.point)], seconds=10)
    left = processes.serving(root)
    for pid in left:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    processes.gone(left, 5)


def _about(path: Path) -> str:
    mount = mounttable.containing(path)
    return f"{mount.fstype} on {mount.source} ({mount.options})"


@contextmanager
def _directory(home: Path, name: str) -> Iterator[Ground]:
    try:
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=home.resolve()))
    except OSError as error:
        raise NoGround(f"cannot use {home}: {error.strerror}") from None
    try:
        root.chmod(0o755)
        fstype = mounttable.containing(root).fstype
        yield Ground(name or fstype, root, _about(root), fstype in ("tmpfs", "ramfs"))
    finally:
        shutil.rmtree(root, onerror=_open_up)


@contextmanager
def _tmpfs() -> Iterator[Ground]:
    if os.geteuid() != 0:
        if mounttable.containing(SHARED_MEMORY).fstype != "tmpfs":
            raise NoGround(f"cannot use tmpfs: {SHARED_MEMORY} is none, and a mount needs root")
        with _directory(SHARED_MEMORY, "tmpfs") as place:
            yield place
        return
    with _mounted(["-t", "tmpfs", "-o", "mode=755,nr_inodes=0,size=90%", "lamina-bench"]) as root:
        yield Ground("tmpfs", root, _about(root), True)


@contextmanager
def _loop(space: int) -> Iterator[Ground]:
    if os.geteuid() != 0:
        raise NoGround("cannot use ext4: the temporary directory is none, and a loop needs root")
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir="/var/tmp") as home:
        image = Path(home) / "image"
        with image.open("wb") as file:
            file.truncate(2 * space)
        try:
            processes.run(["mkfs.ext4", "-q", "-F", os.fspath(image)], seconds=120)
        except processes.CommandFailed as error:
            raise NoGround(f"cannot make an ext4: {error}") from None
        with _mounted(["-t", "ext4", "-o", "loop", os.fspath(image)]) as root:
            yield Ground("ext4", root, _about(root) + ", an image on " + _about(image), False)


@contextmanager
def _mounted(words: list[str]) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    try:
        try:
            processes.run(["mount", *words, os.fspath(root)], seconds=30)
        except processes.CommandFailed as error:
            raise NoGround(f"cannot mount {words[1]}: {error}") from None
        try:
            yield root
        finally:
            clear(root)
            try:
                processes.run(["umount", os.fspath(root)], seconds=120)
            except (processes.CommandFailed, processes.TookTooLong):
                processes.run(["umount", "-l", os.fspath(root)], seconds=10)
    finally:
        root.rmdir()


def _machines_ext4() -> Path | None:
    """A directory for temporary files that is on ext4, if the machine has one."""
    for directory in (Path(tempfile.gettempdir()), Path("/var/tmp")):
        if mounttable.containing(directory.resolve()).fstype == "ext4":
            return directory.resolve()
    return None


def _open_up(function: object, path: str, info: object) -> None:
    """A directory made without permissions (overlayfs's work/work) keeps an ordinary user out."""
    with suppress(OSError):
        os.chmod(Path(path).parent, 0o700)
        os.chmod(path, 0o700)
    shutil.rmtree(path, ignore_errors=True)
