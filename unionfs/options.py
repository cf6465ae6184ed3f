# SPDX-License-Identifier: GPL-3.0-or-later
"""`-o` lists: what mount(8), kernel overlayfs and fuse-overlayfs may pass, read into `Choices`.

The syntax is that of overlayfs.rst: options are separated by commas, the directories of `lowerdir`
by colons, and a backslash takes the next byte literally, whatever it is. Names are known or
refused, never skipped: an option that cannot be kept is an error that names it.

What an option means is in the tables below; what the mount makes of it is in `config`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise

from unionfs.config import Format, IdMap, MountConfig, SessionConfig, Transport
from unionfs.errors import shown
from unionfs.typed import Final

__all__ = [
    "Choices",
    "OptionError",
    "UnknownOption",
    "apply_options",
    "format_options",
    "split_options",
]


class OptionError(ValueError):
    """An option that is unknown, refused or malformed; `str()` names it and says why."""


class UnknownOption(OptionError):
    """An option that nobody has heard of."""


class Choices:
    """Everything a command line can choose; None where it has not.

    Paths are as they were written. `union` and `session` make the two frozen configurations.
    """

    lower: list[bytes]
    data: list[bytes]
    upper: bytes | None = None
    work: bytes | None = None
    format: Format = "overlay"
    userxattr: bool | None = None
    volatile: bool = False
    redirect_dir: bool = True
    follow: bool = True
    metacopy: bool = False
    index: bool = True
    journal: bool = False
    xattrs: bool = True
    acl: bool = True
    squash_to_uid: int | None = None
    squash_to_gid: int | None = None
    uidmapping: IdMap = ()
    gidmapping: IdMap = ()
    read_only: bool = False
    transport: Transport = "auto"
    fsname: str | None = None
    subtype: str | None = None
    allow_other: bool | None = None
    allow_root: bool = False
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
    debug: bool = False
    contexts: dict[str, bytes]

    def __init__(self) -> None:
        self.lower = []
        self.data = []
        self.contexts = {}

    def union(self, userxattr: bool) -> MountConfig:
        """The union that was chosen; `userxattr` says what to take where that was left open."""
        return MountConfig(
            lower=tuple(self.lower),
            data=tuple(self.data),
            upper=self.upper,
            work=self.work,
            format=self.format,
            userxattr=userxattr if self.userxattr is None else self.userxattr,
            volatile=self.volatile,
            redirect_dir=self.redirect_dir,
            follow=self.follow,
            metacopy=self.metacopy,
            index=self.index,
            journal=self.journal,
            xattrs=self.xattrs,
            acl=self.acl,
            read_only=self.read_only,
            squash_to_uid=self.squash_to_uid,
            squash_to_gid=self.squash_to_gid,
            uidmapping=self.uidmapping,
            gidmapping=self.gidmapping,
        )

    def session(self, mountpoint: bytes, root: bool) -> SessionConfig:
        """How it is to be mounted; `root` decides what was left open. Raises OptionError."""
        if self.allow_root and not root:
            raise OptionError("option 'allow_root' is for root alone: use 'allow_other'")
        if self.allow_root and self.allow_other:
            raise OptionError("options 'allow_root' and 'allow_other' exclude each other")
        if self.contexts and not root:
            raise OptionError(f"option '{next(iter(self.contexts))}' is for root alone")
        others = root and not self.allow_root
        return SessionConfig(
            mountpoint=mountpoint,
            transport=self.transport,
            fsname=self.fsname or "lamina",
            subtype=self.subtype or "lamina",
            allow_other=others if self.allow_other is None else self.allow_other,
            read_only=self.read_only,
            nosuid=not root if self.nosuid is None else self.nosuid,
            nodev=not root if self.nodev is None else self.nodev,
            noexec=self.noexec,
            noatime=self.noatime,
            nodiratime=self.nodiratime,
            strictatime=self.strictatime,
            lazytime=self.lazytime,
            sync=self.sync,
            dirsync=self.dirsync,
            passthrough=self.passthrough,
            contexts=tuple(self.contexts.items()),
            debug=self.debug,
        )


def apply_options(text: bytes, choices: Choices) -> None:
    """Read one `-o` list into `choices`; later options win. Raises OptionError."""
    for option in split_options(text):
        name, equals, value = option.partition(b"=")
        _apply_one(name, value if equals else None, choices)


def split_options(text: bytes) -> list[bytes]:
    """The options of a list, each as it was written.

    Commas within the quotes of a security context belong to it: `context="u:r:t:s0:c1,c2"`
    (mount(8)).
    """
    options: list[bytes] = []
    for piece in _split(text, b","):
        if options and _is_open(options[-1]):
            options[-1] += b"," + piece
        else:
            options.append(piece)
    return [option for option in options if option]


def _is_open(option: bytes) -> bool:
    """Whether an option is a security context whose closing quote is still to come."""
    name, _, value = option.partition(b"=")
    return name in _CONTEXTS and value.startswith(b'"') and value.count(b'"') == 1


def _apply_one(name: bytes, value: bytes | None, choices: Choices) -> None:
    if name in _FLAGS:
        if value is not None:
            raise OptionError(f"option {_quoted(name)} takes no value")
        for field_name, setting in _FLAGS[name]:
            setattr(choices, field_name, setting)
    elif name in _SWITCHES:
        switched, meanings = _SWITCHES[name]
        if (name, value) in _REFUSED_VALUES:
            reason = _REFUSED_VALUES[name, value]
            option = name + b"=" + (value or b"")
            raise OptionError(f"option {_quoted(option)} is not supported: {reason}")
        if value not in meanings:
            known = ", ".join(shown(word) for word in meanings if word is not None)
            given = "is missing" if value is None else f"{_quoted(value)} is none of {known}"
            raise OptionError(f"value of option {_quoted(name)} {given}")
        if switched is not None:
            setattr(choices, switched, meanings[value])
    elif name in _VALUES:
        if not value and name != b"lowerdir":
            raise OptionError(f"option {_quoted(name)} needs a value")
        _VALUES[name](choices, name, value or b"")
    elif name in _REFUSED:
        raise OptionError(f"option {_quoted(name)} is not supported: {_REFUSED[name]}")
    elif name not in _IGNORED and not name.startswith((b"x-", b"X-")):
        raise UnknownOption(f"unknown option {_quoted(name)}")


# -- syntax ---------------------------------------------------------------------------------------


def _split(text: bytes, separator: bytes) -> Iterator[bytes]:
    """Pieces between unescaped separators, their escapes still in them."""
    start = at = 0
    while at < len(text):
        if text[at] == 0x5C:
            at += 1
        elif text[at] == separator[0]:
            yield text[start:at]
            start = at + 1
        at += 1
    yield text[start:]


def _unescape(text: bytes) -> bytes:
    """Without its escapes: a backslash stands for the byte after it, at the end for nothing."""
    if b"\\" not in text:
        return text
    result = bytearray()
    at = 0
    while at < len(text):
        if text[at] == 0x5C:
            at += 1
        result += text[at : at + 1]
        at += 1
    return bytes(result)


def _escape(text: bytes, special: bytes) -> bytes:
    result = bytearray()
    for byte in text:
        if byte in special:
            result.append(0x5C)
        result.append(byte)
    return bytes(result)


def _quoted(text: bytes) -> str:
    return f"'{shown(text)}'"


# -- options with a value of their own ------------------------------------------------------------


def _lowerdir(choices: Choices, name: bytes, value: bytes) -> None:
    """`lowerdir=a:b::c`, topmost first, replaces what was said before (ovl_parse_param).

    What follows two colons is a data-only layer, and so is all that comes after it (overlayfs.rst,
    "Data-only lower layers").
    """
    directories = list(_split(value, b":")) if value else []
    ends = directories.index(b"") if b"" in directories else len(directories)
    lower, rest = directories[:ends], directories[ends:]
    data = rest[1::2]
    if rest and (not lower or b"" in data or not rest[-1]):
        raise OptionError("option 'lowerdir': a directory has no name")
    if any(rest[::2]):
        raise OptionError("option 'lowerdir': " + _OUT_OF_ORDER)
    choices.lower = [_unescape(directory) for directory in lower]
    choices.data = [_unescape(directory) for directory in data]


def _add_lower(choices: Choices, name: bytes, value: bytes) -> None:
    """`lowerdir+=a` appends one directory, colons and all."""
    if choices.data:
        raise OptionError(f"option {_quoted(name)}: {_OUT_OF_ORDER}")
    choices.lower.append(_unescape(value))


def _add_data(choices: Choices, name: bytes, value: bytes) -> None:
    """`datadir+=a` appends one data-only layer."""
    if not choices.lower:
        raise OptionError(f"option {_quoted(name)}: a lower layer has to come before it")
    choices.data.append(_unescape(value))


def _redirects(choices: Choices, name: bytes, value: bytes) -> None:
    """overlayfs.rst, "redirect_dir": `off` follows, as kernels do unless told otherwise."""
    known = (b"on", b"follow", b"off", b"nofollow")
    if value not in known:
        words = ", ".join(shown(word) for word in known)
        raise OptionError(f"value of option {_quoted(name)} {_quoted(value)} is none of {words}")
    choices.redirect_dir = value == b"on"
    choices.follow = value != b"nofollow"


def _upperdir(choices: Choices, name: bytes, value: bytes) -> None:
    choices.upper = _unescape(value)


def _workdir(choices: Choices, name: bytes, value: bytes) -> None:
    choices.work = _unescape(value)


def _label(choices: Choices, name: bytes, value: bytes) -> None:
    """`fsname=`, `subtype=`: text that appears in /proc/mounts."""
    setattr(choices, name.decode(), os.fsdecode(_unescape(value)))


def _context(choices: Choices, name: bytes, value: bytes) -> None:
    """`context=` and its like, for the kernel to understand; without its quotes."""
    context = _unescape(value)
    if len(context) > 1 and context.startswith(b'"') and context.endswith(b'"'):
        context = context[1:-1]
    if not context or b'"' in context:
        raise OptionError(f"value of option {_quoted(name)}: {_quoted(value)} is no context")
    choices.contexts[name.decode()] = context


def _squash(choices: Choices, name: bytes, value: bytes) -> None:
    setattr(choices, name.decode(), _number(name, value))


def _mapping(choices: Choices, name: bytes, value: bytes) -> None:
    """`uidmapping=INSIDE:OUTSIDE:COUNT[:INSIDE:OUTSIDE:COUNT …]`, as fuse-overlayfs takes it."""
    numbers = [_number(name, word) for word in value.split(b":")]
    triples = tuple(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=False))
    if len(numbers) % 3 or any(count == 0 for _, _, count in triples):
        raise OptionError(f"option {_quoted(name)} needs triples INSIDE:OUTSIDE:COUNT")
    for place in (0, 1):
        spans = sorted((triple[place], triple[place] + triple[2]) for triple in triples)
        if spans[-1][1] > _LAST_ID + 1:
            raise OptionError(f"option {_quoted(name)} maps ids beyond {_LAST_ID}")
        if any(first[1] > second[0] for first, second in pairwise(spans)):
            raise OptionError(f"option {_quoted(name)} maps an id twice")
    setattr(choices, name.decode(), triples)


def _number(name: bytes, value: bytes) -> int:
    if not value.isdigit() or int(value) > _LAST_ID:
        wanted = f"a number from 0 to {_LAST_ID}"
        raise OptionError(f"value of option {_quoted(name)}: {_quoted(value)} is not {wanted}")
    return int(value)


def _ignored_number(choices: Choices, name: bytes, value: bytes) -> None:
    """A tuning knob of fuse-overlayfs that has no counterpart here; it changes speed only."""
    if not value.replace(b".", b"", 1).isdigit():
        raise OptionError(f"value of option {_quoted(name)}: {_quoted(value)} is not a number")


def _format(choices: Choices, name: bytes, value: bytes) -> None:
    if value == b"overlay":
        choices.format = "overlay"
    elif value == b"aufs":
        choices.format = "aufs"
    else:
        raise OptionError(f"value of option 'format': {_quoted(value)} is none of overlay, aufs")


def _transport(choices: Choices, name: bytes, value: bytes) -> None:
    if value == b"auto":
        choices.transport = "auto"
    elif value == b"device":
        choices.transport = "device"
    elif value == b"pyfuse3":
        choices.transport = "pyfuse3"
    else:
        raise OptionError(
            f"value of option 'transport': {_quoted(value)} is none of auto, device, pyfuse3"
        )


_OUT_OF_ORDER: Final = "a lower layer cannot come after a data-only layer"
_LAST_ID: Final = 0xFFFFFFFE  # (uid_t) -1 means "no id" (chown(2))
_CONTEXTS: Final = (b"context", b"fscontext", b"defcontext", b"rootcontext")

_VALUES: Final[dict[bytes, Callable[[Choices, bytes, bytes], None]]] = {
    b"lowerdir": _lowerdir,
    b"lowerdir+": _add_lower,
    b"datadir+": _add_data,
    b"redirect_dir": _redirects,
    b"upperdir": _upperdir,
    b"workdir": _workdir,
    b"fsname": _label,
    b"subtype": _label,
    b"squash_to_uid": _squash,
    b"squash_to_gid": _squash,
    b"uidmapping": _mapping,
    b"gidmapping": _mapping,
    b"format": _format,
    b"transport": _transport,
    **dict.fromkeys(_CONTEXTS, _context),
    b"timeout": _ignored_number,
    b"fast_ino": _ignored_number,
    b"threaded": _ignored_number,
    b"writeback": _ignored_number,
}

# -- options that are there or not ----------------------------------------------------------------

_FLAGS: Final[dict[bytes, tuple[tuple[str, object], ...]]] = {
    b"userxattr": (("userxattr", True),),
    b"volatile": (("volatile", True),),
    b"noacl": (("acl", False),),
    b"acl": (("acl", True),),
    b"noxattr": (("xattrs", False),),
    b"squash_to_root": (("squash_to_uid", 0), ("squash_to_gid", 0)),
    b"allow_other": (("allow_other", True),),
    b"allow_root": (("allow_root", True),),
    b"debug": (("debug", True),),
    b"ro": (("read_only", True),),
    b"rw": (("read_only", False),),
    b"suid": (("nosuid", False),),
    b"nosuid": (("nosuid", True),),
    b"dev": (("nodev", False),),
    b"nodev": (("nodev", True),),
    b"exec": (("noexec", False),),
    b"noexec": (("noexec", True),),
    b"atime": (("noatime", False),),
    b"noatime": (("noatime", True), ("strictatime", False)),
    b"diratime": (("nodiratime", False),),
    b"nodiratime": (("nodiratime", True),),
    b"relatime": (("noatime", False), ("strictatime", False)),
    b"norelatime": (),
    b"strictatime": (("strictatime", True), ("noatime", False)),
    b"nostrictatime": (("strictatime", False),),
    b"lazytime": (("lazytime", True),),
    b"nolazytime": (("lazytime", False),),
    b"sync": (("sync", True),),
    b"async": (("sync", False),),
    b"dirsync": (("dirsync", True),),
}

# -- options with a fixed set of values; a field of None: checked, and nothing to do ---------------

_Meanings = dict[bytes | None, object]
_ON_OFF: Final[_Meanings] = {b"on": True, b"off": False}
_OFF_ONLY: Final[_Meanings] = {b"off": False}

_SWITCHES: Final[dict[bytes, tuple[str | None, _Meanings]]] = {
    b"metacopy": ("metacopy", _ON_OFF),
    b"index": ("index", _ON_OFF),
    b"passthrough": ("passthrough", _ON_OFF),
    b"journal": ("journal", _ON_OFF),
    # Inode numbers are unique and stable whatever the layers are: nothing to choose.
    b"xino": (None, {b"on": None, b"off": None, b"auto": None}),
    b"uuid": (None, {b"on": None, b"off": None, b"null": None, b"auto": None}),
    b"nfs_export": (None, _OFF_ONLY),
    b"verity": (None, _OFF_ONLY),
    # fuse-overlayfs: 1 and 2 keep owner and mode in an xattr of its own.
    b"xattr_permissions": (None, {b"0": None}),
    b"noxattrs": ("xattrs", {b"0": True, b"1": False}),
    b"fsync": ("volatile", {b"0": True, b"1": False}),
}

_REFUSED_VALUES: Final[dict[tuple[bytes, bytes | None], str]] = {
    (b"nfs_export", b"on"): "file handles of the union end with its mount",
    (b"verity", b"on"): "fs-verity digests of lower files are not checked",
    (b"verity", b"require"): "fs-verity digests of lower files are not checked",
    (b"xattr_permissions", b"1"): "owner and mode are those of the layers' files",
    (b"xattr_permissions", b"2"): "owner and mode are those of the layers' files",
}

_REFUSED: Final[dict[bytes, str]] = {
    name: reason
    for names, reason in (
        ((b"plugins",), "layers are directories"),
        ((b"remount",), "unmount, then mount with the new options"),
        (
            (b"bind", b"rbind", b"move", b"loop", b"offset", b"sizelimit"),
            "it belongs to another kind of mount",
        ),
        (
            (
                b"private",
                b"rprivate",
                b"shared",
                b"rshared",
                b"slave",
                b"rslave",
                b"unbindable",
            ),
            "set the propagation with mount(8) once it is mounted",
        ),
        ((b"nosymfollow",), "FUSE mounts through fusermount3 cannot have it"),
        ((b"mand",), "mandatory locks left the kernel with Linux 5.15"),
    )
    for name in names
}

# Accepted, without effect here.
_IGNORED: Final[frozenset[bytes]] = frozenset(
    (
        # mount(8), fstab(5), systemd.mount(5): for those who call the mount helper
        b"defaults auto noauto user users nouser owner group nofail _netdev comment silent loud"
        b" nomand iversion noiversion symfollow uhelper helper seclabel"
        # always so: permissions are the kernel's to check (fuse(8)), a mount point need not be
        # empty, hard links of directories do not exist
        b" default_permissions nonempty static_nlink"
        # of the FUSE tools
        b" kernel_cache auto_cache use_ino readdir_ino big_writes intr clone_fd noforget"
    ).split()
)


# -- the way back ---------------------------------------------------------------------------------


def format_options(config: MountConfig) -> bytes:
    """The union as an `-o` list that `apply_options` reads back to the same configuration."""
    words: list[bytes] = []
    if config.lower:
        lowers = (_escape(directory, b"\\,:") for directory in config.lower)
        data = (b"::" + _escape(directory, b"\\,:") for directory in config.data)
        words.append(b"lowerdir=" + b":".join(lowers) + b"".join(data))
    if config.upper is not None:
        words.append(b"upperdir=" + _escape(config.upper, b"\\,"))
    if config.work is not None:
        words.append(b"workdir=" + _escape(config.work, b"\\,"))
    words += [
        word
        for word, is_set in (
            (b"format=aufs", config.format == "aufs"),
            (b"userxattr", config.userxattr),
            (b"volatile", config.volatile),
            (b"redirect_dir=off", not config.redirect_dir and config.follow),
            (b"redirect_dir=nofollow", not config.follow),
            (b"metacopy=on", config.metacopy),
            (b"index=off", not config.index),
            (b"journal=on", config.journal),
            (b"noxattr", not config.xattrs),
            (b"noacl", not config.acl),
            (b"ro", config.read_only),
        )
        if is_set
    ]
    squashed = ((b"uid", config.squash_to_uid), (b"gid", config.squash_to_gid))
    words += [b"squash_to_%s=%d" % (name, id) for name, id in squashed if id is not None]
    for name, mapping in (
        (b"uidmapping", config.uidmapping),
        (b"gidmapping", config.gidmapping),
    ):
        if mapping:
            triples = (b"%d:%d:%d" % triple for triple in mapping)
            words.append(b"%s=%s" % (name, b":".join(triples)))
    return b",".join(words)
