# SPDX-License-Identifier: GPL-3.0-or-later
"""What a try changed: the list that is shown, chosen from and applied.

It is made once, when the command has ended, and kept in changes.json together with the state in
which each object of the host's was then. An object that the host changed while the command ran is
known by its change time. What an apply carried out is marked as done, and what it moved is
followed, so that the rest can be applied later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

import unionfs
from launcher.errors import LaunchError
from launcher.trial.host import Host, State
from launcher.trial.record import Trial, store
from launcher.typed import Any, Final, NamedTuple

__all__ = [
    "Item",
    "below",
    "chosen",
    "examine",
    "item_of",
    "keep",
    "kept",
    "look_again",
    "plain",
    "translated",
    "upwards",
    "without",
]

_NAME: Final = b"changes.json"


class Item(NamedTuple):
    """One change, as `unionfs.Change` has it, and what the host has in its place.

    number -- place in the list
    place  -- which union of the try
    kind   -- A added, C changed, D deleted, R renamed
    path   -- in the union, beginning with a slash
    base   -- where that name is on the host as it is now: elsewhere than `path` while a directory
              above it waits to be renamed
    source -- for R: where the object is on the host as it is now
    type   -- "file", "directory" …; for D, of what is to go
    what   -- for C and R: what differs
    size   -- bytes of the new content; for D, of all that is to go
    was    -- bytes of the old content, for C
    state  -- of what the host has at `base`; None for nothing
    origin -- for R: of what it has at `source`
    alias   -- the path under which the union changed the file that this is another name of
    vacated -- what is at `base` now goes elsewhere, or goes, with another change
    stale  -- the host changed one of the two while the command ran
    done   -- it has been applied
    """

    number: int
    place: int
    kind: str
    path: bytes
    base: bytes
    source: bytes | None = None
    type: str = "file"
    what: tuple[str, ...] = ()
    size: int = 0
    was: int = 0
    state: State | None = None
    origin: State | None = None
    alias: bytes | None = None
    vacated: bool = False
    stale: bool = False
    done: bool = False

    @property
    def moves(self) -> bool:
        """Whether it is applied by renaming the host's own object."""
        return self.kind == "R" and (self.type == "directory" or "content" not in self.what)

    @property
    def replaces_type(self) -> bool:
        return "type" in self.what


def examine(trial: Trial) -> list[Item]:
    """Compare every union of a try with the host, which must be as the command left it."""
    items: list[Item] = []
    for number, place in enumerate(trial.places):
        if not os.listdir(trial.upper(number)):
            continue  # it may not even be there any more
        changes = _differences(trial, number)
        host = Host(place.lower)
        try:
            items += _items(trial, number, host, changes, len(items))
        except OSError as error:
            raise LaunchError("look at", place.lower, error) from error
        finally:
            host.close()
    return items


def _differences(trial: Trial, place: int) -> list[unionfs.Change]:
    lower = (trial.places[place].lower,)
    upper, work = trial.upper(place), trial.work(place)
    try:
        return unionfs.diff(upper, lower, userxattr=trial.userxattr, work=work)
    except unionfs.UnionError:
        if not trial.userxattr:
            raise
    # Other names of a file that was changed are looked for everywhere, also where an ordinary user
    # may not look.
    return unionfs.diff(upper, lower, userxattr=True)


def _items(
    trial: Trial, place: int, host: Host, changes: Iterable[unionfs.Change], first: int
) -> list[Item]:
    moved = [(each.path, each.source) for each in changes if each.kind == "R" and each.source]
    sources = {source for _, source in moved}
    gone = {each.path for each in changes if each.kind == "D"}
    found: list[Item] = []
    config = unionfs.MountConfig(lower=(trial.upper(place),), userxattr=trial.userxattr)
    union = unionfs.Union(config)
    try:
        for each in changes:
            if each.type == "socket" and each.kind != "D":
                continue  # nobody listens behind it any more
            if each.path == b"/":
                continue
            above = each.path.rpartition(b"/")[0]
            base = translated(above, moved) + b"/" + each.path.rpartition(b"/")[2]
            item = Item(
                first + len(found), place, each.kind, each.path, base, each.source,
                each.type, each.what,
            )  # fmt: skip
            if each.kind in "ACR":
                item = item._replace(size=_size(union, each.path))
            item = item._replace(vacated=_is_vacated(item, sources, gone))
            found.append(_looked_at(host, item, trial.started))
    finally:
        union.close()
    return _with_aliases(found, trial.upper(place))


