# SPDX-License-Identifier: GPL-3.0-or-later
"""What an apply did, taken back: the last step first, from what it kept.

The same care as forth: what was changed since the apply is refused before anything is touched,
each object changes in one rename, and a kill leaves a journal from which `undo` goes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from launcher import treeremoval
from launcher.errors import LaunchError
from launcher.trial import copying
from launcher.trial.carry import CHANGED, exchange, rename_free, settle
from launcher.trial.changes import Item, keep, kept, look_again
from launcher.trial.host import Host, State, look
from launcher.trial.journal import DONE, RETURNING, UNDONE, Journal
from launcher.trial.plan import ATTRIBUTES, MOVE, PUT, REMOVE, TIMES, Step
from launcher.trial.record import Trial
from launcher.typed import NamedTuple

__all__ = ["Refusal", "refusals", "undo"]

_TAKEN = "something else is there by now"


class Refusal(NamedTuple):
    """A path that cannot be put back as it was, and why; `path` is the host's."""

    path: bytes
    reason: str


def refusals(trial: Trial, journal: Journal) -> list[Refusal]:
    """What the host has changed since the apply, of that which the apply wrote."""
    found = []
    if not journal.ended and not journal.returning:
        settle(trial, journal)
    with _hosts(trial, journal) as hosts:
        check = _Check(journal, hosts)
        for step in _to_undo(journal):
            host = hosts[step.place]
            try:
                reason = check.reason(step)
            except OSError as error:
                reason = os.strerror(error.errno or 0)
            if reason:
                found.append(Refusal(host.path.rstrip(b"/") + step.path, reason))
    return found


def undo(trial: Trial, journal: Journal, *, force: bool) -> list[Refusal]:
    """Take back what a journal says was done; what could not be. The caller holds the try.

    `force`: also over what the host has changed since.
    """
    failed: list[Refusal] = []
    if not journal.ended and not journal.returning:
        settle(trial, journal)
    with _hosts(trial, journal) as hosts:
        for step in _to_undo(journal):
            host = hosts[step.place]
            try:
                _Return(journal, host, force).take_back(step)
            except _Refused as refusal:
                failed.append(Refusal(host.path.rstrip(b"/") + step.path, str(refusal)))
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                failed.append(Refusal(host.path.rstrip(b"/") + step.path, reason))
        _restore_items(trial, journal, hosts)
    if not failed:
        journal.finish_undo()
    return failed


def _restore_items(trial: Trial, journal: Journal, hosts: dict[int, Host]) -> None:
    """The changes are to be applied again, as before; what was put back has other times now."""
    left = {step.item for step in journal.steps if journal.progress(step).at == DONE}
    now = {item.number: item for item in kept(trial)}
    items: list[Item] = []
    concerned = {step.item for step in journal.steps}
    for item in journal.before:
        if item.number in left:
            items.append(now[item.number])
        elif item.number in concerned or now[item.number].done != item.done:
            items.append(look_again(hosts[item.place], item))
        else:
            current = now[item.number]
            items.append(item._replace(state=current.state, origin=current.origin))
    keep(trial, items)


@contextlib.contextmanager
def _hosts(trial: Trial, journal: Journal) -> Iterator[dict[int, Host]]:
    with contextlib.ExitStack() as ends:
        hosts = {}
        for place in {step.place for step in journal.steps}:
            try:
                host = Host(trial.places[place].lower)
            except OSError as error:
                raise LaunchError("open", trial.places[place].lower, error) from error
            ends.callback(host.close)
            hosts[place] = host
        yield hosts


def _to_undo(journal: Journal) -> list[Step]:
    return [
        step for step in reversed(journal.steps) if journal.progress(step).at in (DONE, RETURNING)
    ]


class _Refused(Exception):
    pass


