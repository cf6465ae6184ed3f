# SPDX-License-Identifier: GPL-3.0-or-later
"""Many processes at once, on names of their own and on the same names."""

from __future__ import annotations

import errno
import os
import random
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.conftest import MountUnion
from tests.crash.plan import clear, furnish, perform, plan, tree_after
from tests.posix.expect import listing
from tests.support.face import Face, differences, faces
from tests.support.layers import Layers

PROCESSES = 6


def _all_at_once(work: Callable[[int], None]) -> None:
    """Run `work` in several processes; each must come to its end."""
    reader, writer = os.pipe()
    pids = []
    for number in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            try:
                work(number)
            except BaseException:
                os.write(writer, traceback.format_exc().encode())
            finally:
                os._exit(0)
        pids.append(pid)
    os.close(writer)
    with open(reader, "rb") as stream:
        complaints = stream.read().decode()
    for pid in pids:
        os.waitpid(pid, 0)
    assert not complaints, complaints


def _comparable(found: dict[str, Face]) -> dict[str, Face]:
    """Without link counts, which a mount does not hand on to the next (docs/semantics.md, 7.c)."""
    return {name: face._replace(ino=0, nlink=0, mtime_ns=0) for name, face in found.items()}


def test_each_on_its_own(layers: Layers, mount_union: MountUnion) -> None:
    """Plans of random steps, side by side: each tree is as after its plan on a plain directory."""
    scratch = layers.more("scratch")
    plans = []
    for number in range(PROCESSES):
        plans.append(plan(1000 + number, 300, scratch))
        clear(scratch)
        (layers.lower / str(number)).mkdir()
        furnish(layers.lower / str(number))
    daemon = mount_union()

    def work(number: int) -> None:
        for step in plans[number]:
            perform(layers.merged / str(number), step)

    _all_at_once(work)
    for _ in range(2):
        for number, steps in enumerate(plans):
            wanted = _comparable(faces(tree_after(steps, len(steps), scratch)))
            clear(scratch)
            found = _comparable(faces(layers.merged / str(number)))
            assert differences(wanted, found) == [], f"process {number}"
        daemon.restart()


def test_all_on_the_same_names(layers: Layers, mount_union: MountUnion) -> None:
    """Names made, renamed, replaced and removed by all at once: each call succeeds or says why.

    Afterwards what is listed can be looked at, and what is looked at is listed.
    """
    for name in "abcdef":
        (layers.lower / name).write_bytes(name.encode() * 1000)
        (layers.lower / f"dir-{name}").mkdir()
        (layers.lower / f"dir-{name}" / "inner").write_bytes(b"inner")
    daemon = mount_union()
    known = {
        *(errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR),
        *(errno.EINVAL, errno.EPERM),
    }

    def work(number: int) -> None:
        dice = random.Random(number)
        os.chdir(layers.merged)

        def name() -> str:
            return dice.choice(("", "", "dir-")) + dice.choice("abcdef")

        acts: list[Callable[[], object]] = [
            lambda: os.rename(name(), name()),
            lambda: os.link(name(), name()),
            lambda: os.unlink(name()),
            lambda: os.mkdir(name()),
            lambda: os.rmdir(name()),
            lambda: Path(name()).write_bytes(b"%d" % number * 500),
            lambda: os.chmod(name(), 0o600 + dice.randrange(64)),
            lambda: Path(name()).read_bytes(),
            lambda: os.listdir("."),
            lambda: Path(name(), "inner").write_bytes(b"again"),
            lambda: os.unlink(name() + "/inner"),
        ]
        for _ in range(400):
            try:
                dice.choice(acts)()
            except OSError as error:
                if error.errno not in known:
                    raise

    _all_at_once(work)
    for _ in range(2):
        names = listing(str(layers.merged))
        found = faces(layers.merged)
        assert {name for name in found if "/" not in name} == set(names)
        for name in "abcdef":
            for path in (name, f"dir-{name}"):
                assert os.path.lexists(layers.merged / path) == (path in names)
        daemon.restart()


def test_copy_up_race(layers: Layers, mount_union: MountUnion) -> None:
    """All processes append to the same lower files at once: each record is there, whole, once."""
    for number in range(10):
        (layers.lower / str(number)).write_bytes(b"." * (300_000 if number % 2 else 100))
    mount_union()

    def work(process: int) -> None:
        for number in range(10):
            fd = os.open(layers.merged / str(number), os.O_WRONLY | os.O_APPEND)
            os.write(fd, f"<{process}:{number}>".encode())
            os.close(fd)

    _all_at_once(work)
    for number in range(10):
        data = (layers.merged / str(number)).read_bytes().lstrip(b".")
        records = data.replace(b">", b"> ").split()
        assert sorted(records) == sorted(
            f"<{process}:{number}>".encode() for process in range(PROCESSES)
        )


def test_readers_of_a_changing_tree(layers: Layers, mount_union: MountUnion) -> None:
    """While files are replaced by rename, readers see each whole: the old or the new."""
    for number in range(5):
        (layers.lower / str(number)).write_bytes(b"0" * 50_000)
    mount_union()

    def work(process: int) -> None:
        os.chdir(layers.merged)
        for version in range(1, 60):
            name = str(version % 5)
            if process < 2:
                temporary = f"tmp-{process}"
                Path(temporary).write_bytes(b"%d" % (version % 10) * 50_000)
                os.rename(temporary, name)
            else:
                data = Path(name).read_bytes()
                assert len(data) == 50_000
                assert len(set(data)) == 1, "a mixture"

    _all_at_once(work)
    assert listing(str(layers.merged)) == ["0", "1", "2", "3", "4"]
