# SPDX-License-Identifier: GPL-3.0-or-later
"""`-o` lists: what is understood, what is ignored, what is refused and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unionfs.config import MountConfig, SessionConfig
from unionfs.options import (
    Choices,
    OptionError,
    UnknownOption,
    apply_options,
    format_options,
    split_options,
)


def chosen(text: bytes) -> Choices:
    choices = Choices()
    apply_options(text, choices)
    return choices


def config(text: bytes) -> MountConfig:
    return chosen(text).union(userxattr=False)


def session(text: bytes, root: bool = True) -> SessionConfig:
    return chosen(text).session(b"/m", root=root)


@pytest.mark.parametrize(
    ("text", "lower"),
    [
        (b"lowerdir=/a", (b"/a",)),
        (b"lowerdir=/a:/b:c", (b"/a", b"/b", b"c")),
        (b"lowerdir=/a\\:b:/c", (b"/a:b", b"/c")),
        (b"lowerdir=/a\\,b", (b"/a,b",)),
        (b"lowerdir=/a\\\\b", (b"/a\\b",)),
        (b"lowerdir=/a\\\\:/b", (b"/a\\", b"/b")),
        (b"lowerdir=/a\\b", (b"/ab",)),
        (b"lowerdir=/a=b", (b"/a=b",)),
        (b"lowerdir=/\xff\xfe:/\n", (b"/\xff\xfe", b"/\n")),
        (b"lowerdir=/a,lowerdir=/b", (b"/b",)),
        (b"lowerdir+=/a:b,lowerdir+=/c", (b"/a:b", b"/c")),
        (b"lowerdir=/a:/b,lowerdir+=/c", (b"/a", b"/b", b"/c")),
        (b"lowerdir=/a,lowerdir=", ()),
        (b",,lowerdir=/a,", (b"/a",)),
    ],
)
def test_lower_directories(text: bytes, lower: tuple[bytes, ...]) -> None:
    """overlayfs.rst, "Multiple lower layers": topmost first, a backslash takes the next byte."""
    assert config(text).lower == lower


@pytest.mark.parametrize(
    ("text", "lower", "data"),
    [
        (b"lowerdir=/a:/b::/c", (b"/a", b"/b"), (b"/c",)),
        (b"lowerdir=/a::/b::/c\\:d", (b"/a",), (b"/b", b"/c:d")),
        (b"lowerdir=/a::/b,lowerdir=/c", (b"/c",), ()),
        (b"lowerdir+=/a,datadir+=/b:c,datadir+=/d", (b"/a",), (b"/b:c", b"/d")),
        (b"lowerdir=/a::/b,datadir+=/c", (b"/a",), (b"/b", b"/c")),
    ],
)
def test_data_only_layers(text: bytes, lower: tuple[bytes, ...], data: tuple[bytes, ...]) -> None:
    """overlayfs.rst, "Data-only lower layers": they come last, each after two colons."""
    assert (config(text).lower, config(text).data) == (lower, data)


def test_upper_and_work() -> None:
    found = config(b"upperdir=/u\\:x\\,y,workdir=/w\\\\")
    assert (found.upper, found.work) == (b"/u:x,y", b"/w\\")
    # A colon separates nothing here.
    assert config(b"upperdir=/a:b").upper == b"/a:b"


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        (b"userxattr", "userxattr", True),
        (b"volatile", "volatile", True),
        (b"fsync=0", "volatile", True),
        (b"fsync=1", "volatile", False),
        (b"redirect_dir=on", "redirect_dir", True),
        (b"redirect_dir=off", "redirect_dir", False),
        (b"redirect_dir=follow", "redirect_dir", False),
        (b"redirect_dir=off", "follow", True),
        (b"redirect_dir=nofollow", "redirect_dir", False),
        (b"redirect_dir=nofollow", "follow", False),
        (b"redirect_dir=nofollow,redirect_dir=on", "follow", True),
        (b"metacopy=on", "metacopy", True),
        (b"metacopy=on,metacopy=off", "metacopy", False),
        (b"index=off", "index", False),
        (b"noxattr", "xattrs", False),
        (b"noxattrs=1", "xattrs", False),
        (b"noxattrs=0", "xattrs", True),
        (b"noacl", "acl", False),
        (b"noacl,acl", "acl", True),
        (b"squash_to_uid=7", "squash_to_uid", 7),
        (b"squash_to_gid=4294967294", "squash_to_gid", 4294967294),
        (b"squash_to_root", "squash_to_uid", 0),
        (b"squash_to_root", "squash_to_gid", 0),
        (b"uidmapping=0:1000:1:1:100000:65536", "uidmapping", ((0, 1000, 1), (1, 100000, 65536))),
        (b"gidmapping=0:5:10", "gidmapping", ((0, 5, 10),)),
        (b"format=aufs", "format", "aufs"),
        (b"format=aufs,format=overlay", "format", "overlay"),
        (b"ro", "read_only", True),
        (b"ro,rw", "read_only", False),
    ],
)
def test_union_options(text: bytes, field: str, value: object) -> None:
    assert getattr(config(text), field) == value


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        (b"ro", "read_only", True),
        (b"nosuid", "nosuid", True),
        (b"nosuid,suid", "nosuid", False),
        (b"nodev", "nodev", True),
        (b"noexec", "noexec", True),
        (b"noexec,exec", "noexec", False),
        (b"noatime", "noatime", True),
        (b"noatime,relatime", "noatime", False),
        (b"noatime,strictatime", "noatime", False),
        (b"strictatime", "strictatime", True),
        (b"nodiratime", "nodiratime", True),
        (b"lazytime", "lazytime", True),
        (b"passthrough=off", "passthrough", False),
        (b"passthrough=off,passthrough=on", "passthrough", True),
        (b"sync", "sync", True),
        (b"dirsync", "dirsync", True),
        (b"fsname=a\\,b", "fsname", "a,b"),
        (b"subtype=x", "subtype", "x"),
        (b"transport=pyfuse3", "transport", "pyfuse3"),
        (b"allow_other", "allow_other", True),
        (b"allow_root", "allow_other", False),
        (b"debug", "debug", True),
    ],
)
def test_session_options(text: bytes, field: str, value: object) -> None:
    assert getattr(session(text), field) == value


def test_what_an_ordinary_user_gets() -> None:
    """nosuid and nodev are the default where the mounter is not root; nobody else may enter."""
    user, root = session(b"", root=False), session(b"", root=True)
    assert (user.nosuid, user.nodev, user.allow_other) == (True, True, False)
    assert (root.nosuid, root.nodev, root.allow_other) == (False, False, True)
    assert session(b"suid,dev,allow_other", root=False).nosuid is False
    assert chosen(b"").union(userxattr=True).userxattr
    assert chosen(b"userxattr").union(userxattr=False).userxattr


@pytest.mark.parametrize(
    "option",
    (
        b"defaults auto noauto user user=joe users nouser owner group nofail _netdev comment=x"
        b" x-systemd.automount X-mount.mkdir=755 silent loud nomand iversion noiversion symfollow"
        b" default_permissions nonempty static_nlink kernel_cache use_ino readdir_ino norelatime"
        b" xino=on xino=auto uuid=null nfs_export=off verity=off xattr_permissions=0 async"
        b" timeout=1.5 fast_ino=1 threaded=0 writeback=1 seclabel"
    ).split(),
)
def test_ignored(option: bytes) -> None:
    """What mount(8), systemd and fuse-overlayfs's callers pass changes nothing."""
    made, untouched = chosen(option), Choices()
    for name in Choices.__annotations__:
        assert getattr(made, name) == getattr(untouched, name), name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"foo", "unknown option 'foo'"),
        (b"lowerdir=/a,bar=1", "unknown option 'bar'"),
        (b"\xff\n", "unknown option '\\xff\\x0a'"),
        (b"volatile=1", "option 'volatile' takes no value"),
        (b"upperdir", "option 'upperdir' needs a value"),
        (b"workdir=", "option 'workdir' needs a value"),
        (b"lowerdir=/a::/b:/c", "a lower layer cannot come after a data-only layer"),
        (b"lowerdir=/a::/b,lowerdir+=/c", "a lower layer cannot come after a data-only layer"),
        (b"lowerdir=::/a", "a directory has no name"),
        (b"lowerdir=/a:::/b", "a directory has no name"),
        (b"lowerdir=/a::", "a directory has no name"),
        (b"lowerdir=:/a", "a directory has no name"),
        (b"lowerdir=/a:", "a directory has no name"),
        (b"datadir+=/d", "option 'datadir+': a lower layer has to come before it"),
        (b"index=yes", "value of option 'index' 'yes' is none of on, off"),
        (b"metacopy", "value of option 'metacopy' is missing"),
        (b"redirect_dir=never", "'never' is none of on, follow, off, nofollow"),
        (b"redirect_dir", "option 'redirect_dir' needs a value"),
        (b"nfs_export=on", "option 'nfs_export=on' is not supported"),
        (b"verity=require", "option 'verity=require' is not supported"),
        (b"xattr_permissions=2", "option 'xattr_permissions=2' is not supported"),
        (b'context="u:r:t:s0', "is no context"),
        (b'context="u:r:t"x"', "is no context"),
        (b'context=""', "is no context"),
        (b"remount,ro", "option 'remount' is not supported"),
        (b"bind", "option 'bind' is not supported"),
        (b"plugins=/p", "option 'plugins' is not supported"),
        (b"squash_to_uid=-1", "'-1' is not a number from 0 to 4294967294"),
        (b"squash_to_uid=4294967295", "is not a number from 0 to 4294967294"),
        (b"squash_to_gid=\xd9\xa1", "is not a number"),
        (b"uidmapping=0:0", "needs triples INSIDE:OUTSIDE:COUNT"),
        (b"uidmapping=0:0:0", "needs triples INSIDE:OUTSIDE:COUNT"),
        (b"uidmapping=0:1:2:1:9:1", "maps an id twice"),
        (b"gidmapping=0:5:2:2:6:1", "maps an id twice"),
        (b"gidmapping=0:4294967294:2", "maps ids beyond"),
        (b"timeout=soon", "'soon' is not a number"),
        (b"format=zip", "'zip' is none of overlay, aufs"),
        (b"transport=pigeon", "'pigeon' is none of auto, device, pyfuse3"),
    ],
)
def test_refused(text: bytes, reason: str) -> None:
    with pytest.raises(OptionError) as caught:
        apply_options(text, Choices())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_is_told_from_malformed() -> None:
    with pytest.raises(UnknownOption):
        chosen(b"foo")
    with pytest.raises(OptionError) as caught:
        chosen(b"index=maybe")
    assert not isinstance(caught.value, UnknownOption)


