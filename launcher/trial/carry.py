# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking the steps of an apply: each changes the host in one rename, or not at all.

A new object is made under a hidden name in the directory it is meant for, with its content on disc,
and then changes places with what is there (RENAME_EXCHANGE), so that what gave way can be looked at
before it is kept: if it is not what was expected, the two change back. What fails is noted and the
rest goes on, but for what lies in a directory that could not be made, and for a disc that is full.

A kill between any two system calls leaves hidden names and a journal; `run` on that journal goes on
from there.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from launcher import treeremoval
from launcher.sys.files import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2, syncfs
from launcher.trial import copying
from launcher.trial.changes import Item, below
from launcher.trial.host import Host, State, look
from launcher.trial.journal import DONE, FAILED, READY, RETURNED, Journal
from launcher.trial.plan import ATTRIBUTES, MOVE, PUT, REMOVE, TIMES, Step
from launcher.trial.record import Trial
from launcher.trial.view import View, opened
from launcher.typed import Final, NamedTuple

__all__ = ["CHANGED", "Failure", "exchange", "keep_object", "rename_free", "run", "settle"]

CHANGED: Final = "the host changed it meanwhile"
_TAKEN: Final = "something else is there by now"
# After these nothing else is going to succeed either.
_HOPELESS: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))
# How many files are made before they are put into place together.
_BATCH: Final = 128
_FEW: Final = 8
_READ_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Failure(NamedTuple):
    """A change that could not be carried out, and why."""

    item: Item
    reason: str


class _Refused(Exception):
    """A step that the state of the host forbids; the text is the reason."""


def run(trial: Trial, journal: Journal, items: dict[int, Item]) -> list[Failure]:
    """Take all steps of a journal that are not taken yet; the changes that failed.

    `items` are the changes by number. Raises OSError or LaunchError where nothing can be done at
    all.
    """
    with contextlib.ExitStack() as ends:
        carriers: dict[int, _Carrier] = {}
        for place in sorted({step.place for step in journal.steps}):
            view = ends.enter_context(opened(trial, place))
            host = Host(trial.places[place].lower)
            ends.callback(host.close)
            carriers[place] = _Carrier(journal, place, view, host)
        for carrier in carriers.values():
            carrier.read_ahead()
        work = _Work(journal, carriers, items)
        work.take_all()
        for carrier in carriers.values():
            carrier.sync_directories()
        if not journal.ended:
            journal.end(dict(_states(journal, carriers)))
        return work.failures


def settle(trial: Trial, journal: Journal) -> None:
    """Bring an apply that was killed to where every step is either done or has not begun."""
    with contextlib.ExitStack() as ends:
        for place in sorted({step.place for step in journal.steps}):
            host = Host(trial.places[place].lower)
            ends.callback(host.close)
            carrier = _Carrier(journal, place, None, host)
            for step in journal.steps:
                if step.place == place and journal.progress(step).at in ("", READY):
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        carrier.settle(step)


def _states(journal: Journal, carriers: dict[int, _Carrier]) -> Iterator[tuple[int, State]]:
    for step in journal.steps:
        if journal.progress(step).at == DONE and step.op in (PUT, MOVE, ATTRIBUTES):
            state = carriers[step.place].host.look(step.path)
            if state is not None:
                yield step.number, state


