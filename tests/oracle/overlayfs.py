# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel overlayfs: whether it is there, and mounting it (mount(2), overlayfs.rst)."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

MNT_DETACH = 2
MS_REMOUNT = 32


def options(*, metacopy: bool = False, userxattr: bool = False) -> dict[str, str]:
    """What makes kernel overlayfs most like a plain directory, and most like the union.

    With userxattr it has neither redirects nor metacopy (overlayfs.rst, "User xattr").
    """
    if userxattr:
        return {"userxattr": "", "index": "on", "xino": "on"}
    chosen = {"index": "on", "redirect_dir": "on", "xino": "on"}
    return chosen | {"metacopy": "on" if metacopy else "off"}


_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Whether this kernel has overlayfs, built in or as a module."""
    return _registered() or (_load() and _registered())


def _registered() -> bool:
    lines = Path("/proc/filesystems").read_text().splitlines()
    return any(line.split()[-1] == "overlay" for line in lines)


def _load() -> bool:
    try:
        done = subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def mount(
    merged: bytes,
    lowers: Sequence[bytes],
    upper: bytes | None,
    work: bytes | None,
    options: Mapping[str, str],
) -> None:
    """Mount an overlay; paths without comma, colon or backslash."""
    words = [b"lowerdir=" + b":".join(lowers)]
    if upper is not None and work is not None:
        words += [b"upperdir=" + upper, b"workdir=" + work]
    words += [f"{name}={value}".rstrip("=").encode() for name, value in options.items()]
    if _libc.mount(b"oracle", merged, b"overlay", 0, b",".join(words)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mount overlay: {os.strerror(error)}", b",".join(words))


def unmount(merged: bytes, *, lazily: bool = False) -> None:
    """umount2(2)."""
    if _libc.umount2(merged, MNT_DETACH if lazily else 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), merged)


def drop_names(merged: bytes) -> None:
    """Make the kernel forget the names it caches of one mount.

    A remount that changes nothing shrinks the superblock's dentry cache (fs/super.c,
    reconfigure_super).
    """
    if _libc.mount(None, merged, None, MS_REMOUNT, None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), merged)