def _with_aliases(items: list[Item], upper: bytes) -> list[Item]:
    """Names that the upper layer does not hold are those of a file changed by another name."""
    held: dict[int, Item] = {}
    names: set[int] = set()
    for item in items:
        if item.kind == "C" and item.type != "directory" and item.state is not None:
            if os.path.lexists(upper + item.path):
                held[item.state.ino] = item
            else:
                names.add(item.number)
    result = []
    for item in items:
        if item.number in names and item.state is not None and item.state.ino in held:
            other = held[item.state.ino]
            item = item._replace(alias=other.path, size=other.size)
        result.append(item)
    return result


def _is_vacated(item: Item, sources: set[bytes], gone: set[bytes]) -> bool:
    """Whether what the host has there is moved elsewhere, or deleted, by another change."""
    return item.kind in "AR" and (
        not sources.isdisjoint(upwards(item.base)) or not gone.isdisjoint(upwards(item.path))
    )


def upwards(path: bytes) -> list[bytes]:
    """The path and all directories above it, but for the top."""
    found = []
    while path:
        found.append(path)
        path = path.rpartition(b"/")[0]
    return found


def _size(union: unionfs.Union, path: bytes) -> int:
    node = union.root
    status = None
    for name in path.strip(b"/").split(b"/"):
        met = union.lookup(node, name)
        if met is None:
            return 0
        node, status = met
    if status is None or node.is_dir:
        return 0
    return status.size


def _looked_at(host: Host, item: Item, since: int) -> Item:
    """With the host's present states; since: a later change makes it stale (0: does not matter)."""
    whole = item.kind == "D" or item.replaces_type
    if item.vacated:
        state, tree = None, None
    elif whole:
        state, tree = host.look_whole(item.base)
    else:
        state, tree = host.look(item.base), None
    origin = host.look(item.source) if item.source is not None else None
    stale = item.stale
    if since:
        stale = any(
            each is not None and not each.is_directory and each.ctime > since
            for each in (state, origin)
        ) or (tree is not None and tree.latest > since)
        # What is new to the try and was made by the host meanwhile.
        if item.kind == "A" and state is not None and not state.is_directory:
            stale = True
    if item.kind == "D":
        size = tree.size if tree is not None else 0 if state is None else state.size
        item = item._replace(size=size)
    elif item.kind == "C":
        item = item._replace(was=0 if state is None else state.size)
    return item._replace(state=state, origin=origin, stale=stale)


def look_again(host: Host, item: Item) -> Item:
    """The item with the host's states as they are now, which are taken for right."""
    return _looked_at(host, item, 0)._replace(stale=False)


def translated(path: bytes, moved: Iterable[tuple[bytes, bytes | None]]) -> bytes:
    """Where a path of the union lies below it; `moved`: new and old paths of what was renamed."""
    best: tuple[bytes, bytes] | None = None
    for new, old in moved:
        if old is not None and below(path, new) and (best is None or len(new) > len(best[0])):
            best = new, old
    return path if best is None else best[1] + path[len(best[0]) :]


def below(path: bytes, other: bytes) -> bool:
    """Whether `path` is `other`, or below it."""
    return path == other or path.startswith(other.rstrip(b"/") + b"/")


def chosen(trial: Trial, items: list[Item], paths: list[bytes]) -> list[Item]:
    """The items that are not done yet and concern `paths` (absolute; none: all of them).

    The directories that they need to lie in come along. Raises LaunchError for a path that names
    none.
    """
    left = [item for item in items if not item.done]
    if not paths:
        return left
    wanted: set[int] = set()
    for path in paths:
        named = {item.number for item in left if _concerns(trial, item, path)}
        if not named:
            raise LaunchError("apply", path, "nothing of that name was changed")
        wanted |= named
    while True:
        needs = _Needs(left, wanted)
        needed = {item.number for item in left if item.number not in wanted and needs.meets(item)}
        if not needed:
            break
        wanted |= needed
    return [item for item in left if item.number in wanted]


