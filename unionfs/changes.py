# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upper layer changes: objects added, changed, deleted and renamed.

Two stacks of one's own are read, one of the lower layers alone ("before") and one with the upper
layer on top ("after"); no mount is needed and none is disturbed. Only what the upper layer holds is
visited, so the cost is that of the change; where there is a journal to be believed, new
directories are taken as they are, without a look at what each object in them is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice

from unionfs import journal, origin
from unionfs.config import Format, MountConfig
from unionfs.difference import KINDS, differences
from unionfs.errors import UnionError
from unionfs.layer import Part, open_layer
from unionfs.lookup import Found, find, node_of
from unionfs.marks import PLAIN_DIRECTORY
from unionfs.node import DT_DIRECTORY, Directory, Node
from unionfs.readdir import entries, scan
from unionfs.stack import Stack
from unionfs.sys.calls import Handle
from unionfs.typed import Final, Literal, NamedTuple

__all__ = ["Change", "Kind", "diff"]

Kind = Literal["A", "C", "D", "R"]
_ORDER: Final = "DRCA"
_WHITEOUT: Final = -1


class Change(NamedTuple):
    """One difference between the lower layers and the union.

    kind   -- A added, C changed, D deleted, R renamed
    path   -- in the union, from its top, beginning with a slash
    source -- for R: the path it had
    type   -- of the object: "file", "directory" …; for D, of the one that is gone
    what   -- for C and R: what differs ("mode", "owner", "times", "xattrs", "content" …)
    """

    kind: Kind
    path: bytes
    source: bytes | None = None
    type: str = "file"
    what: tuple[str, ...] = ()


def diff(
    upper: bytes,
    lower: Sequence[bytes] = (),
    *,
    data: Sequence[bytes] = (),
    format: Format = "overlay",
    userxattr: bool = False,
    work: bytes | None = None,
    detail: bool = True,
    journaled: bool = True,
) -> list[Change]:
    """The changes in `upper` against the layers `lower` (topmost first), ordered by path.

    Paths are absolute; `data` are data-only layers. Without lower layers the marks in the upper
    alone decide: what bears an origin was there before, and if it is no directory, it was changed;
    what bears none was added, but for a directory in which something was changed or deleted. A
    directory counts as changed if its own mode, owner or xattrs are. `work` is the union's work
    directory, whose index tells of lower files changed under another of their names, and whose
    journal, where there is one, spares looking at every object; not `journaled` takes no notice of
    it, with the same result. Without `detail` at most one entry of `what` is told, which spares
    reading contents. Raises UnionError.
    """
    after: Stack | None = None
    before: Stack | None = None

    def stack(layers: tuple[bytes, ...]) -> Stack:
        return Stack(
            MountConfig(lower=layers, data=tuple(data), format=format, userxattr=userxattr)
        )

    try:
        after = stack((upper, *lower))
        before = stack(tuple(lower)) if lower else None
        # By its marks alone an upper is judged object by object.
        known = None
        if journaled and work is not None and before is not None:
            known = journal.read(work, upper)
        comparison = _Comparison(after, before, None if detail else 1, known)
        if work is not None and before is not None:
            comparison.add_aliases(work + b"/index")
        return comparison.run()
    finally:
        for each in (after, before):
            if each is not None:
                each.close()


class _Step(NamedTuple):
    """A directory to compare.

    path   -- in the union, without a slash at the end; b"" is the root
    node   -- the directory, its upper part on top
    opaque -- it hides what lies below it
    base   -- the directory it was before, None if it is new
    below  -- path of `base` in the lower tree
    moved  -- lower path of the last renamed directory on the way here, b"" if there was none
    bears  -- it, or a directory above it, bears a redirect
    """

    path: bytes
    node: Directory
    opaque: bool
    base: Directory | None
    below: bytes
    moved: bytes
    bears: bool = False


class _Entry(NamedTuple):
    """A visible name of a directory's upper part, and what stands for it now."""

    path: bytes
    name: bytes
    node: Node
    found: Found

    @property
    def kind(self) -> str:
        return KINDS[self.node.kind]


