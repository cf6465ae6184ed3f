# SPDX-License-Identifier: GPL-3.0-or-later
"""A trial: one history performed on the model and on its contenders, compared as it goes.

A difference that no deviation explains raises `Mismatch`, whose text holds the history as a Python
program that performs it again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.oracle import steps
from tests.oracle.deviations import Circumstances, Opened, excuse
from tests.oracle.layers import EPOCH, PREFIX, SECOND, HardLink, Stack, Writer, merge, parse
from tests.oracle.operations import AnyOperation, Close, Open, Rename, Unlink, Utimens
from tests.oracle.targets import Contender, Place, Plain, Rooted, Target, Where
from tests.oracle.trees import (
    CLOCK,
    Difference,
    Identities,
    Snapshot,
    attributes,
    clock_time,
    compare,
    compare_faces,
    errno_of,
    face,
    snapshot,
)
from tests.oracle.values import OMIT, errno_name
from tests.support.clock import tick

Factory = Callable[[Path], Contender]
"""Makes a contender that will show its tree on the given empty directory."""

_LONG = re.compile(r"(\w)\1{99,}")  # names and contents that are one byte many times
_Times = dict[Where, tuple[int, int]]


class Mismatch(AssertionError):
    """A contender differs from the model; `trial` holds the history."""

    def __init__(self, message: str, trial: Trial) -> None:
        super().__init__(message)
        self.trial = trial


class Outcome(NamedTuple):
    """What an operation gave: an errno or a value; a crash carries its traceback as the value."""

    error: int | None
    value: object

    def __str__(self) -> str:
        return errno_name(self.error)


CRASH = -1


class Past(NamedTuple):
    action: AnyOperation | steps.Step
    outcome: Outcome


class _Side:
    """A contender, the layers it has now, which inodes it showed, and descriptors given up."""

    def __init__(self, contender: Contender, place: Place) -> None:
        self.contender = contender
        self.place = place
        self.identities = Identities()
        self.dropped: set[int] = set()


class Trial:
    """`base` is an empty directory on the filesystem to try, and stays the caller's; `lowers` is
    one for the lower layers, by default the same.

    performed -- operations so far
    excused   -- how often which deviation explained a difference
    opened    -- open descriptors, by slot
    """

    def __init__(
        self,
        base: Path,
        stack: Stack,
        factories: Sequence[Factory],
        lowers: Path | None = None,
    ) -> None:
        self.base = base
        self.stack = stack
        self._hard_links = any(isinstance(thing, HardLink) for each in stack for _, thing in each)
        self.history: list[Past] = []
        self.performed = 0
        self.excused: Counter[str] = Counter()
        self.opened: dict[int, Opened] = {}
        self.failed = False
        self._start = time.time_ns() - SECOND
        self._ages = 0
        self._freezes = 0
        self._renewed = False
        self._changed_since = False
        self._lost: Counter[tuple[int, int]] = Counter()
        self._umask = os.umask(0)
        self._sides: list[_Side] = []
        self._lowers: dict[bytes, dict[bytes, object]] = {}
        (base / "plain").mkdir(mode=0o755)
        self.model = Plain(base / "plain")
        try:
            self._prepare(factories, lowers or base)
        except BaseException:
            self.abandon()
            raise

    def _prepare(self, factories: Sequence[Factory], below: Path) -> None:
        lowers = []
        for number, layer in enumerate(self.stack):
            root = below / f"lower{number}"
            root.mkdir(mode=0o755)
            Writer().write(parse(layer), root)
            lowers.append(os.fsencode(root))
        shadow = self.base / "shadow"
        shadow.mkdir()
        writer = Writer()
        writer.write(merge(self.stack), self.base / "plain")
        writer.hide(shadow)
        for lower in lowers:
            self._lowers[lower] = _raw(lower)
        for number, factory in enumerate(factories):
            home = self.base / f"side{number}"
            home.mkdir(mode=0o755)
            place = Place(tuple(lowers), self._fresh(home, "upper"), self._fresh(home, "work"))
            os.utime(place.upper, ns=(EPOCH, EPOCH))
            (home / "merged").mkdir(mode=0o755)
            side = _Side(factory(home / "merged"), place)
            self._sides.append(side)
            side.contender.attach(place)
        self.step(steps.Compare())

    @staticmethod
    def _fresh(home: Path, name: str) -> bytes:
        (home / name).mkdir(mode=0o755)
        return os.fsencode(home / name)

    # -- operations

    def perform(self, operation: AnyOperation) -> Outcome:
        """Perform it everywhere; the model's outcome. Raises Mismatch."""
        self.performed += 1
        with self._failing():
            return self._perform(operation)

    def possible(self, operation: AnyOperation) -> bool:
        """Whether the descriptor it wants is open."""
        if isinstance(operation, Open):
            return operation.slot not in self.opened
        return _slots_of(operation) <= self.opened.keys()

    def _perform(self, operation: AnyOperation) -> Outcome:
        if operation.touched():
            tick()
        opened = self._before(operation)
        ctimes = self._ctimes(operation, self.model)
        replaced = self._replaced(operation)
        expected = _attempt(operation, self.model)
        if replaced is not None and expected.error is None:
            self._lost[replaced] += 1
        self.history.append(Past(operation, expected))
        self._changed_since = True
        if isinstance(operation, Open) and expected.error is None:
            self.opened[operation.slot] = opened
        slots = _slots_of(operation)
        for side in self._sides:
            target = side.contender
            if slots & side.dropped:
                if isinstance(operation, Close):
                    _attempt(operation, target)
                    side.dropped -= slots
                continue
            before = self._ctimes(operation, target)
            got = _attempt(operation, target)
            differences = self._compared(operation, target, expected, got)
            self._judge(target, operation, differences)
            if not slots & side.dropped:
                self._judge(target, operation, self._changed(operation, target, ctimes, before))
        if isinstance(operation, Close):
            self.opened.pop(operation.slot, None)
        return expected

    def _before(self, operation: AnyOperation) -> Opened:
        """What the model knows of a file that is about to be opened."""
        if not isinstance(operation, Open):
            return Opened(b"", 0, False, None)
        content = None
        mode = 0
        with contextlib.suppress(OSError):
            mode = self.model.stat(operation.path, True).mode
            if stat.S_ISREG(mode) and operation.flags & (os.O_ACCMODE | os.O_TRUNC) == 0:
                content = self.model.read(operation.path)
        return Opened(operation.path, operation.flags, stat.S_ISDIR(mode), content)

    def _replaced(self, operation: AnyOperation) -> tuple[int, int] | None:
        """The file with several names of which one goes if the operation succeeds."""
        if isinstance(operation, Unlink):
            path = operation.path
        elif isinstance(operation, Rename) and operation.flags == 0:
            path = operation.new
        else:
            return None
        error, seen = attributes(self.model, path)
        if error is not None or seen is None or stat.S_ISDIR(seen.mode) or seen.nlink == 1:
            return None
        return self.model.identity(path)

    def _lost_names(self, where: Where | None) -> int:
        if where is None or not self._lost:
            return 0
        with contextlib.suppress(OSError):
            return self._lost[self.model.identity(where)]
        return 0

    def _ctimes(self, operation: AnyOperation, target: Target) -> _Times:
        """Inode number and change time of what an operation touches."""
        times = {}
        for where in self._reached(operation):
            _, seen = attributes(target, where)
            if seen is not None:
                times[where] = seen.ino, seen.ctime
        return times

    def _reached(self, operation: AnyOperation) -> list[Where]:
        return [
            where
            for where in dict.fromkeys(operation.touched())
            if isinstance(where, bytes) or where in self.opened
        ]

    def _changed(
        self, operation: AnyOperation, target: Target, model_before: _Times, before: _Times
    ) -> Iterator[Difference]:
        """Objects whose change time the model updated and the target did not."""
        after = self._ctimes(operation, target)
        for where, (ino, ctime) in self._ctimes(operation, self.model).items():
            old = model_before.get(where)
            if old is None or old[0] != ino or old[1] == ctime:
                continue
            if where in before and after.get(where) == before[where]:
                yield Difference("ctime", where, "updated", "not updated")

    def _compared(
        self, operation: AnyOperation, target: Target, expected: Outcome, got: Outcome
    ) -> Iterator[Difference]:
        if got.error != expected.error:
            here = got.value if got.error == CRASH else errno_name(got.error)
            yield Difference("errno", None, errno_name(expected.error), here)
            return
        if got.value != expected.value:
            yield Difference("value", None, expected.value, got.value)
        end = self._now()
        for where in self._reached(operation):
            error, model_seen = attributes(self.model, where)
            other_error, seen = attributes(target, where)
            if error != other_error:
                yield Difference("errno", where, errno_name(error), errno_name(other_error))
            elif model_seen is not None and seen is not None:
                one, other = (face(each, self._start, end) for each in (model_seen, seen))
                yield from compare_faces(where, one, other)
                atime = clock_time(model_seen.atime, self._start, end)
                exact = isinstance(operation, Utimens) and operation.atime != OMIT
                if exact and atime != clock_time(seen.atime, self._start, end):
                    yield Difference("atime", where, model_seen.atime, seen.atime)

    # -- steps

    def step(self, step: steps.Step) -> None:
        """Raises Mismatch."""
        with self._failing():
            self._step(step)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Remember that the trial is over when anything is raised."""
        try:
            yield
        except BaseException:
            self.failed = True
            raise

    def _step(self, step: steps.Step) -> None:
        self.history.append(Past(step, Outcome(None, None)))
        if isinstance(step, steps.Compare):
            self._compare()
        elif isinstance(step, steps.Age):
            self._age()
        elif isinstance(step, steps.Forget):
            for side in self._sides:
                side.contender.forget()
        else:
            self._renew(step)

    def _compare(self) -> None:
        end = self._now()
        expected = snapshot(self.model, self._start, end)
        objects = {path: self.model.identity(path) for path in expected}
        for side in self._sides:
            try:
                got = snapshot(side.contender, self._start, end)
            except (AssertionError, OSError):
                self._fail(side.contender, None, [traceback.format_exc()])
            self._judge(side.contender, None, compare(expected, got))
            self._judge(side.contender, None, side.identities.check(objects, got))

    def _age(self) -> None:
        end = self._now()
        for path, found in list(self.model.walk()):
            if clock_time(found.st_mtime_ns, self._start, end) == CLOCK:
                self._ages += 1
                when = EPOCH + (1000 + self._ages) * SECOND
                self._perform(Utimens(path, OMIT, when, False))

    def close_all(self) -> None:
        """Close every descriptor."""
        for slot in sorted(self.opened):
            self._perform(Close(slot))

    def _renew(self, step: steps.Remount | steps.Swap | steps.Freeze) -> None:
        self.history.pop()
        self.close_all()
        self._compare()
        self._renewed = True
        self._changed_since = False
        self.history.append(Past(step, Outcome(None, None)))
        for side in self._sides:
            try:
                side.contender.detach()
            except (AssertionError, OSError):
                self._fail(side.contender, None, [traceback.format_exc()])
        if isinstance(step, steps.Swap):
            places = [side.place for side in self._sides]
            for side, place in zip(self._sides, places[1:] + places[:1], strict=True):
                side.place = place
                side.identities.forget()
        elif isinstance(step, steps.Freeze):
            self._freezes += 1
            for side in self._sides:
                side.place = self._frozen(side.place)
                side.identities.forget()
        else:
            for side in self._sides:
                side.identities.remounted()
        for side in self._sides:
            try:
                side.contender.attach(side.place)
            except Exception:
                self._fail(side.contender, None, [traceback.format_exc()])
        self._compare()

    def _frozen(self, place: Place) -> Place:
        """The upper as one more lower; a new upper whose root looks like it."""
        home = Path(os.fsdecode(place.upper)).parent
        shutil.rmtree(place.work)
        upper = self._fresh(home, f"upper{self._freezes}")
        work = self._fresh(home, f"work{self._freezes}")
        found = os.stat(place.upper)
        os.chown(upper, found.st_uid, found.st_gid)
        os.chmod(upper, stat.S_IMODE(found.st_mode))
        for name in map(os.fsencode, os.listxattr(place.upper)):
            if not name.startswith(PREFIX) or name.startswith(PREFIX + b"overlay."):
                value = b""  # an empty security.capability can be set and not be read
                with contextlib.suppress(OSError):
                    value = os.getxattr(place.upper, name)
                os.setxattr(upper, name, value)
        os.utime(upper, ns=(found.st_atime_ns, found.st_mtime_ns))
        self._lowers[place.upper] = _raw(place.upper)
        return Place((place.upper, *place.lowers), upper, work)

    @property
    def freezable(self) -> bool:
        """Whether no file has or had several names in the lower layers.

        What ties the names of such a file together once it is copied up is the index, which is not
        part of a layer (overlayfs.rst, "Index directory").
        """
        return not self._hard_links and all(
            stat.S_ISDIR(found.st_mode) or found.st_nlink == 1 for _, found in self.model.walk()
        )

    # -- the end

    def finish(self) -> None:
        """The last comparison, and that no lower layer changed. Raises Mismatch."""
        self.step(steps.Remount())
        for lower, before in self._lowers.items():
            after = _raw(lower)
            if before != after:
                changed = [
                    f"{path!r}: {before.get(path)} became {after.get(path)}"
                    for path in sorted(before.keys() | after.keys())
                    if before.get(path) != after.get(path)
                ]
                self._fail(None, None, [f"the lower layer {lower!r} changed:", *changed])

    def abandon(self) -> None:
        """End everything, by force; `base` can be deleted afterwards."""
        self.model.close_all()
        for side in self._sides:
            side.contender.abandon()
        os.umask(self._umask)

    # -- verdicts

    def _now(self) -> int:
        return time.time_ns() + SECOND

    def _judge(
        self, target: Target, operation: AnyOperation | None, differences: Iterator[Difference]
    ) -> None:
        left = []
        try:
            for difference in differences:
                case = Circumstances(
                    operation=operation,
                    difference=difference,
                    failed=self.history[-1].outcome.error is not None,
                    opened=self.opened,
                    renewed=self._renewed,
                    changed=self._changed_since,
                    lost=self._lost_names(difference.where),
                )
                deviation = excuse(target.kind, case)
                if deviation is None:
                    left.append(str(difference))
                else:
                    self.excused[deviation.key] += 1
                    if deviation.heal and difference.where is not None:
                        self._heal(target, difference.where)
                    if deviation.drop and operation is not None:
                        self._side_of(target).dropped |= _slots_of(operation)
        except OSError:
            left.append(traceback.format_exc())
        if left:
            self._fail(target, operation, left)

    def _side_of(self, target: Target) -> _Side:
        return next(side for side in self._sides if side.contender is target)

    def _heal(self, target: Target, where: Where) -> None:
        """Give an object the mode, access ACL and modification time that it has in the model."""
        seen = self.model.stat(where, False)
        target.chmod(where, stat.S_IMODE(seen.mode))
        name = b"system.posix_acl_access"
        with contextlib.suppress(OSError):
            target.setxattr(where, name, self.model.getxattr(where, name, True), 0, True)
        if clock_time(seen.mtime, self._start, self._now()) != CLOCK:
            target.utimens(where, OMIT, seen.mtime, False)

    def _fail(
        self, target: Target | None, operation: AnyOperation | None, what: Sequence[str]
    ) -> None:
        head = "" if target is None else f"{target.name} differs"
        if operation is not None:
            head += f" at {operation!r}"
        log = getattr(target, "log", None)
        tail = [f"its log:\n{log()}"] if log is not None and log() else []
        raise Mismatch("\n".join([head, *what, *tail, "", self.script()]), self)

    def script(self) -> str:
        """The history as a program (see `replay`)."""
        kinds = ", ".join(repr(side.contender.kind) for side in self._sides)
        lines = [
            "# Performs the history again: run it from the top of the repository.",
            "from tests.oracle.replay import *",
            "",
            "replay(",
            f"    [{kinds}],",
            "    stack=(",
        ]
        for layer in self.stack:
            lines.append("        (")
            lines += [f"            ({path!r}, {thing!r})," for path, thing in layer]
            lines.append("        ),")
        lines += ["    ),", "    history=["]
        for action, outcome in self.history[1:]:
            comment = "" if outcome.error is None else f"  # {outcome} in the model"
            lines.append(f"        {action!r},{comment}")
        lines += ["    ],", ")"]
        return _LONG.sub(lambda run: f"' + b'{run[1]}' * {len(run[0])} + b'", "\n".join(lines))


def _slots_of(operation: AnyOperation) -> set[int]:
    """The descriptors that an operation works on."""
    fields = (getattr(operation, field, None) for field in ("slot", "where", "source"))
    return {field for field in fields if isinstance(field, int)}


def _attempt(operation: AnyOperation, target: Target) -> Outcome:
    try:
        return Outcome(None, operation.apply(target))
    except OSError as error:
        return Outcome(errno_of(error), None)
    except Exception:
        return Outcome(CRASH, traceback.format_exc())


def _raw(root: bytes) -> dict[bytes, object]:
    """All of a layer as it is on disk, but for access times."""
    target = Rooted("layer", "layer", Path(os.fsdecode(root)))
    entries: Snapshot = snapshot(target, 0, 0)
    return {
        path: (entry.seen._replace(atime=0, blocks=0), entry.content, entry.xattrs)
        for path, entry in entries.items()
    }