class _Work:
    """The order in which steps are taken, and what becomes of those that fail."""

    def __init__(
        self, journal: Journal, carriers: dict[int, _Carrier], items: dict[int, Item]
    ) -> None:
        self.failures: list[Failure] = []
        self._journal = journal
        self._carriers = carriers
        self._items = items
        self._failed: list[Item] = []
        self._hopeless = ""
        self._made: list[Step] = []

    def take_all(self) -> None:
        for step in self._journal.steps:
            at = self._journal.progress(step).at
            if at in (DONE, RETURNED):
                continue
            if at == FAILED:
                self._failed.append(self._items[step.item])
                continue
            if not self._may(step):
                continue
            if step.op == PUT and step.type != "directory":
                self._prepare(step)
                if len(self._made) >= _BATCH:
                    self._commit_made()
            else:
                self._commit_made()
                self._try(step, lambda step=step: self._carriers[step.place].take(step))  # type: ignore[misc]
        self._commit_made()

    def _may(self, step: Step) -> bool:
        """Whether a step can be tried after what failed already."""
        item = self._items[step.item]
        reason = self._hopeless
        for failed in self._failed:
            if failed.place != step.place:
                continue
            if failed is item:
                self._journal.note(step, FAILED)
                return False
            makes = failed.type == "directory" or failed.moves
            if makes and failed.path != item.path and below(item.path, failed.path):
                reason = "its directory could not be made"
        if reason:
            self._fail(step, reason)
        return not reason

    def _prepare(self, step: Step) -> None:
        carrier = self._carriers[step.place]
        if self._journal.progress(step).at == READY and carrier.has_happened(step):
            self._try(step, lambda: carrier.finish(step))
            return
        if step.link is not None:  # the file that it is a name of has to be in place
            self._commit_made()
        if self._try(step, lambda: carrier.prepare(step)):
            self._made.append(step)

    def _commit_made(self) -> None:
        """Put what was made into place: first all content on disc, then all names."""
        made, self._made = self._made, []
        if not made:
            return
        for place in {step.place for step in made}:
            self._carriers[place].sync_content([step for step in made if step.place == place])
        # Without this a loss of power could leave a displaced object that passes for a new one.
        self._journal.sync()
        for step in made:
            self._try(step, lambda step=step: self._carriers[step.place].commit(step))  # type: ignore[misc]

    def _try(self, step: Step, action: Callable[[], None]) -> bool:
        try:
            action()
        except _Refused as refusal:
            self._fail(step, str(refusal))
        except OSError as error:
            if error.errno in _HOPELESS:
                self._hopeless = f"not tried after: {os.strerror(error.errno)}"
            self._fail(step, os.strerror(error.errno or errno.EIO))
        else:
            return True
        return False

    def _fail(self, step: Step, reason: str) -> None:
        carrier = self._carriers[step.place]
        with contextlib.suppress(OSError):
            carrier.tidy(step)
        self._journal.note(step, FAILED)
        item = self._items[step.item]
        if step.op == MOVE:
            waiting = self._bring_back(step)
            if waiting is not None:
                reason += f"; it is now {os.fsdecode(waiting)}"
        self._failed.append(item)
        self.failures.append(Failure(item, reason))

    def _bring_back(self, step: Step) -> bytes | None:
        """Undo the stash of a rename that came to nothing; where it is if that fails too."""
        for stash in self._journal.steps:
            if stash.op == MOVE and stash.path == step.source and stash.place == step.place:
                if self._journal.progress(stash).at != DONE:
                    return None
                try:
                    self._carriers[step.place].move_back(stash)
                except (OSError, _Refused):
                    return self._carriers[step.place].host.path.rstrip(b"/") + stash.path
                self._journal.note(stash, RETURNED)
        return None