class _Check:
    """Whether one step can be taken back, all later ones having been."""

    def __init__(self, journal: Journal, hosts: dict[int, Host]) -> None:
        self._journal = journal
        self._hosts = hosts
        self._hidden = {step.temporary for step in journal.steps}
        # By place and path: the last step that put something there, or moved it away from there.
        self._put: dict[tuple[int, bytes], int] = {}
        self._taken: dict[tuple[int, bytes], int] = {}
        for step in journal.steps:
            if journal.progress(step).at in (DONE, RETURNING):
                if step.op in (PUT, MOVE):
                    self._put[step.place, step.path] = step.number
                if step.op == MOVE and step.source is not None:
                    self._taken[step.place, step.source] = step.number

    def reason(self, step: Step) -> str:
        progress = self._journal.progress(step)
        if progress.at == RETURNING or progress.merged or step.op == TIMES:
            return ""
        now = self._hosts[step.place].look(step.path)
        if step.op == REMOVE:
            taken = progress.kept and now is not None and not self._ours(step, step.path)
            return _TAKEN if taken else ""
        if step.op == MOVE:
            return self._moved(step, now)
        if now is None:
            return "it was deleted after the apply"
        if not self._as_left(step, now):
            return "it was changed after the apply"
        if step.op == PUT and step.type == "directory":
            return self._entries(step)
        return ""

    def _moved(self, step: Step, now: State | None) -> str:
        assert step.source is not None
        if self._taken.get((step.place, step.path), -1) > step.number:
            return ""
        if now is None:
            return "it was deleted after the apply"
        if not self._as_left(step, now):
            return "it was changed after the apply"
        if self._hosts[step.place].look(step.source) is not None and not self._ours(
            step, step.source
        ):
            return "something else is where it came from by now"
        return ""

    def _as_left(self, step: Step, now: State) -> bool:
        progress = self._journal.progress(step)
        if progress.after is not None:
            if self._journal.returning:  # which moves change times of files with several names
                return progress.after.same_object(now)
            return progress.after.unchanged(now)
        return now.ino == progress.ino

    def _entries(self, step: Step) -> str:
        """A directory that was made can go only if nobody put anything into it."""
        directory, name = self._hosts[step.place].parent(step.path)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            try:
                names = os.listdir(b"/proc/self/fd/%d" % fd)
            finally:
                os.close(fd)
        finally:
            os.close(directory)
        foreign = [
            each
            for each in names
            if each not in self._hidden and not self._ours(step, step.path + b"/" + each)
        ]
        return "something was put into it after the apply" if foreign else ""

    def _ours(self, step: Step, path: bytes) -> bool:
        """Whether a later step put there what is there."""
        return self._put.get((step.place, path), -1) > step.number


