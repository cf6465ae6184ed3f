# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's half of a start: from a plan to a process, and failure in one sentence.

`begin` makes the process and leaves it waiting in its new namespaces, so that what needs its pid
(id maps, cgroup, network) can be done; `Beginning.go` lets it take its steps and returns when its
program runs.

Two forks make one process. The first, by fork(2), gives a process with a single thread whatever
the supervisor's threads are doing; there descriptors are closed, namespaces joined, and clone3(2)
makes the container's init with CLONE_PARENT, a child of the supervisor's own. To clone directly
from a process with threads would leave locks of the interpreter and of malloc held for ever in
the copy.

The thread that calls `begin` must outlive the container: its end is taken for the supervisor's
(PR_SET_PDEATHSIG, prctl(2)).
"""

from __future__ import annotations

import os
import warnings

import prctl

from launcher import child, furnishing, idmap, plan, status, steps
from launcher.errors import LaunchError
from launcher.isolation import namespaces, rlimits
from launcher.spec import ContainerSpec, Process
from launcher.sys import process
from launcher.typed import Final, NamedTuple, NoReturn, Protocol
from unionfs.light import contextlib, signal

__all__ = [
    "Attach",
    "Beginning",
    "Launch",
    "Started",
    "begin",
    "launch_into",
    "launch_of",
    "start",
]


class Attach(Protocol):
    """What a container's cgroup is to its start."""

    def joining_files(self) -> tuple[bytes, ...]:
        """Paths of the files by which a process with one thread joins, writing 0 itself."""

    def clone_descriptor(self) -> int | None:
        """A descriptor of a cgroup v2 directory to begin in, or None; it stays the group's."""


class Join(NamedTuple):
    """Namespaces to enter before the clone: a descriptor and the kinds taken of it (setns(2))."""

    fd: int
    kinds: int


class Launch(NamedTuple):
    """What `begin` needs: the plan, and what of it is the supervisor's part.

    `stdio` become 0, 1 and 2. `terminal` is a unix socket over which `steps.OpenTerminal` sends the
    terminal's master. All descriptors stay the caller's. `oom_score_adj` is for who enters
    namespaces that others rule, whose /proc is not to be trusted.
    """

    plan: tuple[steps.Step, ...]
    namespaces: int = 0
    joins: tuple[Join, ...] = ()
    id_maps: idmap.IdMaps | None = None
    stdio: tuple[int, int, int] = (0, 1, 2)
    terminal: int = -1
    oom_score_adj: int | None = None


class Started(NamedTuple):
    """A process that runs: its pid, a pidfd owned by the caller, and what it had to do without."""

    pid: int
    pidfd: int
    warnings: tuple[str, ...]


def launch_of(
    spec: ContainerSpec,
    host: plan.Host,
    stdio: tuple[int, int, int] = (0, 1, 2),
    terminal: int = -1,
) -> Launch:
    """The launch of a container's first process.

    Namespaces that the spec gives a path are opened here, into `joins`.
    """
    made = plan.make(spec, host)
    new = 0
    joins: list[Join] = []
    for each in spec.namespaces:
        flag = namespaces.FLAGS[each.type]
        if each.path is None:
            # A cgroup namespace has its root where the process is when it is made: a step does it.
            new |= flag if each.type != "cgroup" else 0
            continue
        try:
            joins.append(Join(os.open(each.path, os.O_RDONLY | os.O_CLOEXEC), flag))
        except OSError as error:
            close_joins(tuple(joins))
            raise LaunchError(f"join {each.type} namespace", each.path, error) from error
    maps = idmap.IdMaps(spec.uid_mappings, spec.gid_mappings)
    return Launch(
        made,
        new,
        # The user namespace first: it may be what grants the others.
        tuple(sorted(joins, key=lambda join: join.kinds != process.CLONE_NEWUSER)),
        maps if new & process.CLONE_NEWUSER else None,
        stdio,
        terminal,
    )


def launch_into(
    started: Started,
    process_: Process,
    seccomp: bytes | None = None,
    stdio: tuple[int, int, int] = (0, 1, 2),
    terminal: int = -1,
) -> Launch:
    """The launch of a further process in a container that runs (`exec`).

    The process is the supervisor's to reap, and the container's init does not end before that is
    done (pid_namespaces(7)).
    """
    join = _inside(started)
    enters_users = bool(join.kinds & process.CLONE_NEWUSER)
    with open(f"/proc/{started.pid}/setgroups", "rb") as file:
        denied = file.read().strip() == b"deny"
    return Launch(
        plan.enter(process_, seccomp, user_namespace=enters_users, groups_denied=denied),
        joins=(join,),
        stdio=stdio,
        terminal=terminal,
        oom_score_adj=process_.oom_score_adj,
    )


