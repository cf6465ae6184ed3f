# SPDX-License-Identifier: GPL-3.0-or-later
"""The topmost layers of a stack as one that stands for itself: an upper about to be committed.

Every object comes in full, whatever the marks on the layers say of it: the content of metadata-only
copies, all that is in a renamed directory, the names that still lie below of a hard link that was
changed. What remains are the two marks that any layer has words for: a name is gone (whiteout), a
directory hides what is below it (opaque). Nothing is mounted, and the layers may be in use.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs import journal, origin, xattrs
from unionfs.config import MountConfig
from unionfs.errors import UnionError
from unionfs.layer import Part, open_layer
from unionfs.light import contextlib
from unionfs.links import names_in_tree
from unionfs.lookup import Found, content_of_lower, find, node_of
from unionfs.marks import DirectoryMarks
from unionfs.node import DT_DIRECTORY, Directory, Node, read_symlink
from unionfs.readdir import entries, scan
from unionfs.stack import Stack
from unionfs.sys import calls
from unionfs.typed import Collection, Final, Iterator, Literal, NamedTuple, Sequence

__all__ = ["FlatItem", "Flattened"]

_WHITEOUT: Final = -1
_SOCKET: Final = stat.S_IFSOCK >> 12


class FlatItem(NamedTuple):
    """An object of the layer, or a mark.

    path  -- from the top of the layer, without a slash at either end; b"" is the top itself
    mark  -- "" for an object; "whiteout": nothing below shows under this name; "opaque": nothing
             below shows in this directory, which came just before
    found -- its attributes, as its layer has them; None for a mark
    node  -- for `open`, `target` and `xattrs`, until the next item is asked for
    """

    path: bytes
    mark: Literal["", "whiteout", "opaque"]
    found: os.stat_result | None = None
    node: Node | None = None

    @property
    def identity(self) -> tuple[int, int]:
        """Equal for the names of one file."""
        assert self.found is not None
        return self.found.st_dev, self.found.st_ino


class _Step(NamedTuple):
    """A directory under way: what of it is still to come, the last first.

    whole -- all that the union shows is told, no marks
    new   -- nothing in it is of a lower layer
    """

    path: bytes
    node: Directory
    names: list[bytes]
    whole: bool
    new: bool


class Flattened:
    """The layers `upper` (topmost first) as one, above the layers `lower`. A context manager.

    Iterating gives a directory before what is in it, its marks before its objects, names in order;
    the top comes first. At the end come those names in the layers below that would otherwise part
    from other names of their file, and the directories they are in. Sockets are left out.

    `work` is the work directory of a single upper: its index tells of hard links that were changed,
    its journal what need not be looked at. With `alone` the layers below are told as well: all that
    the union shows, and no mark. Raises UnionError for layers that cannot be opened,
    OSError as reading them does.

    skipped -- sockets left out so far
    """

    def __init__(
        self,
        upper: Sequence[bytes],
        lower: Sequence[bytes] = (),
        *,
        userxattr: bool = False,
        work: bytes | None = None,
        alone: bool = False,
    ) -> None:
        self.skipped = 0
        self._depth = len(upper)
        self._alone = alone
        self._bottom = alone or not lower
        self._stack = Stack(MountConfig(lower=(*upper, *lower), userxattr=userxattr))
        self._known = None if work is None else journal.read(work, upper[0])
        self._indexed: dict[bytes, Node] = {}
        self._aliases: dict[bytes, Node] = {}
        self._index: Part | None = None
        # Directories that were told; and, of lower files with several names, which names were.
        self._told: set[bytes] = set()
        self._loose: dict[tuple[int, int], set[bytes]] = {}
        if work is not None:
            try:
                self._read_index(work + b"/index")
            except OSError as error:
                self.close()
                raise UnionError("read index", work + b"/index", error) from error

    def __enter__(self) -> Flattened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the layers; idempotent."""
        if self._index is not None:
            self._index.close()
            self._index.layer.close()
            self._index = None
        self._stack.close()

    # -- one item

    def open(self, item: FlatItem) -> int:
        """A descriptor of a regular file's content, for reading; the caller's."""
        assert item.node is not None
        return item.node.open_content(os.O_RDONLY)

    def target(self, item: FlatItem) -> bytes:
        """Where a symbolic link leads."""
        assert item.node is not None
        return read_symlink(item.node)

    def xattrs(self, item: FlatItem) -> list[tuple[bytes, bytes]]:
        """The xattrs as a user of the union sees them, by name: no marks."""
        node = item.node
        assert node is not None
        if not isinstance(node, Directory) and calls.lacks_xattrs(node.part.open(), node.name):
            return []
        found = []
        for name in sorted(xattrs.listxattr(self._stack, node)):
            try:
                found.append((name, xattrs.getxattr(self._stack, node, name)))
            except OSError as error:
                if error.errno != errno.ENODATA:  # gone since it was listed
                    raise
        return found

    # -- all items

    def __iter__(self) -> Iterator[FlatItem]:
        stack = self._stack
        root = stack.root
        opaque = stack.marks.of_directory(root.parts[0].open(), b".").opaque
        yield FlatItem(b"", "", root.real_stat(), root)
        steps: list[_Step] = []
        yield from self._enter(steps, b"", root, opaque, whole=self._alone, new=False)
        while steps:
            step = steps[-1]
            if not step.names:
                steps.pop()
                step.node.pins -= 1
                stack.settle(step.node)
                continue
            yield from self._entry(steps, step, step.names.pop())
        if not self._alone:
            yield from self._other_names()

    def _enter(
        self,
        steps: list[_Step],
        path: bytes,
        directory: Directory,
        opaque: bool,
        *,
        whole: bool,
        new: bool,
    ) -> Iterator[FlatItem]:
        """Tell the marks in a directory, and put its names down as what comes next."""
        stack = self._stack
        if stack.descriptors.full:
            stack.descriptors.trim()
        if opaque and not self._bottom:
            yield FlatItem(path, "opaque")
        prefix = path + b"/" if path else b""
        self._told.add(path)
        names: set[bytes] = set()
        if whole:
            listed = scan(stack, directory)
            assert listed is not None
            names.update(listed.types)
        else:
            gone: set[bytes] = set()
            for part in directory.parts:
                if part.layer.index > self._depth:
                    break
                below: set[bytes] = set()
                for name, kind, _ in entries(stack, part):
                    if name not in gone:
                        (below if kind == _WHITEOUT else names).add(name)
                gone |= below
            gone -= names
            if not (self._bottom or opaque):
                for name in sorted(gone):
                    yield FlatItem(prefix + name, "whiteout")
            if self._aliases:
                names |= self._alias_names(path)
        directory.pins += 1
        steps.append(_Step(path, directory, sorted(names, reverse=True), whole, new))

    def _entry(self, steps: list[_Step], step: _Step, name: bytes) -> Iterator[FlatItem]:
        stack = self._stack
        path = step.path + b"/" + name if step.path else name
        if step.new:
            # What it is need not be found out: there are no marks in a new directory.
            part = step.node.parts[0]
            now = os.stat(name, dir_fd=part.open(), follow_symlinks=False)
            kind = now.st_mode >> 12
            if kind != DT_DIRECTORY:
                yield from self._plain(path, Node(0, 0, now.st_ino, kind, None, part, name), now)
                return
        found = find(stack, step.node, name)
        if found is None:  # gone since it was listed
            return
        node = node_of(stack, step.node, name, found)
        try:
            if isinstance(node, Directory):
                yield FlatItem(path, "", found.stat, node)
                assert found.marks is not None
                yield from self._directory(steps, step, path, node, found.marks)
            else:
                changed = self._changed_elsewhere(step.node, path, found)
                if changed is None:
                    if found.stat.st_nlink > 1 and found.part.layer.index > self._depth:
                        key = found.part.layer.index, found.stat.st_ino
                        self._loose.setdefault(key, set()).add(path)
                    yield from self._plain(path, node, found.stat)
                else:
                    yield from self._plain(path, changed, changed.real_stat())
        finally:
            stack.settle(node)

    def _plain(self, path: bytes, node: Node, found: os.stat_result) -> Iterator[FlatItem]:
        if node.kind == _SOCKET:
            self.skipped += 1
        else:
            yield FlatItem(path, "", found, node)

    def _directory(
        self, steps: list[_Step], step: _Step, path: bytes, node: Directory, marks: DirectoryMarks
    ) -> Iterator[FlatItem]:
        # One of the layers below comes only for the sake of a hard link, and says nothing itself.
        mine = node.parts[0].layer.index <= self._depth
        moved = mine and marks.redirect is not None
        new = step.new or self._is_new(node)
        if step.whole:
            yield from self._enter(steps, path, node, False, whole=True, new=new)
            return
        hides = moved or (mine and marks.opaque) or self._hides(step.node, node)
        if self._skips(path, node, moved):
            return
        yield from self._enter(steps, path, node, hides, whole=moved, new=new)

    def _is_new(self, node: Directory) -> bool:
        known = self._known
        if known is None or known.mixed or node.parts[0].layer.index > self._depth:
            return False
        return len(node.parts) == 1

    def _skips(self, path: bytes, node: Directory, moved: bool) -> bool:
        """Whether the journal says that nothing in a directory was changed."""
        known = self._known
        if known is None or moved or len(node.parts) == 1:
            return False
        # What is below a renamed directory is told as a whole, and does not come here.
        return path not in known.directories and not any(
            alias.startswith(path + b"/") for alias in self._aliases
        )

    def _hides(self, parent: Directory, node: Directory) -> bool:
        """Whether a directory hides what the layers below the flattened ones have there."""
        depth, marks = self._depth, self._stack.marks
        mine = [part for part in node.parts if part.layer.index <= depth]
        if depth == 1 or len(mine) < len(node.parts):
            return False
        last = mine[-1]
        above, name = last.where().rpartition(b"/")[::2]
        for part in parent.parts:
            if part.layer is last.layer and part.where() == above:
                if marks.of_directory(part.open(), name).opaque:
                    return True
            elif last.layer.index < part.layer.index <= depth:
                # A whiteout, or something that is no directory, ended the merge.
                with contextlib.suppress(FileNotFoundError):
                    os.stat(node.name, dir_fd=part.open(), follow_symlinks=False)
                    return True
        return False

    # -- hard links of lower files (overlayfs.rst, "Index directory")

    def _changed_elsewhere(self, parent: Directory, path: bytes, found: Found) -> Node | None:
        """For a name that lies in a lower layer: the file that was changed by another name."""
        if not self._indexed or found.part.layer.index <= self._depth:
            return None
        if found.stat.st_nlink < 2:
            return None
        name = path.rpartition(b"/")[2]
        changed = self._aliases.get(path)
        if changed is None:
            mark = origin.encode(found.part.layer, found.part.open(), name)
            changed = None if mark is None else self._indexed.get(origin.index_name(mark))
        if changed is not None and changed.data is None:
            marks = self._stack.marks.of_file(changed.part.open(), changed.name)
            if marks.metacopy is not None:
                changed.data = content_of_lower(self._stack, parent, name, found.part)
        return changed

    def _read_index(self, index: bytes) -> None:
        """Learn which lower files were changed, and which of their names lie below only."""
        try:
            names = os.listdir(index)
        except FileNotFoundError:
            return
        if not names:
            return
        stack = self._stack
        layer = open_layer(index, len(stack.layers) + 1)
        part = stack.part(layer, b"")
        part.adopt(os.dup(layer.root))
        self._index = part
        sought: dict[int, dict[int, Node]] = {}
        for entry in names:
            found = os.stat(entry, dir_fd=part.open(), follow_symlinks=False)
            decoded = _origin(entry)
            if stat.S_ISDIR(found.st_mode) or decoded is None:
                continue
            node = Node(0, found.st_ino, found.st_ino, found.st_mode >> 12, None, part, entry)
            self._indexed[entry] = node
            if self._alone:
                continue  # each of its names will be met
            lower = origin.resolve(decoded, stack.layers[self._depth :])
            mark = stack.marks.of_file(part.open(), entry).nlink
            names_now = names_in_tree(mark, found, None if lower is None else lower[1])
            # All but one of its links are names in upper; are there more in the tree?
            if lower is not None and names_now > found.st_nlink - 1:
                for each in stack.layers[self._depth :]:
                    if each.device == lower[1].st_dev:
                        sought.setdefault(each.index, {})[lower[1].st_ino] = node
        for number, inodes in sought.items():
            for path, inode in self._names_of(number, inodes.keys()):
                self._aliases[path] = inodes[inode]

    def _other_names(self) -> Iterator[FlatItem]:
        """The names of lower files of which other names, in renamed directories, were told."""
        sought: dict[int, dict[int, set[bytes]]] = {}
        for (number, inode), told in self._loose.items():
            sought.setdefault(number, {})[inode] = told
        for number, inodes in sought.items():
            for path, inode in sorted(self._names_of(number, inodes.keys())):
                if path not in inodes[inode]:
                    yield from self._bring(path)

    def _bring(self, path: bytes) -> Iterator[FlatItem]:
        """Tell an object of a lower layer, and the directories above it."""
        stack = self._stack
        node: Node = stack.root
        names = path.split(b"/")
        for number, name in enumerate(names, 1):
            assert isinstance(node, Directory)
            found = find(stack, node, name)
            assert found is not None
            node = node_of(stack, node, name, found)
            above = b"/".join(names[:number])
            if above not in self._told:
                if node.is_dir:
                    self._told.add(above)
                yield FlatItem(above, "", found.stat, node)
        stack.settle(node)

    def _names_of(self, number: int, inodes: Collection[int]) -> Iterator[tuple[bytes, int]]:
        """The names in one lower layer of files by their inode numbers, where they show."""
        stack = self._stack
        layer = next(each for each in stack.layers if each.index == number)
        pending = [b""]
        while pending:
            path = pending.pop()
            part = stack.part(layer, path)
            try:
                listed = list(entries(stack, part))
            finally:
                part.close()
            for name, kind, inode in listed:
                below = path + b"/" + name if path else name
                if kind == DT_DIRECTORY:
                    pending.append(below)
                elif inode in inodes and self._shows(below, layer.index, inode):
                    yield below, inode

    def _shows(self, path: bytes, layer: int, inode: int) -> bool:
        """Whether the union shows an object of a layer at a path."""
        stack = self._stack
        node: Node = stack.root
        *above, last = path.split(b"/")
        for name in above:
            found = find(stack, node, name) if isinstance(node, Directory) else None
            if found is None:
                return False
            assert isinstance(node, Directory)
            node = node_of(stack, node, name, found)
        if not isinstance(node, Directory):
            return False
        found = find(stack, node, last)
        return (
            found is not None
            and found.part.layer.index == layer
            and found.stat.st_ino == inode
            and found.part.where() == path.rpartition(b"/")[0]
        )

    def _alias_names(self, path: bytes) -> set[bytes]:
        """What is to be told in a directory for the sake of the aliases below it."""
        prefix = path + b"/" if path else b""
        rest = (alias[len(prefix) :] for alias in self._aliases if alias.startswith(prefix))
        return {name.partition(b"/")[0] for name in rest}


def _origin(entry: bytes) -> origin.Origin | None:
    """What an entry of the index stands for; None for anything else that lies there."""
    try:
        return origin.decode(bytes.fromhex(entry.decode("ascii")))
    except ValueError:
        return None
