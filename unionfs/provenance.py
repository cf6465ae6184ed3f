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
from dataclasses import replace
from typing import Literal, NamedTuple

from unionfs import origin
from unionfs.config import MountConfig
from unionfs.difference import KINDS, differences
from unionfs.errors import UnionError
from unionfs.layer import Layer, Part
from unionfs.lookup import find, node_of
from unionfs.marks import DirectoryMarks
from unionfs.node import Directory, Node
from unionfs.stack import Stack
from unionfs.sys import calls

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
        plain = replace(config, upper=None, work=None, volatile=False, xattrs=True, acl=True)
        after = Stack(replace(plain, lower=upper + config.lower))
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

    part   -- the directory of the last name, None if it is not there
    name   -- the last name as this layer knows it
    found  -- lstat of the object, None if there is none
    hidden -- what keeps this layer out of the union here, None if nothing does
    """

    layer: Layer
    part: Part | None
    name: bytes
    found: os.stat_result | None
    hidden: Decision | None
    whiteout: bool = False

    @property
    def is_dir(self) -> bool:
        return self.found is not None and stat.S_ISDIR(self.found.st_mode)

    @property
    def where(self) -> bytes:
        above = b"" if self.part is None else self.part.where()
        return above + b"/" + self.name if above else self.name


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
        tracks = list(self._tops())
        for name in names:
            tracks = self._descend(tracks, name)
        sightings = tuple(self._sightings(tracks))
        shown = next((each for each in sightings if each.role == "shown"), None)
        if shown is not None and shown.number > 0 and self._index is not None:
            sightings = self._indexed(self._index, tracks, sightings)
        explanation = Explanation(
            b"/" + b"/".join(names),
            None if shown is None else shown.type,
            sightings,
            tuple(self._decisions),
        )
        if self._before is None or shown is None or shown.number != 0 or not names:
            return explanation
        return self._add_origin(self._before, explanation, names, tracks)

    # -- layer by layer

    def _tops(self) -> Iterator[_Track]:
        ended: Decision | None = None
        for layer in self._after.layers:
            part = self._after.part(layer, b"")
            part.adopt(os.dup(layer.root))
            marks = self._after.marks.of_directory(layer.root, b".")
            part.xwhiteouts = marks.xwhiteouts
            yield _Track(layer, part, b".", os.stat(layer.root), ended)
            if marks.opaque and self._after.marks.wh and ended is None:
                ended = Decision("opaque", layer.path, b"")
                self._decisions.append(ended)

    def _descend(self, tracks: list[_Track], name: bytes) -> list[_Track]:
        """Follow one more name in every layer, as far as it goes there."""
        result: list[_Track] = []
        seek = name
        ended: Decision | None = None
        merging = False
        for position, track in enumerate(tracks):
            hidden = track.hidden or ended
            reached = self._step(track, seek, hidden)
            if hidden is not None:
                result.append(reached)
                continue
            decision, marks = self._judge(reached, merging)
            if decision is not None and decision.mark == "cover" and merging:
                # A non-directory below a directory is not part of it, and ends it.
                above = next(each for each in result if each.is_dir and each.hidden is None)
                cover = Decision("cover", above.layer.path, above.where)
                reached = reached._replace(hidden=cover)
                decision = cover
            result.append(reached)
            merging = merging or reached.is_dir
            if marks is not None and marks.redirect is not None:
                redirect = Decision("redirect", track.layer.path, reached.where, marks.redirect)
                self._decisions.append(redirect)
                if marks.redirect.startswith(b"/"):
                    result += self._elsewhere(tracks[position + 1 :], marks.redirect)
                    return result
                seek = marks.redirect
            if decision is not None:
                ended = decision
                self._decisions.append(decision)
        return result

    def _elsewhere(self, tracks: list[_Track], path: bytes) -> list[_Track]:
        """The layers below an absolute redirect, followed anew from their tops."""
        layers = {track.layer.index for track in tracks}
        again = [track for track in self._tops() if track.layer.index in layers]
        for name in path[1:].split(b"/"):
            again = self._descend(again, name)
        return again

    def _step(self, track: _Track, name: bytes, hidden: Decision | None) -> _Track:
        """One name further in one layer."""
        below = _Track(track.layer, None, name, None, hidden)
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

    def _judge(self, track: _Track, merging: bool) -> tuple[Decision | None, DirectoryMarks | None]:
        """What an object that is not hidden means for the layers below it."""
        layer, where = track.layer.path, track.where
        if track.whiteout:
            return Decision("whiteout", layer, where), None
        if track.found is None:
            return None, None
        if not track.is_dir:
            return Decision("cover", layer, where), None
        assert track.part is not None
        marks = self._after.marks.of_directory(track.part.open(), track.name)
        return (Decision("opaque", layer, where) if marks.opaque else None), marks

    def _sightings(self, tracks: list[_Track]) -> Iterator[Sighting]:
        shown = False
        for track in tracks:
            role: Role
            if track.whiteout:
                kind, role = "whiteout", "whiteout"
            elif track.found is None:
                continue
            else:
                kind = KINDS[stat.S_IFMT(track.found.st_mode) >> 12]
                role = "hidden" if track.hidden is not None else "merged" if shown else "shown"
                shown = shown or role == "shown"
            where = b"" if track.name == b"." else track.where
            yield Sighting(track.layer.path, track.layer.index - self._uppers, where, kind, role)

    def _indexed(
        self, index: bytes, tracks: list[_Track], known: tuple[Sighting, ...]
    ) -> tuple[Sighting, ...]:
        """What a lower file with several names has become, if it was changed by one of the others.

        Its present state is then only in the index (overlayfs.rst, "Index directory").
        """
        track = next(each for each in tracks if each.found is not None and each.hidden is None)
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
        self, before: Stack, known: Explanation, names: list[bytes], tracks: list[_Track]
    ) -> Explanation:
        """Say which lower object an upper one was, if any, and what differs now."""
        top, *lower = tracks
        below = next((each for each in lower if each.found is not None), None)
        if top.is_dir:
            # A directory that is not merged with one below was made here.
            place = below if below is not None and below.hidden is None else None
            mark = None
        else:
            assert top.part is not None
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
