# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an apply came, so that a kill at any instant leaves one that can be finished or undone.

    applied/N/plan.json  the steps, and the changes as they were before
    applied/N/log        a line of JSON for each thing done
    applied/N/kept/S     what step S replaced or removed
    applied/N/undone     its changes have all been taken back

A step is *ready* when what it is to put into place exists under a hidden name, *done* when it is in
place and what it replaced is kept. Taking back has the same two: *returning*, *undone*.
"""

from __future__ import annotations

import json
import os

from launcher.errors import LaunchError
from launcher.trial.changes import Item, item_of, plain
from launcher.trial.copying import Traits
from launcher.trial.host import State
from launcher.trial.plan import Step
from launcher.trial.record import Trial, store
from launcher.typed import Any, Final, NamedTuple

__all__ = [
    "DONE",
    "FAILED",
    "READY",
    "RETURNED",
    "RETURNING",
    "UNDONE",
    "Journal",
    "Progress",
    "begin",
    "journals",
    "latest",
]

READY: Final = "ready"
DONE: Final = "done"
FAILED: Final = "failed"
RETURNED: Final = "returned"
RETURNING: Final = "returning"
UNDONE: Final = "undone"
_END: Final = "end"


class Progress(NamedTuple):
    """How far a step came.

    at     -- one of the words above; "" if it has not begun
    ino    -- of the object that is moved, removed or put
    kept   -- something was displaced, and is kept
    merged -- a directory that was to be made was there
    wanted, before -- for attributes: those to give, and those it had
    back   -- inode of what is to come back in the place of what was put there
    after  -- its state when the whole apply had ended; None if that was not reached
    """

    at: str = ""
    ino: int = 0
    kept: bool = False
    merged: bool = False
    wanted: Traits | None = None
    before: Traits | None = None
    back: int = 0
    after: State | None = None


class Journal:
    """One apply on disc. Closed by `close`.

    kept  -- descriptor of the directory that keeps what was replaced
    ended -- the apply came to its end
    """

    def __init__(self, directory: bytes) -> None:
        self.directory = directory
        try:
            with open(directory + b"/plan.json", "rb") as file:
                plan: Any = json.loads(file.read())
            self.force = bool(plan["force"])
            self.steps = [_step(value) for value in plan["steps"]]
            self.before = [item_of(value) for value in plan["items"]]
        except OSError as error:
            raise LaunchError("read", directory, error) from error
        except (ValueError, TypeError, KeyError) as error:
            raise LaunchError("read", directory, f"it is damaged: {error}") from error
        self.ended = False
        self._progress: dict[int, Progress] = {}
        self._read()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(directory + b"/log", flags, 0o600)
        self.kept = os.open(directory + b"/kept", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._log)
        os.close(self.kept)

    @property
    def undone(self) -> bool:
        return os.path.exists(self.directory + b"/undone")

    @property
    def returning(self) -> bool:
        """Whether taking back has begun."""
        return any(each.at in (RETURNING, UNDONE) for each in self._progress.values())

    def progress(self, step: Step) -> Progress:
        return self._progress.get(step.number, Progress())

    def note(self, step: Step, at: str, **fields: Any) -> None:
        """Say how far a step came; what it came to before stays known."""
        self._set(step.number, at, fields)
        line = {"step": step.number, "at": at, **{n: _plain(v) for n, v in fields.items()}}
        os.write(self._log, json.dumps(line).encode("ascii") + b"\n")

    def sync(self) -> None:
        """What was noted is on disc when this returns."""
        os.fdatasync(self._log)

    def end(self, states: dict[int, State]) -> None:
        """The apply has come to its end, and left its objects in these states (by step)."""
        for number, state in states.items():
            self._progress[number] = self._progress[number]._replace(after=state)
        line = {"at": _END, "states": {str(number): list(each) for number, each in states.items()}}
        os.write(self._log, json.dumps(line).encode("ascii") + b"\n")
        self.sync()
        self.ended = True

    def _set(self, number: int, at: str, fields: dict[str, Any]) -> None:
        known = self._progress.get(number, Progress())
        self._progress[number] = known._replace(at=at, **fields)

    def _read(self) -> None:
        try:
            with open(self.directory + b"/log", "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                value: Any = json.loads(line)
            except ValueError:
                continue  # the machine went down in the middle of the line
            at = value.pop("at")
            if at == _END:
                self.ended = True
                for number, state in value["states"].items():
                    known = self._progress[int(number)]
                    self._progress[int(number)] = known._replace(after=State(*state))
                continue
            number = value.pop("step")
            for name in ("wanted", "before"):
                if value.get(name) is not None:
                    value[name] = _traits(value[name])
            self._set(number, at, {n: v for n, v in value.items() if n in Progress._fields})

    def finish_undo(self) -> None:
        """Everything has been taken back."""
        store(self.directory, b"undone", b"")


def begin(trial: Trial, steps: list[Step], items: list[Item], *, force: bool) -> Journal:
    """A new journal. `items` are all changes of the try as they are before the first step."""
    number = max([number for number, _ in journals(trial)], default=0) + 1
    directory = b"%s/%d" % (trial.applied, number)
    try:
        os.makedirs(directory + b"/kept", 0o700)
    except OSError as error:
        raise LaunchError("make", directory, error) from error
    content = {
        "force": force,
        "steps": [_plain_step(step) for step in steps],
        "items": [plain(item) for item in items],
    }
    store(directory, b"plan.json", json.dumps(content).encode("ascii"))
    return Journal(directory)


def journals(trial: Trial) -> list[tuple[int, bytes]]:
    """Numbers and directories of all applies, the oldest first."""
    try:
        names = os.listdir(trial.applied)
    except FileNotFoundError:
        return []
    numbers = sorted(int(name) for name in names if name.isdigit())
    return [(number, b"%s/%d" % (trial.applied, number)) for number in numbers]


def latest(trial: Trial) -> Journal | None:
    """The last apply that is not wholly taken back; None if there is none. The caller closes it."""
    for _, directory in reversed(journals(trial)):
        if os.path.exists(directory + b"/undone"):
            continue
        if not os.path.exists(directory + b"/plan.json"):
            continue  # killed before its first step
        return Journal(directory)
    return None


# -- JSON -----------------------------------------------------------------------------------------


def _plain(value: object) -> object:
    if isinstance(value, Traits):
        return {
            **value._asdict(),
            "target": os.fsdecode(value.target),
            "xattrs": [[os.fsdecode(name), each.hex()] for name, each in value.xattrs],
        }
    return value


def _traits(value: dict[str, Any]) -> Traits:
    xattrs = tuple((os.fsencode(name), bytes.fromhex(each)) for name, each in value["xattrs"])
    return Traits(**value)._replace(target=os.fsencode(value["target"]), xattrs=xattrs)


_NAMES: Final = ("path", "source", "link", "temporary")


def _plain_step(step: Step) -> dict[str, object]:
    value: dict[str, object] = step._asdict()
    for name in _NAMES:
        each = getattr(step, name)
        value[name] = None if each is None else os.fsdecode(each)
    return value


def _step(value: dict[str, Any]) -> Step:
    for name in _NAMES:
        value[name] = None if value[name] is None else os.fsencode(value[name])
    expected = value["expected"]
    return Step(**value)._replace(expected=None if expected is None else State(*expected))
