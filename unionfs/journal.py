# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of an upper: in which directories it holds changes, written down as they are made.

`changes` reads it instead of looking into every object of a large upper. One record names each
directory of the lower layers that was copied up; what was made new needs none, since all below a
new directory is new, unless something of a lower layer was moved into one, of which one record
tells. So nothing is written where files are made, written or deleted, and little anywhere.

A record is written before the change (write(2), no fsync): the process may be killed at any time.
The journal is believed only in the boot it was begun in, so that a loss of power, which may keep a
change and lose its record, cannot mislead. It begins with an empty upper, and lies where temporary
objects do: whoever else mounts the upper (kernel overlayfs, a union without a journal) sweeps it
away. See docs/semantics.md, "The journal".
"""

from __future__ import annotations

import os

from unionfs.light import contextlib
from unionfs.typed import Final, NamedTuple

__all__ = ["NAME", "Changed", "Journal", "begin", "read"]

NAME: Final = b"journal"
_MAGIC: Final = b"lamina journal 1"
_PLACE: Final = b"work/" + NAME
_DIRECTORY: Final = b"D"
_MIXED: Final = b"M"
_END: Final = b"\0"


class Changed(NamedTuple):
    """What a journal says.

    directories -- paths in upper, without slashes at the ends, of the directories that were lower
                   ones; that of a directory which was renamed later, or its parent, may be stale
    mixed       -- below new directories there may be more than new objects
    """

    directories: frozenset[bytes]
    mixed: bool


class Journal:
    """The journal of a mounted union."""

    def __init__(self, fd: int, directory: int, mixed: bool) -> None:
        self._fd = fd
        self._directory = directory
        self._mixed = mixed

    def note(self, path: bytes) -> None:
        """A directory of the lower layers is about to be copied up."""
        self._write(_DIRECTORY + path + _END)

    def note_move(self) -> None:
        """Something that may be of a lower layer is about to get a name in a new directory."""
        if not self._mixed:
            self._mixed = True
            self._write(_MIXED + _END)

    def _write(self, record: bytes) -> None:
        if self._fd < 0:
            return
        try:
            if os.write(self._fd, record) == len(record):
                return
        except OSError:
            pass
        # A full disc must not keep anybody from making room: better no journal than that.
        os.unlink(NAME, dir_fd=self._directory)
        self.close()

    def close(self) -> None:
        """Let go of it; what it says stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def begin(directory: int, upper: int) -> Journal | None:
    """Go on with the journal of an upper, or begin one if the upper is empty; else None.

    directory -- O_PATH descriptor of work/work; it stays the caller's, and open
    upper     -- O_PATH descriptor of the upper's root
    """
    head = _head(upper)
    with contextlib.suppress(OSError):
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(NAME, flags, dir_fd=directory)
        except FileNotFoundError:
            fd = -1
        if fd >= 0:
            with open(os.dup(fd), "rb") as file:
                known = _decode(file.read(), head)
            if known is not None:
                # A record that was cut short, by a kill, ends here.
                os.write(fd, _END)
                return Journal(fd, directory, known.mixed)
            os.close(fd)
            os.unlink(NAME, dir_fd=directory)
        if os.listdir(b"/proc/self/fd/%d" % upper):
            return None
        fd = os.open(NAME, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
        if os.write(fd, head) == len(head):
            return Journal(fd, directory, False)
        os.close(fd)
        os.unlink(NAME, dir_fd=directory)
    return None


def read(work: bytes, upper: bytes) -> Changed | None:
    """What the journal of an upper says; None where there is none that can be believed."""
    try:
        root = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            head = _head(root)
        finally:
            os.close(root)
        with open(work + b"/" + _PLACE, "rb") as file:
            return _decode(file.read(), head)
    except OSError:
        return None


def _decode(content: bytes, head: bytes) -> Changed | None:
    if not content.startswith(head):
        return None
    directories: set[bytes] = set()
    mixed = False
    for record in content[len(head) :].split(_END):
        if record.startswith(_DIRECTORY):
            directories.add(record[1:])
        elif record:
            # Also what a later lamina may write: it is not known to be nothing.
            mixed = True
    return Changed(frozenset(directories), mixed)


def _head(upper: int) -> bytes:
    """What a journal of this upper, begun since the machine started, begins with."""
    found = os.stat(upper)
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        boot = file.read().strip()
    return b"%s %s %d:%d%s" % (_MAGIC, boot, found.st_dev, found.st_ino, _END)