def close_joins(joins: tuple[Join, ...]) -> None:
    """Close the descriptors of `joins`, for a launch that `begin` never sees."""
    for each in joins:
        os.close(each.fd)


def _inside(started: Started) -> Join:
    """All namespaces of a container that are not the supervisor's own, in one `Join`."""
    try:
        return _joined(started.pid, os.dup(started.pidfd))
    except PermissionError:
        # The little init is closed even to the ordinary user who started it; its first child,
        # the program, is not.
        with open(f"/proc/{started.pid}/task/{started.pid}/children", "rb") as file:
            children = file.read().split()
        if not children:
            raise LaunchError("enter container", b"", "it has no process left") from None
        child_pid = int(children[0])
        return _joined(child_pid, os.pidfd_open(child_pid))


def _joined(pid: int, pidfd: int) -> Join:
    kinds = 0
    try:
        for kind, file in namespaces.FILES.items():
            try:
                theirs = os.stat(f"/proc/{pid}/ns/{file}")
                own = os.stat(f"/proc/self/ns/{file}")
            except FileNotFoundError:
                continue  # a kernel without namespaces of this kind
            if kind != "time" and theirs.st_ino != own.st_ino:
                kinds |= namespaces.FLAGS[kind]
    except BaseException:
        os.close(pidfd)
        raise
    return Join(pidfd, kinds)


