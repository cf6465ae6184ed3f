# SPDX-License-Identifier: GPL-3.0-or-later
"""Hard links of lower files: one file before and after copy-up, with one link count.

As kernel overlayfs with ``index=on``: the first copy-up of a lower file with several names enters
its upper inode in the index under its origin; every other name finds it there. How many names the
merged tree has for it is kept in the ``overlay.nlink`` mark, relative to the link count of the
upper ("U+n") or the lower ("L+n") inode, whichever the step about to be made leaves right.
"""

from __future__ import annotations

import os

from unionfs import names, origin
from unionfs.layer import Part
from unionfs.light import contextlib
from unionfs.node import Links, Node
from unionfs.stack import Stack
from unionfs.typed import Final

_DIGITS: Final = 9  # of the offset in an overlay.nlink mark, at most


def joins_names(stack: Stack, part: Part) -> bool:
    """Whether the names of a lower file are one file in the merged tree.

    Only the index keeps them together after a copy-up. Without it each name is a file of its own
    from the start, as on kernel overlayfs with ``index=off``: what is written to one name must not
    land in another.
    """
    return stack.index is not None and part.layer.handles


def indexed_place(stack: Stack, part: Part, name: bytes) -> tuple[Part, bytes] | None:
    """Where the copied-up inode of a lower file lies, if it is in the index."""
    if stack.index is None:
        return None
    mark = origin.encode(part.layer, part.open(), name)
    if mark is None:
        return None
    entry = origin.index_name(mark)
    return (stack.index, entry) if entry in stack.workdir().indexed else None


def read_links(
    stack: Stack,
    mark: bytes,
    nlink: bytes | None,
    upper: os.stat_result,
    lower: os.stat_result | None = None,
) -> Links | None:
    """What the marks on an upper inode say of its names; None if it is not in the index."""
    name = origin.index_name(mark)
    if stack.work is None or name not in stack.work.indexed:
        return None
    if lower is None:
        decoded = origin.decode(mark)
        resolved = origin.resolve(decoded, stack.lowers) if decoded is not None else None
        lower = resolved[1] if resolved is not None else None
    below = lower.st_nlink if lower is not None else 0
    return Links(below, names_in_tree(nlink, upper, lower), name)


def names_in_tree(nlink: bytes | None, upper: os.stat_result, lower: os.stat_result | None) -> int:
    """How many names an indexed file has in the merged tree, by its overlay.nlink mark."""
    count = upper.st_nlink - 1
    offset = _offset(nlink)
    if nlink is not None and offset is not None:
        if nlink.startswith(b"U"):
            count = upper.st_nlink + offset
        elif lower is not None:
            count = lower.st_nlink + offset
    return max(count, 1)


def _offset(nlink: bytes | None) -> int | None:
    """The number in a mark such as U+1 or L-2; None for a missing or a damaged one."""
    if nlink is None or nlink[:1] not in (b"U", b"L") or nlink[1:2] not in (b"+", b"-"):
        return None
    digits = nlink[2:]
    return int(nlink[1:]) if digits.isdigit() and len(digits) <= _DIGITS else None


def write_links(stack: Stack, node: Node, *, relative_to_lower: bool) -> None:
    """Write the link count down before a step that changes the other base.

    Before a name is linked from the index into upper: relative to the lower inode. Before a name is
    added to or removed from the merged tree: relative to the upper inode, which changes with it.
    """
    links = node.links
    if links is None:
        return
    if relative_to_lower and links.lower:
        value = b"L%+d" % (links.count - links.lower)
    else:
        value = b"U%+d" % (links.count - node.real_stat().st_nlink)
    os.setxattr(
        node.real_path(),
        stack.marks.prefix + names.NLINK,
        value,
        follow_symlinks=node.follow,
    )


def drop_from_index(stack: Stack, node: Node) -> None:
    """The last name is gone from the merged tree: let the inode go too."""
    links = node.links
    if links is None or stack.index is None:
        return
    if node.fd < 0:
        node.fd = node.open_real(os.O_PATH)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(links.name, dir_fd=stack.index.open())
    stack.workdir().indexed.discard(links.name)
