# SPDX-License-Identifier: GPL-3.0-or-later
"""Renaming: one renameat2(2) in upper, with the marks around it that keep the merged tree true.

Both sides are copied up first. A directory with lower content takes a redirect along, one without
becomes opaque where something lies below its new place; what the old place uncovers is hidden by a
whiteout in the same step (RENAME_WHITEOUT, or by exchanging with the whiteout at the new place).
Every mark written before the rename means the same at the old place, so a crash changes nothing.
"""

from __future__ import annotations

import errno
import os

from unionfs import names, whiteout
from unionfs.copyup import (
    copy_up,
    copy_up_directory,
    copy_xattrs,
    link_alias,
    mark_impure,
    redirect_data,
)
from unionfs.layer import proc_path
from unionfs.lookup import Found, find, node_of
from unionfs.make import error, may_make
from unionfs.node import Directory, Node
from unionfs.readdir import is_empty
from unionfs.remove import keep_open, leaving, left, lies_below, staying
from unionfs.stack import Stack
from unionfs.sys import calls

_TOO_LONG = frozenset((errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.ENAMETOOLONG))


def rename(
    stack: Stack,
    parent: Directory,
    name: bytes,
    newparent: Directory,
    newname: bytes,
    flags: int,
) -> None:
    """renameat2(2) with RENAME_NOREPLACE or RENAME_EXCHANGE; every errno of its manual page.

    EXDEV for a directory with lower content where redirects are off or cannot be stored.
    """
    if flags & ~(calls.RENAME_NOREPLACE | calls.RENAME_EXCHANGE) or flags == 3:
        raise error(errno.EINVAL, name)
    if not stack.writable:
        raise error(errno.EROFS, name)
    source = find(stack, parent, name)
    if source is None:
        raise error(errno.ENOENT, name)
    target = find(stack, newparent, newname)
    exchange = bool(flags & calls.RENAME_EXCHANGE)
    if target is None:
        if exchange:
            raise error(errno.ENOENT, newname)
        may_make(stack, newparent, newname)
    elif flags & calls.RENAME_NOREPLACE:
        raise error(errno.EEXIST, newname)
    moved = node_of(stack, parent, name, source)
    replaced = node_of(stack, newparent, newname, target) if target is not None else None
    try:
        if moved is replaced:
            return
        _refuse_loops(moved, newparent)
        if exchange and replaced is not None:
            _refuse_loops(replaced, parent)
        if replaced is not None and not exchange:
            _refuse_kinds(stack, moved, replaced, newname)
        for node in (moved, replaced) if exchange else (moved,):
            _refuse_redirect(stack, node)
        if stack.journal is not None and _mixes(parent, newparent, exchange):
            stack.journal.note_move()
        move = _Move(stack, parent, name, source, newparent, newname, target)
        if exchange and replaced is not None:
            move.exchange(moved, replaced)
        else:
            move.overwrite(moved, replaced)
    finally:
        stack.settle(moved)
        if replaced is not None:
            stack.settle(replaced)


def _mixes(parent: Directory, newparent: Directory, exchange: bool) -> bool:
    """Whether a new directory gets what may be of a lower layer (see `journal`)."""
    if exchange:
        return parent.merged != newparent.merged
    return parent.merged and not newparent.merged


def _refuse_loops(node: Node, into: Directory) -> None:
    """EINVAL for a directory that would become part of itself."""
    if isinstance(node, Directory):
        above: Directory | None = into
        while above is not None:
            if above is node:
                raise error(errno.EINVAL, node.name)
            above = above.parent


def _refuse_kinds(stack: Stack, moved: Node, replaced: Node, newname: bytes) -> None:
    if isinstance(replaced, Directory):
        if not moved.is_dir:
            raise error(errno.EISDIR, newname)
        if not is_empty(stack, replaced):
            raise error(errno.ENOTEMPTY, newname)
    elif moved.is_dir:
        raise error(errno.ENOTDIR, newname)


def _refuse_redirect(stack: Stack, node: Node | None) -> None:
    """EXDEV before anything is copied up, so that mv(1) falls back to copying."""
    if not isinstance(node, Directory) or not node.merged:
        return
    if not stack.config.redirect_dir or stack.config.format != "overlay":
        raise error(errno.EXDEV, node.name)


