# SPDX-License-Identifier: GPL-3.0-or-later
"""The topmost layers of a union → the entries of one layer's archive.

What the layers come to is told by `unionfs.Flattened`; here it gets the form of the OCI image
specification (layer.md): marks become names with `.wh.`, further names of a file hard links. The
same layers always give the same archive.
"""

from __future__ import annotations

import os
import stat

from launcher.errors import shown
from launcher.image import tar
from launcher.image.layermarks import OPAQUE_NAME, WHITEOUT, owned
from launcher.image.tar import Damaged, Entry
from launcher.image.tarwrite import Writer, data_extents
from launcher.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from unionfs import FlatItem, Flattened

__all__ = ["Written", "write"]


class Written(NamedTuple):
    """How many entries there are, the top's among them; and what was left out, each said once."""

    entries: int
    notes: tuple[str, ...]


def write(flat: Flattened, writer: Writer) -> Written:
    """Write all entries. Raises `Damaged` for what no layer can hold, or OSError."""
    return _Writing(flat, writer).run()


class _Writing:
    def __init__(self, flat: Flattened, writer: Writer) -> None:
        self._flat = flat
        self._writer = writer
        self._links: dict[tuple[int, int], bytes] = {}
        self._notes: dict[str, None] = {}

    def run(self) -> Written:
        entries = 0
        for item in self._flat:
            entries += 1
            directory, _, name = item.path.rpartition(b"/")
            prefix = directory + b"/" if directory else b""
            if item.mark == "whiteout":
                self._writer.add(Entry(prefix + WHITEOUT + name, tar.FILE, 0o600))
            elif item.mark == "opaque":
                prefix = item.path + b"/" if item.path else b""
                self._writer.add(Entry(prefix + OPAQUE_NAME, tar.FILE, 0o600))
            else:
                if name.startswith(WHITEOUT):
                    raise Damaged(f"{shown(item.path)}: a name that is reserved for marks")
                self._object(item)
        if self._flat.skipped:
            self._notes["sockets were left out"] = None
        return Written(entries, tuple(self._notes))

    def _object(self, item: FlatItem) -> None:
        found = item.found
        assert found is not None
        kind = tar.KINDS[stat.S_IFMT(found.st_mode)]
        if kind == tar.DIRECTORY:
            self._writer.add(
                self._entry(item, found, kind)._replace(name=(item.path or b".") + b"/")
            )
            return
        if found.st_nlink > 1:
            first = self._links.setdefault(item.identity, item.path)
            if first != item.path:
                link = self._entry(item, found, kind)
                self._writer.add(link._replace(kind=tar.HARD_LINK, size=0, link=first, xattrs=()))
                return
        entry = self._entry(item, found, kind)
        if kind != tar.FILE:
            self._writer.add(entry)
            return
        content = self._flat.open(item)
        try:
            now = os.fstat(content)
            if now.st_blocks * 512 < found.st_size:
                pieces = data_extents(content, found.st_size)
                if pieces != ((0, found.st_size),):
                    entry = entry._replace(sparse=pieces)
            self._writer.add(entry, content)
        finally:
            os.close(content)

    def _entry(self, item: FlatItem, found: os.stat_result, kind: int) -> Entry:
        device = (0, 0)
        if kind in (tar.CHARACTER_DEVICE, tar.BLOCK_DEVICE):
            device = (os.major(found.st_rdev), os.minor(found.st_rdev))
        return Entry(
            item.path,
            kind,
            stat.S_IMODE(found.st_mode),
            found.st_uid,
            found.st_gid,
            found.st_size if kind == tar.FILE else 0,
            found.st_mtime_ns,
            self._flat.target(item) if kind == tar.SYMLINK else b"",
            device,
            self._xattrs(item),
        )

    def _xattrs(self, item: FlatItem) -> tuple[tuple[bytes, bytes], ...]:
        """What a user of the container gave the object. What has the name of a union's mark, as in
        the upper of a union inside the container, would be refused wherever the layer is loaded.
        """
        found = self._flat.xattrs(item)
        if any(owned(name) for name, _ in found):
            self._notes["xattrs that have the names of a union's marks were left out"] = None
        return tuple(each for each in found if not owned(each[0]))