def without(wanted: list[Item], refused: list[Item]) -> list[Item]:
    """The chosen changes less those that are refused, and less all that cannot be without them."""
    numbers = {item.number for item in refused}
    out = [item for item in wanted if item.number in numbers]
    left = [item for item in wanted if item.number not in numbers]
    while out:
        # The other way round than `_Needs`: what these were to give, and to whom it is missing now.
        made = {(item.place, item.path) for item in out if _makes_directory(item)}
        room = {(item.place, item.path) for item in out if item.kind == "D"}
        room_below = {(item.place, item.source) for item in out if item.kind == "R"}
        names = {(item.place, item.alias) for item in out if item.alias is not None}
        names |= {
            (item.place, item.path) for item in out if item.kind == "C" and item.alias is None
        }
        out = []
        for item in left:
            above = [(item.place, each) for each in upwards(item.path)]
            if (
                not made.isdisjoint(above[1:])
                or above[0] in names
                or (item.place, item.alias) in names
                or (item.vacated and not room.isdisjoint(above))
                or (
                    item.vacated
                    and not room_below.isdisjoint((item.place, each) for each in upwards(item.base))
                )
            ):
                out.append(item)
        numbers = {item.number for item in out}
        left = [item for item in left if item.number not in numbers]
    return left


def _makes_directory(item: Item) -> bool:
    return item.type == "directory" and (item.kind in "AR" or item.replaces_type)


class _Needs:
    """What the chosen ones of some changes cannot be without: directories, room, other names."""

    def __init__(self, items: list[Item], chosen_: set[int]) -> None:
        self._directories: set[tuple[int, bytes]] = set()
        self._room: set[tuple[int, bytes]] = set()
        self._room_below: set[tuple[int, bytes]] = set()
        self._names: set[tuple[int, bytes]] = set()
        for item in items:
            if item.number not in chosen_:
                continue
            self._directories |= {(item.place, each) for each in upwards(item.path)[1:]}
            self._names.add((item.place, item.path))
            if item.alias is not None:
                self._names.add((item.place, item.alias))
            if item.vacated:
                self._room |= {(item.place, each) for each in upwards(item.path)}
                self._room_below |= {(item.place, each) for each in upwards(item.base)}

    def meets(self, item: Item) -> bool:
        """Whether a change is one of those."""
        return (
            (_makes_directory(item) and (item.place, item.path) in self._directories)
            or (item.kind == "D" and (item.place, item.path) in self._room)
            or (
                item.kind == "R"
                and item.source is not None
                and (item.place, item.source) in self._room_below
            )
            or (item.alias is not None and (item.place, item.alias) in self._names)
            or (item.kind == "C" and item.alias is None and (item.place, item.path) in self._names)
        )


def _concerns(trial: Trial, item: Item, path: bytes) -> bool:
    top = trial.places[item.place].mountpoint.rstrip(b"/")
    if below(top + item.path, path):
        return True
    return item.source is not None and below(top + item.source, path)


# -- changes.json ---------------------------------------------------------------------------------


def keep(trial: Trial, items: list[Item]) -> None:
    """Write changes.json. Raises LaunchError."""
    content = json.dumps([plain(item) for item in items], separators=(",", ":"))
    store(trial.directory, _NAME, content.encode("ascii"))


def kept(trial: Trial) -> list[Item]:
    """The list of a try; made now if lamina was killed before it was. Raises LaunchError."""
    path = trial.directory + b"/" + _NAME
    try:
        with open(path, "rb") as file:
            return [item_of(value) for value in json.loads(file.read())]
    except FileNotFoundError:
        items = examine(trial)
        keep(trial, items)
        return items
    except OSError as error:
        raise LaunchError("read", path, error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise LaunchError("read", path, f"it is damaged: {error}") from error


def plain(item: Item) -> dict[str, object]:
    return {
        **item._asdict(),
        "path": os.fsdecode(item.path),
        "base": os.fsdecode(item.base),
        "source": None if item.source is None else os.fsdecode(item.source),
        "alias": None if item.alias is None else os.fsdecode(item.alias),
    }


def item_of(value: dict[str, Any]) -> Item:
    return Item(**value)._replace(
        path=os.fsencode(value["path"]),
        base=os.fsencode(value["base"]),
        source=None if value["source"] is None else os.fsencode(value["source"]),
        alias=None if value["alias"] is None else os.fsencode(value["alias"]),
        what=tuple(value["what"]),
        state=_state(value["state"]),
        origin=_state(value["origin"]),
    )


def _state(value: list[Any] | None) -> State | None:
    return None if value is None else State(*value)
