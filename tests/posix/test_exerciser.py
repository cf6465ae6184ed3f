# SPDX-License-Identifier: GPL-3.0-or-later
"""One file, many descriptors and mappings, random changes: every view agrees with a model.

In the manner of fsx: what is read by any descriptor, through any mapping, or told by stat(2) must
be what a byte array holds that underwent the same changes.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MountUnion
from tests.support.layers import Layers
from tests.support.syscall import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
    fallocate,
)

LARGEST = 400_000


class Exerciser:
    """A file at `path`, its model, and the descriptors that are open on it.

    The descriptors are opened for reading and writing: one opened for reading before a copy-up may
    go on with the old content (docs/semantics.md, 7.a).
    """

    def __init__(self, path: Path, data: bytes, seed: int) -> None:
        self.path = path
        self.model = bytearray(data)
        self.dice = random.Random(seed)
        self.log: list[str] = []
        self.fds = [os.open(path, os.O_RDWR)]
        self.allocates = True
        self.names = 0

    def run(self, steps: int) -> None:
        acts: list[tuple[int, Callable[[], str]]] = [
            (12, self.write),
            (4, self.append),
            (12, self.read),
            (6, self.store),
            (8, self.look_through_mapping),
            (5, self.resize),
            (1, self.empty),
            (4, self.allocate),
            (3, self.copy_within),
            (4, self.open_another),
            (3, self.close_one),
            (3, self.look),
            (1, self.move),
            (1, self.change_mode),
            (1, self.sync),
        ]
        weights = [weight for weight, _ in acts]
        for _ in range(steps):
            self.log.append("")
            self.log[-1] = self.dice.choices([act for _, act in acts], weights)[0]()
        self.check_all()

    def _fd(self) -> int:
        return self.dice.choice(self.fds)

    def _range(self) -> tuple[int, int]:
        offset = self.dice.randrange(LARGEST)
        return offset, self.dice.choice((1, 100, 4096, 5000, 70_000))

    def _put(self, offset: int, data: bytes) -> None:
        if len(self.model) < offset:
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset : offset + len(data)] = data

    def _agree(self, got: bytes, offset: int, what: str) -> None:
        wanted = bytes(self.model[offset : offset + len(got)])
        if got != wanted:
            at = next(place for place in range(len(got)) if got[place] != wanted[place])
            raise AssertionError(f"{what}: byte {offset + at} is {got[at]}, not {wanted[at]}")

    def write(self) -> str:
        offset, size = self._range()
        data = self.dice.randbytes(size)
        assert os.pwrite(self._fd(), data, offset) == size
        self._put(offset, data)
        return f"write {offset}+{size}"

    def append(self) -> str:
        if len(self.model) > LARGEST:
            return "-"
        data = self.dice.randbytes(self.dice.choice((1, 1000)))
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)
        self._put(len(self.model), data)
        return f"append {len(data)}"

    def read(self) -> str:
        offset, size = self._range()
        got = os.pread(self._fd(), size, offset)
        assert len(got) == max(0, min(size, len(self.model) - offset)), f"read {offset}+{size}"
        self._agree(got, offset, "read")
        return f"read {offset}+{size}"

    def store(self) -> str:
        if not self.model:
            return "-"
        with mmap.mmap(self._fd(), 0) as area:
            assert len(area) == len(self.model)
            offset = self.dice.randrange(len(area))
            data = self.dice.randbytes(min(self.dice.choice((1, 5000)), len(area) - offset))
            area[offset : offset + len(data)] = data
            self._put(offset, data)
            if self.dice.random() < 0.5:
                area.flush()
        return f"store {offset}+{len(data)}"

    def look_through_mapping(self) -> str:
        if not self.model:
            return "-"
        kind = self.dice.choice((mmap.MAP_SHARED, mmap.MAP_PRIVATE))
        with mmap.mmap(self._fd(), 0, kind, mmap.PROT_READ) as area:
            assert len(area) == len(self.model)
            offset = self.dice.randrange(len(area))
            self._agree(area[offset : offset + 9000], offset, "mapping")
        return f"look through mapping {offset}"

    def resize(self) -> str:
        size = self.dice.randrange(LARGEST)
        if self.dice.random() < 0.5:
            os.ftruncate(self._fd(), size)
        else:
            os.truncate(self.path, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))
        return f"resize {size}"

    def empty(self) -> str:
        os.close(os.open(self.path, os.O_WRONLY | os.O_TRUNC))
        self.model.clear()
        return "empty"

    def allocate(self) -> str:
        offset, size = self._range()
        mode = self.dice.choice(
            (
                0,
                FALLOC_FL_KEEP_SIZE,
                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                FALLOC_FL_ZERO_RANGE,
            )
        )
        try:
            fallocate(self._fd(), mode, offset, size)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return "-"
        if mode in (0, FALLOC_FL_ZERO_RANGE):
            self.model.extend(bytes(max(0, offset + size - len(self.model))))
        if mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE):
            end = min(offset + size, len(self.model))
            if offset < end:
                self.model[offset:end] = bytes(end - offset)
        return f"allocate {mode} {offset}+{size}"

    def copy_within(self) -> str:
        size = self.dice.choice((1, 5000))
        if len(self.model) < 2 * size + 2:
            return "-"
        source = self.dice.randrange(len(self.model) // 2 - size + 1)
        target = len(self.model) // 2 + self.dice.randrange(size)
        one, two = self._fd(), self._fd()
        done = os.copy_file_range(one, two, size, source, target)
        assert done > 0
        self._put(target, bytes(self.model[source : source + done]))
        return f"copy {source} to {target}, {done}"

    def open_another(self) -> str:
        if len(self.fds) < 12:
            flags = self.dice.choice((0, 0, os.O_SYNC, os.O_NOATIME))
            self.fds.append(os.open(self.path, os.O_RDWR | flags))
        return f"open {len(self.fds)}"

    def close_one(self) -> str:
        if len(self.fds) > 1:
            os.close(self.fds.pop(self.dice.randrange(len(self.fds))))
        return f"close {len(self.fds)}"

    def look(self) -> str:
        assert os.fstat(self._fd()).st_size == len(self.model)
        assert os.stat(self.path).st_size == len(self.model)
        return "look"

    def move(self) -> str:
        self.names += 1
        new = self.path.with_name(f"name{self.names}")
        if self.dice.random() < 0.5:
            self.path.rename(new)
        else:
            os.link(self.path, new)
            self.path.unlink()
        self.path = new
        return f"move {new.name}"

    def change_mode(self) -> str:
        os.chmod(self.path, 0o600 + self.dice.randrange(64))
        return "chmod"

    def sync(self) -> str:
        fd = self._fd()
        self.dice.choice((os.fsync, os.fdatasync))(fd)
        return "sync"

    def check_all(self) -> None:
        for fd in self.fds:
            self._agree(os.pread(fd, len(self.model) + 1, 0), 0, "at the end")
            os.close(fd)
        self.fds = []
        assert self.path.read_bytes() == self.model


def _exercise(layers: Layers, mount_union: MountUnion, seed: int, steps: int, where: Path) -> None:
    data = random.Random(seed).randbytes(200_000)
    (where / "file").write_bytes(data)
    daemon = mount_union(limit=600)
    exerciser = Exerciser(layers.merged / "file", data, seed)
    try:
        exerciser.run(steps)
    except (AssertionError, OSError) as failure:
        raise AssertionError(f"seed {seed}, after {exerciser.log[-12:]}: {failure}") from failure
    finally:
        for fd in exerciser.fds:
            os.close(fd)
    daemon.restart()
    assert (layers.merged / exerciser.path.name).read_bytes() == exerciser.model


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_short(layers: Layers, mount_union: MountUnion, where: str) -> None:
    """A few thousand steps."""
    _exercise(
        layers, mount_union, random.SystemRandom().randrange(1 << 30), 3000, getattr(layers, where)
    )


@pytest.mark.nightly
@pytest.mark.parametrize("round_", range(5))
def test_long(layers: Layers, mount_union: MountUnion, round_: int) -> None:
    """Twenty thousand steps each."""
    _exercise(layers, mount_union, random.SystemRandom().randrange(1 << 30), 20_000, layers.lower)
