# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a try written to the host: checked, ordered, carried out, remembered.

Unless told otherwise nothing is written if the host has changed any of what was chosen since the
try looked at it. Once writing has begun, what fails is told and left in the try, and the rest goes
on. What was replaced is kept with the try, for `undo`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from launcher.errors import LaunchError
from launcher.trial import carry, journal, plan
from launcher.trial.changes import Item, keep, kept, look_again, translated, upwards
from launcher.trial.host import Host
from launcher.trial.record import Trial
from launcher.trial.view import View, opened
from launcher.typed import NamedTuple

__all__ = ["Conflict", "Outcome", "apply", "conflicts", "finish", "unfinished"]


class Conflict(NamedTuple):
    """A change that the host has overtaken."""

    item: Item
    reason: str


class Outcome(NamedTuple):
    """What an apply came to: the changes that are written, and those that are not, with reasons."""

    applied: tuple[Item, ...]
    failed: tuple[carry.Failure, ...]


def conflicts(trial: Trial, items: list[Item]) -> list[Conflict]:
    """Those of the changes that the host has overtaken since the try looked at it."""
    found = []
    made = {
        (each.place, each.path)
        for each in items
        if each.type == "directory" and (each.kind in "AR" or each.replaces_type)
    }
    with _hosts(trial, items) as hosts:
        for item in items:
            host = hosts[item.place]
            try:
                reason = _conflict(host, item)
                above = item.path.rpartition(b"/")[0]
                if not reason and above and (item.place, above) not in made:
                    parent = host.look(item.base.rpartition(b"/")[0])
                    if item.kind != "D" and (parent is None or not parent.is_directory):
                        reason = "its directory is gone"
            except OSError as error:
                reason = os.strerror(error.errno or 0)
            if reason:
                found.append(Conflict(item, reason))
    return found


def _conflict(host: Host, item: Item) -> str:
    """Why a change cannot be written as it is; "" if it can."""
    if item.stale:
        return "the host changed it while the command ran"
    if item.kind == "D" or item.replaces_type:
        now, _ = host.look_whole(item.base)
    else:
        now = host.look(item.base)
    if item.kind == "R":
        assert item.source is not None
        origin = host.look(item.source)
        if item.origin is None or not item.origin.unchanged(origin):
            return "what it was renamed from was changed after the try began"
    if item.vacated:
        return ""
    if item.state is None:
        both_directories = now is not None and now.is_directory and item.type == "directory"
        if now is None or (both_directories and item.kind == "A"):
            return ""
        return "something of that name was made after the try began"
    if now is None:
        return "" if item.kind == "D" else "it was deleted after the try began"
    if item.kind == "A" and now.is_directory and item.type == "directory":
        return ""
    return "" if item.state.unchanged(now) else "it was changed after the try began"


@contextlib.contextmanager
def _hosts(trial: Trial, items: list[Item]) -> Iterator[dict[int, Host]]:
    with contextlib.ExitStack() as ends:
        hosts = {}
        for place in {item.place for item in items}:
            try:
                host = Host(trial.places[place].lower)
            except OSError as error:
                raise LaunchError("open", trial.places[place].lower, error) from error
            ends.callback(host.close)
            hosts[place] = host
        yield hosts


def unfinished(trial: Trial) -> bool:
    """Whether an apply was killed before its end."""
    last = journal.latest(trial)
    if last is None:
        return False
    with last:
        return not last.ended and not last.returning


def finish(trial: Trial) -> Outcome | None:
    """Carry an apply that was killed to its end; None if there is none."""
    last = journal.latest(trial)
    if last is None:
        return None
    with last:
        if last.returning:
            reason = "taking its changes back was interrupted (lamina apply --undo goes on)"
            raise LaunchError("apply try", trial.id, reason)
        if last.ended:
            return None
        return _carry_out(trial, last, kept(trial))


def apply(trial: Trial, items: list[Item], wanted: list[Item], *, force: bool) -> Outcome:
    """Write the changes `wanted`, of all `items`, to the host; the caller holds the try.

    `force`: also over what the host has changed since. Raises LaunchError where nothing could be
    done at all; conflicts are for the caller to look for before.
    """
    steps = plan.make(wanted, _label(trial), _links(trial, wanted))
    with journal.begin(trial, steps, items, force=force) as log:
        return _carry_out(trial, log, items)


def _label(trial: Trial) -> str:
    return f"{trial.id[:6]}.{len(journal.journals(trial)) + 1}"


