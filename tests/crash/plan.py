# SPDX-License-Identifier: GPL-3.0-or-later
"""What a writer does: a random sequence of steps, each of which changes the tree in one instant.

A plan is made by doing it on a plain directory; whoever wants to know the tree after step k does
the first k steps on a fresh plain directory. No step fails there, so none may fail on the union.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.syscall import RENAME_EXCHANGE, renameat2

NAMES = ("a", "b", "c", "d", "e", "f")
BIG = 4 << 20


@dataclass(frozen=True)
class Step:
    """One call on one or two names below the writer's directory."""

    verb: str
    path: str
    other: str = ""
    number: int = 0
    data: bytes = b""


def _create(root: str, step: Step) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(f"{root}/{step.path}", flags, step.number))


def _append(root: str, step: Step) -> None:
    """An append that is on the disc when it is acknowledged."""
    fd = os.open(f"{root}/{step.path}", os.O_WRONLY | os.O_APPEND)
    try:
        assert os.write(fd, step.data) == len(step.data)
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(root: str, step: Step) -> None:
    fd = os.open(f"{root}/{step.path}", os.O_WRONLY)
    try:
        assert os.pwrite(fd, step.data, step.number) == len(step.data)
    finally:
        os.close(fd)


def _empty(root: str, step: Step) -> None:
    os.close(os.open(f"{root}/{step.path}", os.O_WRONLY | os.O_TRUNC))


VERBS: dict[str, Callable[[str, Step], None]] = {
    "create": _create,
    "append": _append,
    "write": _write,
    "empty": _empty,
    "truncate": lambda root, step: os.truncate(f"{root}/{step.path}", step.number),
    "chmod": lambda root, step: os.chmod(f"{root}/{step.path}", step.number),
    "chown": lambda root, step: os.lchown(f"{root}/{step.path}", step.number, -1),
    "setxattr": lambda root, step: os.setxattr(f"{root}/{step.path}", "user.k", step.data),
    "mkdir": lambda root, step: os.mkdir(f"{root}/{step.path}"),
    "symlink": lambda root, step: os.symlink(step.other, f"{root}/{step.path}"),
    "link": lambda root, step: os.link(f"{root}/{step.path}", f"{root}/{step.other}"),
    "rename": lambda root, step: os.rename(f"{root}/{step.path}", f"{root}/{step.other}"),
    "exchange": lambda root, step: renameat2(
        f"{root}/{step.path}", f"{root}/{step.other}", RENAME_EXCHANGE
    ),
    "unlink": lambda root, step: os.unlink(f"{root}/{step.path}"),
    "rmdir": lambda root, step: os.rmdir(f"{root}/{step.path}"),
}

# How often each verb is tried.
WEIGHTS = {
    "create": 12,
    "append": 20,
    "write": 10,
    "empty": 3,
    "truncate": 6,
    "chmod": 10,
    "chown": 5,
    "setxattr": 5,
    "mkdir": 6,
    "symlink": 3,
    "link": 5,
    "rename": 20,
    "exchange": 6,
    "unlink": 10,
    "rmdir": 6,
}


def perform(root: Path, step: Step) -> None:
    """Do one step below `root`; OSError as the calls raise it."""
    VERBS[step.verb](str(root), step)


def furnish(root: Path, links: bool = True) -> None:
    """The lower layer of one writer: files small and large, links, directories two deep.

    links -- with hard links, which only an index keeps together
    """
    for name in ("a", "b"):
        (root / name / "a").mkdir(parents=True)
        for inner in ("c", "d"):
            (root / name / inner).write_bytes(f"{name}/{inner} ".encode() * 50)
            (root / name / "a" / inner).write_bytes(b"deep " * 5000)
    (root / "c").write_bytes(b"0123456789abcdef" * (BIG // 16))
    (root / "d").write_bytes(b"")
    if links:
        os.link(root / "c", root / "a" / "e")
        os.link(root / "d", root / "e")
    os.symlink("a/c", root / "f")
    os.chmod(root / "a" / "c", 0o600)


def plan(seed: int, length: int, scratch: Path, bare: bool = False) -> list[Step]:
    """`length` steps that all succeed, one after the other, on what `furnish` makes.

    `scratch` is an empty directory and holds the tree after all steps in the end.
    bare -- for a union without redirects and index: no lower links, and no directory is moved
    """
    dice = random.Random(seed)
    furnish(scratch, links=not bare)
    steps: list[Step] = []
    verbs, weights = list(WEIGHTS), list(WEIGHTS.values())
    while len(steps) < length:
        step = _choose(dice, scratch, dice.choices(verbs, weights)[0], len(steps))
        if step.verb in ("append", "write", "empty") and os.path.islink(scratch / step.path):
            continue
        if bare and step.verb in ("rename", "exchange") and _has_directory(scratch, step):
            continue
        step = _within_a_page(scratch, step)
        try:
            perform(scratch, step)
        except OSError:
            continue
        steps.append(step)
    return steps


def _has_directory(root: Path, step: Step) -> bool:
    paths = [root / step.path, root / step.other]
    return any(path.is_dir() and not path.is_symlink() for path in paths)


def _within_a_page(root: Path, step: Step) -> Step:
    """Data that end with their page: the kernel may ask for more pages one after the other."""
    offset = step.number
    if step.verb == "append":
        try:
            offset = os.stat(root / step.path).st_size
        except OSError:
            return step
    return replace(step, data=step.data[: 4096 - offset % 4096])


def _choose(dice: random.Random, root: Path, verb: str, count: int) -> Step:
    path, other = _name(dice, root), _name(dice, root)
    if verb in ("append", "write"):
        data = f"<{count}:{verb}>".encode() * dice.choice((1, 10, 500))
        return Step(verb, path, number=dice.choice((0, 3, 5000, 100_000)), data=data)
    if verb == "truncate":
        return Step(verb, path, number=dice.choice((0, 1, 1000, 50_000)))
    if verb in ("create", "chmod"):
        return Step(verb, path, number=dice.choice((0o600, 0o644, 0o755)))
    if verb == "chown":
        return Step(verb, path, number=1000 + count)
    if verb == "setxattr":
        return Step(verb, path, data=b"%d" % count)
    if verb == "symlink":
        return Step(verb, path, other=f"target-{count}")
    return Step(verb, path, other)


def _name(dice: random.Random, root: Path) -> str:
    """A path of up to three of the few names, below directories that mostly exist."""
    path = ""
    for _ in range(dice.choice((1, 1, 2, 2, 3))):
        path = os.path.join(path, dice.choice(NAMES))
        if not (root / path).is_dir():
            break
    return path


def tree_after(steps: list[Step], count: int, place: Path, links: bool = True) -> Path:
    """A plain tree after the first `count` steps, in the empty directory `place`."""
    furnish(place, links)
    for step in steps[:count]:
        perform(place, step)
    return place


def clear(place: Path) -> None:
    """Empty a plain directory for another tree."""
    shutil.rmtree(place)
    place.mkdir()
