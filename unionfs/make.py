# SPDX-License-Identifier: GPL-3.0-or-later
"""Making new objects: files, directories, nodes, symlinks and links, owned by who asked.

Where the name is free in upper the object is made right there, under the caller's file-system ids,
so that the upper filesystem itself applies setgid directories, default ACLs and quotas. Where a
whiteout stands, or the upper refuses those ids, it is made in the work directory with all it needs
and moved into place in one step.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs import acl, names, whiteout
from unionfs.copyup import copy_up, copy_up_directory, mark_impure, redirect_data
from unionfs.layer import proc_path
from unionfs.light import contextlib
from unionfs.links import write_links
from unionfs.lookup import find
from unionfs.node import DT_DIRECTORY, Caller, Directory, File, Node
from unionfs.origin import public_ino
from unionfs.stack import Stack
from unionfs.sys import calls
from unionfs.typed import Callable, Final

_PASSED_ON: Final = os.O_ACCMODE | os.O_SYNC | os.O_DSYNC
_SAFELY: Final = os.O_CLOEXEC | os.O_NOFOLLOW

Maker = Callable[[int, bytes, int], int]
"""Makes an object at (dirfd, name) with a mode; returns an open descriptor, or -1."""


def error(number: int, name: bytes | None = None) -> OSError:
    if name is None:
        return OSError(number, os.strerror(number))
    return OSError(number, os.strerror(number), name)


def may_make(stack: Stack, parent: Directory, name: bytes) -> None:
    """Raise unless a name may be given to a new object of ``parent``.

    EROFS, ENOENT (the directory was removed), ENAMETOOLONG, EPERM (the name would be a mark).
    """
    if not stack.writable:
        raise error(errno.EROFS, name)
    if parent.gone:
        raise error(errno.ENOENT, name)
    if stack.marks.wh and stack.marks.reserved(name):
        raise error(errno.EPERM, name)


def make(
    stack: Stack,
    parent: Directory,
    name: bytes,
    mode: int,
    caller: Caller,
    maker: Maker,
) -> tuple[Node, os.stat_result, int]:
    """Make an object that is not there yet; returns its node, its lstat, and a descriptor or -1.

    Raises EEXIST if the name is taken, and whatever the upper filesystem says.
    """
    marks = stack.marks
    if not stack.writable or parent.gone or marks.wh:
        may_make(stack, parent, name)
    table = parent.names
    # A name that the map does not have is free: nobody has to be asked.
    asked = parent.merged if table is None else name in table
    if asked and find(stack, parent, name) is not None:
        raise error(errno.EEXIST, name)
    part = parent.parts[0]
    if part.layer.index:
        part = copy_up_directory(stack, parent)
    upper = part.fd if part.fd >= 0 else part.open()
    if caller.umask and (parent.inherits is False or not _has_default_acl(stack, parent)):
        mode &= ~caller.umask
    fd = -1
    covers = marks.wh and whiteout.stands_at(stack, parent, name)
    if covers:
        fd = _make_aside(stack, parent, name, mode, caller, maker, over_whiteout=True)
    else:
        try:
            if caller[:2] == stack.own_ids and stack.ids.plain:
                fd = maker(upper, name, mode)
            else:
                fd = _make_as(stack, caller, upper, name, mode, maker)
        except FileExistsError:
            if marks.wh or not whiteout.stands_at(stack, parent, name):
                raise
            covers = True
            fd = _make_aside(stack, parent, name, mode, caller, maker, over_whiteout=True)
        except PermissionError:
            # The caller's other groups, or an id without permission on the layer itself: what the
            # kernel has allowed on the merged attributes is done with the daemon's own ids.
            fd = _make_aside(stack, parent, name, mode, caller, maker, over_whiteout=False)
    try:
        found = os.fstat(fd) if fd >= 0 else _lstat(upper, name)
        if parent.names is not None:
            stack.note_new_name(parent, name, covers=covers)
        node = _enter(stack, parent, name, found)
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise
    return node, found, fd


def _lstat(dirfd: int, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=dirfd, follow_symlinks=False)


def _enter(stack: Stack, parent: Directory, name: bytes, found: os.stat_result) -> Node:
    """The node of an object that was made just now in upper."""
    part = parent.parts[0]
    layer = part.layer
    real = found.st_ino
    ino = public_ino(layer.filesystem, real)
    kind = found.st_mode >> 12
    if kind == DT_DIRECTORY:
        below = stack.part(layer, b"")
        node = Directory(0, ino, real, parent, [below], name)
        below.path = node.merged_path
        if parent.inherits is False:
            node.inherits = False
        stack.adopt(node)
        stack.remember_names(node, {})
        return node
    return stack.adopt(Node(0, ino, real, kind, parent, part, name))


def _make_as(stack: Stack, caller: Caller, dirfd: int, name: bytes, mode: int, maker: Maker) -> int:
    """Make the object in its place, as the caller."""
    uid, gid = stack.ids.stored_uid(caller.uid), stack.ids.stored_gid(caller.gid)
    own_uid, own_gid = stack.own_ids
    if uid == own_uid and gid == own_gid:
        return maker(dirfd, name, mode)
    if own_uid != 0 or stat.S_IFMT(mode) in (stat.S_IFCHR, stat.S_IFBLK):
        raise error(errno.EPERM, name)
    calls.setfsids(uid, gid)
    try:
        return maker(dirfd, name, mode)
    finally:
        calls.setfsids(own_uid, own_gid)


def _has_default_acl(stack: Stack, parent: Directory) -> bool:
    """Whether a directory, which has an upper part, hands an ACL down; known after the first."""
    inherits = parent.inherits
    if inherits is None:
        inherits = stack.config.acl and _default_acl(parent.parts[0].open()) is not None
        parent.inherits = inherits
    return inherits


def _default_acl(dirfd: int) -> bytes | None:
    try:
        return os.getxattr(b"/proc/self/fd/%d" % dirfd, names.ACL_DEFAULT)
    except OSError as problem:
        if problem.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise


def _make_aside(
    stack: Stack,
    parent: Directory,
    name: bytes,
    mode: int,
    caller: Caller,
    maker: Maker,
    *,
    over_whiteout: bool,
) -> int:
    """Make the object in the work directory, complete, and move it into place."""
    work = stack.workdir()
    upper = parent.parts[0].open()
    directory = stat.S_ISDIR(mode)
    above = os.stat(upper)
    uid, gid = stack.ids.stored_uid(caller.uid), stack.ids.stored_gid(caller.gid)
    if above.st_mode & stat.S_ISGID:
        gid = above.st_gid
        if directory:
            mode |= stat.S_ISGID
    made = work.temporary()
    fd = maker(work.fd, made, mode)
    try:
        if (uid, gid) != stack.own_ids or above.st_mode & stat.S_ISGID:
            os.chown(made, uid, gid, dir_fd=work.fd, follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            _inherit(stack, upper, made, mode, directory)
        if directory and over_whiteout:
            whiteout.make_opaque(stack, work.fd, made)
        if not over_whiteout:
            calls.renameat2(work.fd, made, upper, name, calls.RENAME_NOREPLACE)
        elif stack.marks.wh:
            calls.renameat2(work.fd, made, upper, name, calls.RENAME_NOREPLACE)
            whiteout.clear(stack, parent, name)
        elif directory:
            calls.renameat2(work.fd, made, upper, name, calls.RENAME_EXCHANGE)
            work.discard(made)
        else:
            os.rename(made, name, src_dir_fd=work.fd, dst_dir_fd=upper)
    except BaseException:
        if fd >= 0:
            os.close(fd)
        work.discard(made)
        raise
    return fd


def _inherit(stack: Stack, upper: int, made: bytes, mode: int, directory: bool) -> None:
    work = stack.workdir()
    default = _default_acl(upper) if stack.config.acl else None
    inherited = acl.inherit(default, mode) if default is not None else None
    if default is not None and inherited is not None:
        path = proc_path(work.fd, made)
        access, mode = inherited
        if access is not None:
            os.setxattr(path, names.ACL_ACCESS, access, follow_symlinks=False)
        if directory:
            os.setxattr(path, names.ACL_DEFAULT, default, follow_symlinks=False)
    os.chmod(made, stat.S_IMODE(mode), dir_fd=work.fd)


def create(
    stack: Stack, parent: Directory, name: bytes, mode: int, flags: int, caller: Caller
) -> tuple[Node, os.stat_result, File]:
    """open(2) with O_CREAT of a name that is not there: make it and open it."""
    real_flags = open_flags(flags)
    making = real_flags | os.O_CREAT | os.O_EXCL

    def maker(dirfd: int, name: bytes, mode: int) -> int:
        return os.open(name, making, mode & 0o7777, dir_fd=dirfd)

    node, found, fd = make(stack, parent, name, stat.S_IFREG | mode & 0o7777, caller, maker)
    file = File(node, fd, real_flags, stack.config.volatile)
    node.files = [file]
    return node, found, file


def open_flags(flags: int) -> int:
    """The flags with which a file is opened in its layer.

    Not O_APPEND: the kernel says where to write, and pwrite(2) on an O_APPEND descriptor would not
    listen. Not O_DIRECT: it is between the caller and the kernel. What only the caller's descriptor
    is concerned with goes too.
    """
    return flags & _PASSED_ON | _SAFELY


def opened(stack: Stack, node: Node, fd: int, flags: int) -> File:
    file = File(node, fd, open_flags(flags), stack.config.volatile)
    if node.files is None:
        node.files = [file]
    else:
        node.files.append(file)
    return file


def mkdir(
    stack: Stack, parent: Directory, name: bytes, mode: int, caller: Caller
) -> tuple[Node, os.stat_result]:
    def maker(dirfd: int, name: bytes, mode: int) -> int:
        os.mkdir(name, mode & 0o7777, dir_fd=dirfd)
        return -1

    # mkdir(2): of the mode only the permission and sticky bits count.
    node, found, _ = make(stack, parent, name, stat.S_IFDIR | mode & 0o1777, caller, maker)
    return node, found


def mknod(
    stack: Stack, parent: Directory, name: bytes, mode: int, rdev: int, caller: Caller
) -> tuple[Node, os.stat_result]:
    """mknod(2). A character device 0:0 would be a whiteout: EPERM."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFCHR and rdev == 0:
        raise error(errno.EPERM, name)
    if kind == stat.S_IFDIR:
        raise error(errno.EPERM, name)
    if kind == 0:
        mode |= stat.S_IFREG

    def maker(dirfd: int, name: bytes, mode: int) -> int:
        os.mknod(name, mode, rdev, dir_fd=dirfd)
        return -1

    node, found, _ = make(stack, parent, name, mode, caller, maker)
    return node, found


