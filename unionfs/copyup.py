# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy-up: from a lower object to the same object in upper, in one step for every observer.

The copy is made whole in the work directory (content, owner, mode, xattrs, times, marks) and one
rename puts it in its place; before that nothing has changed, after it everything has. Parents come
first, each in the same way. A copy-up shows in no attribute: numbers, times and link counts stay.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs import names, origin
from unionfs.content import Brake, copy_content
from unionfs.layer import Part, proc_path
from unionfs.light import contextlib
from unionfs.links import write_links
from unionfs.marks import list_xattrs
from unionfs.node import Directory, Links, Node, read_symlink
from unionfs.stack import Stack
from unionfs.sys import calls
from unionfs.typed import Final

# Less than this is copied where it is asked for; more is a job for `CopyUp` (bytes).
INLINE: Final = 1 << 20
_ACLS: Final = (names.ACL_ACCESS, names.ACL_DEFAULT)


def copy_up_directory(stack: Stack, directory: Directory) -> Part:
    """Give a directory, and first those above it, an upper part; return it.

    Raises EROFS on a union that takes no changes, and whatever the upper filesystem does.
    """
    upper = directory.upper
    if upper is not None:
        return upper
    if not stack.writable:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    missing = [directory]
    for above in directory.chain():
        if above.parent is not None and above.parent.upper is None:
            missing.append(above.parent)
    for node in reversed(missing):
        if node.upper is None:
            _copy_directory(stack, node)
    made = directory.upper
    assert made is not None
    return made


def _copy_directory(stack: Stack, node: Directory) -> None:
    parent = node.parent
    if node.gone or parent is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    work = stack.workdir()
    if stack.journal is not None:
        stack.journal.note(node.merged_path())
    source = node.parts[0].open()
    found = os.stat(source)
    name = work.temporary()
    os.mkdir(name, 0o700, dir_fd=work.fd)
    try:
        path = proc_path(work.fd, name)
        copy_xattrs(stack, b"/proc/self/fd/%d" % source, True, path)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=work.fd, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=work.fd)
        if stack.config.format == "overlay":
            _mark_directory_origin(stack, node, path)
            mark_impure(stack, parent)
        _set_times(work.fd, name, found)
        above = parent.parts[0].open()
        with _kept_times(above):
            os.rename(name, node.name, src_dir_fd=work.fd, dst_dir_fd=above)
    except BaseException:
        work.discard(name)
        raise
    upper = node.add_upper(stack.upper_layer(), stack.descriptors)
    node.real = os.stat(upper.open()).st_ino
    stack.moved_up(node)
    stack.note_upper_name(parent, node.name)


def _mark_directory_origin(stack: Stack, node: Directory, target: bytes) -> None:
    """Say that a directory was there before, and which; empty where there are no file handles.

    The union does not need it: `changes` tells by it what an upper alone has added, and kernel
    overlayfs would write it at the first lookup (ovl_set_origin_fh).
    """
    mark = origin.encode(node.part.layer, node.parts[0].open(), b".")
    with contextlib.suppress(OSError):
        _set_mark(target, stack.marks.prefix + names.ORIGIN, mark or b"")


