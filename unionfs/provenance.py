# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a path of a union shows what it shows: each layer's say in it, and which mark decided.

The layers are walked here one by one, the hidden ones too, which lookup never visits; what is
*shown* follows the same rules (docs/semantics.md, "Lookup"). No mount is needed or disturbed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from unionfs import origin
from unionfs.config import MountConfig
from unionfs.difference import KINDS, differences
from unionfs.errors import UnionError
from unionfs.layer import Layer, Part
from unionfs.lookup import find, node_of
from unionfs.node import Directory, Node
from unionfs.stack import Stack
from unionfs.sys import calls
from unionfs.typed import Literal, NamedTuple

__all__ = ["Decision", "Explanation", "Sighting", "explain"]

Role = Literal["shown", "merged", "hidden", "whiteout"]


class Decision(NamedTuple):
    """A mark that decided, or an object that covers what is below it.

    mark  -- "whiteout", "opaque", "redirect", "cover", or "index" for a lower file that was changed
             under another of its names
    layer -- path of the layer it is in
    path  -- of the marked object in that layer, without a slash in front
    value -- for a redirect: the name that is sought in the layers below
    """

    mark: Literal["whiteout", "opaque", "redirect", "cover", "index"]
    layer: bytes
    path: bytes
    value: bytes | None = None


class Sighting(NamedTuple):
    """What one layer holds for the path.

    layer -- path of the layer; number is 0 for the upper, and counts the lowers from 1 down
    path  -- of the object in that layer, without a slash in front
    type  -- "file", "directory" …, or "whiteout"
    role  -- "shown" for what the union shows, "merged" for a directory that adds its entries to
             it, "hidden" for what is covered, "whiteout"
    """

    layer: bytes
    number: int
    path: bytes
    type: str
    role: Role


class Explanation(NamedTuple):
    """All there is to say of one path.

    path      -- in the union, from its top
    type      -- of what is shown; None if there is nothing
    sightings -- topmost layer first; layers without the name are left out
    decisions -- in the order they were met on the way from the top
    copied_up -- for an upper object that was a lower one: in what it differs now ("mode", "times",
                 "content" …; nothing: it was opened for writing, linked or renamed, or is an
                 ancestor of something that was changed); else None
    origin    -- for such an object: (layer, path) of what it was, where that can be told
    """

    path: bytes
    type: str | None
    sightings: tuple[Sighting, ...]
    decisions: tuple[Decision, ...]
    copied_up: tuple[str, ...] | None = None
    origin: tuple[bytes, bytes] | None = None


