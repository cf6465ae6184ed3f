# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of tree that the table runs on, and one such tree with all cases' objects in it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.posix.cases import rename_directory
from tests.posix.expect import copy_up_moves_ctime
from tests.posix.table import Case, Facility, Steps, cases_of
from tests.support.daemon import Daemon, Option
from tests.support.layers import Filesystem, Layers, make_layers
from tests.support.mounttable import run
from tests.support.transport import transports
from tests.support.user import in_child


@dataclass(frozen=True)
class Kind:
    """How a tree is made.

    below    the objects of the cases are made in a lower layer, before mounting
    lacks    what the kind cannot do: cases that need it are not in its table
    deviates the cases that fail on it by its nature, each with the reason
    nightly  not part of an ordinary run
    """

    name: str
    system: Literal["plain", "overlayfs", "lamina"]
    filesystem: Filesystem
    below: bool = False
    transport: str = ""
    options: dict[str, Option] = field(default_factory=dict)
    lacks: frozenset[Facility] = frozenset()
    deviates: dict[str, str] = field(default_factory=dict)
    nightly: bool = False

    def table(self, cases: Iterable[Case]) -> list[Case]:
        """The cases that run on this kind."""
        return [case for case in cases if not case.needs & self.lacks]


PYFUSE3_LACKS = frozenset(
    {Facility.FALLOCATE, Facility.SEEK_HOLE, Facility.TMPFILE, Facility.BIRTH_TIME}
)
DEVICE_LACKS: frozenset[Facility] = frozenset()
TRANSPORT_LACKS = {"pyfuse3": PYFUSE3_LACKS, "device": DEVICE_LACKS}

# What kernel overlayfs does otherwise, by its documentation (overlayfs.rst, "Non-standard
# behavior") or by its source, where the objects lie in a lower layer.
OVERLAYFS_DEVIATES: dict[str, str] = {
    "mkdir.in_removed_directory": "an object of the lower layer keeps its link count",
    "rmdir.open_directory": "an object of the lower layer keeps its link count",
    "rename.replaces_file": "an object of the lower layer keeps its link count",
    "rename_directory.long_names": "EXDEV where the redirect would have more than 256 bytes",
    "unlink.open_only_for_reading": "EEXIST: what has no name cannot be copied up",
    "unlink.reopened_without_name": "EEXIST: what has no name cannot be copied up",
}

# What the union does otherwise, each a clause of docs/semantics.md ("What differs from POSIX").
_COUNTED = "7.c: removing a name of a lower file does not copy it up, so its inode stays as it was"
BELOW_DEVIATES = {
    "link.unlink_moves_ctime_of_the_rest": _COUNTED,
    "rename.replaced_links": _COUNTED,
}
_STALE = "7.a: a reader in passthrough ties the node to the lower file, and /proc has no other name"
_UNTIED = "7.a: a reader in passthrough keeps its node, and its locks, when others get a new one"
DEVICE_BELOW_DEVIATES = {
    "opening.reopened_by_proc": _STALE,
    "unlink.reopened_without_name": _STALE,
    "lock.survives_a_change": _UNTIED,
}
_NO_REDIRECT = "4.7: EXDEV, since there are no redirects"
_NO_INDEX = "4.8: without an index each name of a lower file is a file of its own"
_SHORTER = "the whiteout of a name has four bytes more than the name"
BARE_DEVIATES = dict.fromkeys(
    (
        "rename.every_type",
        "rename.into_other_directory",
        "rename.moves_ctime_of_the_object",
        "rename.directory_over_empty_directory",
        "rename.directory_over_full_directory",
        "rename.directory_needs_write_to_move",
        "rename.exchange_types",
        "rename.exchange_directories",
        "identity.numbers_of_every_type_stay",
        "identity.numbers_of_directories_stay",
        "marks.marks_are_not_listed",
        "marks.forged_marks_do_nothing",
        "marks.removed_stays_removed",
        *(case.name for case in cases_of(rename_directory)),
    ),
    _NO_REDIRECT,
) | dict.fromkeys(
    (
        "link.links_share_everything",
        "link.links_across_directories",
        "link.count_follows_the_names",
        "link.replaced_by_rename",
        "rename.exchange_with_itself",
    ),
    _NO_INDEX,
)
AUFS_DEVIATES = BARE_DEVIATES | dict.fromkeys(
    ("names.longest_name", "names.longest_name_replaced"), _SHORTER
)
OPTIONS: list[tuple[str, dict[str, Option], dict[str, str]]] = [
    ("metacopy", {"metacopy": "on"}, {}),
    ("userxattr", {"userxattr": True}, {}),
    ("volatile", {"volatile": True}, {}),
    ("bare", {"redirect_dir": "off", "index": "off"}, BARE_DEVIATES),
]
PLAIN_LACKS = frozenset({Facility.UNION})