class CopyUp:
    """The copy-up of one non-directory, in three steps.

    `__init__` opens the lower file and makes the temporary; `copy` moves the content and may run in
    any thread; `publish` does the rest on the serving thread. After an error nothing is left.

    node -- what is copied up
    size -- bytes of content that are needed: all of them, or fewer if the file is to be truncated
    """

    def __init__(self, stack: Stack, node: Node, size: int | None = None) -> None:
        self.node = node
        self._stack = stack
        self._source = -1
        self._target = -1
        self._done = False
        self._brake = Brake()
        self._parent = node.parent
        self._name = node.name
        if not stack.writable:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if node.fd < 0:
            assert self._parent is not None
            copy_up_directory(stack, self._parent)
        self._layer = node.data[0].layer if node.data is not None else node.part.layer
        self._stat = node.real_stat()
        self._metacopy = False
        self._truncated = size is not None and size < self._stat.st_size
        self._size = min(size, self._stat.st_size) if size is not None else self._stat.st_size
        work = stack.workdir()
        self._temporary = work.temporary()
        mode = self._stat.st_mode
        try:
            if stat.S_ISREG(mode):
                self._source = node.open_content(os.O_RDONLY)
                self._target = os.open(
                    self._temporary,
                    os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC,
                    stat.S_IMODE(mode),
                    dir_fd=work.fd,
                )
            elif stat.S_ISLNK(mode):
                os.symlink(read_symlink(node), self._temporary, dir_fd=work.fd)
            else:
                os.mknod(
                    self._temporary,
                    mode & ~0o7777 | 0o600,
                    self._stat.st_rdev,
                    dir_fd=work.fd,
                )
        except BaseException:
            self.abandon()
            raise

    @property
    def long(self) -> bool:
        """Whether the copy is worth a thread of its own."""
        if self._source < 0 or self._metacopy:
            return False
        return min(self._size, self._stat.st_blocks * 512) > INLINE

    def metadata_only(self) -> None:
        """Leave the content below (overlayfs.rst, "Metadata only copy up"); before `copy`."""
        self._metacopy = self._source >= 0

    def copy(self) -> None:
        """Move the content. Reads and writes only descriptors of its own."""
        if self._source < 0:
            return
        if self._metacopy:
            os.ftruncate(self._target, self._stat.st_size)
            return
        try:
            copy_content(self._source, self._target, self._size, self._layer, self._brake.check)
            if not self._stack.config.volatile and self._size:
                os.fdatasync(self._target)
        except BaseException:
            self.abandon()
            raise

    def stop(self) -> None:
        """Let `copy`, in whatever thread it runs, end with ECANCELED at its next step."""
        self._brake.pull()

    def publish(self) -> None:
        """Complete the copy and put it in its place; the node then stands for it.

        If the node was copied up or removed from the tree in the meantime, nothing is replaced.
        """
        try:
            self._publish()
        finally:
            self.abandon()

    def _publish(self) -> None:
        node, stack = self.node, self._stack
        if node.is_upper:
            return
        work = stack.workdir()
        found = self._stat
        # The temporary by descriptor where there is one: that saves the way through /proc.
        target: int | bytes = self._target
        if self._target < 0:
            target = proc_path(work.fd, self._temporary)
        self._give_attributes(target)
        mark = self._mark_origin(target)
        data = self._mark_metacopy(target)
        self._give_times()
        if self._target >= 0:
            made = os.fstat(self._target)
        else:
            made = os.stat(self._temporary, dir_fd=work.fd, follow_symlinks=False)
        if node.fd >= 0 and mark:
            self._publish_indexed(mark, found)
        elif node.fd >= 0 or node.parent is None:
            self._publish_nameless()
        else:
            self._publish_named(node.parent, mark, found)
        node.data = data
        node.real = made.st_ino
        stack.moved_up(node)
        self._switch_files()

    def _give_attributes(self, target: int | bytes) -> None:
        """Owner, mode and xattrs; what the temporary has already is not done again."""
        node, stack, found = self.node, self._stack, self._stat
        owned = (found.st_uid, found.st_gid) == stack.own_ids
        bare = node.fd < 0 and calls.lacks_xattrs(node.part.open(), node.name)
        if not owned:
            # chown(2) takes set-id bits and file capabilities away, so it comes first.
            os.chown(target, found.st_uid, found.st_gid, follow_symlinks=isinstance(target, int))
        if not bare:
            copy_xattrs(stack, node.real_path(), node.follow, target)
        mode = stat.S_IMODE(found.st_mode)
        if self._target < 0:
            if not stat.S_ISLNK(found.st_mode):
                os.chmod(self._temporary, mode, dir_fd=stack.workdir().fd)
        elif not (owned and bare) or mode & (stat.S_ISUID | stat.S_ISGID):
            os.fchmod(self._target, mode)

    def _give_times(self) -> None:
        found, work = self._stat, self._stack.workdir()
        if self._truncated:
            now = calls.NOW
            flags = calls.AT_SYMLINK_NOFOLLOW
            calls.utimensat(work.fd, self._temporary, found.st_atime_ns, now, flags)
        elif self._target >= 0:
            os.utime(self._target, ns=(found.st_atime_ns, found.st_mtime_ns))
        else:
            _set_times(work.fd, self._temporary, found)

    def _mark_origin(self, target: int | bytes) -> bytes | None:
        """Write the origin mark; return it if the file has to enter the index, b"" if not.

        None if the copy is to be a file of its own: it then has a number of its own as well.
        """
        node, stack = self.node, self._stack
        if stack.config.format != "overlay":
            return None
        several = self._stat.st_nlink > 1
        if several and stack.index is None:
            return None
        if node.fd >= 0:
            # Without its own name it is of use only to other names below, if any are left.
            lost = stack.lost_links.get(node.ino, 0)
            if not several or self._stat.st_nlink <= lost:
                return None
        mark = origin.encode(node.part.layer, node.part.open(), node.name)
        if mark is None:
            return None
        try:
            _set_mark(target, stack.marks.prefix + names.ORIGIN, mark)
        except OSError:
            if several:
                raise  # a copy beside the index would part the names
            return None
        return mark if several else b""

    def _mark_metacopy(self, target: int | bytes) -> tuple[Part, bytes] | None:
        if not self._metacopy:
            return None
        node, stack = self.node, self._stack
        _set_mark(target, stack.marks.prefix + names.METACOPY, b"")
        return node.data or (node.part, node.name)

    def _publish_indexed(self, mark: bytes, found: os.stat_result) -> None:
        """The name it was known by is gone; its other names below find it in the index."""
        node, stack, work = self.node, self._stack, self._stack.workdir()
        self._enter_index(mark, found.st_nlink)
        os.unlink(self._temporary, dir_fd=work.fd)
        self._done = True
        os.close(node.fd)
        node.fd = -1
        assert node.links is not None
        assert stack.index is not None
        node.part, node.name = stack.index, node.links.name

    def _publish_nameless(self) -> None:
        """The name is gone but the file is still in use: the copy lives only as long as it is."""
        node, work = self.node, self._stack.workdir()
        fd = os.open(self._temporary, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work.fd)
        os.unlink(self._temporary, dir_fd=work.fd)
        self._done = True
        before = node.fd
        node.fd = fd
        if before >= 0:
            os.close(before)
        node.part = self._stack.root.parts[0]

    def _publish_named(self, parent: Directory, mark: bytes | None, found: os.stat_result) -> None:
        """Put the copy where the lower object was seen."""
        node, stack = self.node, self._stack
        work = stack.workdir()
        name = node.name
        upper = parent.parts[0]
        above = upper.open()
        if mark is not None:
            mark_impure(stack, parent)
        if mark and stack.index is not None:
            self._enter_index(mark, found.st_nlink)
        before = os.stat(above)
        os.rename(self._temporary, name, src_dir_fd=work.fd, dst_dir_fd=above)
        _restore_times(above, before)
        self._done = True
        if node.links is not None and stack.index is not None:
            node.part, node.name = stack.index, node.links.name
        else:
            node.part = upper
        stack.note_upper_name(parent, name)

    def _enter_index(self, mark: bytes, below: int) -> None:
        node, stack = self.node, self._stack
        work = stack.workdir()
        assert stack.index is not None
        entry = origin.index_name(mark)
        lost = stack.lost_links.pop(node.ino, 0)
        links = Links(below, max(below - lost, 1), entry)
        value = b"L%+d" % (links.count - links.lower)
        path = proc_path(work.fd, self._temporary)
        os.setxattr(path, stack.marks.prefix + names.NLINK, value, follow_symlinks=False)
        os.link(
            self._temporary,
            entry,
            src_dir_fd=work.fd,
            dst_dir_fd=stack.index.open(),
            follow_symlinks=False,
        )
        work.indexed.add(entry)
        node.links = links

    def _switch_files(self) -> None:
        """Let descriptors that were opened before see what is written from now on."""
        node = self.node
        if node.data is not None:
            return
        for file in node.files or ():
            with contextlib.suppress(OSError):
                file.follow_node()

    def abandon(self) -> None:
        """Give up, or clean up after `publish`."""
        for fd in (self._source, self._target):
            if fd >= 0:
                os.close(fd)
        self._source = self._target = -1
        if not self._done:
            self._done = True
            self._stack.workdir().discard(self._temporary)


