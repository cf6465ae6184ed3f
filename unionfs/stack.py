# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of one union and the table of nodes over them: what every other room works on.

A `Stack` has no verbs. It knows which layers there are, how marks are read, which numbers objects
get, which nodes live, and where temporary objects are made (`Workdir`).
"""

from __future__ import annotations

import gc
import os
import resource

from unionfs import journal, names, origin
from unionfs.config import MountConfig
from unionfs.errors import UnionError, shown
from unionfs.ids import Ids
from unionfs.layer import Descriptors, Layer, Part, open_layer, open_pair
from unionfs.light import contextlib
from unionfs.marks import AufsMarks, Marks, OverlayMarks
from unionfs.node import Directory, Node
from unionfs.sys import calls
from unionfs.typed import Callable, Final
from unionfs.workdir import Workdir, refuse_overlap

ROOT_ID: Final = 1
_FIRST_SPARE_ID: Final = 1 << 62
# Names kept in merged name maps, over all directories; the oldest maps are dropped beyond it.
NAMES_LIMIT: Final = 200_000
_DESCRIPTORS: Final = 4096


class Stack:
    """What one union stands on.

    config      -- what was asked for
    layers      -- all layers, topmost first; with an upper, layers[0]
    data        -- data-only layers, topmost first; they are none of `layers`
    upper, work -- the upper layer and its work directory, or None
    marks       -- how marks are read
    ids         -- where user and group ids cross
    own_ids     -- user and group id with which objects are made if nothing is done about it
    root        -- the top of the merged tree
    nodes       -- node id → living node
    index       -- the hard-link index as a part of the upper's filesystem, or None
    journal     -- where changes are noted down, or None
    lost_links  -- public number → names removed of a lower file that was never copied up
    descriptors -- open directory descriptors
    writable    -- whether changes are allowed
    """

    def __init__(self, config: MountConfig) -> None:
        self.config = config
        self.descriptors = Descriptors(_descriptor_limit())
        self.upper: Layer | None = None
        self.work: Workdir | None = None
        self.layers: list[Layer] = []
        self.data: list[Layer] = []
        self.ids = Ids(config)
        self.own_ids = (os.geteuid(), os.getegid())
        prefix = names.USER if config.userxattr else names.TRUSTED
        self.marks: Marks = (AufsMarks if config.format == "aufs" else OverlayMarks)(prefix)
        self.nodes: dict[int, Node] = {}
        self._by_ino: dict[int, Node] = {}
        self._copied: dict[int, Node] = {}
        self._apart: dict[tuple[Directory, bytes], Node] = {}
        self._spare = _FIRST_SPARE_ID
        self._former: dict[Node, list[int]] = {}
        self._maps: dict[Directory, int] = {}
        self._mapped = 0
        self._most_nodes = 0
        self.index: Part | None = None
        self.journal: journal.Journal | None = None
        self.lost_links: dict[int, int] = {}
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._open_layers()
            undo.pop_all()
        self.writable = config.upper is not None and not config.read_only

    def _open_layers(self) -> None:
        config = self.config
        if not config.lower and config.upper is None:
            raise UnionError("mount a union of", "", "no layer is given")
        if config.upper is not None:
            if config.work is None:
                raise UnionError("use upper directory", config.upper, "no work directory is given")
            refuse_overlap(config.upper, config.work, config.lower + config.data)
            self.upper, workfd = open_pair(config.upper, config.work)
            self.layers.append(self.upper)
            self.work = Workdir(config, self.upper, workfd, self.marks.prefix)
            if config.journal and not config.read_only:
                self.journal = journal.begin(self.work.fd, self.upper.root)
            if self.work.index_fd >= 0:
                self.index = self.part(self.upper, names.INDEX)
                self.index.fd = self.work.index_fd
        for index, path in enumerate(config.lower, 1):
            self.layers.append(open_layer(path, index))
        for index, path in enumerate(config.data, len(config.lower) + 1):
            self.data.append(open_layer(path, index))
        filesystems: dict[int, tuple[int, bytes]] = {}
        for layer in self.layers:
            if layer.device not in filesystems:
                filesystems[layer.device] = (len(filesystems), _uuid(layer))
            layer.filesystem, layer.uuid = filesystems[layer.device]
            if self.index is not None:
                origin.encode(layer, layer.root, b".")  # finds out whether there are handles
        parts = []
        impure = False
        for layer in self.layers:
            part = self.part(layer, b"")
            part.fd = layer.root
            parts.append(part)
            marks = self.marks.of_directory(layer.root, b".")
            part.xwhiteouts = marks.xwhiteouts
            impure = impure or (layer is self.upper and marks.impure)
            if marks.opaque and self.marks.wh:
                break
        shown = parts[1] if self.upper is not None and len(parts) > 1 else parts[0]
        real = os.stat(parts[0].open()).st_ino
        ino = origin.public_ino(shown.layer.filesystem, os.stat(shown.open()).st_ino)
        self.root = Directory(ROOT_ID, ino, real, None, parts, b"")
        self.root.pins = 1
        self.root.impure = impure
        self.nodes[ROOT_ID] = self.root

    def part(self, layer: Layer, path: bytes | Callable[[], bytes]) -> Part:
        return Part(layer, path, self.descriptors)

    def upper_layer(self) -> Layer:
        """The upper layer, for code that runs only on a writable union."""
        assert self.upper is not None
        return self.upper

    def workdir(self) -> Workdir:
        assert self.work is not None
        return self.work

    @property
    def lowers(self) -> list[Layer]:
        return self.layers[1:] if self.upper is not None else self.layers

    def refuse_mountpoint(self, path: bytes) -> None:
        """Raise UnionError for a mount point inside a layer that would see what is mounted."""
        real = os.path.realpath(path)
        for layer in self.layers + self.data:
            below = os.path.realpath(layer.path).rstrip(b"/") + b"/"
            if not layer.private and (real + b"/").startswith(below):
                reason = "it lies inside the layer " + shown(layer.path)
                raise UnionError("mount on", path, reason)

    # -- the node table

    def living(self, layer: Layer, real: int, ino: int | None = None) -> Node | None:
        """The living node of the object with number ``real`` in ``layer``, if there is one."""
        if layer.index == 0 and self._copied:
            node = self._copied.get(real)
            if node is not None:
                return node
        if ino is None:
            ino = origin.public_ino(layer.filesystem, real)
        node = self.nodes.get(ino)
        if self._by_ino:
            node = self._by_ino.get(ino) or node
        if node is None or node.real != real or node.ino != ino:
            return None
        there = node.part.layer
        return node if there is layer or there.device == layer.device else None

    def adopt(self, node: Node) -> Node:
        """Give a new node its id and enter it; ``node.ino`` is set already."""
        ino = node.ino
        if ino > ROOT_ID and ino not in self.nodes:
            node.id = ino
        else:
            node.id = self._spare
            self._spare += 1
            if ino not in self._by_ino:
                self._by_ino[ino] = node
        self.nodes[node.id] = node
        if node.ino != node.real and node.part.layer.index == 0:
            self.moved_up(node)
        if node.parent is not None:
            node.parent.pins += 1
        return node

    def apart(self, parent: Directory, name: bytes) -> Node | None:
        """The living node of one name of a lower file that does not share it with the others."""
        return self._apart.get((parent, name))

    def keep_apart(self, node: Node) -> None:
        """Let a node stand for its one name of a lower file, until it is copied up."""
        assert node.parent is not None
        self._apart[node.parent, node.name] = node

    def _forget_apart(self, node: Node) -> None:
        if node.parent is not None:
            place = (node.parent, node.name)
            if self._apart.get(place) is node:
                del self._apart[place]

    def moved_up(self, node: Node) -> None:
        """Note the upper inode of a node whose public number is another's."""
        if self._apart:
            self._forget_apart(node)
        layer = self.upper_layer()
        if origin.public_ino(layer.filesystem, node.real) != node.ino:
            self._copied[node.real] = node

    def renew(self, node: Node) -> Node:
        """Give a file a fresh node id; the ids it had before lead to it until it is forgotten.

        For a transport whose kernel side is bound to the lower file's content under the old id: the
        caller looks the name up again and meets the new one. All ids share one lookup count.
        """
        self._former.setdefault(node, []).append(node.id)
        node.id = self._spare
        self._spare += 1
        self.nodes[node.id] = node
        return node

    def relocate(self, node: Node, parent: Directory, part: Part, name: bytes) -> None:
        """Let ``node`` be reached by another name from now on."""
        if node.fd >= 0:
            os.close(node.fd)
            node.fd = -1
        if node.parent is not parent:
            parent.pins += 1
            before, node.parent = node.parent, parent
            if before is not None:
                before.pins -= 1
                self.settle(before)
        node.name = name
        if not node.is_dir:
            node.part = part

    def forget(self, node: Node, count: int) -> None:
        """The kernel has dropped ``count`` of its references."""
        node.nlookup -= count
        self.settle(node)

    def settle(self, node: Node) -> None:
        """Drop the node, and what only it kept, if nobody refers to it."""
        if len(self.nodes) > self._most_nodes:
            self._most_nodes = len(self.nodes)
        current: Node | None = node
        while current is not None and current.nlookup <= 0 and not current.files:
            if isinstance(current, Directory) and current.pins > 0:
                return
            if self.nodes.get(current.id) is not current:
                return
            self._drop(current)
            current = current.parent
            if isinstance(current, Directory):
                current.pins -= 1
        if len(self.nodes) * 4 < self._most_nodes and self._most_nodes > 4096:
            self._shrink()

    def _drop(self, node: Node) -> None:
        del self.nodes[node.id]
        if self._former:
            for number in self._former.pop(node, ()):
                del self.nodes[number]
        if self._by_ino and self._by_ino.get(node.ino) is node:
            del self._by_ino[node.ino]
        if self._copied and self._copied.get(node.real) is node:
            del self._copied[node.real]
        if self._apart:
            self._forget_apart(node)
        if node.fd >= 0:
            os.close(node.fd)
            node.fd = -1
        if isinstance(node, Directory):
            self.forget_names(node)
            for part in node.parts:
                part.close()

    def _shrink(self) -> None:
        """Give the memory of a table that was once large back (a dict never shrinks by itself)."""
        kept = list(self.nodes.items())
        self.nodes.clear()
        self.nodes.update(kept)
        self._copied = dict(self._copied)
        self._by_ino = dict(self._by_ino)
        self._maps = dict(self._maps)
        self._most_nodes = len(kept)
        # What was freed lies in the interpreter's and the C library's reserves: empty those too.
        gc.collect()
        calls.give_back_memory()

    # -- merged name maps

    def remember_names(
        self, directory: Directory, table: dict[bytes, int | tuple[int, ...]]
    ) -> None:
        """Keep the merged name map of a directory, giving up the oldest maps if there are many."""
        self.forget_names(directory)
        if len(table) > NAMES_LIMIT // 4:
            return
        directory.names = table
        self._maps[directory] = len(table)
        self._mapped += len(table)
        while self._mapped > NAMES_LIMIT:
            self.forget_names(next(iter(self._maps)))

    def note_upper_name(self, directory: Directory, name: bytes) -> None:
        """The upper part now holds a name that a lower part held: keep the name map right."""
        table = directory.names
        if table is None:
            return
        top = -len(directory.parts)
        where = table.get(name)
        if where is None:
            self._note(directory, name, top)
        elif isinstance(where, int):
            if where != top:
                table[name] = (top, where)
        elif where[0] != top:
            table[name] = (top, *where)

    def note_new_name(self, directory: Directory, name: bytes, *, covers: bool) -> None:
        """A new object stands in upper: keep the name map right.

        covers -- it took the place of a whiteout, so lower parts hold the name; that is all a
                  later delete has to know, and the lowest part stands for all of them
        """
        if directory.names is not None:
            top = -len(directory.parts)
            self._note(directory, name, (top, -1) if covers else top)

    def _note(self, directory: Directory, name: bytes, where: int | tuple[int, ...]) -> None:
        table = directory.names
        assert table is not None
        table[name] = where
        noted = self._maps[directory] + 1
        if noted > NAMES_LIMIT // 4:
            self.forget_names(directory)
            return
        self._maps[directory] = noted
        self._mapped += 1
        if self._mapped > NAMES_LIMIT:
            self.forget_names(next(iter(self._maps)))

    def forget_names(self, directory: Directory) -> None:
        directory.names = None
        self._mapped -= self._maps.pop(directory, 0)

    def forget_all_names(self) -> None:
        for directory in list(self._maps):
            self.forget_names(directory)

    def close(self) -> None:
        """Release every descriptor and lock; the stack is of no use afterwards. Idempotent."""
        root = self.nodes.get(ROOT_ID)
        if isinstance(root, Directory):
            for part in root.parts:
                part.fd = -1
        for node in list(self.nodes.values()):
            if node.fd >= 0:
                os.close(node.fd)
                node.fd = -1
            for file in node.files or ():
                file.close()
            node.files = None
            if isinstance(node, Directory):
                for part in node.parts:
                    part.close()
        self.nodes.clear()
        self._by_ino.clear()
        self._copied.clear()
        self._maps.clear()
        self.descriptors.close()
        if self.journal is not None:
            self.journal.close()
        if self.work is not None:
            self.work.close()
            self.work = None
        for layer in self.layers + self.data:
            layer.close()


def _uuid(layer: Layer) -> bytes:
    """The filesystem's identity as kernel overlayfs writes it; zeros where it cannot be told."""
    try:
        return calls.filesystem_uuid(layer.readable())
    except OSError:
        return bytes(16)


def _descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(64, min(_DESCRIPTORS, soft // 4 if soft > 0 else _DESCRIPTORS))