class _Carrier:
    """Steps on one union's place on the host."""

    def __init__(self, journal: Journal, place: int, view: View | None, host: Host) -> None:
        self.host = host
        self._place = place
        self._view = view
        self._journal = journal
        self._touched: set[bytes] = set()

    @contextlib.contextmanager
    def _parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        directory, name = self.host.parent(path)
        self._touched.add(path.rpartition(b"/")[0])
        try:
            yield directory, name
        finally:
            os.close(directory)

    def take(self, step: Step) -> None:
        """Take a step that is no file's."""
        if step.op == PUT:
            if not (self._journal.progress(step).at == READY and self.has_happened(step)):
                self.prepare(step)
                if step.expected is not None:
                    self._journal.sync()
                self.commit(step)
            else:
                self.finish(step)
        else:
            actions = {
                MOVE: self._move,
                REMOVE: self._remove,
                ATTRIBUTES: self._attributes,
                TIMES: self._times,
            }
            actions[step.op](step)

    # -- put

    def prepare(self, step: Step) -> None:
        """Make the new object under its hidden name."""
        with self._parent(step.path) as (directory, _):
            treeremoval.remove_at(directory, step.temporary)
            if step.link is None or not self._link(step, directory):
                assert self._view is not None
                copying.make_from_view(
                    self._view, step.path, directory, step.temporary, sync=False
                )  # fmt: skip
            made = look(directory, step.temporary)
        assert made is not None
        self._journal.note(step, READY, ino=made.ino)

    def _link(self, step: Step, directory: int) -> bool:
        """Make the new object another name of one that is in place; False where that cannot be."""
        assert step.link is not None
        try:
            with self._parent(step.link) as (other, name):
                found = look(other, name)
                if found is None or found.is_directory:
                    return False
                os.link(
                    name, step.temporary, src_dir_fd=other, dst_dir_fd=directory,
                    follow_symlinks=False,
                )  # fmt: skip
        except OSError as error:
            if error.errno in _HOPELESS:
                raise
            return False
        return True

    def sync_content(self, steps: list[Step]) -> None:
        """Have the content of what was made on disc."""
        if len(steps) > _FEW:
            with self._parent(steps[0].path) as (directory, _):
                try:
                    fd = os.open(b".", _READ_DIRECTORY, dir_fd=directory)
                except PermissionError:
                    pass
                else:
                    try:
                        syncfs(fd)
                    finally:
                        os.close(fd)
                    return
        for step in steps:
            with contextlib.suppress(OSError), self._parent(step.path) as (directory, _):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                if step.type == "file":
                    fd = os.open(step.temporary, flags, dir_fd=directory)
                    try:
                        os.fsync(fd)
                    finally:
                        os.close(fd)

    def has_happened(self, step: Step) -> bool:
        """Whether the new object is in its place, though that was not noted."""
        state = self.host.look(step.path)
        return state is not None and state.ino == self._journal.progress(step).ino

    def commit(self, step: Step) -> None:
        """Put the new object into its place, in one step."""
        with self._parent(step.path) as (directory, name):
            current = look(directory, name)
            if current is None:
                if step.expected is not None and not self._journal.force:
                    raise _Refused("it was deleted meanwhile")
                if not rename_free(directory, step.temporary, directory, name):
                    raise _Refused(_TAKEN)
            elif step.type == "directory" and current.is_directory:
                treeremoval.remove_at(directory, step.temporary)
                self._journal.note(step, DONE, merged=True)
                return
            else:
                if not self._journal.force:
                    if step.expected is None:
                        raise _Refused(_TAKEN)
                    if not current.same_object(step.expected):
                        raise _Refused(CHANGED)
                self._displace(step, directory, name, current)
        self.finish(step)

    def _displace(self, step: Step, directory: int, name: bytes, current: State) -> None:
        try:
            exchange(directory, step.temporary, name)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # A filesystem without exchanges: keep a copy, and replace.
            copying.copy_tree(directory, name, self._journal.kept, b"%d" % step.number)
            os.rename(step.temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            return
        displaced = look(directory, step.temporary)
        if not current.same_object(displaced):
            exchange(directory, step.temporary, name)
            raise _Refused(CHANGED)

    def finish(self, step: Step) -> None:
        """Keep what the new object has displaced."""
        with self._parent(step.path) as (directory, _):
            kept = self._keep(step, directory)
        self._journal.note(step, DONE, kept=kept)

    def _keep(self, step: Step, directory: int) -> bool:
        """Move what has the hidden name now, if anything, to where it is kept."""
        hidden = look(directory, step.temporary)
        if hidden is not None and not self._is_kept(step) and not hidden.is_directory:
            # Another name of a file that is kept already, which may be a copy.
            for other in self._journal.steps[: step.number]:
                if (
                    other.place == step.place
                    and other.expected is not None
                    and hidden.same_object(other.expected)
                    and self._is_kept(other)
                ):
                    kept = self._journal.kept
                    os.link(
                        b"%d" % other.number, b"%d" % step.number,
                        src_dir_fd=kept, dst_dir_fd=kept, follow_symlinks=False,
                    )  # fmt: skip
                    break
        return keep_object(directory, step.temporary, self._journal.kept, step.number)

    # -- the others

    def _remove(self, step: Step) -> None:
        progress = self._journal.progress(step)
        with self._parent(step.path) as (directory, name):
            hidden = look(directory, step.temporary)
            if hidden is None and not (progress.at == READY and self._is_kept(step)):
                current = look(directory, name)
                if current is None:
                    self._journal.note(step, DONE)
                    return
                if not self._journal.force and not current.same_object(step.expected):
                    raise _Refused(CHANGED)
                self._journal.note(step, READY, ino=current.ino)
                if not rename_free(directory, name, directory, step.temporary):
                    raise _Refused(_TAKEN)
                if not current.same_object(look(directory, step.temporary)):
                    rename_free(directory, step.temporary, directory, name)
                    raise _Refused(CHANGED)
            try:
                self._keep(step, directory)
            except OSError:
                rename_free(directory, step.temporary, directory, name)
                raise
        self._journal.note(step, DONE, kept=True)

    def _is_kept(self, step: Step) -> bool:
        return look(self._journal.kept, b"%d" % step.number) is not None

    def _move(self, step: Step) -> None:
        assert step.source is not None
        progress = self._journal.progress(step)
        if progress.at == READY and self.has_happened(step):
            self._journal.note(step, DONE)
            return
        with (
            self._parent(step.source) as (source, old),
            self._parent(step.path) as (target, new),
        ):
            current = look(source, old)
            if current is None or (
                not self._journal.force and not current.same_object(step.expected)
            ):
                raise _Refused(CHANGED)
            self._journal.note(step, READY, ino=current.ino)
            if not rename_free(source, old, target, new):
                raise _Refused(_TAKEN)
        self._journal.note(step, DONE)

    def move_back(self, step: Step) -> None:
        """Take a move back."""
        assert step.source is not None
        with (
            self._parent(step.path) as (source, old),
            self._parent(step.source) as (target, new),
        ):
            if not rename_free(source, old, target, new):
                raise _Refused(_TAKEN)

    def read_ahead(self) -> None:
        """Note the attributes to give while all that the union stands on is where it was.

        Of a file of which only metadata was copied up the union knows nothing once its content is
        elsewhere.
        """
        for step in self._journal.steps:
            known = self._journal.progress(step)
            if step.op == ATTRIBUTES and known.at == "" and self._has(step):
                with contextlib.suppress(OSError):
                    self._journal.note(step, "", wanted=self._traits(step))
        self._journal.sync()

    def _has(self, step: Step) -> bool:
        return step.place == self._place and self._journal.progress(step).wanted is None

    def _traits(self, step: Step) -> copying.Traits:
        assert self._view is not None
        node, status = self._view.need(step.link or step.path)
        return copying.traits_of_view(self._view, node, status)

    def _attributes(self, step: Step) -> None:
        progress = self._journal.progress(step)
        wanted = progress.wanted or self._traits(step)
        with self._parent(step.path) as (directory, name):
            current = look(directory, name)
            expected = step.expected
            if current is None or (
                expected is not None and current.ino != expected.ino and not self._journal.force
            ):
                raise _Refused(CHANGED)
            before = progress.before or copying.traits_of_host(directory, name)
            self._journal.note(step, READY, ino=current.ino, before=before)
            times = not current.is_directory
            try:
                copying.give(directory, name, wanted, times=times, ino=current.ino)
            except OSError:
                with contextlib.suppress(OSError):
                    copying.give(directory, name, before, times=times, ino=current.ino)
                raise
        self._journal.note(step, DONE)

    def _times(self, step: Step) -> None:
        """A new directory's own, which what was put into it moved."""
        wanted = self._traits(step)
        with self._parent(step.path) as (directory, name):
            for other in self._journal.steps:
                if other.op == PUT and other.item == step.item:
                    progress = self._journal.progress(other)
                    if progress.at == DONE and not progress.merged:
                        copying.give(directory, name, wanted, ino=progress.ino)
        self._journal.note(step, DONE)

    # -- afterwards

    def settle(self, step: Step) -> None:
        """Note what was done before a kill without being noted; remove what is half made."""
        ready = self._journal.progress(step).at == READY
        if step.op == PUT:
            if ready and self.has_happened(step):
                self.finish(step)
            else:
                self.tidy(step)
        elif ready and (step.op == ATTRIBUTES or (step.op == MOVE and self.has_happened(step))):
            self._journal.note(step, DONE)
        elif step.op == REMOVE:
            with self._parent(step.path) as (directory, _):
                if self._keep(step, directory):
                    self._journal.note(step, DONE, kept=True)

    def tidy(self, step: Step) -> None:
        """Remove what a step that failed has left under its hidden name."""
        if step.op == PUT and not self.has_happened(step):
            with self._parent(step.path) as (directory, _):
                treeremoval.remove_at(directory, step.temporary)

    def sync_directories(self) -> None:
        """Have the new names on disc."""
        for path in self._touched:
            # What was renamed since is synced under its new name.
            with contextlib.suppress(OSError), self._parent(path + b"/x") as (directory, _):
                fd = os.open(b".", _READ_DIRECTORY, dir_fd=directory)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)


