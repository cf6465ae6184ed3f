# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the command of a try: its unions served, the container started on them, all taken down.

The *stage* is a process of its own: a session and a mount namespace in which the unions are mounted
one in the other, each served by a child, so that whatever dies, nothing is mounted anywhere and
nothing goes on. The container has namespaces, rights and a filter as others have; it runs as the
caller, with the caller's environment and directory, on the caller's terminal by way of one of its
own. It has no cgroup: device nodes are of no use anywhere but in /dev, where none can be made.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket

import prctl

import unionfs
from launcher import plan, start
from launcher.cgroup import hierarchies
from launcher.errors import LaunchError
from launcher.isolation import capabilities, rootfs, seccomp
from launcher.paths import Paths
from launcher.spec import ContainerSpec, Mount, Namespace, Process, Root, User
from launcher.sys import mount as kernel
from launcher.sys import process
from launcher.trial import terminal
from launcher.trial.record import Trial
from launcher.typed import Final, NamedTuple, NoReturn

__all__ = ["Ended", "run"]

_PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# What ends lamina's part of the conversation as well.
_FINAL: Final = (signal.SIGTERM, signal.SIGHUP)


class Ended(NamedTuple):
    """How the command ended: its status (128 and more: killed by a signal).

    alone    -- somebody asked lamina to end: nobody is to be asked anything
    warnings -- what the container had to do without
    """

    status: int
    alone: bool = False
    warnings: tuple[str, ...] = ()


def run(trial: Trial, shown: tuple[bytes, ...], hidden: tuple[bytes, ...], paths: Paths) -> Ended:
    """Run the command of a try, in the foreground, until it ends. Raises LaunchError.

    `shown` are mount points of the host's to be shown read-only, `hidden` directories whose content
    is not to be seen. Called from a process without other threads.
    """
    has_terminal = all(os.isatty(fd) for fd in (0, 1, 2))
    answer, told = os.pipe()
    ours, theirs = socket.socketpair()
    # Compiled where it can be kept, before there is a namespace.
    program = seccomp.default_program(capabilities.DEFAULT, paths.run)
    child = os.fork()
    if child == 0:
        os.close(answer)
        ours.close()
        _Stage(trial, shown, hidden, program, theirs if has_terminal else None).live(told)
    os.close(told)
    theirs.close()
    try:
        with _passing_signals_to(child) as signals:
            if has_terminal:
                terminal.converse(ours)
            said = _read_all(answer)
            os.waitpid(child, 0)
    finally:
        os.close(answer)
        ours.close()
    if not said:
        raise LaunchError("run", trial.args[0], "its stage was killed")
    value = json.loads(said)
    if "error" in value:
        what, thing, reason, status = value["error"]
        raise LaunchError(what, os.fsencode(thing), reason, status)
    alone = any(number in _FINAL for number in signals)
    return Ended(int(value["status"]), alone, tuple(value["warnings"]))


@contextlib.contextmanager
def _passing_signals_to(child: int):  # type: ignore[no-untyped-def]
    """Signals to this process go to the stage meanwhile; gives those that came."""
    came: list[int] = []

    def pass_on(number: int, _: object) -> None:
        came.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield came
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _read_all(fd: int) -> bytes:
    said = b""
    while part := os.read(fd, 1 << 16):
        said += part
    return said