def symlink(
    stack: Stack, parent: Directory, name: bytes, target: bytes, caller: Caller
) -> tuple[Node, os.stat_result]:
    def maker(dirfd: int, name: bytes, mode: int) -> int:
        os.symlink(target, name, dir_fd=dirfd)
        return -1

    bare = Caller(caller.uid, caller.gid)
    node, found, _ = make(stack, parent, name, stat.S_IFLNK | 0o777, bare, maker)
    return node, found


def link(stack: Stack, node: Node, parent: Directory, name: bytes) -> os.stat_result:
    """Another name for a file; EPERM for a directory, ENOENT for a file without any name left."""
    if node.is_dir:
        raise error(errno.EPERM, name)
    may_make(stack, parent, name)
    if parent.merged and find(stack, parent, name) is not None:
        raise error(errno.EEXIST, name)
    copy_up(stack, node, metadata=True)
    upper = copy_up_directory(stack, parent).open()
    if stack.journal is not None and not parent.merged and _may_be_lower(node):
        stack.journal.note_move()
    if node.data is not None:
        redirect_data(stack, node)
    write_links(stack, node, relative_to_lower=False)
    if node.ino != node.real:
        mark_impure(stack, parent)
    covers = bool(stack.marks.wh) and whiteout.stands_at(stack, parent, name)
    try:
        _link(node, upper, name)
    except FileExistsError:
        if stack.marks.wh or not whiteout.stands_at(stack, parent, name):
            raise
        covers = True
        work = stack.workdir()
        made = work.temporary()
        _link(node, work.fd, made)
        try:
            os.rename(made, name, src_dir_fd=work.fd, dst_dir_fd=upper)
        except BaseException:
            work.discard(made)
            raise
    if covers:
        whiteout.clear(stack, parent, name)
    if node.links is not None:
        node.links.count += 1
    if node.fd >= 0:
        stack.relocate(node, parent, parent.parts[0], name)
    stack.note_new_name(parent, name, covers=covers)
    return node.real_stat()


