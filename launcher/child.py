# SPDX-License-Identifier: GPL-3.0-or-later
"""The interpreter of a plan: what runs between clone and execve, inside the new namespaces.

It is entered in a process with one thread, imports nothing, and never returns: it ends in execve
or in `os._exit`. What fails is told through the status pipe as (step, errno, path) and is put into
words outside (`launcher.start`). The steps that make the container's tree are in `furnishing`;
here are those that change the process.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import stat
import struct

import prctl

from launcher import furnishing, status, steps
from launcher.furnishing import State, attach, file_at, open_inside
from launcher.isolation import rlimits
from launcher.sys import mount, process
from launcher.typed import Any, Callable, Final, NoReturn
from unionfs.light import contextlib, signal

__all__ = ["hide", "run"]

# docker's exit statuses: the container could not be made; its command cannot be executed; its
# command was not found.
_NOT_MADE: Final = 125
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127

_PATH: Final = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# ioctl_tty(2)
_TIOCSCTTY: Final = 0x540E
_TIOCSWINSZ: Final = 0x5414
_TIOCSPTLCK: Final = 0x40045431
_TIOCGPTPEER: Final = 0x5441

# netdevice(7)
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1

_DESCEND: Final = os.O_PATH | os.O_DIRECTORY


def run(
    plan: tuple[steps.Step, ...],
    status_fd: int,
    terminal: int = -1,
    trees: dict[int, int] | None = None,
) -> NoReturn:
    """Take all steps; the last one is execve. `trees` as `open_trees` gives them."""
    code = _NOT_MADE
    state = State(plan, status_fd, terminal, trees)
    try:
        os.umask(0)
        code = _interpret(state)
    except Exception as error:  # the edge: what is wrong here is seen nowhere else
        text = f"{type(error).__name__}: {error}".encode(errors="replace")
        status.write(status_fd, status.Record(status.FAILED, state.index, 0, text))
    finally:
        os._exit(code)


def _interpret(state: State) -> int:
    """Take the steps until one fails; the exit status."""
    while state.index < len(state.plan):
        step = state.plan[state.index]
        try:
            _VERBS[type(step)](state, step)
        except OSError as error:
            name = error.filename
            path = os.fsencode(name) if isinstance(name, (str, bytes)) else b""
            number = error.errno or errno.EIO
            status.write(state.status, status.Record(status.FAILED, state.index, number, path))
            if type(step) is steps.Exec:
                return _NOT_FOUND if number in (errno.ENOENT, errno.ENOTDIR) else _NOT_EXECUTABLE
            return _NOT_MADE
        state.index += 1
    return _NOT_MADE


# -- the steps, before the root changes -----------------------------------------------------------


def _become_root(_: State, __: steps.BecomeRoot) -> None:
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def hide(title: bytes) -> None:
    """Close /proc/PID of this process to others: nothing there leads to the launcher's files."""
    process.overwrite_arguments(title)
    prctl.set_name(title.decode())
    prctl.set_dumpable(0)


def _hide_process(_: State, step: steps.HideProcess) -> None:
    hide(step.title)


def _new_session(_: State, __: steps.NewSession) -> None:
    os.setsid()


def _new_keyring(_: State, __: steps.NewKeyring) -> None:
    try:
        process.join_session_keyring()
    except OSError as error:
        # A kernel without keys has none to leave.
        if error.errno != errno.ENOSYS:
            raise


def _raise_loopback(_: State, __: steps.RaiseLoopback) -> None:
    any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    # struct ifreq of netdevice(7): a name and, here, flags.
    request = struct.pack("=16sH22x", b"lo", _IFF_UP)
    fcntl.ioctl(any_socket.fileno(), _SIOCSIFFLAGS, request)
    any_socket.close()


def _set_oom_score(state: State, step: steps.SetOomScore) -> None:
    try:
        process.set_oom_score(step.value)
    except PermissionError:
        # proc(5): lowering it asks for CAP_SYS_RESOURCE, which the machine may lack.
        status.write(state.status, status.Record(status.WARNING, state.index))


def _unshare_cgroup(_: State, __: steps.UnshareCgroup) -> None:
    process.unshare(process.CLONE_NEWCGROUP)


def _open_terminal(state: State, step: steps.OpenTerminal) -> None:
    entering = state.root < 0  # a further process: the container's root is this one's already
    if entering:
        state.root = os.open(b"/", _DESCEND | os.O_CLOEXEC)
    master = open_inside(state, b"/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("=i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if step.rows or step.columns:
        fcntl.ioctl(slave, _TIOCSWINSZ, struct.pack("=4H", step.rows, step.columns, 0, 0))
    if not entering:
        console = mount.open_tree(slave, b"", recursive=False)
        attach(console, file_at(state, b"/dev/console"), b"/dev/console")
        os.close(console)
    channel = _socket.socket(fileno=state.terminal)
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("=i", master))
    channel.sendmsg([b"\0"], [rights])
    channel.close()
    os.close(master)
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.close(slave)
    state.owns_terminal = True


# -- the steps, behind the walls ------------------------------------------------------------------


def _set_hostname(_: State, step: steps.SetHostname) -> None:
    process.sethostname(step.name)


def _set_domainname(_: State, step: steps.SetDomainname) -> None:
    process.setdomainname(step.name)


def _set_rlimit(state: State, step: steps.SetRlimit) -> None:
    if not rlimits.lower(step.number, step.soft, step.hard):
        status.write(state.status, status.Record(status.WARNING, state.index))


def _set_umask(_: State, step: steps.SetUmask) -> None:
    os.umask(step.mask)