class _Stage:
    """The process between lamina and the command."""

    def __init__(
        self,
        trial: Trial,
        shown: tuple[bytes, ...],
        hidden: tuple[bytes, ...],
        program: bytes,
        channel: socket.socket | None,
    ) -> None:
        self._trial = trial
        self._shown = shown
        self._hidden = hidden
        self._program = program
        self._channel = channel
        self._servers: list[tuple[bytes, int]] = []

    def live(self, told: int) -> NoReturn:
        """Do everything, write how it went to `told`, and end."""
        try:
            answer: dict[str, object] = self._run()
        except LaunchError as error:
            answer = _error(error.what, error.thing, str(error.reason), error.status)
        except unionfs.UnionError as error:
            answer = _error(error.what, error.thing, str(error.reason), 125)
        except Exception as error:  # the stage's edge: what is wrong here is seen nowhere else
            reason = f"{type(error).__name__}: {error}"
            answer = _error("run", self._trial.args[0], reason, 125)
        finally:
            self._take_down()
        try:
            os.write(told, json.dumps(answer).encode("ascii"))
        finally:
            os._exit(0)

    def _run(self) -> dict[str, object]:
        prctl.set_pdeathsig(signal.SIGKILL)
        os.setsid()
        process.unshare(process.CLONE_NEWNS)
        kernel.mount_setattr(
            kernel.AT_FDCWD, b"/", recursive=True, propagation=kernel.MS_SLAVE
        )  # fmt: skip
        _ = unionfs.Union, unionfs.run  # loaded once, for all servers
        for number in range(len(self._trial.places)):
            self._serve(number)
        for inner in self._shown:
            self._show(inner)
        standard = (0, 1, 2)
        channel = -1 if self._channel is None else self._channel.fileno()
        launch = start.launch_of(self._spec(), _host(), standard, channel)
        with start.begin(launch) as beginning:
            started = beginning.go()
        if self._channel is not None:
            self._channel.close()

        def pass_on(number: int, _: object) -> None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(started.pidfd, number)

        for each in _PASSED_ON:
            signal.signal(each, pass_on)
        ended = os.waitid(os.P_PIDFD, started.pidfd, os.WEXITED)
        assert ended is not None
        os.close(started.pidfd)
        status = ended.si_status
        if ended.si_code != os.CLD_EXITED:
            status += 128
        return {"status": status, "warnings": list(started.warnings)}

    # -- unions

    def _serve(self, number: int) -> None:
        """Mount one union, served by a child."""
        trial, place = self._trial, self._trial.places[number]
        mountpoint = trial.merged + place.mountpoint.rstrip(b"/")
        config = unionfs.MountConfig(
            lower=(place.lower,),
            upper=trial.upper(number),
            work=trial.work(number),
            userxattr=trial.userxattr,
            # What the command was at when the machine went down is of no use; a try that ended is
            # synced as a whole.
            volatile=True,
        )
        session = unionfs.SessionConfig(
            mountpoint=mountpoint,
            fsname="lamina-try",
            allow_other=True,
            nosuid=place.nosuid,
            noexec=place.noexec,
            nodev=True,
        )
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            _be_server(config, session, told, trial.directory + b"/log")
        os.close(told)
        said = _read_all(ready)
        os.close(ready)
        if said != b"\0":
            os.waitpid(child, 0)
            if number and not os.path.ismount(place.lower):
                return  # it was unmounted meanwhile
            what, thing, reason = (said or b"mount\0%s\0its server was killed" % place.lower).split(
                b"\0"
            )[:3]
            raise LaunchError(os.fsdecode(what), thing, os.fsdecode(reason))
        self._servers.append((mountpoint, child))

    def _show(self, inner: bytes) -> None:
        """Show what the host has mounted somewhere as it is, read-only.

        It may have been unmounted meanwhile, or be closed to this user: then it is not shown.
        """
        trial = self._trial
        with contextlib.suppress(OSError):
            tree = kernel.open_tree(
                kernel.AT_FDCWD, trial.base.rstrip(b"/") + inner, recursive=False
            )
            try:
                wanted = kernel.MOUNT_ATTR_RDONLY
                kernel.mount_setattr(tree, b"", recursive=False, wanted=wanted)
                target = os.open(trial.merged + inner, os.O_PATH | os.O_CLOEXEC)
                try:
                    kernel.move_mount(tree, target)
                finally:
                    os.close(target)
            finally:
                os.close(tree)

    def _take_down(self) -> None:
        """Unmount all, and wait until everything is in the upper layers."""
        for inner in reversed(self._shown):
            with contextlib.suppress(OSError):
                kernel.umount(self._trial.merged + inner, kernel.MNT_DETACH)
        for mountpoint, child in reversed(self._servers):
            with contextlib.suppress(OSError):
                kernel.umount(mountpoint, kernel.MNT_DETACH)
            os.waitpid(child, 0)

    # -- the container

    def _spec(self) -> ContainerSpec:
        trial = self._trial
        uid = os.getuid()
        mask = os.umask(0)
        os.umask(mask)
        made = Process(
            args=trial.args,
            env=tuple(b"%s=%s" % each for each in os.environb.items()),
            cwd=trial.cwd,
            terminal=self._channel is not None,
            user=User(uid, os.getgid(), tuple(os.getgroups()), mask),
            capabilities=capabilities.of_user(capabilities.DEFAULT, uid),
            init=True,
        )
        own_network = trial.network == "none"
        kinds = ["pid", "mount", "uts", "ipc", "cgroup", *(["network"] if own_network else [])]
        return ContainerSpec(
            process=made,
            root=Root(trial.merged),
            hostname=os.fsencode(os.uname().nodename),
            mounts=tuple(_closed(each) for each in rootfs.default_mounts(own_network=own_network)),
            namespaces=tuple(Namespace(kind) for kind in kinds),
            devices=rootfs.DEVICES,
            masked_paths=rootfs.MASKED + self._hidden,
            readonly_paths=rootfs.READONLY,
            seccomp=self._program,
        )


def _closed(mount: Mount) -> Mount:
    """No device node that is made in /dev is of any use."""
    return mount._replace(options=(*mount.options, "nodev")) if mount.type == "tmpfs" else mount


def _host() -> plan.Host:
    # As without privilege: devices are those of the host's /dev, mounted.
    return plan.Host(hierarchies.shown_inside(hierarchies.find()), rootless=True)


def _be_server(
    config: unionfs.MountConfig, session: unionfs.SessionConfig, told: int, log: bytes
) -> NoReturn:
    """Serve one union until it is unmounted; says b"\\0" when it answers, or what is wrong."""
    status = 1
    try:
        prctl.set_pdeathsig(signal.SIGKILL)
        null = os.open(b"/dev/null", os.O_RDWR)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for fd, place in ((null, 0), (output, 1), (output, 2)):
            os.dup2(fd, place)
        process.close_all_but((0, 1, 2, told))

        def ready() -> None:
            os.write(told, b"\0")
            os.close(told)

        unionfs.run(config, session, ready)
        status = 0
    except unionfs.UnionError as error:
        thing = error.thing if isinstance(error.thing, bytes) else os.fsencode(error.thing)
        words = (os.fsencode(error.what), thing, os.fsencode(error.reason))
        with contextlib.suppress(OSError):
            os.write(told, b"\0".join(words))
    except BaseException:
        from traceback import print_exc

        print_exc()
    finally:
        os._exit(status)


def _error(what: str, thing: bytes | str, reason: str, status: int) -> dict[str, object]:
    return {"error": [what, os.fsdecode(thing), reason, status]}