class _Return:
    """Taking steps back on one union's place on the host."""

    def __init__(self, journal: Journal, host: Host, force: bool) -> None:
        self._journal = journal
        self._host = host
        self._force = force

    def take_back(self, step: Step) -> None:
        progress = self._journal.progress(step)
        if progress.at != RETURNING:
            self._journal.note(step, RETURNING)
        if step.op == PUT and not progress.merged:
            if progress.kept:
                self._put_back(step)
            else:
                self._take_away(step)
        elif step.op == REMOVE and progress.kept:
            self._bring_back(step)
        elif step.op == MOVE:
            self._move_back(step)
        elif step.op == ATTRIBUTES:
            self._attributes(step)
        self._journal.note(step, UNDONE)

    @contextlib.contextmanager
    def _parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        directory, name = self._host.parent(path)
        try:
            yield directory, name
        finally:
            os.close(directory)

    def _is_ours(self, step: Step, now: State | None) -> bool:
        progress = self._journal.progress(step)
        if now is None or now.ino != progress.ino:
            return False
        return self._force or progress.after is None or progress.after.same_object(now)

    def _take_away(self, step: Step) -> None:
        """What was added goes."""
        with self._parent(step.path) as (directory, name):
            now = look(directory, name)
            if look(directory, step.temporary) is None:
                if now is None:
                    return
                if not self._is_ours(step, now):
                    raise _Refused(CHANGED)
                if now.is_directory:
                    os.rmdir(name, dir_fd=directory)
                    return
                if not rename_free(directory, name, directory, step.temporary):
                    raise _Refused(_TAKEN)
                if not self._is_ours(step, look(directory, step.temporary)):
                    rename_free(directory, step.temporary, directory, name)
                    raise _Refused(CHANGED)
            treeremoval.remove_at(directory, step.temporary)

    def _put_back(self, step: Step) -> None:
        """What was replaced comes back, and what replaced it goes."""
        with self._parent(step.path) as (directory, name):
            now = look(directory, name)
            hidden = look(directory, step.temporary)
            if self._is_back(step, now):  # killed after the two had changed places
                if hidden is not None:
                    self._remove_ours(step, directory)
                return
            if now is None and hidden is None:
                raise _Refused("it was deleted after the apply")
            if not self._force and not self._is_ours(step, now):
                raise _Refused(CHANGED)
            self._fetch(step, directory)
            if now is None:
                if not rename_free(directory, step.temporary, directory, name):
                    raise _Refused(_TAKEN)
                return
            try:
                exchange(directory, step.temporary, name)
            except OSError:
                if not os.path.exists(b"/proc/self/fd/%d/%d" % (self._journal.kept, step.number)):
                    raise
                os.rename(step.temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                return
            if not now.same_object(look(directory, step.temporary)):
                exchange(directory, step.temporary, name)
                raise _Refused(CHANGED)
            try:
                self._remove_ours(step, directory)
            except OSError:
                exchange(directory, step.temporary, name)
                raise

    def _remove_ours(self, step: Step, directory: int) -> None:
        """What the apply had put there; a directory only if nothing else is in it."""
        found = look(directory, step.temporary)
        if found is not None and found.is_directory and not self._force:
            os.rmdir(step.temporary, dir_fd=directory)
        else:
            treeremoval.remove_at(directory, step.temporary)

    def _fetch(self, step: Step, directory: int) -> None:
        """Bring what a step kept to its hidden name, moved or copied."""
        place = b"%d" % step.number
        if look(self._journal.kept, place) is not None:
            treeremoval.remove_at(directory, step.temporary)
            try:
                os.rename(
                    place, step.temporary, src_dir_fd=self._journal.kept, dst_dir_fd=directory
                )
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                if not self._link(step, directory):
                    copying.copy_tree(self._journal.kept, place, directory, step.temporary)
        fetched = look(directory, step.temporary)
        if fetched is None:
            raise _Refused("what it replaced is lost")
        self._journal.note(step, RETURNING, back=fetched.ino)
        # A loss of power must not make what was fetched pass for what is to go.
        self._journal.sync()

    def _link(self, step: Step, directory: int) -> bool:
        """Make what comes back another name of what has come back already, if it was one."""
        if step.expected is None or step.expected.is_directory:
            return False
        for other in self._journal.steps:
            if other.place != step.place or not step.expected.same_object(other.expected):
                continue
            with contextlib.suppress(OSError), self._parent(other.path) as (above, name):
                found = look(above, name)
                # It has come back there, or was never replaced.
                if self._is_back(other, found) or step.expected.same_object(found):
                    os.link(
                        name,
                        step.temporary,
                        src_dir_fd=above,
                        dst_dir_fd=directory,
                        follow_symlinks=False,
                    )
                    return True
        return False

    def _is_back(self, step: Step, now: State | None) -> bool:
        """Whether what was replaced is in its place again, though that was not noted."""
        back = self._journal.progress(step).back
        return bool(back) and now is not None and now.ino == back

    def _bring_back(self, step: Step) -> None:
        """What was deleted comes back."""
        with self._parent(step.path) as (directory, name):
            now = look(directory, name)
            if self._is_back(step, now):
                return
            if now is not None:
                raise _Refused(_TAKEN)
            self._fetch(step, directory)
            if not rename_free(directory, step.temporary, directory, name):
                raise _Refused(_TAKEN)

    def _move_back(self, step: Step) -> None:
        assert step.source is not None
        progress = self._journal.progress(step)
        with self._parent(step.path) as (here, new), self._parent(step.source) as (there, old):
            now, before = look(here, new), look(there, old)
            if now is None and before is not None and before.ino == progress.ino:
                return
            if now is None or now.ino != progress.ino:
                raise _Refused(CHANGED)
            if not rename_free(here, new, there, old):
                raise _Refused("something else is where it came from by now")

    def _attributes(self, step: Step) -> None:
        progress = self._journal.progress(step)
        assert progress.before is not None
        with self._parent(step.path) as (directory, name):
            now = look(directory, name)
            if now is None or now.ino != progress.ino:
                raise _Refused(CHANGED)
            copying.give(
                directory, name, progress.before, times=not now.is_directory, ino=progress.ino
            )