def _drop_bounding(_: State, step: steps.DropBounding) -> None:
    number = 0
    while True:
        try:
            present = process.prctl(process.PR_CAPBSET_READ, number)
        except OSError:
            return  # EINVAL: the kernel knows no capability of this number, nor any above
        if present and not step.keep >> number & 1:
            process.prctl(process.PR_CAPBSET_DROP, number)
        number += 1


def _set_user(state: State, step: steps.SetUser) -> None:
    if step.uid != 0:
        _give_standard_descriptors(state, step.uid)
    prctl.set_keepcaps(True)
    if step.groups is not None:
        os.setgroups(step.groups)
    os.setresgid(step.gid, step.gid, step.gid)
    os.setresuid(step.uid, step.uid, step.uid)
    prctl.set_keepcaps(False)


def _give_standard_descriptors(state: State, uid: int) -> None:
    """Let the user open /dev/stdout and the like again, where they are the container's own."""
    for fd in (0, 1, 2):
        try:
            mode = os.fstat(fd).st_mode
            own = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
            if own or (state.owns_terminal and stat.S_ISCHR(mode)):
                os.fchown(fd, uid, -1)
        except OSError:
            continue  # closed, or on a filesystem without owners: the user has what there is


def _set_capabilities(_: State, step: steps.SetCapabilities) -> None:
    held = process.capget()[1]
    permitted = step.permitted & held
    inheritable = step.inheritable & held
    process.capset(step.effective & permitted, permitted, inheritable)
    process.prctl(process.PR_CAP_AMBIENT, process.PR_CAP_AMBIENT_CLEAR_ALL)
    # capabilities(7): only what is both permitted and inheritable may be ambient.
    ambient = step.ambient & permitted & inheritable
    for number in range(ambient.bit_length()):
        if ambient >> number & 1:
            process.prctl(process.PR_CAP_AMBIENT, process.PR_CAP_AMBIENT_RAISE, number)


def _set_no_new_privileges(_: State, __: steps.SetNoNewPrivileges) -> None:
    prctl.set_no_new_privs(1)


def _load_seccomp(_: State, step: steps.LoadSeccomp) -> None:
    process.load_seccomp(step.program)


def _chdir(_: State, step: steps.Chdir) -> None:
    os.chdir(step.path)
    # getcwd(3): a directory that no path from the root leads to is not this container's.
    if not os.getcwdb().startswith(b"/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), step.path)


def _set_parent_death_signal(state: State, step: steps.SetParentDeathSignal) -> None:
    prctl.set_pdeathsig(step.signal)
    # A supervisor that died before the call sends nothing; then this write fails.
    status.write(state.status, status.Record(status.READY))


def _close_descriptors(state: State, step: steps.CloseDescriptors) -> None:
    keep = (*step.keep, state.status)
    try:
        process.close_all_but(keep)
    except OSError:
        # The container's own filter may know nothing of close_range(2): one by one, then.
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in keep:
                with contextlib.suppress(OSError):
                    os.close(int(name))


def _exec(_: State, step: steps.Exec) -> None:
    environment = dict(
        (name, value)
        for name, equals, value in (each.partition(b"=") for each in step.env)
        if equals
    )
    file = step.args[0]
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if b"/" in file:
        os.execve(file, step.args, environment)
    denied: OSError | None = None
    for directory in environment.get(b"PATH", _PATH).split(b":"):
        try:
            os.execve((directory or b".") + b"/" + file, step.args, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            denied = error
    raise denied or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)


# -- the little init ------------------------------------------------------------------------------


def _become_init(state: State, _: steps.BecomeInit) -> None:
    """Return in a child; in this process reap and pass signals on until that child has ended."""
    every = signal.valid_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, every)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        if os.isatty(0):
            # SIGTTOU is still blocked here; it would stop a background process.
            os.tcsetpgrp(0, os.getpid())
        return
    code = _NOT_MADE
    try:
        # The status pipe among them: only the program's execve may close it for the supervisor.
        process.close_range(0, 0xFFFFFFFF)
        code = _reap(child, every)
    finally:
        os._exit(code)


def _reap(child: int, every: set[signal.Signals]) -> int:
    while True:
        number = signal.sigwait(every)
        if number != signal.SIGCHLD:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass  # it has ended; SIGCHLD is on its way
            except PermissionError:
                pass  # it changed its user: as with any init, the signal is lost
            continue
        while True:
            try:
                pid, result = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return _NOT_MADE
            if pid == 0:
                break
            if pid == child and not os.WIFSTOPPED(result):
                code = os.waitstatus_to_exitcode(result)
                return code if code >= 0 else 128 - code


_VERBS: Final[dict[type, Callable[[State, Any], None]]] = {
    **furnishing.VERBS,
    steps.BecomeRoot: _become_root,
    steps.HideProcess: _hide_process,
    steps.NewSession: _new_session,
    steps.NewKeyring: _new_keyring,
    steps.RaiseLoopback: _raise_loopback,
    steps.SetOomScore: _set_oom_score,
    steps.UnshareCgroup: _unshare_cgroup,
    steps.OpenTerminal: _open_terminal,
    steps.SetHostname: _set_hostname,
    steps.SetDomainname: _set_domainname,
    steps.SetRlimit: _set_rlimit,
    steps.SetUmask: _set_umask,
    steps.DropBounding: _drop_bounding,
    steps.SetUser: _set_user,
    steps.SetCapabilities: _set_capabilities,
    steps.SetNoNewPrivileges: _set_no_new_privileges,
    steps.LoadSeccomp: _load_seccomp,
    steps.Chdir: _chdir,
    steps.BecomeInit: _become_init,
    steps.SetParentDeathSignal: _set_parent_death_signal,
    steps.CloseDescriptors: _close_descriptors,
    steps.Exec: _exec,
}
