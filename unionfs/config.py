# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person chose: `MountConfig` (what the union is) and `SessionConfig` (how it is mounted).

Both are frozen values without behaviour. How they are read from a command line is in `options`;
whether the layers they name are any good is for `Union` to say.
"""

from __future__ import annotations

from unionfs.typed import Literal, NamedTuple

__all__ = ["Format", "IdMap", "MountConfig", "SessionConfig", "Transport"]

Format = Literal["overlay", "aufs"]
Transport = Literal["auto", "device", "pyfuse3"]
IdMap = tuple[tuple[int, int, int], ...]  # (id inside the union, id on the layers, how many)


class MountConfig(NamedTuple):
    """What the union is made of and how it behaves; nothing of FUSE. Given by name.

    lower         -- read-only layers, topmost first, absolute paths
    data          -- data-only layers, topmost first: seen only as content of metadata-only files
                     whose absolute redirects lead there
    upper         -- the layer that takes the changes, absolute path; None makes a read-only union
    work          -- directory on upper's filesystem for atomic steps; needed with upper
    format        -- which marks are read and written: the kernel's ("overlay") or AUFS's
    userxattr     -- marks are kept as user.overlay.* instead of trusted.overlay.*
    volatile      -- fsync is not passed on; the upper is marked so that a crash is noticed
    redirect_dir  -- rename directories with lower content by a redirect (False: EXDEV)
    follow        -- redirects on the layers are followed (False: what needs one is refused, EPERM)
    metacopy      -- copy up metadata alone where only metadata changed
    index         -- hard links of lower files stay one file after copy-up
    journal       -- where changes are is written down in work, for `diff`; only for an upper that
                     nobody changes but through unions
    xattrs        -- False: every xattr call is answered with ENOTSUP
    acl           -- False: POSIX ACLs are neither shown nor inherited
    read_only     -- changes are refused although there is an upper
    squash_to_uid -- every object appears to belong to this user
    squash_to_gid -- every object appears to belong to this group
    uidmapping    -- user ids inside the union and on the layers, by ranges
    gidmapping    -- the same for group ids
    """

    lower: tuple[bytes, ...]
    data: tuple[bytes, ...] = ()
    upper: bytes | None = None
    work: bytes | None = None
    format: Format = "overlay"
    userxattr: bool = False
    volatile: bool = False
    redirect_dir: bool = True
    follow: bool = True
    metacopy: bool = False
    index: bool = True  # type: ignore[assignment]  # covers tuple.index, of no use here
    journal: bool = False
    xattrs: bool = True
    acl: bool = True
    read_only: bool = False
    squash_to_uid: int | None = None
    squash_to_gid: int | None = None
    uidmapping: IdMap = ()
    gidmapping: IdMap = ()


class SessionConfig(NamedTuple):
    """How the union is shown to the system; nothing of layers. Given by name.

    mountpoint  -- absolute path of the directory to mount on
    transport   -- "auto": device where it can run, else pyfuse3
    fsname      -- the source in /proc/mounts; the filesystem's type is fuse.<subtype>
    subtype     -- see fsname
    allow_other -- users other than the mounter may enter; None: they may when root mounts
    read_only … lazytime -- the mount flags of mount(8) with the same names; None for nosuid and
                   nodev: set where the mounter is not root
    passthrough -- let the kernel read and write the layers' files by itself where it can
    contexts    -- SELinux's contexts for the mount, by the names of mount(8) (context, fscontext,
                   defcontext, rootcontext), for the kernel to understand; for root alone
    debug       -- requests and unexpected errors are reported on stderr
    """

    mountpoint: bytes
    transport: Transport = "auto"
    fsname: str = "lamina"
    subtype: str = "lamina"
    allow_other: bool | None = None
    read_only: bool = False
    nosuid: bool | None = None
    nodev: bool | None = None
    noexec: bool = False
    noatime: bool = False
    nodiratime: bool = False
    strictatime: bool = False
    lazytime: bool = False
    sync: bool = False
    dirsync: bool = False
    passthrough: bool = True
    contexts: tuple[tuple[str, bytes], ...] = ()
    debug: bool = False
