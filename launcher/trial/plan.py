# SPDX-License-Identifier: GPL-3.0-or-later
"""From chosen changes to ordered steps: pure data, no system call.

The order is part of the meaning. Objects that are renamed on the host go first where something
stands in their way or theirs: they wait under a hidden name (a stash) beside the topmost place that
is touched. Then the tree is gone through from its top, so that every directory is in its final
place before anything in it is touched: what is deleted goes, what was renamed comes, directories
are made. Files follow, attributes, and last the times of new directories, which the files moved.
All paths are those of the union, but for the places that objects are moved from.
"""

from __future__ import annotations

from launcher.trial.changes import Item, below, translated
from launcher.trial.host import State
from launcher.typed import Final, NamedTuple

__all__ = ["ATTRIBUTES", "MOVE", "PUT", "REMOVE", "TIMES", "Step", "make"]

MOVE: Final = "move"
REMOVE: Final = "remove"
PUT: Final = "put"
ATTRIBUTES: Final = "attributes"
TIMES: Final = "times"


class Step(NamedTuple):
    """One thing to do to the host.

    number   -- place in the plan
    item     -- the change that it belongs to
    op       -- move `source` to `path`; remove what is at `path`; put the union's object there,
                in place of what may be there; give what is there the union's attributes, or times
    place    -- which union
    type     -- of the union's object, for put
    expected -- what is there now, to be moved or to give way; None: nothing
    link     -- another path that has the file: for put, to be linked; for attributes, to be read
    temporary -- the hidden name beside `path` that the step may use
    """

    number: int
    item: int
    op: str
    place: int
    path: bytes
    source: bytes | None = None
    type: str = ""
    expected: State | None = None
    link: bytes | None = None
    temporary: bytes = b""


def make(
    items: list[Item], identity: str, links: dict[tuple[int, bytes], bytes] | None = None
) -> list[Step]:
    """The steps of the chosen `items`. `identity` tells the hidden names of this apply apart.

    `links` are the names that are to be linked to another: place and path → the other path.
    """
    steps: list[Step] = []
    for place in sorted({item.place for item in items}):
        _Order([item for item in items if item.place == place], identity, links or {}, steps)
    return steps


