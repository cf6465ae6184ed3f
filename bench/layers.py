# SPDX-License-Identifier: GPL-3.0-or-later
"""Deterministic trees: what the layers of a scenario hold. The same names, sizes, contents and
times in every run; made once for a filesystem and shared, read only, by all peers and rounds."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from bench.sizes import MIB

EPOCH = 1_577_836_800
"""All times in layers, 2020-01-01: old enough for no tool to take a file for just changed."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The layers of a scenario, topmost first, and a directory for what belongs to no layer
    (archives, wheels, packages)."""

    lower: tuple[Path, ...]
    extras: Path


@dataclass(frozen=True, slots=True)
class Stack:
    """What a peer is asked to mount. `base` is the directory that holds the layers."""

    base: Path
    lower: tuple[Path, ...]
    upper: Path
    work: Path
    merged: Path


def blob(size: int, seed: int) -> bytes:
    """Incompressible bytes."""
    return random.Random(seed).randbytes(size)


def text(size: int, seed: int) -> bytes:
    """Lines of words, as sources are made of."""
    dice = random.Random(seed)
    words = [f"{dice.getrandbits(dice.choice((8, 16, 28))):x}" for _ in range(size // 16 + 8)]
    lines = [" ".join(words[i : i + 9]) for i in range(0, len(words), 9)]
    body = "\n".join(lines).encode()
    return (body * (size // max(len(body), 1) + 1))[: max(size - 1, 0)] + b"\n"


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def grid(root: Path, dirs: int, files: int, content: bytes = b"", first: int = 0) -> None:
    """root/dNNN/fNNNNN, the names that the client goes through. `files` 0: the directories only."""
    for d in range(dirs):
        directory = root / f"d{d:03d}"
        directory.mkdir(parents=True, exist_ok=True)
        for f in range(first, first + files):
            descriptor = os.open(
                f"{directory}/f{f:05d}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644
            )
            if content:
                os.write(descriptor, content)
            os.close(descriptor)


def large(path: Path, size: int) -> None:
    """A file of `size` bytes without holes, in which no two MiB are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    piece = bytearray(blob(MIB, 1))
    with path.open("wb") as file:
        for number in range((size + MIB - 1) // MIB):
            piece[:8] = number.to_bytes(8, "little")
            file.write(piece[: min(MIB, size - number * MIB)])


def sparse(path: Path, size: int, data: int) -> None:
    """A file of `size` bytes, all hole but for four extents of `data` bytes altogether."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for quarter in range(4):
            file.seek(quarter * (size // 4))
            file.write(blob(data // 4, quarter))
        file.truncate(size)


def source_tree(root: Path, files: int, seed: int = 7) -> None:
    """What an unpacked source archive looks like: directories up to four deep with about a dozen
    files each, most of them a few KiB, a few of them large."""
    dice = random.Random(seed)
    directories = [root]
    for number in range(max(files // 12, 1)):
        parent = dice.choice([d for d in directories if len(d.relative_to(root).parts) < 4])
        directories.append(parent / f"part{number:03d}")
    for number in range(files):
        size = min(int(dice.lognormvariate(8.2, 1.1)), 256 * 1024)
        suffix = dice.choice((".c", ".h", ".py", ".txt"))
        write(dice.choice(directories) / f"file{number:04d}{suffix}", text(size, number))


def age(root: Path) -> None:
    """Give every object below `root` the same old time."""
    for directory, _, files in os.walk(root, topdown=False):
        for name in files:
            os.utime(os.path.join(directory, name), (EPOCH, EPOCH), follow_symlinks=False)
        os.utime(directory, (EPOCH, EPOCH))


def fingerprint(layers: tuple[Path, ...]) -> int:
    """Changes whenever any object of the layers does, be it in its ctime only. To take it, every
    object is looked at, so it also brings all their entries into the kernel's caches."""
    found = []
    for layer in layers:
        pending = [os.fspath(layer)]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    found.append((entry.path, status.st_ino, status.st_size, status.st_ctime_ns))
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
    return hash(tuple(sorted(found)))