def test_allow_root_is_for_root() -> None:
    with pytest.raises(OptionError, match="'allow_root' is for root alone"):
        session(b"allow_root", root=False)
    with pytest.raises(OptionError, match="exclude each other"):
        session(b"allow_root,allow_other")


def test_security_contexts() -> None:
    """mount(8), "context": a context with categories stands in quotes, which keep its commas."""
    made = session(b'noexec,context="u:r:t:s0:c1,c2",rootcontext=u:r:x:s0,nodev')
    assert made.contexts == (("context", b"u:r:t:s0:c1,c2"), ("rootcontext", b"u:r:x:s0"))
    assert made.noexec
    assert made.nodev
    assert session(b'lowerdir=/a"b,noexec').noexec  # a quote in a path is a byte like any other
    with pytest.raises(OptionError, match="'context' is for root alone"):
        session(b"context=u:r:t:s0", root=False)


paths = st.binary(min_size=1, max_size=40).map(lambda raw: b"/" + raw.replace(b"\0", b"/"))
ids = st.integers(0, 1 << 16)


def mappings() -> st.SearchStrategy[tuple[tuple[int, int, int], ...]]:
    """Up to three ranges that overlap neither inside nor outside."""
    sizes = st.lists(st.tuples(st.integers(1, 99), st.integers(0, 99)), max_size=3)

    def ranges(drawn: list[tuple[int, int]]) -> tuple[tuple[int, int, int], ...]:
        return tuple((at * 100, at * 1000 + skip, size) for at, (size, skip) in enumerate(drawn))

    return sizes.map(ranges)


