# SPDX-License-Identifier: GPL-3.0-or-later
"""User and group ids: the one place where they cross between the layers and the merged tree."""

from __future__ import annotations

from unionfs.config import IdMap, MountConfig

OVERFLOW_ID = 65534
"""What an id without a mapping looks like (user_namespaces(7), overflowuid)."""


class Ids:
    """Translation of ids as fuse-overlayfs's options of the same names do it.

    plain -- nothing is translated, so callers on hot paths may skip this
    """

    __slots__ = ("_gids", "_squash_gid", "_squash_uid", "_uids", "plain")

    def __init__(self, config: MountConfig) -> None:
        self._uids = config.uidmapping
        self._gids = config.gidmapping
        self._squash_uid = config.squash_to_uid
        self._squash_gid = config.squash_to_gid
        self.plain = (
            not (self._uids or self._gids) and self._squash_uid is None and self._squash_gid is None
        )

    def shown_uid(self, uid: int) -> int:
        """The user id in the merged tree of an object that a layer says belongs to ``uid``."""
        if self._squash_uid is not None:
            return self._squash_uid
        return _inside(self._uids, uid) if self._uids else uid

    def shown_gid(self, gid: int) -> int:
        if self._squash_gid is not None:
            return self._squash_gid
        return _inside(self._gids, gid) if self._gids else gid

    def stored_uid(self, uid: int) -> int:
        """The user id to write to a layer for ``uid`` of the merged tree."""
        return _outside(self._uids, uid) if self._uids else uid

    def stored_gid(self, gid: int) -> int:
        return _outside(self._gids, gid) if self._gids else gid


def _inside(ranges: IdMap, number: int) -> int:
    for inside, outside, count in ranges:
        if outside <= number < outside + count:
            return inside + number - outside
    return OVERFLOW_ID


def _outside(ranges: IdMap, number: int) -> int:
    for inside, outside, count in ranges:
        if inside <= number < inside + count:
            return outside + number - inside
    return OVERFLOW_ID