def copy_up(stack: Stack, node: Node, size: int | None = None, *, metadata: bool = False) -> None:
    """Make sure that a node lies in upper.

    size     -- only so many bytes of content are needed (open with O_TRUNC, truncate)
    metadata -- the content is not about to change and may stay below, if the union is set so
    """
    if node.is_upper:
        if node.data is not None and not (metadata and stays_below(stack, node)):
            completion = Completion(stack, node, size)
            completion.copy()
            completion.publish()
        return
    if isinstance(node, Directory):
        copy_up_directory(stack, node)
        return
    job = CopyUp(stack, node, size)
    if metadata and stays_below(stack, node):
        job.metadata_only()
    job.copy()
    job.publish()


def stays_below(stack: Stack, node: Node) -> bool:
    """Whether a change of a file's metadata leaves its content in the lower layer.

    Only where the union is so set, and never of a file with several names: each would have to tell
    where the content lies.
    """
    if node.is_upper:
        return node.data is not None and node.links is None
    return stack.config.metacopy and node.fd < 0 and node.real_stat().st_nlink == 1


class Completion:
    """Bringing the content of a metadata-only copy up, in the steps of `CopyUp`.

    While it is under way the copy keeps its mark, so it goes on standing for the content below.

    node -- what is completed
    """

    def __init__(self, stack: Stack, node: Node, size: int | None = None) -> None:
        """As for `CopyUp`; the node has `data`."""
        assert node.data is not None
        self.node = node
        self._stack = stack
        self._layer = node.data[0].layer
        self._stat = found = node.real_stat()
        self._size = found.st_size if size is None else min(size, found.st_size)
        self._source = node.open_content(os.O_RDONLY)
        self._target = -1
        self._brake = Brake()
        self._capability: bytes | None = None
        try:
            self._target = node.open_real(os.O_RDWR)
            with contextlib.suppress(OSError):
                self._capability = os.getxattr(self._target, names.CAPABILITY)
        except BaseException:
            self.abandon()
            raise

    @property
    def long(self) -> bool:
        """Whether it is worth a thread of its own."""
        return self._size > INLINE

    def copy(self) -> None:
        """Move the content. Reads and writes only descriptors of its own."""
        try:
            copy_content(self._source, self._target, self._size, self._layer, self._brake.check)
            if not self._stack.config.volatile:
                os.fsync(self._target)
        except BaseException:
            self.abandon()
            raise

    def stop(self) -> None:
        """As of `CopyUp`."""
        self._brake.pull()

    def publish(self) -> None:
        """Let the copy stand for its own content from now on."""
        node, found = self.node, self._stat
        try:
            # Writing the content took them away, as any write does (capabilities(7), chmod(2)).
            if os.fstat(self._target).st_mode != found.st_mode:
                os.fchmod(self._target, stat.S_IMODE(found.st_mode))
            if self._capability is not None and self._size:
                os.setxattr(self._target, names.CAPABILITY, self._capability)
            os.utime(self._target, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.removexattr(self._target, self._stack.marks.prefix + names.METACOPY)
        finally:
            self.abandon()
        node.data = None
        for file in node.files or ():
            file.follow_node()

    def abandon(self) -> None:
        """Give up, or clean up after `publish`."""
        for fd in (self._source, self._target):
            if fd >= 0:
                os.close(fd)
        self._source = self._target = -1


def _set_mark(target: int | bytes, name: bytes, value: bytes) -> None:
    os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))


