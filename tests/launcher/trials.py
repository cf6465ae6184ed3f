# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake root, and a try of it whose command is a shell script on a mounted union.

No container is needed: what `lamina try` would have left is made by a union mounted for the time of
the script.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import unionfs
from launcher.paths import Paths
from launcher.trial import apply as applying
from launcher.trial import changes, journal, record, undo
from launcher.trial.changes import Item
from launcher.trial.record import Place, Trial

__all__ = ["Ground", "snapshot"]

_COARSE = 5  # CLOCK_REALTIME_COARSE: what files are stamped by may lag as far as it does
Entry = tuple[object, ...]


class Ground:
    """A directory that stands for the machine's root, and a store beside it.

    root  -- the fake root; what tests put there is there before the try
    trial -- the try of the last `run`
    """

    def __init__(self, top: Path, root: Path | None = None) -> None:
        self.root = root or top / "root"
        self.root.mkdir(exist_ok=True)
        self.merged = top / "merged"
        self.merged.mkdir()
        self.paths = Paths(os.fsencode(top / "store"), os.fsencode(top / "runtime"))
        self._trial: Trial | None = None

    @property
    def trial(self) -> Trial:
        assert self._trial is not None
        return self._trial

    def write(self, path: str, content: str = "old\n", mode: int = 0o644) -> Path:
        """A file on the host, with the directories above it."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)
        return file

    def run(
        self,
        script: str | Callable[[Path], None],
        meanwhile: Callable[[], None] = lambda: None,
        *,
        metacopy: bool = False,
    ) -> list[Item]:
        """Try a shell script, or a function of the merged tree; what it changed.

        `meanwhile` runs when the command has, and before the try looks at the host.
        """
        settle()
        base = os.fsencode(self.root)
        trial = record.create(
            self.paths, base, (b"sh",), b"/", "none", (Place(b"/", base),), userxattr=False
        )
        config = unionfs.MountConfig(
            lower=(base,), upper=trial.upper(0), work=trial.work(0), metacopy=metacopy
        )
        serve(config, self.merged, script)
        meanwhile()
        self._trial = trial._replace(finished=time.time_ns())
        record.save(self.trial)
        return changes.kept(self.trial)

    def apply(self, *paths: str, force: bool = False) -> applying.Outcome:
        items = changes.kept(self.trial)
        wanted = changes.chosen(self.trial, items, [os.fsencode(path) for path in paths])
        return applying.apply(self.trial, items, wanted, force=force)

    def conflicts(self, *paths: str) -> dict[str, str]:
        """The host's objections by path."""
        items = changes.kept(self.trial)
        wanted = changes.chosen(self.trial, items, [os.fsencode(path) for path in paths])
        return {
            os.fsdecode(each.item.path): each.reason
            for each in applying.conflicts(self.trial, wanted)
        }

    def refusals(self) -> dict[str, str]:
        with self.journal() as log:
            return {
                os.fsdecode(each.path).removeprefix(str(self.root)): each.reason
                for each in undo.refusals(self.trial, log)
            }

    def undo(self, *, force: bool = False) -> list[undo.Refusal]:
        with self.journal() as log:
            return undo.undo(self.trial, log, force=force)

    def journal(self) -> journal.Journal:
        log = journal.latest(self.trial)
        assert log is not None
        return log

    def seen(self, *, inodes: bool = False) -> dict[str, Entry]:
        return snapshot(self.root, inodes=inodes)


def settle() -> None:
    """Wait until the clock that stamps files has moved on: what comes now is told from before."""
    before = time.time_ns()
    while time.clock_gettime_ns(_COARSE) <= before:
        time.sleep(0.001)


def serve(config: unionfs.MountConfig, merged: Path, script: str | Callable[[Path], None]) -> None:
    """Mount a union in a child for as long as a script takes."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(ready)
            session = unionfs.SessionConfig(mountpoint=os.fsencode(merged))
            unionfs.run(config, session, lambda: os.close(told))
            status = 0
        finally:
            os._exit(status)
    os.close(told)
    try:
        assert os.read(ready, 1) == b""
        assert os.path.ismount(merged), "the union was not mounted"
        if isinstance(script, str):
            subprocess.run(["bash", "-euc", script], cwd=merged, check=True, timeout=120)
        else:
            script(merged)
    finally:
        os.close(ready)
        subprocess.run(["umount", merged], check=True, timeout=60)
        assert os.waitpid(child, 0)[1] == 0


def snapshot(top: Path, *, inodes: bool = False) -> dict[str, Entry]:
    """Everything of a tree but access and change times, and the times of directories."""
    found: dict[str, Entry] = {}
    numbers: dict[int, list[str]] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        name = str(path.relative_to(top))
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        xattrs = tuple(
            (each, os.getxattr(path, each, follow_symlinks=False))
            for each in sorted(os.listxattr(path, follow_symlinks=False))
        )
        directory = stat.S_ISDIR(status.st_mode)
        found[name] = (
            oct(status.st_mode), status.st_uid, status.st_gid, status.st_rdev, content, xattrs,
            0 if directory else status.st_mtime_ns, 0 if directory else status.st_nlink,
            status.st_ino if inodes else 0,
        )  # fmt: skip
        if not directory:
            numbers.setdefault(status.st_ino, []).append(name)
    for names in numbers.values():
        for name in names:
            found[name] = (*found[name], tuple(names))
    return found