def _carry_out(trial: Trial, log: journal.Journal, items: list[Item]) -> Outcome:
    by_number = {item.number: item for item in items}
    before = {each.number for each in items if not each.done}
    related = _related(items, log)
    sound = {item.number for item in related} - {
        each.item.number for each in conflicts(trial, related)
    }
    failures = carry.run(trial, log, by_number)
    concerned = {step.item for step in log.steps}
    # A deletion whose place was taken in one step by what came instead has no step of its own.
    replaced = _replaced(items, concerned)
    wanted = [
        item
        for item in items
        if item.number in before and (item.number in concerned or item.number in replaced)
    ]
    unwritten = {
        step.item for step in log.steps if log.progress(step).at != journal.DONE
    } | {failure.item.number for failure in failures}  # fmt: skip
    unwritten |= _replaced(items, unwritten)
    applied = [item for item in wanted if item.number not in unwritten]
    keep(trial, _followed(trial, log, items, {item.number for item in applied}, sound))
    return Outcome(tuple(applied), tuple(failures))


def _replaced(items: list[Item], numbers: set[int]) -> set[int]:
    """The deletions in whose place one of the `numbers` comes."""
    places = {
        (each.place, each.path) for each in items if each.number in numbers and each.kind != "D"
    }
    return {each.number for each in items if each.kind == "D" and (each.place, each.path) in places}


def _related(items: list[Item], log: journal.Journal) -> list[Item]:
    """Changes that are left to later, of what this apply touches too."""
    concerned = {step.item for step in log.steps}
    touched: set[tuple[int, bytes]] = set()
    above: set[tuple[int, bytes]] = set()
    for step in log.steps:
        for path in filter(None, (step.path, step.source)):
            touched.add((step.place, path))
            above |= {(step.place, each) for each in upwards(path)}
    found = []
    for item in items:
        if item.done or item.number in concerned:
            continue
        for path in filter(None, (item.base, item.source)):
            if (item.place, path) in above or any(
                (item.place, each) in touched for each in upwards(path)
            ):
                found.append(item)
                break
    return found


def _followed(
    trial: Trial, log: journal.Journal, items: list[Item], applied: set[int], sound: set[int]
) -> list[Item]:
    """The changes as they are after an apply: done, or where they are to be found now."""
    by_number = {item.number: item for item in items}
    moved: dict[int, list[tuple[bytes, bytes | None]]] = {}
    for step in log.steps:
        item = by_number[step.item]
        if step.op == plan.MOVE and step.path == item.path and item.number in applied:
            # From old to new: the other way round than a union looks below itself.
            moved.setdefault(step.place, []).append((item.source or b"", step.path))
    result = []
    with _hosts(trial, items) as hosts:
        for item in items:
            if item.number in applied:
                result.append(item._replace(done=True))
                continue
            steps = moved.get(item.place, [])
            base = translated(item.base, steps)
            source = None if item.source is None else translated(item.source, steps)
            item = item._replace(base=base, source=source)
            if item.number in sound:
                item = look_again(hosts[item.place], item)
            result.append(item)
    return result


def _links(trial: Trial, wanted: list[Item]) -> dict[tuple[int, bytes], bytes]:
    """Which files are to become names of others: those that share an inode in the union."""
    links: dict[tuple[int, bytes], bytes] = {}
    for place in sorted({item.place for item in wanted}):
        files = [
            item
            for item in wanted
            if item.place == place and item.kind in "ACR" and item.type not in ("directory",)
        ]
        if not files:
            continue
        with opened(trial, place) as view:
            _find_links(view, place, files, links)
    return links


def _find_links(
    view: View, place: int, files: list[Item], links: dict[tuple[int, bytes], bytes]
) -> None:
    first: dict[int, bytes] = {}
    written = {item.path for item in files}
    for item in sorted(files, key=lambda each: each.path):
        if item.moves or (item.kind == "C" and not set(item.what) & {"type", "content"}):
            continue
        if item.alias is not None:
            links[place, item.path] = item.alias
            continue
        found = view.find(item.path)
        if found is None or found[1].nlink < 2:
            continue
        number = found[1].ino
        if number in first:
            links[place, item.path] = first[number]
            continue
        # A new name for a file that the host has, unchanged, under another one.
        other = next((each for each in view.names_in_upper(item.path) if each not in written), None)
        if other is not None and item.kind == "A":
            links[place, item.path] = other
            first[number] = other
        else:
            first[number] = item.path