def copy_xattrs(stack: Stack, source: bytes, follow: bool, target: int | bytes) -> None:
    """Copy every xattr but the private marks. A ``target`` path is not followed if a symlink.

    What the upper cannot hold of security labels and ACLs is left out, as kernel overlayfs does;
    for other xattrs ENOTSUP is passed on only if the union is to have xattrs.
    """
    prefix = stack.marks.prefix
    escaped = prefix + names.ESCAPE
    for name in list_xattrs(source, follow):
        if name.startswith(prefix) and not name.startswith(escaped):
            continue
        if name.startswith(names.FUSE_OVERLAYFS):
            continue
        try:
            value = os.getxattr(source, name, follow_symlinks=follow)
            _set_mark(target, name, value)
        except OSError as error:
            if error.errno == errno.ENODATA:
                continue
            optional = name.startswith(b"security.") or name in _ACLS
            if error.errno in (errno.ENOTSUP, errno.EPERM) and (
                optional or not stack.config.xattrs
            ):
                continue
            if error.errno == errno.EPERM and name.startswith(b"trusted."):
                continue
            raise


def _set_times(dirfd: int, name: bytes, found: os.stat_result) -> None:
    calls.utimensat(dirfd, name, found.st_atime_ns, found.st_mtime_ns, calls.AT_SYMLINK_NOFOLLOW)


