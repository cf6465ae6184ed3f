# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina cp`: which object is meant, and where and under which name its copy goes.

The rules are docker cp's. A file goes to the path that is named, or into the directory of that
path; a directory becomes that path, or goes into the directory there, with `/.` behind it only what
is in it does. Symbolic links at the end of a source are copied, not followed, but for `-L`. How
trees are read and made is known to `transfer`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from launcher.errors import LaunchError
from launcher.image import limits
from launcher.image.tar import Damaged
from launcher.inside import Inside
from launcher.transfer import Landing, Owner, Tree
from launcher.typed import Final, NamedTuple

__all__ = ["archive", "copy_in", "copy_out", "extract"]

_OBJECT: Final = os.O_PATH | os.O_CLOEXEC
_MOST_LINKS: Final = 40  # path_resolution(7)

Opener = Callable[[bytes, int], int]
"""Opens a path on one of the two sides: the descriptor is the caller's, OSError."""


class _Source(NamedTuple):
    """What was named: an O_PATH descriptor; the name of a copy; whether only what is in it is
    meant."""

    fd: int
    name: bytes
    contents: bool


class _Target(NamedTuple):
    """Where a copy goes: an O_PATH descriptor of a directory, and the name there (b"": itself)."""

    fd: int
    name: bytes


def copy_out(inside: Inside, source: bytes, target: bytes, *, archive: bool, follow: bool) -> int:
    """From a container to the host; the number of sockets left out. LaunchError, OSError."""
    if archive:
        owner = Owner(roots=((inside.uid, 0), (inside.gid, 0)))
    else:
        owner = Owner(os.geteuid(), os.getegid())
    return _copy(inside.open, source, _on_host, target, owner, follow=follow)


def copy_in(inside: Inside, source: bytes, target: bytes, *, archive: bool, follow: bool) -> int:
    """From the host into a container: there it is root's, unless `archive` keeps owners."""
    return _copy(
        _on_host, source, inside.open, target, _owner_inside(inside, archive), follow=follow
    )


def archive(
    inside: Inside, source: bytes, write: Callable[[bytes], object], *, follow: bool
) -> int:
    """Write an object of a container's as a tar archive; the number of sockets left out."""
    from launcher.image.tarwrite import Writer

    found = _source(inside.open, source, follow)
    try:
        tree = Tree(found.fd, b"" if found.contents else found.name)
        writer = Writer(write)
        for entry, content in tree:
            owned = entry._replace(
                uid=max(entry.uid - inside.uid, 0), gid=max(entry.gid - inside.gid, 0)
            )
            writer.add(owned, content)
        writer.close()
        return tree.skipped
    finally:
        os.close(found.fd)


