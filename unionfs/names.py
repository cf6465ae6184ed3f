# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of the marks that layers carry: xattrs, prefixes and reserved file names.

The ``overlay`` names are those of the kernel (Documentation/filesystems/overlayfs.rst); the
``aufs`` names are those of AUFS branches and of OCI layer tars (image-spec, layer.md).
"""

from __future__ import annotations

from unionfs.typed import Final

TRUSTED: Final = b"trusted.overlay."
USER: Final = b"user.overlay."
FUSE_OVERLAYFS: Final = b"user.fuseoverlayfs."

OPAQUE: Final = b"opaque"
REDIRECT: Final = b"redirect"
ORIGIN: Final = b"origin"
METACOPY: Final = b"metacopy"
NLINK: Final = b"nlink"
IMPURE: Final = b"impure"
WHITEOUT: Final = b"whiteout"
ESCAPE: Final = b"overlay."
"""``overlay.overlay.x`` on disk is a user's own ``overlay.x`` (overlayfs.rst, "Nesting")."""

CAPABILITY: Final = b"security.capability"
ACL_ACCESS: Final = b"system.posix_acl_access"
ACL_DEFAULT: Final = b"system.posix_acl_default"

INDEX: Final = b"index"

WH: Final = b".wh."
WH_OPAQUE: Final = b".wh..wh..opq"
WH_RESERVED: Final = b".wh..wh."