class Beginning:
    """A process that waits in its namespaces for `go`.

    pid, pidfd: of the process, a child of the supervisor's; the pidfd passes to the caller with
    `Started`. Leaving the `with` block without `go` kills the process and reaps it.

    `go` waits for as long as the process takes, which others may hold up who share its namespaces.
    Who cannot wait calls `let_go`, and `hear` whenever there is something to read from the
    beginning's `fileno`.
    """

    __slots__ = ("_go", "_noticed", "_plan", "_ready", "_status", "pid", "pidfd")

    def __init__(
        self, pid: int, pidfd: int, plan: tuple[steps.Step, ...], go: int, status_fd: int
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._plan = plan
        self._go = go
        self._status = status_fd
        self._noticed: list[str] = []
        self._ready = False

    def fileno(self) -> int:
        return self._status

    def __enter__(self) -> Beginning:
        return self

    def __exit__(self, *_: object) -> None:
        if self._go >= 0:
            self._give_up()

    def go(self) -> Started:
        """Let the process take its steps; returns when its program runs.

        Raises `LaunchError` for the step that failed; the process is then gone and reaped.
        """
        self.let_go()
        while (started := self.hear()) is None:
            pass
        return started

    def let_go(self) -> None:
        """Let the process take its steps. Raises LaunchError if it was killed."""
        try:
            os.write(self._go, b"g")
        except BrokenPipeError:
            self._give_up()
            raise LaunchError("start container", b"", "its process was killed") from None

    def hear(self) -> Started | None:
        """Take the next word of the process; None if there is more to come. Raises as `go` does."""
        try:
            record = status.read(self._status)
            if record is None:
                if not self._ready:
                    reason = "its process ended while it was set up"
                    raise LaunchError("start container", b"", reason)
                self._close()
                return Started(self.pid, self.pidfd, tuple(self._noticed))
            if record.kind == status.WARNING:
                self._noticed.append(_warning(self._plan[record.step]))
            elif record.kind == status.FAILED:
                raise _failure(self._plan, record)
            elif record.kind == status.READY:
                self._ready = True
            return None
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # ended already, and still to be reaped
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self._close()

    def _close(self) -> None:
        os.close(self._go)
        os.close(self._status)
        self._go = self._status = -1


def start(launch: Launch, cgroup: Attach | None = None) -> Started:
    """`begin` and `go` in one."""
    with begin(launch, cgroup) as beginning:
        return beginning.go()


def begin(launch: Launch, cgroup: Attach | None = None) -> Beginning:
    """Make the process in its namespaces and its cgroup, with its id maps, and leave it waiting."""
    status_read, status_write = os.pipe()
    go_read, go_write = os.pipe()
    try:
        into = cgroup.clone_descriptor() if cgroup is not None else None
        files = cgroup.joining_files() if cgroup is not None else ()
        keep = (status_write, go_read)
        with warnings.catch_warnings():
            # Python warns of fork where there are threads; the copy goes on with this one only.
            warnings.simplefilter("ignore", DeprecationWarning)
            first = os.fork()
        if first == 0:
            _clone(launch, keep, into, files)
    except BaseException:
        for fd in (status_read, status_write, go_read, go_write):
            os.close(fd)
        raise
    finally:
        close_joins(launch.joins)
    os.close(status_write)
    os.close(go_read)
    record = status.read(status_read)
    os.waitpid(first, 0)
    if record is None or record.kind != status.PID:
        os.close(status_read)
        os.close(go_write)
        raise _clone_failure(record)
    beginning = Beginning(
        record.number, os.pidfd_open(record.number), launch.plan, go_write, status_read
    )
    try:
        if launch.id_maps is not None:
            idmap.write(beginning.pid, launch.id_maps)
    except BaseException:
        beginning.__exit__(None, None, None)
        raise
    return beginning


def _clone(
    launch: Launch, keep: tuple[int, ...], cgroup: int | None, files: tuple[bytes, ...]
) -> NoReturn:
    """In the first copy: close, join, and clone the process that stays. It never returns."""
    status_fd, go = keep
    stage = _STAGE_DESCRIPTORS
    try:
        _reset_signals()
        _place_standard_descriptors(launch.stdio)
        wanted = [0, 1, 2, status_fd, go, *(join.fd for join in launch.joins)]
        wanted += [fd for fd in (cgroup, launch.terminal) if fd is not None and fd >= 0]
        process.close_all_but(tuple(wanted))
        # Opened with the supervisor's rights, for the clone to write.
        stage = _STAGE_CGROUP
        joining = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in files]
        stage = _STAGE_JOIN
        if any(join.kinds & process.CLONE_NEWPID for join in launch.joins):
            # The processes in there will see the clone: it is closed to them before it exists.
            child.hide(_TITLE)
        elif launch.id_maps is not None:
            # A supervisor that is not dumpable owns no file of its clone's /proc/PID, so an
            # ordinary user could not map ids; the plan closes it again (proc(5)).
            prctl.set_dumpable(1)
        into = cgroup
        if cgroup is not None and any(
            join.kinds & process.CLONE_NEWCGROUP for join in launch.joins
        ):
            # From inside another cgroup namespace there is no way out of a cgroup that it does not
            # hold (cgroup-v2.rst, "Delegation Containment"): one goes in before.
            stage = _STAGE_CGROUP
            _enter_cgroup(cgroup)
            into = None
            stage = _STAGE_JOIN
        if launch.oom_score_adj is not None:
            # Where it may not be set, the container itself had to do without, and said so.
            with contextlib.suppress(PermissionError):
                process.set_oom_score(launch.oom_score_adj)
        trees = furnishing.open_borrowed(launch.plan)
        for join in launch.joins:
            process.setns(join.fd, join.kinds)
        if launch.id_maps is not None:
            trees |= furnishing.open_trees(launch.plan)
        stage = _STAGE_CLONE
        flags = process.CLONE_PARENT | launch.namespaces
        pid = process.clone3(flags, cgroup=into)
        if pid == 0:
            # A thread that moves itself by `tasks` is spared the lock of all forks, for which
            # another process's write waits many milliseconds in every hierarchy.
            stage = _STAGE_CGROUP
            for fd in joining:
                os.write(fd, b"0")
                os.close(fd)
            # The supervisor's end of the pipe is the word to go on; its end without one means
            # that there is no supervisor any more.
            if os.read(go, 1) != b"g":
                os._exit(125)
            os.close(go)
            if cgroup is not None:
                os.close(cgroup)
            child.run(launch.plan, status_fd, launch.terminal, trees)
        status.write(status_fd, status.Record(status.PID, number=pid))
    except OSError as error:
        path = os.fsencode(error.filename) if error.filename else b""
        status.write(status_fd, status.Record(status.FAILED, stage, error.errno or 0, path))
    finally:
        os._exit(0)


def _enter_cgroup(directory: int) -> None:
    """Move this process, which has one thread, into a v2 cgroup by its directory's descriptor."""
    fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


def _reset_signals() -> None:
    """Default actions for all that is handled or ignored here, and none blocked.

    Ignored signals would stay ignored over execve(2); handlers are the supervisor's.
    """
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None) and number not in _FIXED:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _place_standard_descriptors(stdio: tuple[int, int, int]) -> None:
    # Copies first: one of them may be in the place that another is to take.
    copies = [os.dup(fd) for fd in stdio]
    for place, fd in enumerate(copies):
        os.dup2(fd, place)


