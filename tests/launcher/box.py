# SPDX-License-Identifier: GPL-3.0-or-later
"""A rootfs of busybox, and running one command in a container on it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher import plan, start
from launcher.cgroup.group import Group
from launcher.cgroup.hierarchies import find, shown_inside
from launcher.isolation import capabilities, rootfs
from launcher.spec import Capabilities, ContainerSpec, Process, Resources, Root, User
from tests.support.clock import scaled

__all__ = ["Ended", "MakeGroup", "Running", "host", "make_rootfs", "process", "run", "spec", "wait"]

MakeGroup = Callable[[Resources], Group]

BUSYBOX = "/usr/bin/busybox"
PATH = b"PATH=/usr/sbin:/usr/bin:/sbin:/bin"


class Ended(NamedTuple):
    """How a container ended: a negative code is the signal that killed it."""

    code: int
    out: str
    err: str
    warnings: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def make_rootfs(path: Path) -> Path:
    """A root filesystem that holds busybox under all its names, and accounts."""
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "home/alice"):
        (path / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    for name in listed.stdout.split():
        if name != "busybox":
            (path / "bin" / name).symlink_to("busybox")
    (path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
    )
    (path / "etc/group").write_text("root:x:0:\nalice:x:1000:\naudio:x:29:alice\nwheel:x:10:\n")
    (path / "tmp").chmod(0o1777)
    os.chown(path / "home/alice", 1000, 1000)
    return path


def process(
    args: Sequence[str] | str,
    *,
    user: User = User(),  # noqa: B008 - a frozen value
    granted: frozenset[str] = capabilities.DEFAULT,
    rights: Capabilities | None = None,
    **fields: object,
) -> Process:
    """A process with docker's default rights; one string is a shell's script."""
    if isinstance(args, str):
        args = ("sh", "-c", args)
    made = Process(
        args=tuple(each.encode() for each in args),
        env=(PATH,),
        user=user,
        capabilities=rights or capabilities.of_user(granted, user.uid),
    )
    return made._replace(**fields)  # type: ignore[arg-type]


def spec(path: Path, made: Process, **fields: object) -> ContainerSpec:
    """A container with all the default walls but the filter, which costs time to compile."""
    whole = ContainerSpec(
        process=made,
        root=Root(os.fsencode(path)),
        hostname=b"box",
        mounts=rootfs.default_mounts(),
        devices=rootfs.DEVICES,
        masked_paths=rootfs.MASKED,
        readonly_paths=rootfs.READONLY,
    )
    return whole._replace(**fields)  # type: ignore[arg-type]


def host() -> plan.Host:
    """This machine, as plans need it."""
    return plan.Host(shown_inside(find()), rootless=os.geteuid() != 0)


class Running:
    """A container that runs, its output on pipes; `end` collects it."""

    def __init__(
        self, described: ContainerSpec, group: Group | None = None, stdin: int | None = None
    ) -> None:
        """`stdin` passes to the container; without one it reads /dev/null."""
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        null = os.open("/dev/null", os.O_RDONLY) if stdin is None else stdin
        self._pipes = (out_read, err_read)
        try:
            launch = start.launch_of(described, host(), (null, out_write, err_write))
            self.started = start.start(launch, group)
        except BaseException:
            os.close(out_read)
            os.close(err_read)
            raise
        finally:
            for fd in (null, out_write, err_write):
                os.close(fd)
        self.pid = self.started.pid

    def read_line(self) -> str:
        """The next line that the container prints."""
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._pipes[0]], [], [], scaled(30))
            assert ready, "the container prints nothing"
            part = os.read(self._pipes[0], 1)
            assert part, f"the container ended after {line!r}"
            line += part
        return line.decode().rstrip("\n")

    def kill(self, number: int = signal.SIGKILL) -> None:
        signal.pidfd_send_signal(self.started.pidfd, number)

    def end(self, limit: float = 60.0) -> Ended:
        """Wait for its end, kill it if that takes too long, and collect what it printed."""
        content = [b"", b""]
        open_pipes = dict(zip(self._pipes, (0, 1), strict=True))
        deadline = time.monotonic() + scaled(limit)
        try:
            while open_pipes:
                left = deadline - time.monotonic()
                ready, _, _ = select.select(list(open_pipes), [], [], max(left, 0))
                if not ready:
                    self.kill()
                    raise AssertionError(f"the container does not end; it printed {content}")
                for fd in ready:
                    part = os.read(fd, 65536)
                    content[open_pipes[fd]] += part
                    if not part:
                        del open_pipes[fd]
        finally:
            for fd in self._pipes:
                os.close(fd)
            code = wait(self.started)
        return Ended(code, content[0].decode(), content[1].decode(), self.started.warnings)


def wait(started: start.Started) -> int:
    """Reap a process; minus the signal if one killed it."""
    _, result = os.waitpid(started.pid, 0)
    os.close(started.pidfd)
    return os.waitstatus_to_exitcode(result)


def run(described: ContainerSpec, group: Group | None = None, limit: float = 60.0) -> Ended:
    """Run a container to its end."""
    return Running(described, group).end(limit)
