# SPDX-License-Identifier: GPL-3.0-or-later
"""Random stacks of lower layers, as kernel overlayfs and image builders may leave them.

Drawn are: files, directories plain, opaque and redirected, symbolic links, FIFOs, sockets, devices,
hard links, whiteouts of both kinds (over something or over nothing), names that are not UTF-8.
"""

from __future__ import annotations

import stat

from hypothesis import strategies as st

from tests.oracle.layers import (
    Dir,
    File,
    HardLink,
    Layer,
    Meta,
    SoftLink,
    Special,
    Stack,
    Thing,
    Tree,
    Whiteout,
    merge,
)
from tests.oracle.values import ACL_DEFAULT, ACL_NAMED, CAPABILITY, Fill, Octal

NAMES = (b"a", b"b", b"c", b"\xff\xfe", b".wh.a")
CONTENTS = (b"a", b"a/b", b"b", b".", b"nowhere", b"\xff\xfe")

_ids = st.sampled_from((0, 1000, 12345))
_times = st.integers(0, 3)
_data = st.one_of(
    st.sampled_from((b"", b"x")),
    st.builds(Fill, st.sampled_from((7, 4096, 4097, 70_000)), st.integers(0, 9)),
)
_user_xattrs = ((b"user.one", b"1"), (b"user.two", b""))
_any_xattrs = ((b"trusted.one", b"1"),)


def _meta(
    modes: tuple[int, ...], xattrs: tuple[tuple[bytes, bytes], ...]
) -> st.SearchStrategy[Meta]:
    chosen = st.lists(st.sampled_from(xattrs), unique=True, max_size=2).map(tuple)
    return st.builds(Meta, st.sampled_from(modes).map(Octal), _ids, _ids, _times, chosen)


_files = st.builds(
    File,
    _meta(
        (0o644, 0o600, 0o4755, 0o2755, 0),
        (
            *_user_xattrs,
            *_any_xattrs,
            (b"security.capability", CAPABILITY),
            (b"system.posix_acl_access", ACL_NAMED),
        ),
    ),
    _data,
)
_directories = st.builds(
    Dir,
    _meta(
        (0o755, 0o700, 0o1777, 0o2775, 0),
        (
            *_user_xattrs,
            *_any_xattrs,
            (b"system.posix_acl_access", ACL_NAMED),
            (b"system.posix_acl_default", ACL_DEFAULT),
        ),
    ),
    st.booleans(),
)
_symlinks = st.builds(SoftLink, _meta((0o777,), _any_xattrs), st.sampled_from(CONTENTS))
_specials = st.one_of(
    st.builds(Special, _meta((stat.S_IFIFO | 0o644, stat.S_IFSOCK | 0o755), _any_xattrs)),
    st.builds(
        Special,
        _meta((stat.S_IFCHR | 0o666, stat.S_IFBLK | 0o600), _any_xattrs),
        st.sampled_from(((1, 3), (7, 250))),
    ),
)


_PLAIN = Dir()


class _Builder:
    """A layer under construction over what the layers below show."""

    def __init__(self, below: Tree) -> None:
        self.below = below
        self.things: dict[bytes, Thing] = {}
        self.redirected: list[bytes] = []

    def put(self, path: bytes, thing: Thing) -> bool:
        """Add an object and the directories above it; False where the path is not free."""
        steps = path.split(b"/")
        above = [b"/".join(steps[:depth]) for depth in range(1, len(steps))]
        if path in self.things:
            return False
        if any(not isinstance(self.things.get(step, _PLAIN), Dir) for step in above):
            return False
        if thing == Whiteout(as_file=True) and above:
            # Kernel overlayfs lists such a directory rightly but does not take it for empty, so
            # whiteout files are kept to the root here (see core/test_reading for the others).
            thing = Whiteout()
        for step in above:
            self.things.setdefault(step, _PLAIN)
        self.things[path] = thing
        return True

    def redirect(self, path: bytes, source: bytes, thing: Dir) -> None:
        """A directory that the layers below know as `source` appears at `path`, and only there."""
        steps = source.split(b"/")
        above = [b"/".join(steps[:depth]) for depth in range(1, len(steps))]
        plain = all(step not in self.things or self.things[step] == Dir() for step in above)
        inside = (path + b"/").startswith(source + b"/")
        overlap = any(
            (source + b"/").startswith(other + b"/") or (other + b"/").startswith(source + b"/")
            for other in self.redirected
        )
        if not plain or inside or overlap or path in self.things:
            return
        before = dict(self.things)
        near = source.rpartition(b"/")[0] == path.rpartition(b"/")[0]
        target = steps[-1] if near else b"/" + source
        marked = Dir(thing.meta, False, target)
        if self.put(source, Whiteout()) and self.put(path, marked):
            self.redirected.append(source)
        else:
            self.things = before

    def layer(self) -> Layer:
        return tuple(sorted(self.things.items(), key=lambda item: item[0].split(b"/")))


_paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(b"/".join)


@st.composite
def layers(draw: st.DrawFn, below: Tree, lowest: bool) -> Layer:
    """One layer over what the layers below show."""
    builder = _Builder(below)
    directories = [path for path, found in below.walk() if isinstance(found, Tree)]
    kinds = ["file", "directory", "file", "link", "symlink", "special", "file", "whiteout"]
    if directories:
        kinds.append("redirect")
    for _ in range(draw(st.integers(0, 12))):
        path = draw(_paths)
        kind = draw(st.sampled_from(kinds))
        if kind == "file":
            builder.put(path, draw(_files))
        elif kind == "directory":
            builder.put(path, draw(_directories))
        elif kind == "symlink":
            builder.put(path, draw(_symlinks))
        elif kind == "special":
            builder.put(path, draw(_specials))
        elif kind == "whiteout":
            # Kernel overlayfs does not look for whiteout files in the lowest layer.
            builder.put(path, Whiteout(draw(st.booleans()) and not lowest))
        elif kind == "redirect":
            builder.redirect(path, draw(st.sampled_from(directories)), draw(_directories))
        else:
            linkable = sorted(
                name for name, thing in builder.things.items() if isinstance(thing, File)
            )
            if linkable:
                builder.put(path, HardLink(draw(st.sampled_from(linkable))))
    return builder.layer()


@st.composite
def stacks(draw: st.DrawFn, most: int = 3) -> Stack:
    """One to `most` lower layers, topmost first."""
    stack: Stack = ()
    for height in range(draw(st.integers(1, most))):
        stack = (draw(layers(merge(stack), height == 0)), *stack)
    return stack
