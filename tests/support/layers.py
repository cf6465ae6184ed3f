# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories for the layers of one test, on a filesystem of their own."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.support.mounttable import run, unmount_all

Filesystem = Literal["tmpfs", "ext4"]


@dataclass
class Layers:
    """`lower`, `upper`, `work` and `merged`, empty, below `root`, on one fresh filesystem.

    They belong to whoever made them and end with `remove`.
    """

    root: Path
    filesystem: Filesystem
    image: Path | None = None
    extra: list[Path] = field(default_factory=list)

    @property
    def lower(self) -> Path:
        return self.root / "lower"

    @property
    def upper(self) -> Path:
        return self.root / "upper"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def merged(self) -> Path:
        return self.root / "merged"

    def more(self, name: str) -> Path:
        """One more empty directory beside the four."""
        path = self.root / name
        path.mkdir(mode=0o755)
        return path

    def remount(self, options: str) -> None:
        """Change the filesystem's own mount, such as `ro`, `rw` or `size=2m` (mount(8))."""
        run("mount", "-o", f"remount,{options}", str(self.root))

    def remove(self) -> None:
        """Unmount and delete."""
        unmount_all(self.merged)
        unmount_all(self.root)
        self.root.rmdir()
        if self.image is not None:
            self.image.unlink()


def make_layers(
    filesystem: Filesystem = "tmpfs", size: str = "512m", inodes: int | None = None
) -> Layers:
    """A fresh filesystem of `size` (as of truncate(1): 8m, 1g) with the four directories.

    `inodes` bounds the number of objects it can hold. ext4 lives in a loop device on a file.
    """
    root = Path(tempfile.mkdtemp(prefix="lamina-"))
    image = None
    if filesystem == "tmpfs":
        options = f"mode=755,size={size}"
        if inodes is not None:
            options += f",nr_inodes={inodes}"
        run("mount", "-t", "tmpfs", "-o", options, "lamina-test", str(root))
    else:
        image = root.with_name(root.name + ".img")
        run("truncate", "-s", size, str(image))
        limit = () if inodes is None else ("-N", str(inodes))
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0", *limit, str(image))
        run("mount", "-t", "ext4", "-o", "loop", str(image), str(root))
        (root / "lost+found").rmdir()
    os.chmod(root, 0o755)
    layers = Layers(root, filesystem, image)
    for path in (layers.lower, layers.upper, layers.work, layers.merged):
        path.mkdir(mode=0o755)
    return layers