_TITLE: Final = b"lamina-exec"
_FIXED: Final = frozenset({signal.SIGKILL, signal.SIGSTOP})

# -- failure in words -----------------------------------------------------------------------------

# What is done before the first step; as numbers of steps these are negative.
_STAGE_DESCRIPTORS: Final = -1
_STAGE_JOIN: Final = -2
_STAGE_CLONE: Final = -3
_STAGE_CGROUP: Final = -4
_STAGES: Final = {
    _STAGE_CGROUP: "join the cgroup",
    _STAGE_DESCRIPTORS: "set up descriptors",
    _STAGE_JOIN: "join namespaces",
    _STAGE_CLONE: "create namespaces",
}


def _clone_failure(record: status.Record | None) -> LaunchError:
    if record is None:
        return LaunchError("start container", b"", "its process was killed")
    return LaunchError(_STAGES[record.step], record.path, os.strerror(record.number))


# What each step does, as "cannot …" takes it; and the field that names its thing.
_WORDS: Final[dict[type, tuple[str, str | None]]] = {
    steps.BecomeRoot: ("become root of the user namespace", None),
    steps.HideProcess: ("hide the launcher", None),
    steps.NewSession: ("begin a session", None),
    steps.NewKeyring: ("leave the session keyring", None),
    steps.RaiseLoopback: ("switch on the loopback interface", None),
    steps.SetOomScore: ("set the OOM score to", "value"),
    steps.UnshareCgroup: ("create the cgroup namespace", None),
    steps.SetPropagation: ("set mount propagation of", "path"),
    steps.EnterRoot: ("use root filesystem", "source"),
    steps.Filesystem: ("mount on", "path"),
    steps.Bind: ("bind", "source"),
    steps.MakeDirectory: ("make directory", "path"),
    steps.MakeNode: ("make device", "path"),
    steps.MakeSymlink: ("make symlink", "path"),
    steps.Sysctl: ("set sysctl", "name"),
    steps.MaskPath: ("mask", "path"),
    steps.ReadOnlyPath: ("make read-only", "path"),
    steps.SetAttributes: ("change mount", "path"),
    steps.ReadOnlyRoot: ("make the root filesystem read-only", None),
    steps.OpenTerminal: ("open a terminal", None),
    steps.PivotRoot: ("change the root directory", None),
    steps.SetHostname: ("set host name", "name"),
    steps.SetDomainname: ("set domain name", "name"),
    steps.SetRlimit: ("set limit", "number"),
    steps.SetUmask: ("set the umask", None),
    steps.DropBounding: ("drop capabilities from the bounding set", None),
    steps.SetUser: ("become user", "uid"),
    steps.SetCapabilities: ("set capabilities", None),
    steps.SetNoNewPrivileges: ("give up new privileges", None),
    steps.LoadSeccomp: ("load the seccomp filter", None),
    steps.Chdir: ("use working directory", "path"),
    steps.BecomeInit: ("start the init process", None),
    steps.SetParentDeathSignal: ("follow the supervisor", None),
    steps.CloseDescriptors: ("close descriptors", None),
    steps.Exec: ("execute", None),
}


def _failure(plan_: tuple[steps.Step, ...], record: status.Record) -> LaunchError:
    if record.step < 0:
        return _clone_failure(record)
    step = plan_[record.step]
    words, field = _WORDS[type(step)]
    reason = os.strerror(record.number) if record.number else os.fsdecode(record.path)
    if isinstance(step, steps.Exec):
        file = step.args[0]
        missing = isinstance(OSError(record.number, ""), (FileNotFoundError, NotADirectoryError))
        if missing and b"/" not in file:
            reason = "executable file not found in $PATH"
        return LaunchError(words, file, reason, 127 if missing else 126)
    thing = getattr(step, field) if field else b""
    if isinstance(thing, int):
        thing = str(thing)
    if record.number and record.path and record.path != thing:
        reason = f"{os.fsdecode(record.path)}: {reason}"
    return LaunchError(words, thing, reason)


def _warning(step: steps.Step) -> str:
    if isinstance(step, steps.SetRlimit):
        name = next(name for name, each in rlimits.NUMBERS.items() if each == step.number)
        return f"{name} is lower than asked for: this machine does not allow to raise it"
    if isinstance(step, steps.SetOomScore):
        return "the OOM score is not as low as asked for: this machine does not allow to lower it"
    return f"{type(step).__name__} did less than asked for"
