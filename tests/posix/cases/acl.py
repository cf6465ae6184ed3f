# SPDX-License-Identifier: GPL-3.0-or-later
"""POSIX access control lists (acl(5)), by their attributes."""

from __future__ import annotations

import errno
import os
import struct

from tests.posix.expect import content, fails, mode
from tests.posix.scene import ANNE, BERT, CLUB, directory, fifo, file
from tests.posix.table import Steps
from tests.support.user import as_user

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY = 0xFFFFFFFF

Entry = tuple[int, int, int]


def pack(*entries: Entry) -> bytes:
    """The attribute's value: version 2, then (tag, permissions, id) each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def unpack(value: bytes) -> list[Entry]:
    assert struct.unpack_from("<I", value)[0] == 2
    return [struct.unpack_from("<HHI", value, place) for place in range(4, len(value), 8)]


def named(uid: int, bits: int, mask: int = 7, group: int = 0, other: int = 0) -> bytes:
    """An access list with one named user."""
    return pack(
        (USER_OBJ, 7, NOBODY),
        (USER, bits, uid),
        (GROUP_OBJ, group, NOBODY),
        (MASK, mask, NOBODY),
        (OTHER, other, NOBODY),
    )


def named_user() -> Steps:
    """A named user has the entry's permissions, within the mask."""
    for bits in range(8):
        for mask in (0, 4, 6, 7):
            file(f"f{bits}{mask}", b"x", 0o700)
    yield
    for bits in range(8):
        for mask in (0, 4, 6, 7):
            os.setxattr(f"f{bits}{mask}", ACCESS, named(ANNE, bits, mask))

    def look() -> None:
        for bits in range(8):
            for mask in (0, 4, 6, 7):
                for want in (os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK):
                    allowed = bits & mask & want == want
                    assert os.access(f"f{bits}{mask}", want) == allowed, (bits, mask, want)

    as_user(ANNE, look)
    with fails(errno.EACCES):
        as_user(BERT, lambda: os.close(os.open("f77", os.O_RDONLY)))


def of_a_layer() -> Steps:
    """A list that was there rules, before and after a change of the file."""
    file("f", b"x", 0o600)
    os.setxattr("f", ACCESS, named(ANNE, 6))
    yield
    assert as_user(ANNE, lambda: content("f")) == b"x"
    with fails(errno.EACCES):
        as_user(BERT, lambda: content("f"))

    def append() -> None:
        with open("f", "ab") as stream:
            stream.write(b"y")

    as_user(ANNE, append)
    assert content("f") == b"xy"
    assert unpack(os.getxattr("f", ACCESS)) == unpack(named(ANNE, 6))
    with fails(errno.EACCES):
        as_user(BERT, lambda: content("f"))


def named_group() -> Steps:
    """A named group, by a supplementary group of the caller."""
    file("f", b"x", 0o600)
    yield
    os.setxattr(
        "f",
        ACCESS,
        pack(
            (USER_OBJ, 6, NOBODY),
            (GROUP_OBJ, 0, NOBODY),
            (GROUP, 4, CLUB),
            (MASK, 6, NOBODY),
            (OTHER, 0, NOBODY),
        ),
    )
    assert as_user(ANNE, lambda: content("f"), groups=[CLUB]) == b"x"
    with fails(errno.EACCES):
        as_user(ANNE, lambda: content("f"))


def mode_shows_the_mask() -> Steps:
    """With a mask the group bits of the mode are the mask; chmod(2) sets it."""
    file("f", b"x", 0o600)
    yield
    os.setxattr("f", ACCESS, named(ANNE, 7, mask=6))
    assert mode("f") == 0o760
    os.chmod("f", 0o640)
    entries = dict((tag, bits) for tag, bits, _ in unpack(os.getxattr("f", ACCESS)))
    assert entries == {USER_OBJ: 6, USER: 7, GROUP_OBJ: 0, MASK: 4, OTHER: 0}
    assert as_user(ANNE, lambda: os.access("f", os.R_OK))
    assert not as_user(ANNE, lambda: os.access("f", os.W_OK))


def minimal_list_is_the_mode() -> Steps:
    """A list of three entries is kept as the mode alone."""
    file("f", b"x", 0o600)
    yield
    os.setxattr(
        "f", ACCESS, pack((USER_OBJ, 6, NOBODY), (GROUP_OBJ, 4, NOBODY), (OTHER, 1, NOBODY))
    )
    assert mode("f") == 0o641
    with fails(errno.ENODATA):
        os.getxattr("f", ACCESS)
    assert ACCESS not in os.listxattr("f")


def removal() -> Steps:
    """Without the list the mode rules again."""
    file("f", b"x", 0o600)
    os.setxattr("f", ACCESS, named(ANNE, 7))
    directory("d")
    os.setxattr("d", DEFAULT, named(ANNE, 7))
    yield
    os.removexattr("f", ACCESS)
    with fails(errno.EACCES):
        as_user(ANNE, lambda: content("f"))
    os.removexattr("d", DEFAULT)
    os.umask(0o022)
    file_descriptor = os.open("d/f", os.O_CREAT | os.O_WRONLY, 0o666)
    os.close(file_descriptor)
    assert mode("d/f") == 0o644
    assert os.listxattr("d/f") == []