configs = st.builds(
    MountConfig,
    lower=st.lists(paths, min_size=1, max_size=5).map(tuple),
    data=st.lists(paths, max_size=3).map(tuple),
    upper=st.none() | paths,
    work=st.none() | paths,
    format=st.sampled_from(["overlay", "aufs"]),
    userxattr=st.booleans(),
    volatile=st.booleans(),
    redirect_dir=st.booleans(),
    follow=st.just(True),
    metacopy=st.booleans(),
    index=st.booleans(),
    xattrs=st.booleans(),
    acl=st.booleans(),
    read_only=st.booleans(),
    squash_to_uid=st.none() | ids,
    squash_to_gid=st.none() | ids,
    uidmapping=mappings(),
    gidmapping=mappings(),
)


@given(configs)
def test_round_trip(written: MountConfig) -> None:
    """What is formatted is read back the same, whatever bytes the paths hold."""
    assert config(format_options(written)) == written


def test_round_trip_of_redirects_that_are_not_followed() -> None:
    written = MountConfig(lower=(b"/a",), redirect_dir=False, follow=False)
    assert config(format_options(written)) == written


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    """No input does anything but set choices or raise OptionError with one line."""
    complaint = ""
    try:
        apply_options(text, Choices())
    except OptionError as error:
        complaint = str(error)
    assert complaint.isprintable()


@given(st.lists(paths.map(lambda path: path.replace(b"\\", b"").replace(b",", b"")), max_size=4))
def test_split_keeps_the_words(words: list[bytes]) -> None:
    assert split_options(b",".join(words)) == words
