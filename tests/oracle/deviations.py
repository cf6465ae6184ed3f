# SPDX-License-Identifier: GPL-3.0-or-later
"""The differences that are known and intended, each with its reason; nothing else is excused.

A deviation excuses a difference only where its condition holds. Those of the union are the ones
that docs/semantics.md lists; those of kernel overlayfs alone are here because the kernel is one of
the contenders.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass

from tests.oracle.operations import (
    AnyOperation,
    Chown,
    List,
    Open,
    ReadAt,
    Removexattr,
    Rename,
    Save,
    Seek,
    Setxattr,
    Truncate,
    WriteAt,
)
from tests.oracle.trees import CLOCK, Difference

_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_WHITEOUT_TYPES = (stat.S_IFCHR >> 12, stat.S_IFREG >> 12)

KERNEL = frozenset(("kernel",))
UNION = frozenset(("inprocess", "pyfuse3", "device"))


@dataclass(frozen=True)
class Opened:
    """What the model knew of a descriptor when it was opened."""

    path: bytes
    flags: int
    directory: bool
    content: bytes | None


@dataclass(frozen=True)
class Circumstances:
    """All that a condition may look at.

    operation -- None when whole trees were compared
    failed    -- the operation failed in the model
    opened    -- descriptors by slot
    renewed   -- the layers have been mounted again since the start
    changed   -- something was done since the layers were mounted
    lost      -- names that the object has lost since the start while it had others
    """

    operation: AnyOperation | None
    difference: Difference
    failed: bool
    opened: dict[int, Opened]
    renewed: bool
    changed: bool
    lost: int


@dataclass(frozen=True)
class Deviation:
    """`targets` are kinds of targets, without their variants or with; `holds` says whether this
    explains the difference.

    heal -- the target is then given the model's mode, access ACL and modification time, so that
            the histories stay comparable
    drop -- the descriptor is left alone on the target from then on
    """

    key: str
    targets: frozenset[str]
    reason: str
    holds: Callable[[Circumstances], bool]
    heal: bool = False
    drop: bool = False


def _stale_reader(case: Circumstances) -> bool:
    operation = case.operation
    if not isinstance(operation, ReadAt) or case.difference.aspect != "value":
        return False
    opened = case.opened.get(operation.slot)
    if opened is None or opened.content is None:
        return False
    end = operation.offset + operation.size
    return case.difference.got == opened.content[operation.offset : end]


def _merged_directory(case: Circumstances) -> bool:
    return case.difference.aspect == "directory nlink" and case.difference.got == 1


def _stray_whiteout(case: Circumstances) -> bool:
    difference = case.difference
    if difference.aspect == "ghost":
        return difference.got in _WHITEOUT_TYPES
    if difference.aspect != "value" or not isinstance(case.operation, List):
        return False
    expected, got = set(_listed(difference.expected)), set(_listed(difference.got))
    return expected <= got and all(kind in _WHITEOUT_TYPES for _, kind in got - expected)


def _removes_acl(case: Circumstances) -> bool:
    operation = case.operation
    if isinstance(operation, Setxattr):
        return operation.name in _ACLS and not bytes(operation.value)
    return isinstance(operation, Removexattr) and operation.name in _ACLS


def _filled_hole(case: Circumstances) -> bool:
    return isinstance(case.operation, Seek) and case.difference.aspect in ("value", "errno")


def _missing_acl(case: Circumstances) -> bool:
    refused = Difference("errno", None, "ok", "ENODATA")
    return _removes_acl(case) and case.difference == refused


def _idle_acl(case: Circumstances) -> bool:
    return _removes_acl(case) and case.difference.aspect == "ctime"


def _forgotten_names(case: Circumstances) -> bool:
    difference = case.difference
    return (
        case.renewed
        and difference.aspect == "nlink"
        and isinstance(difference.expected, int)
        and isinstance(difference.got, int)
        and 0 < difference.got - difference.expected <= case.lost
    )


def _nameless(case: Circumstances) -> bool:
    difference = case.difference
    return (
        isinstance(difference.where, int)
        and difference.aspect == "nlink"
        and (difference.expected, difference.got) == (0, 1)
    )


def _nameless_change(case: Circumstances) -> bool:
    operation = case.operation
    through_slot = isinstance(getattr(operation, "where", None), int)
    difference = case.difference
    return (
        through_slot
        and difference.aspect == "errno"
        and difference.where is None
        and difference.got in ("EEXIST", "ENOENT")
    )


def _old_listing(case: Circumstances) -> bool:
    return case.difference.aspect == "d_ino" and case.changed


def _idle_chown(case: Circumstances) -> bool:
    operation = case.operation
    idle = isinstance(operation, Chown) and operation.uid == operation.gid == -1
    return idle and case.difference.aspect == "ctime"


def _armed_chown(case: Circumstances) -> bool:
    operation, difference = case.operation, case.difference
    if not isinstance(operation, Chown) or difference.aspect != "mode":
        return False
    idle = operation.uid == operation.gid == -1
    expected, got = int(str(difference.expected), 8), int(str(difference.got), 8)
    return idle and expected == got & ~(stat.S_ISUID | stat.S_ISGID)


def _copied_content(case: Circumstances) -> bool:
    changes = isinstance(case.operation, Open | Save | WriteAt | Truncate)
    return changes and case.difference.aspect == "mtime" and case.difference.got == CLOCK


def _failed_rename(case: Circumstances) -> bool:
    difference = case.difference
    failed = isinstance(case.operation, Rename) and case.failed
    return failed and (difference.aspect, difference.got) == ("mtime", CLOCK)


def _listed(value: object) -> list[tuple[bytes, int]]:
    assert isinstance(value, list)
    return value


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        "merged-directory-links",
        KERNEL | UNION,
        "A directory that merges several layers has st_nlink 1: counting its subdirectories would "
        "mean merging them. find(1) and the like take 1 as unknown.",
        _merged_directory,
    ),
    Deviation(
        "stale-reader",
        frozenset(("device",)),
        "With passthrough the kernel reads the lower file itself: a descriptor opened read-only "
        "before a copy-up keeps the old content.",
        _stale_reader,
    ),
    Deviation(
        "filled-hole",
        KERNEL,
        "Kernel overlayfs copies up in pieces of 1 MiB: a hole behind data in the same piece is "
        "filled, and space that was allocated but never written or read is left out.",
        _filled_hole,
    ),
    Deviation(
        "stray-whiteout",
        KERNEL,
        "A whiteout in a directory that no other layer has is listed, though it cannot be found: "
        "the kernel passes such a directory's listing on as it is.",
        _stray_whiteout,
    ),
    Deviation(
        "missing-acl",
        KERNEL,
        "Removing an ACL that a lower object does not have is ENODATA; on an upper object, as on "
        "other filesystems, it succeeds.",
        _missing_acl,
    ),
    Deviation(
        "idle-acl",
        KERNEL | UNION,
        "Removing an ACL that is not there changes nothing, the change time neither, and copies "
        "nothing up.",
        _idle_acl,
    ),
    Deviation(
        "nameless-lower-file",
        KERNEL,
        "A lower file that is open while its last name goes keeps the st_nlink that it has in its "
        "layer.",
        _nameless,
    ),
    Deviation(
        "nameless-change",
        KERNEL,
        "Nothing can be changed through a descriptor of a lower file whose name is gone: the "
        "copy-up ends in EEXIST, or ENOENT if the directory is gone too.",
        _nameless_change,
        drop=True,
    ),
    Deviation(
        "old-listing",
        KERNEL,
        "A listing that was read before a copied-up file got a name in its directory gives that "
        "name the number of the copy, until the next mount.",
        _old_listing,
    ),
    Deviation(
        "forgotten-names",
        KERNEL | UNION,
        "Deleting one of several names of a lower file copies nothing up: the link count is "
        "counted down for the life of the mount, and after that again starts from the lower "
        "file's. (Kernel overlayfs copies the file up first; it is excused for layers that it "
        "took over from the union.)",
        _forgotten_names,
    ),
    Deviation(
        "armed-chown",
        frozenset(("device",)),
        "chown(2) by root that changes neither id leaves the set-id bits of a file that had "
        "capabilities: FUSE sends what it sends for a write by root, which is to keep them.",
        _armed_chown,
        heal=True,
    ),
    Deviation(
        "copied-content",
        frozenset(("kernel+metacopy",)),
        "Opening a file for writing of which only metadata was copied up sets its modification "
        "time, though nothing is written.",
        _copied_content,
        heal=True,
    ),
    Deviation(
        "failed-rename",
        KERNEL,
        "A rename that fails because the target is not empty may have set the directory's "
        "modification time (on ext4).",
        _failed_rename,
        heal=True,
    ),
    Deviation(
        "idle-chown",
        UNION,
        "chown(2) that changes neither id does not update the change time: FUSE has no request "
        "for that.",
        _idle_chown,
    ),
)

MODEL: dict[str, str] = {
    "no-whiteouts": "mknod of a character device 0:0 is EPERM: it is what a whiteout looks like. "
    "The model refuses it as well.",
    "hidden-links": "st_nlink of a lower file counts its names that layers above hide: the count "
    "is the lower file's, changed by what happens in the union. The model keeps such names in a "
    "directory beside its tree.",
}
"""Differences from a plain directory that the model itself performs."""


def excuse(kind: str, case: Circumstances) -> Deviation | None:
    """The deviation that explains a difference of this kind of target, if there is one."""
    for deviation in DEVIATIONS:
        if {kind, kind.split("+")[0]} & deviation.targets and deviation.holds(case):
            return deviation
    return None
