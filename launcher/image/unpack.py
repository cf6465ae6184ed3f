# SPDX-License-Identifier: GPL-3.0-or-later
"""A layer's archive → a directory that is a lower layer of a union.

The meaning of entries is that of the OCI image specification (layer.md): later ones replace
earlier ones, and names with `.wh.` hide what lower layers have, which becomes the union's marks
(`layermarks`). Nothing is reached but through the layer's own descriptor, and no name that leads
out of it is taken. An archive cannot write marks itself.
"""

from __future__ import annotations

import errno
import os
import stat

from launcher.errors import shown
from launcher.image import tar
from launcher.image.layermarks import OPAQUE_NAME, RESERVED, WHITEOUT, Marks, owned
from launcher.image.limits import Limits
from launcher.image.tar import Damaged, Entry
from launcher.image.tarread import Reader
from launcher.sys import files
from launcher.typed import Final, NamedTuple, Sequence

__all__ = ["Unpacked", "names_of", "unpack"]

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NOFOLLOW: Final = _DIRECTORY | os.O_NOFOLLOW
_LISTING: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_INSIDE: Final = files.IN_ROOT | files.NO_XDEV | files.NO_MAGICLINKS
_STRICT: Final = files.BENEATH | files.NO_XDEV | files.NO_SYMLINKS
_SMALL: Final = 256 << 10
_PIECE: Final = 8 << 20
_OPEN_DIRECTORIES: Final = 64
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR)
_REPLACED: Final = (*_ABSENT, errno.ELOOP)


class Unpacked(NamedTuple):
    """What became of an archive.

    entries -- how many it has
    size    -- bytes of the files in it
    depends -- whether the tree would be another one above other lower layers
    notes   -- what could not be kept, each said once
    """

    entries: int
    size: int
    depends: bool
    notes: tuple[str, ...]


class _Attributes(NamedTuple):
    """What is set on a directory at the end, when nothing changes its times any more."""

    inode: int
    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: tuple[tuple[bytes, bytes], ...]


def unpack(
    reader: Reader, root: int, marks: Marks, lowers: Sequence[int], limits: Limits
) -> Unpacked:
    """Make the tree of an archive in an empty directory.

    root   -- its descriptor (not O_PATH); it gets the attributes of the archive's own top
    lowers -- descriptors of the layers that will be below, topmost first: they lend the attributes
              of directories, and the files of hard links, that the archive relies on and lacks
    Raises `Damaged` for what the archive must not hold, OSError for what the filesystem refuses.
    """
    return _Tree(root, marks, lowers, limits).fill(reader)


