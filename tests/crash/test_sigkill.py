# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL at a random instant under load: repair, remount, and every tree is as it was left.

Several writers carry out their plans. When the daemon has been killed, each has a number of steps
that were acknowledged, and at most one more under way. The tree of each must be exactly as after
the steps acknowledged, or as after that one more: no file torn, nothing lost, no mark in sight.
Then the writers go on from there on the next mount, into the next kill.
"""

from __future__ import annotations

import os
import random
import subprocess

import pytest

from tests.conftest import LayersFactory, MountUnion
from tests.crash.plan import clear, furnish, plan, tree_after
from tests.crash.writer import Writer
from tests.support.daemon import Daemon, Option, command, environment
from tests.support.face import Face, differences, faces
from tests.support.layers import Filesystem, Layers
from tests.support.mounttable import mount_at

WRITERS = 4
STEPS = 400


def _seed() -> int:
    """LAMINA_TEST_SEED, or one of its own for each run."""
    return int(os.environ.get("LAMINA_TEST_SEED") or random.SystemRandom().randrange(1 << 30))


class Siege:
    """A union, its writers, and the kills it has to bear."""

    def __init__(self, layers: Layers, daemon: Daemon, seed: int, bare: bool) -> None:
        self.layers = layers
        self.bare = bare
        self.dice = random.Random(seed)
        self.scratch = layers.more("scratch")
        self.writers: list[Writer] = []
        for number in range(WRITERS):
            name = f"writer{number}"
            steps = plan(self.dice.randrange(1 << 30), STEPS, self.scratch, bare)
            clear(self.scratch)
            self.writers.append(Writer(name, steps, layers.root / f"{name}.log"))
            (layers.lower / name).mkdir()
            furnish(layers.lower / name, links=not bare)
        self.lower = faces(layers.lower)
        self.daemon = daemon
        daemon.restart()

    @property
    def finished(self) -> bool:
        return all(writer.done == len(writer.steps) for writer in self.writers)

    def kill(self) -> None:
        """Let the writers work up to a random moment, and kill the daemon."""
        reader, progress = os.pipe()
        left = sum(len(writer.steps) - writer.done for writer in self.writers)
        patience = self.dice.randrange(min(left, 400)) + 1
        for writer in self.writers:
            writer.start(self.layers.merged, progress)
        os.close(progress)
        while patience > 0:
            seen = os.read(reader, patience)
            if not seen:
                break
            patience -= len(seen)
        self.daemon.kill()
        os.close(reader)
        for writer in self.writers:
            writer.join()

    def repair(self) -> None:
        """`lamina umount` takes the dead mount away; the next mount succeeds and sweeps work."""
        assert self.daemon.mounted, "a killed daemon leaves its mount"
        done = subprocess.run(
            command("umount", str(self.layers.merged)),
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert mount_at(self.layers.merged) is None
        self.daemon.start()
        assert os.listdir(self.layers.work / "work") == [], "work is swept at mount"

    def check(self) -> None:
        """Each writer's tree is one of the two that it may be; its place in the plan follows."""
        assert sorted(os.listdir(self.layers.merged)) == [writer.name for writer in self.writers]
        for writer in self.writers:
            found = _comparable(faces(self.layers.merged / writer.name))
            complaints = []
            for count in (writer.done, writer.done + 1):
                if count > len(writer.steps):
                    continue
                plain = tree_after(writer.steps, count, self.scratch, links=not self.bare)
                wanted = _comparable(faces(plain))
                clear(self.scratch)
                wrong = differences(wanted, found)
                if not wrong:
                    writer.done = count
                    break
                complaints += [f"after step {count}:", *wrong]
            else:
                under_way = writer.steps[writer.done : writer.done + 1]
                raise AssertionError(
                    f"{writer.name}, step under way {under_way}:\n" + "\n".join(complaints)
                )
        assert differences(self.lower, faces(self.layers.lower)) == [], "a lower layer was written"


def _comparable(found: dict[str, Face]) -> dict[str, Face]:
    """Without link counts, which a mount does not hand on to the next (docs/semantics.md, 7.c)."""
    return {name: face._replace(ino=0, nlink=0, mtime_ns=0) for name, face in found.items()}


def _besiege(layers: Layers, daemon: Daemon, seed: int, kills: int, bare: bool = False) -> int:
    """Up to `kills` kills of one union, fewer if its plans come to an end; how many it bore."""
    siege = Siege(layers, daemon, seed, bare)
    borne = 0
    try:
        while borne < kills and not siege.finished:
            siege.kill()
            borne += 1
            siege.repair()
            siege.check()
    except AssertionError as failure:
        head = f"LAMINA_TEST_SEED={seed}, kill {borne}: {failure}"
        raise AssertionError(f"{head}\nThe daemon's log:\n{daemon.read_log()}") from failure
    finally:
        for writer in siege.writers:
            writer.stop()
    return borne


@pytest.fixture
def seed() -> int:
    """Printed, so that a failure can be had again with LAMINA_TEST_SEED."""
    number = _seed()
    print(f"LAMINA_TEST_SEED={number}")
    return number


def test_five_kills(layers: Layers, mount_union: MountUnion, seed: int) -> None:
    """The ordinary run."""
    _besiege(layers, mount_union(limit=300), seed, 5)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("filesystem", "options"),
    [
        ("tmpfs", {}),
        ("ext4", {}),
        ("ext4", {"metacopy": "on"}),
        ("tmpfs", {"format": "aufs"}),
        ("tmpfs", {"redirect_dir": "off", "index": "off", "userxattr": True}),
    ],
    ids=["tmpfs", "ext4", "metacopy", "aufs", "bare"],
)
def test_hundred_kills(
    new_layers: LayersFactory,
    transport: str,
    seed: int,
    filesystem: Filesystem,
    options: dict[str, Option],
) -> None:
    """A hundred kills of as many unions as their plans last for."""
    bare = "format" in options or "index" in options
    borne = 0
    while borne < 100:
        layers = new_layers(filesystem, "512m")
        lowers = [layers.lower]
        merged, upper, work = layers.merged, layers.upper, layers.work
        daemon = Daemon(merged, lowers, upper, work, transport, options, limit=600)
        daemon.start()
        try:
            borne += _besiege(layers, daemon, seed + borne, 100 - borne, bare)
        finally:
            daemon.finish()