class _Move:
    """One rename under way: its two places and what was found there."""

    def __init__(
        self,
        stack: Stack,
        parent: Directory,
        name: bytes,
        source: Found,
        newparent: Directory,
        newname: bytes,
        target: Found | None,
    ) -> None:
        self.stack = stack
        self.parent = parent
        self.name = name
        self.source = source
        self.newparent = newparent
        self.newname = newname
        self.target = target
        self.old_below = lies_below(stack, parent, name, source)
        self.new_below = lies_below(stack, newparent, newname, target)

    def overwrite(self, moved: Node, replaced: Node | None) -> None:
        """The plain rename: to a free name, or over a file or an empty directory."""
        stack = self.stack
        self._raise(moved, self.parent, self.name, self.source)
        copy_up_directory(stack, self.newparent)
        if self._is_plain(moved) and self._to_free_name(moved):
            return
        upper_target = self.target is not None and self.target.part.layer.index == 0
        covered = self.target is None and whiteout.stands_at(stack, self.newparent, self.newname)
        hides = self.new_below or covered
        self._prepare(moved, self.newparent, hides)
        leaver: Node | None = None
        if isinstance(replaced, Directory):
            keep_open(stack, replaced)
            if upper_target:
                self._empty(replaced)
        elif self.target is not None:
            leaver = leaving(stack, self.newparent, self.newname, self.target)
        try:
            self._rename(moved, covered)
        except BaseException:
            staying(stack, leaver, self.newparent, self.newname)
            raise
        self._forget_old()
        self._settle_at(moved, self.newparent, self.newname, hides)
        if isinstance(replaced, Directory):
            replaced.gone = True
            stack.forget_names(replaced)
        elif self.target is not None:
            left(stack, leaver, self.target)

    def _is_plain(self, moved: Node) -> bool:
        """Whether one step will do: a file goes to a new name, and hides nothing anywhere."""
        hides = self.target is not None or self.old_below
        return not (hides or moved.is_dir or self.stack.marks.wh)

    def _to_free_name(self, moved: Node) -> bool:
        """Rename to a name that upper does not have; False, with nothing done, if it does.

        That would be a whiteout: to try costs less than to look for one every time.
        """
        self._prepare(moved, self.newparent, False)
        olddir, newdir = self.parent.parts[0].open(), self.newparent.parts[0].open()
        try:
            calls.renameat2(olddir, self.name, newdir, self.newname, calls.RENAME_NOREPLACE)
        except OSError as problem:
            # EINVAL: the filesystem has no such flag.
            if problem.errno not in (errno.EEXIST, errno.EINVAL):
                raise
            return False
        self._forget_old()
        self._settle_at(moved, self.newparent, self.newname, False)
        return True

    def exchange(self, moved: Node, replaced: Node) -> None:
        """RENAME_EXCHANGE: both names stay, what they stand for changes."""
        assert self.target is not None
        self._raise(moved, self.parent, self.name, self.source)
        self._raise(replaced, self.newparent, self.newname, self.target)
        self._prepare(moved, self.newparent, self.new_below)
        self._prepare(replaced, self.parent, self.old_below)
        olddir, newdir = self.parent.parts[0].open(), self.newparent.parts[0].open()
        calls.renameat2(olddir, self.name, newdir, self.newname, calls.RENAME_EXCHANGE)
        self._settle_at(moved, self.newparent, self.newname, self.new_below)
        self._settle_at(replaced, self.parent, self.name, self.old_below)

    def _raise(self, node: Node, parent: Directory, name: bytes, found: Found) -> None:
        """Give the object an upper inode, and that inode this very name."""
        stack = self.stack
        copy_up(stack, node, metadata=True)
        copy_up_directory(stack, parent)
        if node.links is not None and found.part.layer.index:
            part = parent.parts[0]
            try:
                at = os.stat(name, dir_fd=part.open(), follow_symlinks=False)
            except FileNotFoundError:
                link_alias(stack, node, parent, name)
            else:
                assert at.st_ino == node.real

    def _prepare(self, node: Node, newparent: Directory, hides: bool) -> None:
        """Write what the object must carry at its new place: a redirect, or opaqueness.

        hides -- a directory without lower content would otherwise merge with what lies there
        """
        stack = self.stack
        if isinstance(node, Directory):
            if len(node.parts) > 1:
                self._redirect(node, newparent)
            elif hides:
                parent = node.parent
                assert parent is not None
                whiteout.make_opaque(stack, parent.parts[0].open(), node.name)
        elif node.data is not None:
            redirect_data(stack, node)
        if node.ino != node.real and not newparent.impure and len(newparent.parts) > 0:
            mark_impure(stack, newparent)

    def _redirect(self, node: Directory, newparent: Directory) -> None:
        """Name the lower content: relative within one directory, absolute across directories."""
        redirect = node.redirect
        if node.parent is newparent and (redirect is None or not redirect.startswith(b"/")):
            wanted = redirect or node.name
        elif redirect is not None and redirect.startswith(b"/"):
            return
        else:
            wanted = b"/" + node.lower_path()
        if wanted == redirect:
            return
        try:
            os.setxattr(node.real_path(), self.stack.marks.prefix + names.REDIRECT, wanted)
        except OSError as problem:
            if problem.errno in _TOO_LONG:
                raise error(errno.EXDEV, node.name) from problem
            raise
        node.redirect = wanted

    def _empty(self, replaced: Directory) -> None:
        """Swap a directory that shows nothing, but holds whiteouts, for one that holds nothing.

        rename(2) asks for an empty directory, and the old one must be whole until the very step.
        """
        stack = self.stack
        work = stack.workdir()
        upper = self.newparent.parts[0].open()
        part = replaced.parts[0]
        if not os.listdir(b"/proc/self/fd/%d" % part.open()):
            return
        found = os.stat(part.open())
        made = work.temporary()
        os.mkdir(made, 0o700, dir_fd=work.fd)
        try:
            path = proc_path(work.fd, made)
            copy_xattrs(stack, b"/proc/self/fd/%d" % part.open(), True, path)
            os.chown(made, found.st_uid, found.st_gid, dir_fd=work.fd, follow_symlinks=False)
            os.chmod(made, found.st_mode & 0o7777, dir_fd=work.fd)
            if not stack.marks.wh:
                whiteout.make_opaque(stack, work.fd, made)
            calls.renameat2(work.fd, made, upper, self.newname, calls.RENAME_EXCHANGE)
        finally:
            work.discard(made)

    def _rename(self, moved: Node, covered: bool) -> None:
        """The step itself, leaving a whiteout at the old name if that uncovers something."""
        stack = self.stack
        work = stack.workdir()
        olddir, newdir = self.parent.parts[0].open(), self.newparent.parts[0].open()
        old, new = self.name, self.newname
        if stack.marks.wh:
            if self.old_below:
                whiteout.place(stack, self.parent, old)
            os.rename(old, new, src_dir_fd=olddir, dst_dir_fd=newdir)
            if covered:
                whiteout.clear(stack, self.newparent, new)
            return
        if covered and (self.old_below or moved.is_dir):
            # The whiteout from the new place goes to the old one.
            calls.renameat2(olddir, old, newdir, new, calls.RENAME_EXCHANGE)
            if not self.old_below:
                os.unlink(old, dir_fd=olddir)
            return
        if not self.old_below:
            os.rename(old, new, src_dir_fd=olddir, dst_dir_fd=newdir)
            return
        if work.can_rename_whiteout and work.can_mknod:
            try:
                calls.renameat2(olddir, old, newdir, new, calls.RENAME_WHITEOUT)
                return
            except OSError as problem:
                if problem.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
                    raise
                work.can_rename_whiteout = False
        if self.target is None:
            # A whiteout at the new place hides nothing there, and the exchange takes it along.
            if not covered:
                whiteout.place(stack, self.newparent, new)
            calls.renameat2(olddir, old, newdir, new, calls.RENAME_EXCHANGE)
            return
        os.rename(old, new, src_dir_fd=olddir, dst_dir_fd=newdir)
        whiteout.place(stack, self.parent, old)

    def _forget_old(self) -> None:
        table = self.parent.names
        if table is not None:
            table.pop(self.name, None)

    def _settle_at(self, node: Node, parent: Directory, name: bytes, below: bool) -> None:
        """The node is at its new place: paths, name maps and parents follow."""
        stack = self.stack
        stack.note_new_name(parent, name, covers=below)
        if node.links is not None and node.fd < 0 and stack.index is not None:
            return
        stack.relocate(node, parent, parent.parts[0], name)
