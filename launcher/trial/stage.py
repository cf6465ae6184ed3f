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
from collections.abc import Iterator

import prctl

import unionfs
from launcher import idmap, plan, start, steps
from launcher.cgroup import hierarchies
from launcher.errors import LaunchError
from launcher.isolation import capabilities, rootfs, seccomp
from launcher.paths import Paths
from launcher.spec import ContainerSpec, Mount, Namespace, Process, Root, User
from launcher.sys import mount as kernel
from launcher.sys import process
from launcher.trial import terminal, users
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
    maps = None if os.geteuid() == 0 else users.maps_of_caller()
    answer, told = os.pipe()
    ours, theirs = socket.socketpair()
    # Compiled where it can be kept, before there is a namespace.
    program = seccomp.default_program(capabilities.DEFAULT, paths.run)
    unmapped, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answer)
        ours.close()
        for fd in (unmapped[0], mapped[1]):
            os.close(fd)
        stage = _Stage(trial, shown, hidden, program, theirs if has_terminal else None, maps)
        stage.live(told, (unmapped[1], mapped[0]))
    for fd in (told, unmapped[1], mapped[0]):
        os.close(fd)
    theirs.close()
    try:
        if maps is not None and os.read(unmapped[0], 1):
            idmap.write(child, maps)
            os.write(mapped[1], b"m")
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(answer)
        ours.close()
        raise
    finally:
        os.close(unmapped[0])
        os.close(mapped[1])
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
def _passing_signals_to(child: int) -> Iterator[list[int]]:
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
        maps: idmap.IdMaps | None,
    ) -> None:
        self._trial = trial
        self._shown = shown
        self._hidden = hidden
        self._program = program
        self._channel = channel
        self._maps = maps
        self._caller = os.getuid(), os.getgid()
        self._servers: list[tuple[int, int]] = []

    def live(self, told: int, mapping: tuple[int, int]) -> NoReturn:
        """Do everything, write how it went to `told`, and end.

        `mapping`: an ordinary user's stage writes to the first when its user namespace wants ids,
        and reads from the second that it has them.
        """
        try:
            answer: dict[str, object] = self._run(mapping)
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

    def _run(self, mapping: tuple[int, int]) -> dict[str, object]:
        prctl.set_pdeathsig(signal.SIGKILL)
        os.setsid()
        if self._maps is not None:
            users.become_root(mapping)
        for fd in mapping:
            os.close(fd)
        process.unshare(process.CLONE_NEWNS)
        kernel.mount_setattr(
            kernel.AT_FDCWD, b"/", recursive=True, propagation=kernel.MS_SLAVE
        )  # fmt: skip
        if self._maps is not None:
            self._show_all()
        _ = unionfs.Union, unionfs.run  # loaded once, for all servers
        for number in range(len(self._trial.places)):
            self._serve(number)
        if self._maps is None:
            for inner in self._shown:
                self._show(inner)
        standard = (0, 1, 2)
        channel = -1 if self._channel is None else self._channel.fileno()
        launch = start.launch_of(self._spec(), _host(), standard, channel)
        if self._maps is not None:
            launch = launch._replace(plan=_with_groups_as_they_are(launch.plan))
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
            lower=(place.lower if self._maps is None else trial.seen(number),),
            upper=trial.upper(number),
            work=trial.work(number),
            userxattr=trial.userxattr,
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
        # Its path may be out of reach in the end: the rights on the way there can go meanwhile.
        top = os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._servers.append((top, child))

    def _show_all(self) -> None:
        """For an ordinary user: all of the host's tree, read-only, below the unions.

        What each union stands on is mounted aside as well, as it is: under its own path it may hold
        the store, and no clone of it can be had without the mounts in it.
        """
        trial = self._trial
        for number, place in enumerate(trial.places):
            _mount_copy(place.lower, trial.seen(number), 0)
        _mount_copy(trial.base, trial.merged, kernel.MOUNT_ATTR_RDONLY)

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
        for inner in reversed(self._shown if self._maps is None else ()):
            with contextlib.suppress(OSError):
                kernel.umount(self._trial.merged + inner, kernel.MNT_DETACH)
        for top, child in reversed(self._servers):
            try:
                kernel.umount(b"/proc/self/fd/%d" % top, kernel.MNT_DETACH)
            except OSError:
                # Nothing else would end it. What was written is in the upper layer already.
                os.kill(child, signal.SIGKILL)
            os.close(top)  # which holds the mount
            os.waitpid(child, 0)
        if self._maps is not None:
            for number in range(len(self._trial.places)):
                users.hand_over(self._trial.work(number), self._caller)

    # -- the container

    def _spec(self) -> ContainerSpec:
        trial = self._trial
        uid, gid = self._caller
        groups = tuple(os.getgroups())
        if self._maps is not None:
            groups = ()
            if len(self._maps.uid) == 1:
                uid = gid = 0  # the one number that there is
        mask = os.umask(0)
        os.umask(mask)
        made = Process(
            args=trial.args,
            env=tuple(b"%s=%s" % each for each in os.environb.items()),
            cwd=trial.cwd,
            terminal=self._channel is not None,
            user=User(uid, gid, groups, mask),
            capabilities=capabilities.of_user(
                capabilities.DEFAULT if self._maps is None else frozenset(), uid
            ),
            init=True,
        )
        own_network = trial.network == "none"
        kinds = ["pid", "mount", "uts", "ipc", "cgroup", *(["network"] if own_network else [])]
        return ContainerSpec(
            process=made,
            root=Root(trial.merged),
            hostname=os.fsencode(os.uname().nodename),
            mounts=tuple(
                _fitted(each, self._maps is not None)
                for each in rootfs.default_mounts(
                    own_network=own_network, user_namespace=self._maps is not None
                )
            ),
            namespaces=tuple(Namespace(kind) for kind in kinds),
            devices=rootfs.DEVICES,
            masked_paths=rootfs.MASKED + self._hidden,
            readonly_paths=rootfs.READONLY,
            seccomp=self._program,
        )


def _mount_copy(source: bytes, target: bytes, wanted: int) -> None:
    """Mount a copy of the tree of mounts at `source` on `target`."""
    tree = kernel.open_tree(kernel.AT_FDCWD, source, recursive=True)
    try:
        if wanted:
            kernel.mount_setattr(tree, b"", recursive=True, wanted=wanted)
        on = os.open(target, os.O_PATH | os.O_CLOEXEC)
        try:
            kernel.move_mount(tree, on)
        finally:
            os.close(on)
    finally:
        os.close(tree)


def _with_groups_as_they_are(made: tuple[steps.Step, ...]) -> tuple[steps.Step, ...]:
    """In a user namespace with few ids the caller's further groups can be kept, but not set."""
    return tuple(
        step._replace(groups=None) if isinstance(step, steps.SetUser) else step for step in made
    )


def _fitted(mount: Mount, few_ids: bool) -> Mount:
    """No device node that is made in /dev is of any use; terminals need a group that exists."""
    options = mount.options
    if mount.type == "tmpfs":
        options = (*options, "nodev")
    if mount.type == "devpts" and few_ids:
        options = tuple(each for each in options if not each.startswith("gid="))
    return mount._replace(options=options)


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