def extract(
    inside: Inside, target: bytes, read: Callable[[int], bytes], spool: bytes, *, archive: bool
) -> None:
    """Make what is in a tar archive, compressed or not, below a directory of a container.

    read  -- gives up to so many bytes, b"" at the end
    spool -- directory for a nameless file that holds the archive meanwhile
    Raises LaunchError, `Damaged`, OSError. Links in the container's directories are followed,
    inside its root.
    """
    from launcher.image.arrival import Arrival
    from launcher.image.tarread import Reader
    from launcher.image.unpack import names_of

    directory = _directory(inside.open, target)
    base = b"/" + target.strip(b"/")
    blob = os.open(spool, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        flags = os.O_PATH | os.O_DIRECTORY
        landing = Landing(
            directory,
            _owner_inside(inside, archive),
            lambda path: inside.open(base + b"/" + path, flags),
        )
        arrival = Arrival(read, blob, spool, limits.chosen())
        try:
            reader = Reader(arrival)
            for entry in reader:
                parent, name = names_of(entry.name, "name")
                if entry.kind == 0x31:  # hard link
                    entry = entry._replace(
                        link=b"/".join(filter(None, names_of(entry.link, "link")))
                    )
                if arrival.wait(entry.offset + entry.stored) < entry.offset + entry.stored:
                    raise Damaged(f"at byte {entry.offset}: it ends in the middle of an entry")
                landing.put(entry, parent, name, arrival.fd, entry.offset)
            arrival.finish()
            if not reader.ended:
                raise Damaged("it ends too early")
        finally:
            arrival.close()
        landing.finish()
    finally:
        os.close(blob)
        os.close(directory)


def _owner_inside(inside: Inside, archive: bool) -> Owner:
    if archive:
        return Owner(roots=((0, inside.uid), (0, inside.gid)))
    return Owner(inside.uid, inside.gid)


def _copy(
    here: Opener, source: bytes, there: Opener, target: bytes, owner: Owner, *, follow: bool
) -> int:
    found = _source(here, source, follow)
    try:
        tree = Tree(found.fd, b"")
        place = _target(there, target, found, tree.is_directory)
        try:
            landing = Landing(place.fd, owner)
            for entry, content in tree:
                path = entry.name.removeprefix(b"./").rstrip(b"/")
                if entry.link and entry.kind == 0x31:
                    link = b"/".join(filter(None, (place.name, entry.link)))
                    entry = entry._replace(link=link)
                path = b"/".join(filter(None, (place.name, path)))
                parent, _, name = path.rpartition(b"/")
                landing.put(entry, parent, name, content)
            landing.finish()
            return tree.skipped
        finally:
            os.close(place.fd)
    finally:
        os.close(found.fd)


def _on_host(path: bytes, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC)


def _source(opener: Opener, path: bytes, follow: bool) -> _Source:
    contents = path.endswith(b"/.") or path.strip(b"/") in (b"", b".")
    follow = follow or path.endswith(b"/") or contents
    try:
        fd = opener(path, _OBJECT | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        raise LaunchError("copy", path, error) from error
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    if (path.endswith(b"/") or contents) and not is_directory:
        os.close(fd)
        raise LaunchError("copy", path, os.strerror(errno.ENOTDIR))
    name = path.rstrip(b"/").rpartition(b"/")[2]
    if name == b"..":
        contents = True
    return _Source(fd, name, contents)


def _target(opener: Opener, path: bytes, source: _Source, is_directory: bool) -> _Target:
    """Where a copy of the source goes. Raises LaunchError."""
    slash = path.endswith((b"/", b"/.")) or path in (b".", b"..")
    for _ in range(_MOST_LINKS):
        try:
            fd = opener(path, _OBJECT | os.O_NOFOLLOW)
        except FileNotFoundError:
            if slash and not is_directory:
                raise LaunchError("copy to", path, "there is no such directory") from None
            return _beside(opener, path)
        except OSError as error:
            raise LaunchError("copy to", path, error) from error
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            into = source.contents and is_directory
            return _Target(fd, b"" if into else source.name)
        link = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(mode) else None
        os.close(fd)
        if link is None:
            if is_directory:
                raise LaunchError("copy to", path, "a directory cannot be copied onto a file")
            if slash:
                raise LaunchError("copy to", path, os.strerror(errno.ENOTDIR))
            return _beside(opener, path)
        # The link is resolved here, so that what it leads to may be missing, or be replaced.
        path = os.path.join(os.path.dirname(path.rstrip(b"/")), link)
    raise LaunchError("copy to", path, os.strerror(errno.ELOOP))


def _beside(opener: Opener, path: bytes) -> _Target:
    above, _, name = path.rstrip(b"/").rpartition(b"/")
    if name in (b"", b".", b".."):
        raise LaunchError("copy to", path, os.strerror(errno.ENOENT))
    return _Target(_directory(opener, above or (b"/" if path.startswith(b"/") else b".")), name)


def _directory(opener: Opener, path: bytes) -> int:
    try:
        return opener(path, _OBJECT | os.O_DIRECTORY)
    except OSError as error:
        raise LaunchError("copy to", path, error) from error
