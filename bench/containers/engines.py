# SPDX-License-Identifier: GPL-3.0-or-later
"""Who can start a container: each by its command, on the same busybox.

All keep their state below one temporary directory, so that nothing of the machine's own containers
is touched. Peers that are not installed are left out and named.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import CommandFailed, run

LAMINA = "lamina"
BUSYBOX = "/usr/bin/busybox"
SECONDS = 120.0
# Not more than any machine allows: a peer that asks for more cannot start where that is forbidden.
_ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to start a container.

    foreground -- runs `true` to its end and leaves nothing
    detached   -- given a number, the words that start an idle container; None: it cannot
    remove     -- given a number, the words that end and remove it
    """

    name: str
    foreground: tuple[str, ...]
    detached: Callable[[int], tuple[str, ...]] | None = None
    remove: Callable[[int], tuple[str, ...]] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    version: str = ""

    def run(self, words: tuple[str, ...]) -> int:
        """Run one of its commands; its wall time in ns. Raises CommandFailed or TookTooLong."""
        return run(words, seconds=SECONDS, env=self.environment).ns


def _busybox(root: Path) -> Path:
    """A root filesystem of busybox under a few names."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in ("sh", "true", "sleep"):
        (root / "bin" / name).symlink_to("busybox")
    return root


def _lamina(base: Path) -> Engine:
    beside = Path(sys.executable).with_name("lamina")
    program = str(beside) if beside.exists() else "lamina"
    environment = {"LAMINA_ROOT": str(base / "lamina")}
    words = (program, "run", "--network", "none")
    return Engine(
        LAMINA,
        (*words, "--rm", "busybox", "true"),
        lambda number: (*words, "-d", "--name", f"idle{number}", "busybox", "sleep", "2147483647"),
        lambda number: (program, "rm", "-f", f"idle{number}"),
        environment,
        run([program, "--version"], seconds=SECONDS).output.strip(),
    )


def _podman(base: Path) -> Engine:
    program = (
        "podman",
        "--root",
        str(base / "podman"),
        "--runroot",
        str(base / "podman-run"),
        "--cgroup-manager",
        "cgroupfs",
        "--runtime",
        "runc",
    )
    archive = base / "busybox.tar"
    run(["tar", "-C", str(base / "rootfs"), "-cf", str(archive), "."], seconds=SECONDS)
    run([*program, "import", str(archive), "bench-busybox"], seconds=SECONDS)
    words = (*program, "run", "--network", "none", *_ULIMITS)
    return Engine(
        "podman",
        (*words, "--rm", "bench-busybox", "true"),
        lambda number: (
            *words,
            "-d",
            "--name",
            f"idle{number}",
            "bench-busybox",
            "sleep",
            "2147483647",
        ),
        lambda number: (*program, "rm", "-f", "-t", "0", f"idle{number}"),
        {},
        run(["podman", "--version"], seconds=SECONDS).output.strip(),
    )


def _docker(base: Path) -> Engine:
    run(["docker", "info"], seconds=SECONDS)  # fails where no engine runs
    archive = base / "busybox.tar"
    run(["tar", "-C", str(base / "rootfs"), "-cf", str(archive), "."], seconds=SECONDS)
    run(["docker", "import", str(archive), "bench-busybox"], seconds=SECONDS)
    words = ("docker", "run", "--network", "none")
    return Engine(
        "docker",
        (*words, "--rm", "bench-busybox", "true"),
        lambda number: (
            *words,
            "-d",
            "--name",
            f"bench-idle{number}",
            "bench-busybox",
            "sleep",
            "2147483647",
        ),
        lambda number: ("docker", "rm", "-f", f"bench-idle{number}"),
        {},
        run(["docker", "--version"], seconds=SECONDS).output.strip(),
    )


def _bundle(base: Path, program: str) -> Engine:
    """runc or crun on a bundle that is there already: no image, no layers, no log."""
    bundle = base / f"{program}-bundle"
    bundle.mkdir()
    run([program, "spec"], seconds=SECONDS, cwd=bundle)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=["true"])
    config["process"].pop("rlimits", None)
    config["root"] = {"path": str(base / "rootfs"), "readonly": True}
    path.write_text(json.dumps(config))
    state = ("--root", str(base / f"{program}-state"))
    words = (program, *state, "run", "--bundle", str(bundle), "bench")
    run(words, seconds=SECONDS)
    version = run([program, "--version"], seconds=SECONDS).output.splitlines()[0]
    return Engine(program, words, version=version)


def _bubblewrap(base: Path) -> Engine:
    words = (
        "bwrap",
        "--unshare-all",
        "--ro-bind",
        str(base / "rootfs"),
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "true",
    )
    run(words, seconds=SECONDS)
    version = run(["bwrap", "--version"], seconds=SECONDS).output.strip()
    return Engine("bubblewrap", words, version=version)


_MAKERS: dict[str, Callable[[Path], Engine]] = {
    LAMINA: _lamina,
    "podman": _podman,
    "docker": _docker,
    "runc": lambda base: _bundle(base, "runc"),
    "crun": lambda base: _bundle(base, "crun"),
    "bubblewrap": _bubblewrap,
}
NAMES = tuple(_MAKERS)


def prepare(base: Path, names: tuple[str, ...] = NAMES) -> tuple[list[Engine], list[str]]:
    """Those of `names` that work here, made ready below `base`; and for each other one line why."""
    _busybox(base / "rootfs")
    ready: list[Engine] = []
    lacking: list[str] = []
    for name in names:
        try:
            engine = _MAKERS[name](base)
            engine.run(engine.foreground)
        except CommandFailed as error:
            lacking.append(f"{name}: {error}")
        else:
            ready.append(engine)
    return ready, lacking


def discard(base: Path) -> None:
    """Let go of what the engines keep below `base`, mounts included."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines()[::-1]:
        point = line.split()[4]
        if point.startswith(f"{base}/"):
            run(["umount", "-l", point], seconds=SECONDS)
    shutil.rmtree(base, ignore_errors=True)