class _Comparison:
    """One run of `diff`."""

    def __init__(
        self,
        after: Stack,
        before: Stack | None,
        most: int | None,
        known: journal.Changed | None,
    ) -> None:
        self._known = known
        self._after = after
        self._before = before
        self._most = most
        self._changes: dict[tuple[Kind, bytes], Change] = {}
        # By change: lower path of what it was made to, and the step's `moved`.
        self._below: dict[tuple[Kind, bytes], tuple[bytes, bytes]] = {}
        # Lower paths that live on under another name.
        self._renamed: set[bytes] = set()
        # Handle of a deleted non-directory → its lower path.
        self._deleted: dict[Handle, bytes] = {}
        # Upper files whose origin is not what lay at their path: renamed files, if it was deleted.
        self._arrivals: list[tuple[Handle, bytes]] = []

    def run(self) -> list[Change]:
        after = self._after.root
        before = self._before
        marks = self._after.marks.of_directory(after.parts[0].open(), b".")
        base = None if before is None else before.root
        steps = [_Step(b"", after, marks.opaque, base, b"", b"")]
        while steps:
            step = steps.pop()
            try:
                steps.extend(self._compare(step))
            except OSError as error:
                raise UnionError("compare", step.path or b"/", error) from error
        if before is not None:
            self._pair_files(before)
        self._settle_renames(before)
        if before is None:
            self._keep_parents()
        return sorted(self._changes.values(), key=lambda c: (c.path, _ORDER.index(c.kind)))

    # -- hard links of lower files (overlayfs.rst, "Index directory")

    def add_aliases(self, index: bytes) -> None:
        """Names that still lie below of files that were changed under another name.

        Only the index has their present state, and only a walk of the whole tree finds them; both
        are left out where the index is empty.
        """
        try:
            indexed = set(os.listdir(index))
        except OSError:
            return
        if not indexed:
            return
        layer = open_layer(index, len(self._after.layers) + 1)
        try:
            part = self._after.part(layer, b"")
            part.adopt(os.dup(layer.root))
            for path, was, found in _hard_links(self._after):
                mark = origin.encode(found.part.layer, found.part.open(), path.rpartition(b"/")[2])
                entry = None if mark is None else origin.index_name(mark)
                if entry in indexed:
                    now = os.stat(entry, dir_fd=part.open(), follow_symlinks=False)
                    node = Node(0, now.st_ino, now.st_ino, now.st_mode >> 12, None, part, entry)
                    if self._after.marks.of_file(part.open(), entry).metacopy is not None:
                        node.data = was.data or (was.part, was.name)
                    what = tuple(
                        islice(differences(self._after, node, self._after, was), self._most)
                    )
                    if what:
                        self._add(Change("C", path, type=KINDS[node.kind], what=what))
            part.close()
        except OSError as error:
            raise UnionError("read index", index, error) from error
        finally:
            layer.close()

    # -- one directory

    def _compare(self, step: _Step) -> Iterator[_Step]:
        """Compare the entries of a directory's upper part; yields the directories to go into."""
        listed = list(entries(self._after, step.node.parts[0]))
        visible = {name for name, kind, _ in listed if kind != _WHITEOUT}
        # With aufs marks an object may lie beside its own whiteout: it wins in its layer.
        gone = {name for name, kind, _ in listed if kind == _WHITEOUT} - visible
        if step.opaque and step.base is not None and self._before is not None:
            was = scan(self._before, step.base)
            now = scan(self._after, step.node)
            if was is not None and now is not None:
                gone |= was[0].keys() - now[0].keys()
        for name in gone:
            self._delete(step, name)
        for name in visible:
            found = find(self._after, step.node, name)
            if found is None:  # gone since it was listed
                continue
            node = node_of(self._after, step.node, name, found)
            entry = _Entry(step.path + b"/" + name, name, node, found)
            if self._before is None:
                following = self._guess(step, entry)
            else:
                following = self._judge(self._before, step, entry)
            if following is None or not self._leads_on(following):
                self._after.settle(node)
                continue
            for held in (following.node, following.base):
                if held is not None:
                    held.pins += 1
            yield following

    def _leads_on(self, step: _Step) -> bool:
        """Whether a directory has to be compared; where the journal tells what is in it, not."""
        known = self._known
        if known is None:
            return True
        if len(step.node.parts) > 1:
            # Renamed directories are looked into, and what is below them: the journal has the
            # names that they had before.
            return step.bears or step.path[1:] in known.directories
        if known.mixed or step.base is not None or step.bears:
            return True
        self._take_whole(step.path, step.node.parts[0])
        return False

    def _take_whole(self, path: bytes, top: Part) -> None:
        """Everything below a new directory is new."""
        stack = self._after
        pending = [(path, top)]
        while pending:
            path, part = pending.pop()
            for name, kind, _ in entries(stack, part):
                if kind == _WHITEOUT:
                    continue
                below = path + b"/" + name
                self._changes["A", below] = Change("A", below, type=KINDS[kind])
                if kind == DT_DIRECTORY:
                    pending.append((below, stack.part(part.layer, below[1:])))
            if part is not top:
                part.close()

    def _delete(self, step: _Step, name: bytes) -> None:
        path, below = step.path + b"/" + name, step.below + b"/" + name
        if self._before is None:
            self._add(Change("D", path, type="unknown"), below, step.moved)
            return
        found = None if step.base is None else find(self._before, step.base, name)
        if found is None:
            return
        kind = KINDS[stat.S_IFMT(found.stat.st_mode) >> 12]
        self._add(Change("D", path, type=kind), below, step.moved)
        if not found.is_dir:
            mark = origin.encode(found.part.layer, found.part.open(), name)
            identity = origin.decode(mark)
            if identity is not None:
                self._deleted[identity.handle] = below

    def _judge(self, before: Stack, step: _Step, entry: _Entry) -> _Step | None:
        """Say what became of one entry, knowing the lower layers; the step into a directory."""
        below = step.below + b"/" + entry.name
        was = None if step.base is None else _known(before, step.base, entry.name)
        marks = entry.found.marks or PLAIN_DIRECTORY
        node = entry.node
        if marks.redirect is not None and isinstance(node, Directory):
            absolute = marks.redirect.startswith(b"/")
            source = marks.redirect if absolute else step.below + b"/" + marks.redirect
            base = _reach(before, source)
            # One that came back to its old place still bears its redirect.
            if isinstance(base, Directory) and source != below:
                if was is not None:
                    self._add(Change("D", entry.path, type=KINDS[was.kind]), below, step.moved)
                self._renamed.add(source)
                what = self._what(before, node, base)
                self._add(Change("R", entry.path, source, entry.kind, what))
                return _Step(entry.path, node, marks.opaque, base, source, source, True)
        if was is None:
            self._add(Change("A", entry.path, type=entry.kind))
        else:
            # One that is like what it was is kept for now: that may have been renamed away.
            what = self._what(before, node, was)
            self._add(Change("C", entry.path, type=entry.kind, what=what), below, step.moved)
        if isinstance(node, Directory):
            merged = was if isinstance(was, Directory) else None
            bears = step.bears or marks.redirect is not None
            return _Step(entry.path, node, marks.opaque, merged, below, step.moved, bears)
        self._note_arrival(entry, was)
        if was is not None:
            before.settle(was)
        return None

    def _guess(self, step: _Step, entry: _Entry) -> _Step | None:
        """Say what became of one entry by its marks alone."""
        node, below = entry.node, step.below + b"/" + entry.name
        marks = entry.found.marks or PLAIN_DIRECTORY
        moved = step.moved
        origin_mark = self._after.marks.of_file(entry.found.part.open(), entry.name).origin
        if marks.redirect is not None:
            absolute = marks.redirect.startswith(b"/")
            below = marks.redirect if absolute else step.below + b"/" + marks.redirect
            self._renamed.add(below)
            moved = below
            self._add(Change("R", entry.path, below, entry.kind))
        elif origin_mark is None:
            self._add(Change("A", entry.path, type=entry.kind))
        elif not isinstance(node, Directory):
            self._add(Change("C", entry.path, type=entry.kind))
        if not isinstance(node, Directory):
            return None
        return _Step(entry.path, node, marks.opaque, None, below, moved)

    def _add(self, change: Change, below: bytes = b"", moved: bytes = b"") -> None:
        key = change.kind, change.path
        self._changes[key] = change
        self._below[key] = below, moved

    def _what(self, before: Stack, node: Node, was: Node) -> tuple[str, ...]:
        return tuple(islice(differences(self._after, node, before, was), self._most))

    # -- renamed files: known by their origin, since only directories bear redirects

    def _note_arrival(self, entry: _Entry, was: Node | None) -> None:
        part = entry.found.part
        mark = origin.decode(self._after.marks.of_file(part.open(), entry.name).origin)
        if mark is None:
            return
        if was is not None and not was.is_dir:
            own = origin.decode(origin.encode(was.layer, was.part.open(), was.name))
            if own is not None and own.handle == mark.handle:
                return
        self._arrivals.append((mark.handle, entry.path))

    def _pair_files(self, before: Stack) -> None:
        """An arrival whose origin is a deleted file is that file, renamed."""
        for handle, path in self._arrivals:
            source = self._deleted.pop(handle, None)
            if source is None:
                continue
            change = self._changes.pop(("A", path), None)
            if change is None:
                # Something else was at this path, and went when the file took its place.
                change = self._changes.pop(("C", path), None)
                if change is None:
                    continue
                self._add(Change("D", path, type=change.type), *self._below["C", path])
            node, was = _reach(self._after, path), _reach(before, source)
            what = () if node is None or was is None else self._what(before, node, was)
            self._renamed.add(source)
            self._add(Change("R", path, source, change.type, what))

    def _settle_renames(self, before: Stack | None) -> None:
        """What was renamed away was not deleted, and what stands in its place now is new."""
        for key, change in list(self._changes.items()):
            if change.kind not in "CD":
                continue
            if self._moved_away(*self._below[key]):
                del self._changes[key]
                if change.kind == "C":
                    self._add(Change("A", change.path, type=change.type))
            elif change.kind == "C" and not change.what and before is not None:
                del self._changes[key]

    def _moved_away(self, below: bytes, moved: bytes) -> bool:
        """Whether a lower object is now elsewhere than where the walk that met it began."""
        while below and below not in self._renamed:
            below = below.rpartition(b"/")[0]
        return below != b"" and below != moved

    def _keep_parents(self) -> None:
        """Without lower layers: a directory was there before if anything in it was."""
        for (kind, path), change in list(self._changes.items()):
            above = path.rpartition(b"/")[0]
            stayed = kind == "R" and (change.source or b"").startswith(above + b"/")
            if kind in "CD" or stayed:
                while above and self._changes.pop(("A", above), None) is not None:
                    above = above.rpartition(b"/")[0]


def _known(stack: Stack, parent: Directory, name: bytes) -> Node | None:
    found = find(stack, parent, name)
    return None if found is None else node_of(stack, parent, name, found)


def _reach(stack: Stack, path: bytes) -> Node | None:
    """The object at a path of a stack's tree."""
    node: Node | None = stack.root
    for name in path.strip(b"/").split(b"/"):
        node = _known(stack, node, name) if isinstance(node, Directory) else None
    return node


def _hard_links(stack: Stack) -> Iterator[tuple[bytes, Node, Found]]:
    """Every visible name, outside the topmost layer, of a non-directory with several names."""
    top = stack.layers[0]
    steps = [(b"", stack.root)]
    while steps:
        path, directory = steps.pop()
        listed = scan(stack, directory)
        for name in () if listed is None else listed[0]:
            found = find(stack, directory, name)
            if found is None:
                continue
            if not found.is_dir and (found.part.layer is top or found.stat.st_nlink < 2):
                continue
            node = node_of(stack, directory, name, found)
            if isinstance(node, Directory):
                node.pins += 1
                steps.append((path + b"/" + name, node))
            else:
                yield path + b"/" + name, node, found