# -- one name at a time ---------------------------------------------------------------------------


def rename_free(olddir: int, old: bytes, newdir: int, new: bytes) -> bool:
    """Rename to a name that must be free; False if it is not. Raises OSError."""
    try:
        renameat2(olddir, old, newdir, new, RENAME_NOREPLACE)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A filesystem without flags of renames.
        if look(newdir, new) is not None:
            return False
        os.rename(old, new, src_dir_fd=olddir, dst_dir_fd=newdir)
    return True


def exchange(directory: int, one: bytes, other: bytes) -> None:
    """Let two names of a directory change places."""
    renameat2(directory, one, directory, other, RENAME_EXCHANGE)


def keep_object(directory: int, name: bytes, kept: int, number: int) -> bool:
    """Move an object, if it is there, to where its step keeps it; False if nothing is kept.

    On another filesystem it is copied, whole or not at all, and then removed. May be called again
    after a kill.
    """
    place = b"%d" % number
    if look(directory, name) is None:
        return look(kept, place) is not None
    if look(kept, place) is None:
        try:
            os.rename(name, place, src_dir_fd=directory, dst_dir_fd=kept)
            return True
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        partial = place + b".part"
        treeremoval.remove_at(kept, partial)
        copying.copy_tree(directory, name, kept, partial)
        os.rename(partial, place, src_dir_fd=kept, dst_dir_fd=kept)
    treeremoval.remove_at(directory, name)
    return True
