# SPDX-License-Identifier: GPL-3.0-or-later
"""From a name to the objects that stand for it, and from those to the node.

One pass from the topmost layer down (docs/semantics.md, "Lookup"): a whiteout ends it, a
non-directory ends it, directories are collected until one is opaque. A redirect changes what is
sought in the layers below it. Nothing here changes a layer.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs import origin
from unionfs.layer import Part
from unionfs.links import indexed_place, joins_names, read_links
from unionfs.marks import DirectoryMarks, FileMarks, exists
from unionfs.node import DT_DIRECTORY, Directory, Node
from unionfs.origin import public_ino
from unionfs.readdir import load_names
from unionfs.stack import NAMES_LIMIT, Stack
from unionfs.typed import Final, NamedTuple, Sequence

NAME_MAX: Final = 255
# After so many lookups that had to ask several layers, a directory's name map is read.
_PROBES: Final = 2
# In a directory of one layer: after so many misses, if there are at most so many names.
_MISSES: Final = 8
_FEW_NAMES: Final = 4096

# This way every first lookup goes, so calls that can be spared are.
_stat: Final = os.stat
_new_tuple: Final = tuple.__new__
_FORMAT: Final = 0o170000
_DIRECTORY: Final = stat.S_IFDIR
_DEVICE: Final = stat.S_IFCHR
_REGULAR: Final = stat.S_IFREG
_NO_PARTS: Final[list[Part]] = []


class Found(NamedTuple):
    """What stands for a name.

    part, stat -- the topmost object: where it lies (under the sought name) and its lstat
    parts      -- for a directory, all that it merges, topmost first; else empty
    marks      -- of the topmost directory
    """

    part: Part
    stat: os.stat_result
    parts: list[Part]
    marks: DirectoryMarks | None

    @property
    def is_dir(self) -> bool:
        return self.marks is not None


def find(stack: Stack, parent: Directory, name: bytes) -> Found | None:
    """The object of a name in a merged directory, None if there is none.

    Raises OSError as the layers do, and ENAMETOOLONG for a name no layer could hold.
    """
    if len(name) > NAME_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    if parent.gone:
        return None
    if stack.descriptors.full:
        stack.descriptors.trim()
    candidates: Sequence[Part]
    parts = candidates = parent.parts
    table = parent.names
    if table is None and len(parts) > 1:
        parent.probes += 1
        if parent.probes > _PROBES:
            parent.probes = 0
            table = load_names(stack, parent, NAMES_LIMIT // 4)
            if table is None:  # too many to keep: the layers are asked, for as many lookups
                parent.probes = -NAMES_LIMIT // 4
    if table is not None:
        where = table.get(name)
        if where is None:
            return None
        if isinstance(where, int):
            candidates = (parts[where],)
        else:
            candidates = [parts[index] for index in where]
    marks = stack.marks
    if marks.wh and marks.reserved(name):
        return None
    for position, part in enumerate(candidates):
        fd = part.fd
        try:
            found = _stat(name, dir_fd=fd if fd >= 0 else part.open(), follow_symlinks=False)
        except FileNotFoundError:
            if marks.wh and marks.hides(part, name):
                return None
            continue
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            continue
        kind = found.st_mode & _FORMAT
        if kind == _DIRECTORY:
            return _directory(stack, parent, name, candidates, position, found)
        # What can be a whiteout at all: not the ordinary file, which is nearly everything.
        if (kind == _DEVICE or part.xwhiteouts) and marks.is_whiteout(part, name, found):
            return None
        return _new_tuple(Found, (part, found, _NO_PARTS, None))
    if table is None and len(parts) == 1:
        _missed(stack, parent)
    return None


def _missed(stack: Stack, parent: Directory) -> None:
    """A name was not there. Where that happens often, the names are read, if they are not many."""
    parent.probes += 1
    if parent.probes > _MISSES:
        parent.probes = 0
        if load_names(stack, parent, _FEW_NAMES) is None:
            parent.probes = -_FEW_NAMES


def _directory(
    stack: Stack,
    parent: Directory,
    name: bytes,
    candidates: Sequence[Part],
    position: int,
    found: os.stat_result,
) -> Found:
    """Collect what a directory merges, from the candidate where it was found first."""
    top = candidates[position]
    bottom = stack.layers[-1]
    parts: list[Part] = []
    first: DirectoryMarks | None = None
    seek = name
    while True:
        part = candidates[position]
        if part.layer is bottom and first is not None:
            parts.append(_child(stack, part, seek))
            break
        marks = stack.marks.of_directory(part.open(), seek)
        below = _child(stack, part, seek)
        below.xwhiteouts = marks.xwhiteouts
        parts.append(below)
        if first is None:
            first = marks
        if marks.opaque or part.layer is bottom:
            break
        if marks.redirect is not None:
            if not stack.config.follow:
                _refuse_redirect(stack, parent, part, marks.redirect)
                break
            if marks.redirect.startswith(b"/"):
                parts += _beneath(stack, part.layer.index, marks.redirect[1:])
                break
            seek = marks.redirect
            # The name map speaks of the old name: ask all layers from here on.
            candidates = [lower for lower in parent.parts if lower.layer.index > part.layer.index]
            position = -1
        following = _next_directory(stack, candidates, position + 1, seek)
        if following is None:
            break
        position = following
    return Found(top, found, parts, first)


def _refuse_redirect(stack: Stack, parent: Directory, part: Part, redirect: bytes) -> None:
    """EPERM where a redirect that is not to be followed leads to something (ovl_lookup)."""
    index = part.layer.index
    if redirect.startswith(b"/"):
        leads = bool(_beneath(stack, index, redirect[1:]))
    else:
        below = [lower for lower in parent.parts if lower.layer.index > index]
        leads = _next_directory(stack, below, 0, redirect) is not None
    if leads:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), redirect)


def _next_directory(
    stack: Stack, candidates: Sequence[Part], start: int, name: bytes
) -> int | None:
    """Where the merge goes on: the next candidate with a directory, if nothing ends it before."""
    for position in range(start, len(candidates)):
        part = candidates[position]
        try:
            found = os.stat(name, dir_fd=part.open(), follow_symlinks=False)
        except FileNotFoundError:
            if stack.marks.wh and stack.marks.hides(part, name):
                return None
            continue
        return position if stat.S_ISDIR(found.st_mode) else None
    return None


def _child(stack: Stack, part: Part, name: bytes) -> Part:
    """The part for a directory in another part; an upper one is told its path by its node."""
    where = part.where() if part.layer.index else b""
    return stack.part(part.layer, where + b"/" + name if where else name)


def _beneath(stack: Stack, above: int, path: bytes) -> list[Part]:
    """The directories that an absolute redirect names in the layers below number ``above``.

    Each step of the path obeys the marks of the layer it is sought in, and a redirect met on the
    way changes the path for the layers further down (overlayfs.rst, "redirect_dir").
    """
    parts: list[Part] = []
    steps = path.split(b"/")
    for layer in stack.layers:
        if layer.index <= above:
            continue
        part = stack.part(layer, b"")
        ends = False
        redirected: list[bytes] = []
        for number, step in enumerate(steps):
            last = number == len(steps) - 1
            try:
                found = os.stat(step, dir_fd=part.open(), follow_symlinks=False)
            except FileNotFoundError:
                ends = stack.marks.wh and stack.marks.hides(part, step)
                part.close()
                redirected += steps[number:]
                break
            if not stat.S_ISDIR(found.st_mode):
                part.close()
                ends = True
                break
            marks = stack.marks.of_directory(part.open(), step)
            below = _child(stack, part, step)
            below.xwhiteouts = marks.xwhiteouts
            part.close()
            part = below
            ends = ends or marks.opaque
            if marks.redirect is None:
                redirected.append(step)
            elif marks.redirect.startswith(b"/"):
                redirected = marks.redirect[1:].split(b"/")
            else:
                redirected.append(marks.redirect)
            if last:
                parts.append(part)
        if ends:
            break
        steps = redirected
    return parts


def node_of(stack: Stack, parent: Directory, name: bytes, found: Found) -> Node:
    """The living node of what was found, or a new one."""
    part, status, _, marks = found
    if marks is not None:
        return _directory_node(stack, parent, name, found)
    real = status.st_ino
    layer = part.layer
    if layer.index == 0:
        node = stack.living(layer, real)
        if node is not None:
            if node.fd >= 0 and node.links is None:
                stack.relocate(node, parent, part, name)
            return node
        return _upper_node(stack, parent, name, part, status)
    ino = public_ino(layer.filesystem, real)
    apart = False
    if status.st_nlink > 1:
        if stack.work is not None and stack.work.indexed:
            place = indexed_place(stack, part, name)
            if place is not None:
                return _indexed_node(stack, parent, place, ino, found, name)
        apart = not joins_names(stack, part)
    node = stack.apart(parent, name) if apart else stack.living(layer, real, ino)
    if node is not None:
        return node
    mode = status.st_mode
    node = Node(0, ino, real, mode >> 12, parent, part, name)
    if apart:
        stack.keep_apart(node)
    if (layer is not stack.layers[-1] or stack.data) and mode & _FORMAT == _REGULAR:
        _find_data(stack, node, parent, name)
    return stack.adopt(node)


def _directory_node(stack: Stack, parent: Directory, name: bytes, found: Found) -> Node:
    parts = found.parts
    shown = parts[0]
    real = found.stat.st_ino
    layer = found.part.layer
    ino = public_ino(layer.filesystem, real)
    if layer.index == 0:
        living = stack.living(layer, real)
        if living is not None:
            return living
        if len(parts) > 1:
            shown = parts[1]
            ino = public_ino(shown.layer.filesystem, os.stat(shown.open()).st_ino)
    living = stack.living(layer, real, ino)
    if living is not None:
        for part in parts:
            part.close()
        return living
    node = Directory(0, ino, real, parent, parts, name)
    if layer.index == 0:
        parts[0].path = node.merged_path
        if found.marks is not None:
            node.redirect = found.marks.redirect
            node.impure = found.marks.impure
    return stack.adopt(node)


def _upper_node(
    stack: Stack, parent: Directory, name: bytes, part: Part, found: os.stat_result
) -> Node:
    """A node for an upper object: its number may be that of where it came from."""
    layer = part.layer
    ino = public_ino(layer.filesystem, found.st_ino)
    node = Node(0, ino, found.st_ino, found.st_mode >> 12, parent, part, name)
    marks = stack.marks.of_file(node.part.open(), node.name)
    if marks.origin is not None:
        shown = _origin_ino(stack, parent, name, marks.origin)
        if shown is not None and stack.living(layer, found.st_ino, shown) is None:
            other = stack.nodes.get(shown)
            if other is None or other.ino != shown:
                node.ino = shown
        if marks.nlink is not None:
            node.links = read_links(stack, marks.origin, marks.nlink, found)
        if node.links is not None and not _is_in_index(stack, node, found):
            node.links = None
    if marks.metacopy is not None:
        node.data = _content_below(stack, parent, name, 0, marks)
    return stack.adopt(node)


def _is_in_index(stack: Stack, node: Node, found: os.stat_result) -> bool:
    """Let a node be known by its index entry, which lasts as long as any name of the file.

    False where the entry is another file, as after the upper was copied without its work directory.
    """
    assert node.links is not None
    index, entry = stack.index, node.links.name
    if index is None:
        return False
    try:
        there = os.stat(entry, dir_fd=index.open(), follow_symlinks=False)
    except FileNotFoundError:
        return False
    if there.st_ino != found.st_ino:
        return False
    node.part, node.name = index, entry
    return True


def _indexed_node(
    stack: Stack,
    parent: Directory,
    place: tuple[Part, bytes],
    ino: int,
    lower: Found,
    name: bytes,
) -> Node:
    """A node for a name that still lies in a lower layer while its file was copied up."""
    part, entry = place
    found = os.stat(entry, dir_fd=part.open(), follow_symlinks=False)
    node = stack.living(part.layer, found.st_ino, ino) or stack.living(part.layer, found.st_ino)
    if node is not None:
        return node
    node = Node(0, ino, found.st_ino, found.st_mode >> 12, parent, part, entry)
    marks = stack.marks.of_file(node.part.open(), node.name)
    if marks.origin is not None:
        node.links = read_links(stack, marks.origin, marks.nlink, found, lower.stat)
    if marks.metacopy is not None:  # the kernel's: a union copies files with several names whole
        node.data = content_of_lower(stack, parent, name, lower.part)
    return stack.adopt(node)


def content_of_lower(
    stack: Stack, parent: Directory, name: bytes, part: Part
) -> tuple[Part, bytes]:
    """Where the content of a file in a lower layer lies: in itself, or below. EIO if nowhere."""
    marks = stack.marks.of_file(part.open(), name)
    if marks.metacopy is None:
        return part, name
    return _content_below(stack, parent, name, part.layer.index, marks)


def _origin_ino(stack: Stack, parent: Directory, name: bytes, mark: bytes) -> int | None:
    """The public number of the lower object that an origin mark names, None if it cannot be told.

    Most often it lies under the same name, which costs less to ask than opening by handle, and
    works for ordinary users too.
    """
    for part in parent.parts[1:]:
        if exists(part.open(), name):
            if origin.encode(part.layer, part.open(), name) == mark:
                found = os.stat(name, dir_fd=part.open(), follow_symlinks=False)
                return public_ino(part.layer.filesystem, found.st_ino)
            break
    decoded = origin.decode(mark)
    if decoded is None:
        return None
    resolved = origin.resolve(decoded, stack.lowers)
    if resolved is None:
        return None
    layer, found = resolved
    return public_ino(layer.filesystem, found.st_ino)


def _find_data(stack: Stack, node: Node, parent: Directory, name: bytes) -> None:
    """For a lower layer that may itself have been an upper: follow its metacopy mark, if any."""
    place = content_of_lower(stack, parent, name, node.part)
    if place[0] is not node.part:
        node.data = place


def _content_below(
    stack: Stack, parent: Directory, name: bytes, above: int, marks: FileMarks
) -> tuple[Part, bytes]:
    """As `_data_place`; EIO if there is none, EPERM if a redirect not to be followed has it."""
    if marks.redirect is not None and not stack.config.follow:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), name)
    place = _data_place(stack, parent, name, above, marks.redirect)
    if place is None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)
    return place


def _data_place(
    stack: Stack, parent: Directory, name: bytes, above: int, redirect: bytes | None
) -> tuple[Part, bytes] | None:
    """Where the content of a file lies of which layer ``above`` has only the metadata.

    The kernel's rule (overlayfs.rst, "Metadata only copy up"): the same name in the parent's
    lower parts, or where the redirect says; each may again be a metacopy. What an absolute redirect
    names in none of the layers is sought in the data-only layers.
    """
    path = redirect[1:] if redirect is not None and redirect.startswith(b"/") else None
    if path is not None:
        directory, _, name = path.rpartition(b"/")
        if directory:
            parts = _beneath(stack, above, directory)
        else:
            parts = [stack.part(layer, b"") for layer in stack.layers if layer.index > above]
    else:
        parts = [part for part in parent.parts if part.layer.index > above]
        name = redirect or name
    for part in parts:
        try:
            found = os.stat(name, dir_fd=part.open(), follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            return None
        marks = stack.marks.of_file(part.open(), name)
        if marks.metacopy is None:
            return part, name
        if marks.redirect is not None:
            return _data_place(stack, parent, name, part.layer.index, marks.redirect)
    return None if path is None else _data_only(stack, path)


def _data_only(stack: Stack, path: bytes) -> tuple[Part, bytes] | None:
    """The first regular file of a path in the data-only layers, whose marks mean nothing."""
    directory, _, name = path.rpartition(b"/")
    for layer in stack.data:
        part = stack.part(layer, directory)
        try:
            found = os.stat(name, dir_fd=part.open(), follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                raise
            continue
        if stat.S_ISREG(found.st_mode):
            return part, name
    return None


def is_directory(node: Node) -> bool:
    return node.kind == DT_DIRECTORY
