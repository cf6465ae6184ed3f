# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways in which the device transport may have to work; tests of results run in each."""

from __future__ import annotations

from typing import Any

# What Linux 5.4 does not offer, and with it the listings that the kernel caches.
LINUX_5_4 = (
    "NO_OPENDIR_SUPPORT",
    "HANDLE_KILLPRIV_V2",
    "SETXATTR_EXT",
    "INIT_EXT",
    "PASSTHROUGH",
    "CREATE_SUPP_GROUP",
    "HAS_EXPIRE_ONLY",
    "DIRECT_IO_ALLOW_MMAP",
    "NO_EXPORT_SUPPORT",
)

MODES: dict[str, dict[str, Any]] = {
    "passthrough": {},
    "messages": {"session": {"passthrough": False}},
    "linux-5.4": {"withhold": LINUX_5_4},
}