def kinds() -> list[Kind]:
    """All kinds of this run: the oracles first, then the union by each transport."""
    found = [
        Kind("tmpfs", "plain", "tmpfs", lacks=PLAIN_LACKS),
        Kind("ext4", "plain", "ext4", lacks=PLAIN_LACKS),
        Kind("overlayfs", "overlayfs", "tmpfs"),
        Kind(
            "overlayfs-below",
            "overlayfs",
            "ext4",
            below=True,
            lacks=frozenset({Facility.COHERENT_READER}),
            deviates=OVERLAYFS_DEVIATES,
        ),
    ]
    for name in transports():
        lacks = TRANSPORT_LACKS[name]
        below = BELOW_DEVIATES
        if name == "device":
            below = below | DEVICE_BELOW_DEVIATES
        stale = frozenset({Facility.COHERENT_READER} if name == "device" else ())
        found += [
            Kind(name, "lamina", "tmpfs", transport=name, lacks=lacks),
            Kind(
                f"{name}-below",
                "lamina",
                "ext4",
                below=True,
                transport=name,
                lacks=lacks | stale,
                deviates=below,
            ),
            Kind(
                f"{name}-aufs",
                "lamina",
                "tmpfs",
                below=True,
                transport=name,
                options={"format": "aufs"},
                lacks=lacks | stale | {Facility.PLAIN},
                deviates=below | AUFS_DEVIATES,
            ),
            # The options that change where content and marks lie.
            *(
                Kind(
                    f"{name}-{option}",
                    "lamina",
                    "ext4",
                    below=True,
                    transport=name,
                    options=options,
                    lacks=lacks | stale,
                    deviates=below | deviates,
                    nightly=True,
                )
                for option, options, deviates in OPTIONS
            ),
        ]
    return found


class Tree:
    """A mounted tree of one kind, with one directory per case."""

    def __init__(self, kind: Kind, cases: Iterable[Case]) -> None:
        self.kind = kind
        cases = list(cases)
        # ext4 counts its inodes out at mkfs, tmpfs by memory.
        many = kind.filesystem == "ext4" and any(case.nightly for case in cases)
        self.layers: Layers = make_layers(kind.filesystem, "1g", 400_000 if many else None)
        self._daemon: Daemon | None = None
        self._begun: dict[str, Steps] = {}
        self._makers = self.layers.lower if kind.below else None
        self.root = self.layers.merged
        if self._makers is not None:
            for case in cases:
                self._begin(case, self._makers)
        self._mount()

    def _begin(self, case: Case, place: Path) -> Steps:
        """Make a case's directory and objects below `place`."""
        steps = case.function()
        home = os.getcwd()
        mask = os.umask(0o022)
        (place / case.name).mkdir()
        os.chdir(place / case.name)
        try:
            next(steps)
        finally:
            os.chdir(home)
            os.umask(mask)
        self._begun[case.name] = steps
        return steps

    def _mount(self) -> None:
        layers, kind = self.layers, self.kind
        if kind.system == "overlayfs":
            options = f"lowerdir={layers.lower},upperdir={layers.upper},workdir={layers.work}"
            options += ",redirect_dir=on,index=on,metacopy=off"
            run("mount", "-t", "overlay", "-o", options, "lamina-test", str(layers.merged))
        elif kind.system == "lamina":
            self._daemon = Daemon(
                layers.merged,
                [layers.lower],
                layers.upper,
                layers.work,
                kind.transport,
                kind.options,
                limit=900,
            )
            self._daemon.start()

    @property
    def usable(self) -> bool:
        """False when the daemon of this tree has died."""
        return self._daemon is None or self._daemon.alive

    def run(self, case: Case) -> None:
        """Run one case in a child, which takes its changes of user, limits and place with it."""

        def act() -> None:
            steps = self._begun.get(case.name)
            if steps is None:
                steps = self._begin(case, self.root)
            os.umask(0o022)
            os.chdir(self.root / case.name)
            copy_up_moves_ctime.set(self.kind.below)
            if next(steps, self) is not self:
                raise AssertionError("a case yields once")

        in_child(act, limit=120)
        if self._daemon is not None:
            assert self._daemon.alive, f"the daemon died:\n{self._daemon.read_log()}"
            self._daemon.check_log()

    def remove(self) -> None:
        """Unmount; the daemon must end cleanly."""
        try:
            if self._daemon is not None and self._daemon.alive:
                self._daemon.finish()
        finally:
            if self._daemon is not None:
                self._daemon.discard()
            self.layers.remove()