def default_is_inherited() -> Steps:
    """New objects take the default list; the umask counts for nothing, the mode does."""
    directory("d")
    os.setxattr("d", DEFAULT, named(ANNE, 7, mask=7, group=5, other=0))
    yield
    os.umask(0o077)
    os.close(os.open("d/file", os.O_CREAT | os.O_WRONLY, 0o664))
    os.mkdir("d/directory", 0o777)
    os.mkfifo("d/fifo", 0o666)
    os.symlink("x", "d/link")
    assert mode("d/file") == 0o660
    assert unpack(os.getxattr("d/file", ACCESS)) == [
        (USER_OBJ, 6, NOBODY),
        (USER, 7, ANNE),
        (GROUP_OBJ, 5, NOBODY),
        (MASK, 6, NOBODY),
        (OTHER, 0, NOBODY),
    ]
    assert mode("d/directory") == 0o770
    assert unpack(os.getxattr("d/directory", DEFAULT)) == unpack(os.getxattr("d", DEFAULT))
    assert unpack(os.getxattr("d/directory", ACCESS)) == unpack(named(ANNE, 7, 7, 5, 0))
    assert mode("d/fifo") == 0o660
    assert os.getxattr("d/fifo", ACCESS)
    assert os.listxattr("d/link", follow_symlinks=False) == []
    with fails(errno.ENODATA):
        os.getxattr("d/file", DEFAULT)


def default_without_named_entries() -> Steps:
    """A default list of three entries sets modes, and the umask counts for nothing."""
    directory("d")
    os.setxattr(
        "d", DEFAULT, pack((USER_OBJ, 7, NOBODY), (GROUP_OBJ, 6, NOBODY), (OTHER, 4, NOBODY))
    )
    yield
    os.umask(0o077)
    os.close(os.open("d/file", os.O_CREAT | os.O_WRONLY, 0o666))
    assert mode("d/file") == 0o664
    os.mkdir("d/sub", 0o777)
    assert mode("d/sub") == 0o764
    os.mkdir("d/sub/sub", 0o777)
    assert mode("d/sub/sub") == 0o764


def inherited_when_made_by_users() -> Steps:
    """The list of what a user makes is inherited in the same way."""
    directory("d", 0o777)
    os.setxattr("d", DEFAULT, named(BERT, 6, mask=7, group=0, other=0))
    yield

    def act() -> None:
        os.umask(0o022)
        os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY, 0o666))

    as_user(ANNE, act)
    assert os.stat("d/f").st_uid == ANNE
    assert mode("d/f") == 0o660
    as_user(BERT, lambda: os.close(os.open("d/f", os.O_RDWR)))
    with fails(errno.EACCES):
        as_user(10009, lambda: os.close(os.open("d/f", os.O_RDONLY)))


def only_owner_sets() -> Steps:
    """EPERM for whoever is not the owner."""
    file("f", b"x", 0o666, BERT)
    file("mine", b"x", 0o600, ANNE)
    yield

    def act() -> None:
        with fails(errno.EPERM):
            os.setxattr("f", ACCESS, named(ANNE, 7))
        with fails(errno.EPERM, errno.ENODATA):
            os.removexattr("f", ACCESS)
        os.setxattr("mine", ACCESS, named(BERT, 4))

    as_user(ANNE, act)
    assert as_user(BERT, lambda: content("mine")) == b"x"


def wrong_lists() -> Steps:
    """EINVAL for what is no list; EACCES for a default list on a file."""
    file("f")
    directory("d")
    yield
    wrong = [
        b"x",
        struct.pack("<I", 2) + b"12345",
        pack((USER_OBJ, 7, NOBODY)),
        pack((USER_OBJ, 7, NOBODY), (USER, 7, ANNE), (GROUP_OBJ, 7, NOBODY), (OTHER, 7, NOBODY)),
        pack((USER_OBJ, 7, NOBODY), (GROUP_OBJ, 7, NOBODY), (OTHER, 99, NOBODY)),
    ]
    for value in wrong:
        for key in (ACCESS, DEFAULT):
            with fails(errno.EINVAL):
                os.setxattr("d", key, value)
    with fails(errno.EACCES):
        os.setxattr("f", DEFAULT, named(ANNE, 7))
    assert os.listxattr("d") == os.listxattr("f") == []


def not_on_symlinks() -> Steps:
    """EOPNOTSUPP: a link has no list."""
    os.symlink("x", "link")
    yield
    with fails(errno.EOPNOTSUPP):
        os.setxattr("link", ACCESS, named(ANNE, 7), follow_symlinks=False)


def setgid_falls() -> Steps:
    """Setting a list as one who is not in the group clears the set-group-ID bit."""
    file("f", b"x", 0o2755, ANNE, CLUB)
    yield
    as_user(ANNE, lambda: os.setxattr("f", ACCESS, named(BERT, 4, 7, 5, 5)))
    assert mode("f") & 0o2000 == 0


def special_files() -> Steps:
    """Lists work on FIFOs."""
    fifo("p", 0o600)
    yield
    os.setxattr("p", ACCESS, named(ANNE, 4))
    assert as_user(ANNE, lambda: os.access("p", os.R_OK))
    assert not as_user(BERT, lambda: os.access("p", os.R_OK))