class _Tree:
    """The tree that is being made.

    A directory that an entry names through a symbolic link is known by its own path from then on:
    the link may become something else before the archive ends.
    """

    def __init__(self, root: int, marks: Marks, lowers: Sequence[int], limits: Limits) -> None:
        self.root = root
        self.marks = marks
        self.lowers = lowers
        self.limits = limits
        self.depends = False
        self.notes: dict[str, None] = {}
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._open: dict[bytes, int] = {}
        self._directories: dict[bytes, _Attributes] = {}
        self._whiteouts: dict[tuple[bytes, bytes], None] = {}
        self._opaque: dict[bytes, None] = {}
        self._now = 0

    def fill(self, reader: Reader) -> Unpacked:
        count = size = 0
        limits = self.limits
        # What is created has the modes that are asked for.
        mask = os.umask(0)
        try:
            for entry in reader:
                count += 1
                if count > limits.files:
                    raise Damaged(f"it has more than {limits.files} entries")
                size += entry.size if entry.kind == tar.FILE else 0
                try:
                    self._add(entry, reader)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                        raise
                    reason = os.strerror(error.errno or 0)
                    raise Damaged(f"{shown(entry.name)}: {reason}") from error
            self._mark()
            self._finish()
        finally:
            os.umask(mask)
            self._forget()
        return Unpacked(count, size, self.depends, tuple(self.notes))

    # -- one entry --------------------------------------------------------------------------------

    def _add(self, entry: Entry, reader: Reader) -> None:
        self._now = entry.mtime
        parent, name = names_of(entry.name, "name")
        kind = entry.kind
        if not name:
            if kind != tar.DIRECTORY:
                raise Damaged(f"{shown(entry.name)}: the top of a layer can only be a directory")
            self._attributes(b"", os.fstat(self.root).st_ino, entry)
            return
        if name.startswith(WHITEOUT):
            self._hide(parent, name, entry)
            return
        directory, parent = self._parent(parent)
        if kind == tar.DIRECTORY:
            self._make_directory(directory, parent, name, entry)
            return
        try:
            self._make(directory, name, entry, reader)
        except FileExistsError:
            self._clear(directory, parent, name)
            self._make(directory, name, entry, reader)

    def _make(self, directory: int, name: bytes, entry: Entry, reader: Reader) -> None:
        kind = entry.kind
        if kind == tar.FILE:
            self._make_file(directory, name, entry, reader)
            return
        if kind == tar.HARD_LINK:
            self._make_link(directory, name, entry)
            return
        if kind == tar.SYMLINK:
            if not entry.link:
                raise Damaged(f"{shown(entry.name)}: a symbolic link to nothing")
            os.symlink(entry.link, name, dir_fd=directory)
        else:
            device = 0
            if kind == tar.FIFO:
                mode = stat.S_IFIFO
            else:
                mode = stat.S_IFCHR if kind == tar.CHARACTER_DEVICE else stat.S_IFBLK
                major, minor = entry.device
                if major >= 1 << 12 or minor >= 1 << 20:
                    raise Damaged(f"{shown(entry.name)}: a device number out of range")
                if kind == tar.CHARACTER_DEVICE and major == minor == 0:
                    raise Damaged(
                        f"{shown(entry.name)}: a device 0:0, which a union takes for a mark"
                    )
                device = os.makedev(major, minor)
            os.mknod(name, mode | entry.mode, device, dir_fd=directory)
        self._settle(directory, name, entry)

    def _make_file(self, directory: int, name: bytes, entry: Entry, reader: Reader) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, entry.mode & 0o777, dir_fd=directory)
        try:
            self._fill_file(fd, entry, reader)
            if entry.uid != self._uid or entry.gid != self._gid:
                self._own(fd, entry)
            if entry.xattrs:
                self._set_xattrs(fd, entry)
            # After the owner: a change of owner takes the set-id bits away (chown(2)).
            if entry.mode & 0o7000:
                os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _fill_file(self, fd: int, entry: Entry, reader: Reader) -> None:
        if entry.sparse is not None:
            at = entry.offset
            os.ftruncate(fd, entry.size)
            for offset, length in entry.sparse:
                _copy(reader, at, length, fd, offset)
                at += length
        elif entry.stored <= _SMALL:
            if entry.stored:
                _write(fd, reader.read(entry.offset, entry.stored))
        else:
            _copy(reader, entry.offset, entry.stored, fd, 0)

    def _make_link(self, directory: int, name: bytes, entry: Entry) -> None:
        target_parent, target = names_of(entry.link, "hard link to")
        if not target or target.startswith(WHITEOUT):
            raise Damaged(f"{shown(entry.name)}: a hard link to {shown(entry.link)}")
        try:
            source, _ = self._directory(target_parent)
            found = os.stat(target, dir_fd=source, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            source = self._bring_up(target_parent, target, entry)
            found = os.stat(target, dir_fd=source, follow_symlinks=False)
            directory, _ = self._parent(names_of(entry.name, "name")[0])
        if stat.S_ISDIR(found.st_mode):
            raise Damaged(f"{shown(entry.name)}: a hard link to the directory {shown(entry.link)}")
        os.link(target, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)

    def _settle(self, directory: int, name: bytes, entry: Entry) -> None:
        """Owner, mode and times of what cannot be opened."""
        if entry.uid != self._uid or entry.gid != self._gid:
            try:
                os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
            except OSError as error:
                self._not_owned(error)
            if entry.kind != tar.SYMLINK and entry.mode & 0o7000:
                os.chmod(_path(directory, name), entry.mode)
        for xattr, value in entry.xattrs:
            self._set_xattr(_path(directory, name), entry, xattr, value)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)

    def _make_directory(self, directory: int, parent: bytes, name: bytes, entry: Entry) -> None:
        path = parent + b"/" + name if parent else name
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                self._clear(directory, parent, name)
                os.mkdir(name, 0o700, dir_fd=directory)
        inode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
        self._attributes(path, inode, entry)

    def _attributes(self, path: bytes, inode: int, entry: Entry) -> None:
        for xattr, _ in entry.xattrs:
            _check_xattr(entry.name, xattr)
        self._directories[path] = _Attributes(
            inode, entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs
        )

    # -- marks ------------------------------------------------------------------------------------

    def _hide(self, parent: bytes, name: bytes, entry: Entry) -> None:
        """Remember a whiteout: what it hides is settled when all entries are there."""
        if name == OPAQUE_NAME:
            _, parent = self._parent(parent)
            self._opaque[parent] = None
            return
        hidden = name[len(WHITEOUT) :]
        if name.startswith(RESERVED) or hidden in (b"", b".", b".."):
            raise Damaged(f"{shown(entry.name)}: a name that is reserved for marks")
        if entry.kind == tar.DIRECTORY:
            raise Damaged(f"{shown(entry.name)}: a mark cannot be a directory")
        _, parent = self._parent(parent)
        self._whiteouts[parent, hidden] = None

    def _mark(self) -> None:
        """Write the marks. A whiteout concerns lower layers only (layer.md): where this layer has
        the name itself, a directory becomes opaque and anything else hides what is below anyway.
        """
        for parent in self._opaque:
            try:
                self.marks.write_opaque(self._strictly(parent))
            except OSError as error:
                if error.errno not in _REPLACED:
                    raise
        for parent, name in self._whiteouts:
            try:
                directory = self._strictly(parent)
            except OSError as error:
                if error.errno not in _REPLACED:
                    raise
                continue
            try:
                mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            except FileNotFoundError:
                if parent not in self._opaque:
                    self.marks.write_whiteout(directory, name)
                continue
            if stat.S_ISDIR(mode):
                below = os.open(name, _NOFOLLOW, dir_fd=directory)
                try:
                    self.marks.write_opaque(below)
                finally:
                    os.close(below)

    # -- directories ------------------------------------------------------------------------------

    def _directory(self, path: bytes) -> tuple[int, bytes]:
        """A descriptor of a directory of the layer, which stays the tree's and is good until two
        more have been asked for; and its own path, without symbolic links. ENOENT …
        """
        try:
            return self._strictly(path), path
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        fd = files.openat2(self.root, path, _DIRECTORY, _INSIDE)
        try:
            top = os.readlink(b"/proc/self/fd/%d" % self.root)
            path = os.readlink(b"/proc/self/fd/%d" % fd)[len(top) + 1 :]
        finally:
            os.close(fd)
        return self._strictly(path), path

    def _strictly(self, path: bytes) -> int:
        """A descriptor of a directory by its own path; ELOOP if there is a symbolic link in it."""
        if not path:
            return self.root
        fd = self._open.pop(path, -1)
        if fd < 0:
            fd = files.openat2(self.root, path, _DIRECTORY, _STRICT)
            if len(self._open) >= _OPEN_DIRECTORIES:
                os.close(self._open.pop(next(iter(self._open))))
        # At the end again: the one that is given up is the one not used for the longest time.
        self._open[path] = fd
        return fd

    def _forget(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        """The directory that an entry goes into, made where the archive has no entry for it, and
        its own path.
        """
        missing: list[bytes] = []
        while True:
            try:
                above, real = self._directory(path)
                break
            except FileNotFoundError:
                missing.append(path)
                path = path.rpartition(b"/")[0]
            except NotADirectoryError:
                raise Damaged(f"{shown(path)}: it is not a directory, and has entries") from None
        for path in reversed(missing):
            name = path.rpartition(b"/")[2]
            try:
                os.mkdir(name, 0o700, dir_fd=above)
            except FileExistsError:
                reason = "a symbolic link that leads to no directory of the layer, and has entries"
                raise Damaged(f"{shown(path)}: {reason}") from None
            inode = os.stat(name, dir_fd=above, follow_symlinks=False).st_ino
            real = real + b"/" + name if real else name
            self._directories[real] = self._inherited(real, inode)
            above = self._strictly(real)
        return above, real

    def _inherited(self, path: bytes, inode: int) -> _Attributes:
        """What a directory looks like that the archive does not describe: as below, if there.

        The times are those of the entry that needs it, so that they are always the same.
        """
        plain = _Attributes(inode, 0o755, 0, 0, self._now, ())
        for lower in self.lowers:
            try:
                fd = files.openat2(lower, path or b".", _DIRECTORY | os.O_NOFOLLOW, _INSIDE)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue
                return plain
            try:
                found = os.fstat(fd)
                xattrs = _plain_xattrs(fd)
            finally:
                os.close(fd)
            mode = stat.S_IMODE(found.st_mode)
            same = plain._replace(mode=mode, uid=found.st_uid, gid=found.st_gid, xattrs=xattrs)
            if same != plain:
                self.depends = True
            return same
        return plain

    def _clear(self, directory: int, parent: bytes, name: bytes) -> None:
        """Make room for an entry that replaces an earlier one."""
        path = parent + b"/" + name if parent else name
        self._forget_below(path)
        _remove(directory, name)

    def _forget_below(self, path: bytes) -> None:
        self._directories.pop(path, None)
        inside = path + b"/"
        for known in [each for each in self._open if each == path or each.startswith(inside)]:
            os.close(self._open.pop(known))

    def _finish(self) -> None:
        """Set what directories are to look like, from the leaves to the top."""
        if b"" not in self._directories:
            self._directories[b""] = self._inherited(b"", os.fstat(self.root).st_ino)
        for path in sorted(self._directories, key=lambda path: path.count(b"/"), reverse=True):
            wanted = self._directories[path]
            if path == b"":
                continue
            try:
                fd = files.openat2(self.root, path, os.O_RDONLY | os.O_DIRECTORY, _STRICT)
            except OSError as error:
                if error.errno not in _REPLACED:
                    raise
                continue  # something else has replaced it
            try:
                if os.fstat(fd).st_ino == wanted.inode:
                    self._dress(fd, path, wanted)
            finally:
                os.close(fd)
        self._dress(self.root, b"", self._directories[b""])

    def _dress(self, fd: int, path: bytes, wanted: _Attributes) -> None:
        entry = Entry(path or b"/", tar.DIRECTORY, *wanted[1:4], xattrs=wanted.xattrs)
        if wanted.uid != self._uid or wanted.gid != self._gid:
            self._own(fd, entry)
        if wanted.xattrs:
            self._set_xattrs(fd, entry)
        os.fchmod(fd, wanted.mode)
        os.utime(fd, ns=(wanted.mtime, wanted.mtime))

    # -- attributes -------------------------------------------------------------------------------

    def _own(self, fd: int, entry: Entry) -> None:
        try:
            os.fchown(fd, entry.uid, entry.gid)
        except OSError as error:
            self._not_owned(error)

    def _not_owned(self, error: OSError) -> None:
        """Ids that the user namespace does not have stay the caller's, as far as that can be."""
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise error
        self.notes["owners that this user cannot give files to (see subuid(5)) were left out"] = (
            None
        )

    def _set_xattrs(self, fd: int, entry: Entry) -> None:
        for name, value in entry.xattrs:
            self._set_xattr(fd, entry, name, value)

    def _set_xattr(self, where: int | bytes, entry: Entry, name: bytes, value: bytes) -> None:
        _check_xattr(entry.name, name)
        try:
            if isinstance(where, int):
                os.setxattr(where, name, value)
            else:
                os.setxattr(where, name, value, follow_symlinks=False)
        except OSError as error:
            # As docker: what the filesystem has no room for, or this user may not set.
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
            self.notes[f"xattrs {shown(name.split(b'.')[0])}.* cannot be set here"] = None

    # -- lower layers -----------------------------------------------------------------------------

    def _bring_up(self, parent: bytes, name: bytes, entry: Entry) -> int:
        """Copy the target of a hard link out of the layers below, as a union's link(2) would."""
        path = parent + b"/" + name if parent else name
        for lower in self.lowers:
            try:
                above = files.openat2(lower, parent or b".", _DIRECTORY, _INSIDE)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue
                break
            try:
                found = os.stat(name, dir_fd=above, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    return self._copy_up(above, parent, name, found)
                break
            except FileNotFoundError:
                continue
            finally:
                os.close(above)
        raise Damaged(f"{shown(entry.name)}: a hard link to {shown(path)}, which is no file here")

    def _copy_up(self, above: int, parent: bytes, name: bytes, found: os.stat_result) -> int:
        self.depends = True
        directory, _ = self._parent(parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            fd = os.open(name, flags, 0o600, dir_fd=directory)
            try:
                while os.sendfile(fd, source, None, _PIECE):
                    pass
                os.fchown(fd, found.st_uid, found.st_gid)
                for xattr, value in _plain_xattrs(source):
                    os.setxattr(fd, xattr, value)
                os.fchmod(fd, stat.S_IMODE(found.st_mode))
                os.utime(fd, ns=(found.st_mtime_ns, found.st_mtime_ns))
            finally:
                os.close(fd)
        finally:
            os.close(source)
        return directory


def names_of(name: bytes, what: str) -> tuple[bytes, bytes]:
    """A name of an archive → its directory (b"" the top) and its last part (b"" for the top).

    `Damaged` for a name that leads out: absolute, or with `..` in it; and for one with a part that
    is reserved for marks, where that is not its last.
    """
    if name.startswith(b"/"):
        raise Damaged(f"{shown(name)}: an absolute {what}")
    if b"//" in name or b"./" in name or name.endswith((b"/", b".")) or b"/.wh." in name:
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise Damaged(f"{shown(name)}: a {what} that leads out of the layer")
        name = b"/".join(parts)
        if any(part.startswith(WHITEOUT) for part in parts[:-1]):
            raise Damaged(f"{shown(name)}: it lies inside a mark")
    elif name.startswith(b".wh.") and b"/" in name:
        raise Damaged(f"{shown(name)}: it lies inside a mark")
    parent, _, last = name.rpartition(b"/")
    return parent, last


def _check_xattr(name: bytes, xattr: bytes) -> None:
    if owned(xattr):
        raise Damaged(f"{shown(name)}: the xattr {shown(xattr)}, which a union takes for a mark")
    if b"\0" in xattr or not xattr:
        raise Damaged(f"{shown(name)}: an xattr whose name has a zero byte in it")


def _plain_xattrs(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    """The xattrs of an object, without marks."""
    path = b"/proc/self/fd/%d" % fd
    found: list[tuple[bytes, bytes]] = []
    try:
        for name in map(os.fsencode, os.listxattr(path)):
            if not owned(name):
                found.append((name, os.getxattr(path, name)))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
    return tuple(sorted(found))


def _copy(reader: Reader, at: int, length: int, fd: int, offset: int) -> None:
    """Copy stored content into a file, in the kernel where it can."""
    source = reader.source
    end = at + length
    while at < end:
        piece = min(_PIECE, end - at)
        if source.wait(at + piece) < at + piece:
            raise Damaged(f"at byte {at}: it ends in the middle of an entry")
        try:
            done = os.copy_file_range(source.fd, fd, piece, at, offset)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            done = os.pwrite(fd, os.pread(source.fd, min(piece, 1 << 20), at), offset)
        if not done:
            raise Damaged(f"at byte {at}: it ends in the middle of an entry")
        at += done
        offset += done


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _path(directory: int, name: bytes) -> bytes:
    return b"/proc/self/fd/%d/%s" % (directory, name)


def _remove(directory: int, name: bytes) -> None:
    """Remove an object with all that is below it, staying below `directory`."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=directory)
        return
    found = [name]
    for path in found:  # which grows: level by level, so that the reverse is bottom up
        fd = files.openat2(directory, path, _LISTING, files.BENEATH | files.NO_SYMLINKS)
        try:
            with os.scandir(fd) as listing:
                entries = [
                    (os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in listing
                ]
            for each, is_directory in entries:
                if is_directory:
                    found.append(path + b"/" + each)
                else:
                    os.unlink(each, dir_fd=fd)
        finally:
            os.close(fd)
    for path in reversed(found):
        parent, _, last = path.rpartition(b"/")
        above = directory
        if parent:
            above = files.openat2(directory, parent, _DIRECTORY, files.BENEATH | files.NO_SYMLINKS)
        try:
            os.rmdir(last, dir_fd=above)
        finally:
            if above != directory:
                os.close(above)