def _may_be_lower(node: Node) -> bool:
    above = node.parent
    return node.links is not None or above is None or above.merged


def _link(node: Node, dirfd: int, name: bytes) -> None:
    if node.fd >= 0:
        path = b"/proc/self/fd/%d" % node.fd
        os.link(path, name, dst_dir_fd=dirfd, follow_symlinks=True)
    else:
        os.link(
            node.name,
            name,
            src_dir_fd=node.part.open(),
            dst_dir_fd=dirfd,
            follow_symlinks=False,
        )


def tmpfile(
    stack: Stack, parent: Directory, mode: int, flags: int, caller: Caller
) -> tuple[Node, os.stat_result, File]:
    """open(2) with O_TMPFILE: a file without a name, which `link` may give one."""
    may_make(stack, parent, b"")
    upper = copy_up_directory(stack, parent).open()
    if caller.umask and not _has_default_acl(stack, parent):
        mode &= ~caller.umask
    extra = os.O_TMPFILE | flags & os.O_EXCL

    def maker(dirfd: int, name: bytes, mode: int) -> int:
        kept = open_flags(flags) & ~os.O_NOFOLLOW
        return os.open(b".", kept | extra, stat.S_IMODE(mode), dir_fd=dirfd)

    try:
        fd = _make_as(stack, caller, upper, b".", stat.S_IFREG | mode, maker)
    except PermissionError:
        fd = _give_nameless(stack, upper, maker(upper, b".", mode), caller)
    try:
        found = os.fstat(fd)
        layer = stack.upper_layer()
        ino = public_ino(layer.filesystem, found.st_ino)
        node = Node(0, ino, found.st_ino, found.st_mode >> 12, parent, parent.parts[0], b"")
        node.fd = os.open(b"/proc/self/fd/%d" % fd, os.O_PATH | os.O_CLOEXEC)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    return stack.adopt(node), found, opened(stack, node, fd, flags)


def _give_nameless(stack: Stack, upper: int, fd: int, caller: Caller) -> int:
    """Hand a nameless file made with the daemon's own ids to the caller; see `make`."""
    try:
        above = os.stat(upper)
        inherited = above.st_mode & stat.S_ISGID
        gid = above.st_gid if inherited else stack.ids.stored_gid(caller.gid)
        made = os.fstat(fd).st_mode
        os.fchown(fd, stack.ids.stored_uid(caller.uid), gid)
        # chown(2) takes set-id bits away.
        os.fchmod(fd, stat.S_IMODE(made))
    except BaseException:
        os.close(fd)
        raise
    return fd