def explain(config: MountConfig, path: bytes) -> Explanation:
    """What the union of `config` shows at `path` (from its top), and why. Raises UnionError."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if b".." in names:
        raise UnionError("explain", path, "a path in a union has no '..'")
    upper = () if config.upper is None else (config.upper,)
    after: Stack | None = None
    before: Stack | None = None
    try:
        plain = config._replace(upper=None, work=None, volatile=False, xattrs=True, acl=True)
        after = Stack(plain._replace(lower=upper + config.lower))
        before = Stack(plain) if upper else None
        index = config.work + b"/index" if config.index and config.work else None
        return _Walk(after, before, len(upper), index).run(names)
    except OSError as error:
        raise UnionError("explain", path, error) from error
    finally:
        for stack in (after, before):
            if stack is not None:
                stack.close()


class _Track(NamedTuple):
    """How far the path was followed in one layer.

    part  -- the directory of the last name, None if it is not there
    name  -- the last name as this layer knows it
    found -- lstat of the object, None if there is none
    """

    layer: Layer
    part: Part | None
    name: bytes
    found: os.stat_result | None
    whiteout: bool = False

    @property
    def is_dir(self) -> bool:
        return self.found is not None and stat.S_ISDIR(self.found.st_mode)

    @property
    def where(self) -> bytes:
        above = b"" if self.part is None else self.part.where()
        return above + b"/" + self.name if above else self.name


class _Group(NamedTuple):
    """Layers that merge with each other, topmost first; the first group is what the union shows.

    What ends the merge (a whiteout, an opaque directory, a file) begins a new group of the layers
    below it: they are hidden, but go on as a union of their own, with their own redirects.
    """

    tracks: list[_Track]
    hidden: bool


class _Walk:
    """One run of `explain`."""

    def __init__(
        self, after: Stack, before: Stack | None, uppers: int, index: bytes | None
    ) -> None:
        self._after = after
        self._before = before
        self._uppers = uppers
        self._index = index
        self._decisions: list[Decision] = []

    def run(self, names: list[bytes]) -> Explanation:
        groups = self._follow(self._after.layers, names, hidden=False)
        sightings = tuple(self._sightings(groups))
        shown = next((each for each in sightings if each.role == "shown"), None)
        if shown is not None and shown.number > 0 and self._index is not None:
            sightings = self._indexed(self._index, groups, sightings)
        explanation = Explanation(
            b"/" + b"/".join(names),
            None if shown is None else shown.type,
            sightings,
            tuple(self._decisions),
        )
        if self._before is None or shown is None or shown.number != 0 or not names:
            return explanation
        return self._add_origin(self._before, explanation, names, groups)

    # -- layer by layer

    def _follow(self, layers: list[Layer], names: list[bytes], *, hidden: bool) -> list[_Group]:
        """Follow a path in some layers, from their tops."""
        groups = [_Group([], hidden)]
        for layer in layers:
            part = self._after.part(layer, b"")
            part.adopt(os.dup(layer.root))
            marks = self._after.marks.of_directory(layer.root, b".")
            part.xwhiteouts = marks.xwhiteouts
            groups[-1].tracks.append(_Track(layer, part, b".", os.stat(layer.root)))
            if marks.opaque and self._after.marks.wh:
                self._decide(groups[-1], Decision("opaque", layer.path, b""))
                groups.append(_Group([], True))
        for name in names:
            groups = [below for group in groups for below in self._descend(group, name)]
        return groups

    def _decide(self, group: _Group, decision: Decision) -> None:
        """Take down what decided; within what is hidden anyway nothing does."""
        if not group.hidden:
            self._decisions.append(decision)

    def _descend(self, group: _Group, name: bytes) -> list[_Group]:
        """Follow one more name in the layers of a group; it may fall apart."""
        reached: list[_Track] = []
        covered: list[_Group] = []
        merging = False
        for position, track in enumerate(group.tracks):
            rest = group.tracks[position + 1 :]
            below = self._step(track, name)
            if merging and below.found is not None and not below.is_dir:
                # A non-directory below a directory is not part of it, and ends the merge.
                covered += self._descend(_Group([track, *rest], True), name)
                break
            reached.append(below)
            ends, redirect = self._judge(group, below)
            merging = merging or below.is_dir
            if ends or redirect is not None:
                # What the layers below have under this name is covered; a redirect leads elsewhere.
                covered += self._descend(_Group(rest, True), name)
            if redirect is not None:
                if redirect.startswith(b"/"):
                    beneath, *more = self._elsewhere(group, below.layer, redirect)
                    reached += beneath.tracks
                    covered += more
                    break
                name = redirect
            if ends:
                break
        return [group._replace(tracks=reached), *covered]

    def _elsewhere(self, group: _Group, above: Layer, redirect: bytes) -> list[_Group]:
        """What an absolute redirect names in the layers below: in all of them, from their tops."""
        layers = [layer for layer in self._after.layers if layer.index > above.index]
        first, *more = self._follow(layers, redirect[1:].split(b"/"), hidden=group.hidden)
        # Directories go on merging; anything else is hidden by the directory redirected here.
        ends = (at for at, each in enumerate(first.tracks) if each.found and not each.is_dir)
        end = next(ends, len(first.tracks))
        return [_Group(first.tracks[:end], group.hidden), _Group(first.tracks[end:], True), *more]

    def _step(self, track: _Track, name: bytes) -> _Track:
        """One name further in one layer."""
        below = _Track(track.layer, None, name, None)
        if not track.is_dir:
            return below
        part = self._entered(track)
        below = below._replace(part=part)
        marks = self._after.marks
        try:
            found = os.stat(name, dir_fd=part.open(), follow_symlinks=False)
        except FileNotFoundError:
            return below._replace(whiteout=marks.wh and marks.hides(part, name))
        if not stat.S_ISDIR(found.st_mode) and marks.is_whiteout(part, name, found):
            return below._replace(whiteout=True)
        return below._replace(found=found)

    def _entered(self, track: _Track) -> Part:
        """The part for the directory a track has come to."""
        assert track.part is not None
        if track.name == b".":
            return track.part
        part = self._after.part(track.layer, track.where)
        marks = self._after.marks.of_directory(track.part.open(), track.name)
        part.xwhiteouts = marks.xwhiteouts
        return part

    def _judge(self, group: _Group, track: _Track) -> tuple[bool, bytes | None]:
        """Whether an object ends the merge with the layers below it, and its redirect."""
        layer, where = track.layer.path, track.where
        if track.whiteout:
            self._decide(group, Decision("whiteout", layer, where))
            return True, None
        if track.found is None:
            return False, None
        if not track.is_dir:
            self._decide(group, Decision("cover", layer, where))
            return True, None
        assert track.part is not None
        marks = self._after.marks.of_directory(track.part.open(), track.name)
        if marks.opaque:
            self._decide(group, Decision("opaque", layer, where))
            return True, None
        if marks.redirect is not None:
            self._decide(group, Decision("redirect", layer, where, marks.redirect))
            if not self._after.config.follow:
                return True, None
        return False, marks.redirect

    def _sightings(self, groups: list[_Group]) -> Iterator[Sighting]:
        shown = False
        for group in groups:
            for track in group.tracks:
                role: Role
                if track.whiteout:
                    kind, role = "whiteout", "hidden" if group.hidden else "whiteout"
                elif track.found is None:
                    continue
                else:
                    kind = KINDS[stat.S_IFMT(track.found.st_mode) >> 12]
                    role = "hidden" if group.hidden else "merged" if shown else "shown"
                    shown = shown or role == "shown"
                where = b"" if track.name == b"." else track.where
                yield Sighting(
                    track.layer.path, track.layer.index - self._uppers, where, kind, role
                )

    def _indexed(
        self, index: bytes, groups: list[_Group], known: tuple[Sighting, ...]
    ) -> tuple[Sighting, ...]:
        """What a lower file with several names has become, if it was changed by one of the others.

        Its present state is then only in the index (overlayfs.rst, "Index directory").
        """
        track = next(_found(groups, hidden=False))
        assert track.found is not None
        assert track.part is not None
        if track.is_dir or track.found.st_nlink < 2:
            return known
        mark = origin.encode(track.layer, track.part.open(), track.name)
        if mark is None:
            return known
        name = origin.index_name(mark)
        try:
            found = os.lstat(index + b"/" + name)
        except OSError:
            return known
        self._decisions.append(Decision("index", index, name))
        kind = KINDS[stat.S_IFMT(found.st_mode) >> 12]
        covered = (each._replace(role="hidden") for each in known)
        return (Sighting(index, 0, name, kind, "shown"), *covered)

    # -- where an upper object came from

    def _add_origin(
        self, before: Stack, known: Explanation, names: list[bytes], groups: list[_Group]
    ) -> Explanation:
        """Say which lower object an upper one was, if any, and what differs now."""
        visible = _found(groups, hidden=False)
        top = next(visible)
        mark = None
        if top.is_dir:
            # A directory that is not merged with one below was made here.
            place = next(visible, None)
        else:
            assert top.part is not None
            below = next(_found(groups, hidden=True), None)
            mark = origin.decode(self._after.marks.of_file(top.part.open(), top.name).origin)
            named = not self._after.marks.wh  # the aufs format has no origin marks
            place = below if below is not None and _was(top, below, mark, named) else None
        if place is not None:
            layer, where = place.layer, place.where
        else:
            resolved = None if mark is None else _by_handle(before, mark)
            if resolved is None:
                return known
            layer, where = resolved
        node, was = _reach(self._after, names), _reach(before, where.split(b"/"))
        what: tuple[str, ...] = ()
        if node is not None and was is not None:
            what = tuple(differences(self._after, node, before, was))
        return known._replace(copied_up=what, origin=(layer.path, where))


def _found(groups: list[_Group], *, hidden: bool) -> Iterator[_Track]:
    """The layers that have the object, among the hidden ones or the others."""
    for group in groups:
        if group.hidden == hidden:
            yield from (track for track in group.tracks if track.found is not None)


def _was(top: _Track, below: _Track, mark: origin.Origin | None, named: bool) -> bool:
    """Whether an upper non-directory was copied up from the object below it.

    Where there are no origin marks (not `named`, or no file handles) an object made in place of a
    deleted one of its type is taken for a copy of it: nothing tells them apart.
    """
    assert top.found is not None
    assert below.found is not None
    assert below.part is not None
    if stat.S_IFMT(top.found.st_mode) != stat.S_IFMT(below.found.st_mode):
        return False
    own = origin.decode(origin.encode(below.layer, below.part.open(), below.name))
    return not named or own is None or (mark is not None and own.handle == mark.handle)


def _by_handle(stack: Stack, mark: origin.Origin) -> tuple[Layer, bytes] | None:
    """Where the lower object lies that an origin mark names; asks for CAP_DAC_READ_SEARCH."""
    for layer in stack.layers:
        with contextlib.suppress(OSError):
            fd = calls.open_by_handle(layer.readable(), mark.handle, os.O_PATH)
            try:
                path = os.readlink(b"/proc/self/fd/%d" % fd).lstrip(b"/")
                found = os.stat(path, dir_fd=layer.root, follow_symlinks=False)
                if os.path.samestat(found, os.stat(fd)):
                    return layer, path
            finally:
                os.close(fd)
    return None


def _reach(stack: Stack, names: list[bytes]) -> Node | None:
    """The node at a path of a stack's tree."""
    node: Node = stack.root
    for name in names:
        if not isinstance(node, Directory):
            return None
        found = find(stack, node, name)
        if found is None:
            return None
        node = node_of(stack, node, name, found)
    return node