@contextlib.contextmanager
def _kept_times(dirfd: int):  # type: ignore[no-untyped-def]
    """Undo what an entry that no user made does to the times of the directory it lands in."""
    before = os.stat(dirfd)
    yield
    _restore_times(dirfd, before)


def _restore_times(dirfd: int, before: os.stat_result) -> None:
    try:
        _set_times(dirfd, b".", before)
    except OSError:
        return


def redirect_data(stack: Stack, node: Node) -> None:
    """Name where a metadata-only copy's content lies, before it is found by another name.

    Without the redirect the content is sought below by the copy's own name (overlayfs.rst,
    "Metadata only copy up").
    """
    assert node.data is not None
    assert node.parent is not None
    path = node.real_path()
    name = stack.marks.prefix + names.REDIRECT
    try:
        os.getxattr(path, name, follow_symlinks=node.follow)
    except OSError:
        above = node.parent.lower_path()
        wanted = b"/" + (above + b"/" if above else b"") + node.name
        os.setxattr(path, name, wanted, follow_symlinks=node.follow)


def mark_impure(stack: Stack, parent: Directory) -> None:
    """Tell kernel overlayfs that children show another number than their own (overlay.impure)."""
    if parent.impure:
        return
    parent.impure = True
    with contextlib.suppress(OSError):
        os.setxattr(
            b"/proc/self/fd/%d" % parent.parts[0].open(),
            stack.marks.prefix + names.IMPURE,
            b"y",
        )


def link_alias(stack: Stack, node: Node, parent: Directory, name: bytes) -> None:
    """Give an indexed file the upper name it still lacks: a name seen only in a lower layer."""
    assert stack.index is not None
    assert node.links is not None
    upper = copy_up_directory(stack, parent)
    write_links(stack, node, relative_to_lower=True)
    with _kept_times(upper.open()):
        os.link(
            node.links.name,
            name,
            src_dir_fd=stack.index.open(),
            dst_dir_fd=upper.open(),
            follow_symlinks=False,
        )
    mark_impure(stack, parent)
    stack.note_upper_name(parent, name)
