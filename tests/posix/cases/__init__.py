# SPDX-License-Identifier: GPL-3.0-or-later
"""The conformance cases, one module per subject of the manual."""

from __future__ import annotations

from tests.posix.cases import (
    access,
    acl,
    chmod,
    chown,
    data,
    directory,
    identity,
    link,
    lock,
    mapping,
    marks,
    mkdir,
    mknod,
    names,
    opening,
    pathname,
    rename,
    rename_directory,
    rmdir,
    setid,
    symlink,
    truncate,
    unlink,
    utimensat,
    xattr,
)
from tests.posix.table import Case, cases_of

MODULES = (
    pathname,
    names,
    access,
    chmod,
    chown,
    truncate,
    link,
    mkdir,
    mknod,
    opening,
    rename,
    rename_directory,
    rmdir,
    symlink,
    unlink,
    utimensat,
    setid,
    directory,
    identity,
    data,
    mapping,
    lock,
    xattr,
    acl,
    marks,
)

TABLE: tuple[Case, ...] = tuple(case for module in MODULES for case in cases_of(module))
