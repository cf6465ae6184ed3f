# SPDX-License-Identifier: GPL-3.0-or-later
"""One mount of one peer: from a fresh, empty upper to the last trace removed.

The bench's own process stays off the mount; see the rules in `bench`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns

from bench import mounttable, processes
from bench.client import Client
from bench.layers import Layout, Stack
from bench.peers import Peer

PREFIX = "s"
"""of the directory of a session; short, as it goes into mount options"""
MOUNT_SECONDS = 60
UNMOUNT_SECONDS = 20


class CannotMount(Exception):
    """A peer did not mount; the text is its reason."""


class NotApplicable(Exception):
    """This row does not exist for this peer, which is no failure: a directory has no daemon."""


@dataclass(slots=True)
class Session:
    """What a step works with. `mount_ns` is the time from the start of the mount command to the
    first answered stat of the root."""

    peer: Peer
    stack: Stack
    layout: Layout
    client: Client
    step_seconds: float
    mount_ns: int = 0
    pids: list[int] = field(default_factory=list)

    @property
    def merged(self) -> Path:
        return self.stack.merged

    def loop(self, operation: str, tree: str, **given: object) -> float:
        """ns for one operation of the client in the tree of that name."""
        root = self.merged / tree
        return self.client.ns_per_operation(operation, self.step_seconds, root=root, **given)

    def data(self, operation: str, name: str, **given: object) -> float:
        """ns for one operation of the client on one file."""
        path = self.merged / name
        return self.client.ns_per_operation(operation, self.step_seconds, path=path, **given)

    def command(
        self, *argv: object, cwd: str = "", env: Mapping[str, str] | None = None
    ) -> processes.Finished:
        """Run a program, in a directory of the mount if `cwd` is given."""
        words = [os.fspath(word) if isinstance(word, Path) else str(word) for word in argv]
        if cwd:
            # env(1) changes the directory, so that a dead mount cannot hold the bench itself.
            words = ["env", "-C", os.fspath(self.merged / cwd), *words]
        return processes.run(words, seconds=self.step_seconds, env=env)

    def daemon(self) -> list[int]:
        """The processes that serve the mount; raises NotApplicable where the kernel does."""
        if not self.pids:
            raise NotApplicable
        return self.pids


@contextmanager
def session(
    peer: Peer, layout: Layout, base: Path, place: Path, client: Client, step_seconds: float
) -> Iterator[Session]:
    """Mount `peer` over the layers in `base`, with an upper below `place`; raises CannotMount."""
    home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    try:
        stack = Stack(base, layout.lower, home / "upper", home / "work", home / "merged")
        for directory in (stack.upper, stack.work, stack.merged):
            directory.mkdir()
        opened = Session(peer, stack, layout, client, step_seconds)
        if peer.plain:
            _copy_layers(stack)
            yield opened
        else:
            with _mounted(opened):
                yield opened
    finally:
        _remove(home)


def _copy_layers(stack: Stack) -> None:
    """The plain directory's stand-in for a union: the layers copied over one another, lowest
    first."""
    for layer in reversed(stack.lower):
        processes.run(
            ["cp", "-aT", "--reflink=never", os.fspath(layer), os.fspath(stack.merged)], seconds=600
        )


@contextmanager
def _mounted(opened: Session) -> Iterator[None]:
    stack, merged = opened.stack, opened.merged
    with tempfile.TemporaryFile() as errors:
        start = perf_counter_ns()
        try:
            child = subprocess.Popen(
                opened.peer.mount_words(stack),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=stack.base,
                env={**os.environ, **processes.QUIET},
                start_new_session=True,
            )
        except OSError as error:
            reason = f"{opened.peer.words[0]}: {os.strerror(error.errno or 0)}"
            raise CannotMount(reason) from None
        try:
            _wait_for(child, merged, errors.fileno())
            try:
                opened.client.ns_per_operation("missing", MOUNT_SECONDS, root=merged, dirs=1)
            except (processes.CommandFailed, processes.TookTooLong) as error:
                raise CannotMount(f"mounted, but does not answer: {error}") from None
            opened.mount_ns = perf_counter_ns() - start
            opened.pids = processes.serving(merged)
            yield
        finally:
            _unmount(merged, child, processes.serving(merged))


def _wait_for(child: subprocess.Popen[bytes], merged: Path, errors: int) -> None:
    """Until the mount is in the table; a command that ends in error is a CannotMount at once."""
    ended = os.pidfd_open(child.pid)

    def decided() -> bool:
        return mounttable.at(merged) is not None or bool(child.poll())

    try:
        if not mounttable.wait(decided, [ended], MOUNT_SECONDS):
            # It ended well without a mount: a daemon in the background may still be about to.
            mounttable.wait(decided, [], 5 if child.poll() is not None else 0)
    finally:
        os.close(ended)
    if mounttable.at(merged) is None:
        said = processes.complaint(os.pread(errors, 1 << 16, 0).decode(errors="replace"))
        raise CannotMount(said or "it ended without a mount and without a word")


def _unmount(merged: Path, child: subprocess.Popen[bytes], pids: Sequence[int]) -> None:
    mount = mounttable.at(merged)
    if mount is not None and not _plainly_unmounted(merged):
        connection = Path(f"/sys/fs/fuse/connections/{mount.device[1]}/abort")
        if mount.fstype.startswith("fuse"):
            with suppress(OSError):
                connection.write_text("1")
        for word in (["umount", "-l"], ["fusermount3", "-u", "-z"]):
            with suppress(processes.CommandFailed, processes.TookTooLong):
                processes.run([*word, os.fspath(merged)], seconds=UNMOUNT_SECONDS)
                break
    for ending in (None, signal.SIGTERM, signal.SIGKILL):
        if ending is not None:
            for pid in pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, ending)
        # Children become zombies, which a pidfd reports as ended; reap ours first and last.
        if processes.gone(pids, UNMOUNT_SECONDS if ending is None else 5):
            break
    processes.end_group(child)


def _plainly_unmounted(merged: Path) -> bool:
    for words in (["umount"], ["fusermount3", "-u"]):
        try:
            processes.run([*words, os.fspath(merged)], seconds=UNMOUNT_SECONDS)
        except processes.CommandFailed:
            continue
        except processes.TookTooLong:
            return False
        return True
    return False


def _remove(home: Path) -> None:
    """Take away upper and work, also what overlayfs left there without permissions; but never
    through a mount that could not be taken down."""
    if any(mounttable.below(home)):
        return
    shutil.rmtree(home, ignore_errors=True)
    if home.exists():
        for directory, names, _ in os.walk(home):
            for name in names:
                with suppress(OSError):
                    os.chmod(os.path.join(directory, name), 0o700)
        shutil.rmtree(home, ignore_errors=True)