class _Order:
    """The steps of one union."""

    def __init__(
        self,
        items: list[Item],
        identity: str,
        links: dict[tuple[int, bytes], bytes],
        steps: list[Step],
    ) -> None:
        self._items = items
        self._identity = identity
        self._links = links
        self._steps = steps
        self._moves = [item for item in items if item.moves]
        self._at = {item.path: item for item in items if item.kind != "D"}
        self._gone = {item.path: item for item in items if item.kind == "D"}
        stashes = self._stash()
        self._go_through(stashes)
        self._put_files()
        self._give_attributes()
        self._set_times()

    def _add(self, item: Item, op: str, path: bytes, **fields: object) -> None:
        number = len(self._steps)
        temporary = self._hidden(number)
        step = Step(number, item.number, op, item.place, path, temporary=temporary)
        self._steps.append(step._replace(**fields))  # type: ignore[arg-type]

    def _hidden(self, number: int) -> bytes:
        return b".lamina-%s-%d" % (self._identity.encode(), number)

    # -- what is renamed

    def _stash(self) -> dict[int, bytes]:
        """Move aside what cannot move at once; by item, where it waits."""
        waiting: dict[int, bytes] = {}
        # An object within another that moves as well leaves it first.
        for item in sorted(self._moves, key=lambda each: -_depth(each.source or b"")):
            source = item.source
            assert source is not None
            if self._is_direct(item, source):
                continue
            above = self._topmost_touched(source).rpartition(b"/")[0]
            stash = above + b"/" + self._hidden(len(self._steps)) + b"-aside"
            self._add(item, MOVE, stash, source=source, expected=item.origin, type=item.type)
            waiting[item.number] = stash
        return waiting

    def _is_direct(self, item: Item, source: bytes) -> bool:
        """Whether nothing else that is to happen concerns where it comes from or goes to."""
        for other in self._moves:
            if other is item or other.source is None:
                continue
            for mine in (item.path, source):
                for theirs in (other.path, other.source):
                    if below(mine, theirs) or below(theirs, mine):
                        return False
        if any(below(source, each.base) for each in self._gone.values()):
            return False
        makers = [each for each in self._at.values() if each is not item and _makes(each)]
        return not any(
            below(source, each.path) or below(item.path, each.path) for each in makers
        )  # fmt: skip

    def _topmost_touched(self, source: bytes) -> bytes:
        touched = {move.source for move in self._moves}
        touched |= {each.base for each in self._gone.values()}
        touched |= {each.path for each in self._at.values() if _makes(each)}
        path = b""
        for name in source.strip(b"/").split(b"/"):
            path += b"/" + name
            if path in touched:
                return path
        return source

    # -- the tree, from its top

    def _go_through(self, stashes: dict[int, bytes]) -> None:
        structural = [item for item in self._items if item.kind == "D" or self._is_structural(item)]
        # What stands at a path goes before what comes there.
        for item in sorted(structural, key=lambda each: (_key(each.path), each.kind != "D")):
            if item.kind == "D":
                incoming = self._at.get(item.path)
                if incoming is not None and not self._is_structural(incoming):
                    continue  # a file takes its place, and that in one step
                self._add(item, REMOVE, item.path, expected=item.state)
            elif item.moves:
                source = stashes.get(item.number, item.source)
                self._add(
                    item, MOVE, item.path, source=source, expected=item.origin, type=item.type
                )  # fmt: skip
            else:
                state = None if item.path in self._gone else item.state
                self._add(item, PUT, item.path, type=item.type, expected=state)

    def _is_structural(self, item: Item) -> bool:
        return item.moves or (item.type == "directory" and _makes(item))

    # -- what lies in it

    def _put_files(self) -> None:
        placed: list[Item] = []
        linked: list[Item] = []
        for item in sorted(self._items, key=lambda each: _key(each.path)):
            if item.kind == "D" or item.type == "directory" or item.moves or not _writes(item):
                continue
            (linked if (item.place, item.path) in self._links else placed).append(item)
        for item in placed + linked:
            state = item.state
            if item.path in self._gone:
                state = self._gone[item.path].state
            link = self._links.get((item.place, item.path))
            self._add(item, PUT, item.path, type=item.type, expected=state, link=link)
        for item in placed + linked:
            if item.kind == "R" and item.source is not None:
                self._remove_source(item, item.source)

    def _remove_source(self, item: Item, source: bytes) -> None:
        """A file that was renamed and written to: the old one goes."""
        moved = [(each.source or b"", each.path) for each in self._moves]
        now = translated(source, moved)
        if now in self._at or any(below(now, path) for path in self._gone):
            return
        self._add(item, REMOVE, now, expected=item.origin)

    def _give_attributes(self) -> None:
        for item in self._items:
            changed = item.kind == "C" and not _writes(item)
            if (changed or item.moves) and item.what and not item.replaces_type:
                expected = item.origin if item.moves else item.state
                self._add(item, ATTRIBUTES, item.path, expected=expected, link=item.alias)

    def _set_times(self) -> None:
        made = [item for item in self._items if item.type == "directory" and _makes(item)]
        for item in sorted(made, key=lambda each: -_depth(each.path)):
            self._add(item, TIMES, item.path)


def _makes(item: Item) -> bool:
    """Whether a new object comes to its path."""
    return item.kind == "A" or (item.kind == "C" and item.replaces_type)


def _writes(item: Item) -> bool:
    """Whether a new file is made for it: for anything but a change of attributes alone."""
    if item.kind in "AR":
        return not item.moves
    return bool({"type", "content", "target", "device"} & set(item.what))


def _depth(path: bytes) -> int:
    return path.count(b"/")


def _key(path: bytes) -> list[bytes]:
    """Directories before what is in them, and that before what comes after them."""
    return path.split(b"/")
