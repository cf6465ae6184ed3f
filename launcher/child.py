# SPDX-License-Identifier: GPL-3.0-or-later
"""The interpreter of a plan: what runs between clone and execve, inside the new namespaces.

It is entered in a process with one thread, imports nothing, and never returns: it ends in execve
or in `os._exit`. What fails is told through the status pipe as (step, errno, path) and is put into
words outside (`launcher.start`). Until `PivotRoot` every path of the container's is resolved from
the rootfs's descriptor with RESOLVE_IN_ROOT, and what was resolved is then used by descriptor.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import stat
import struct

import prctl

from launcher import status, steps
from launcher.isolation import rlimits
from launcher.sys import mount, process
from launcher.typed import Any, Callable, Final, NoReturn
from unionfs.light import contextlib, signal

__all__ = ["hide", "open_borrowed", "open_trees", "run"]

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

# path_resolution(7)
_MOST_LINKS: Final = 40

_DESCEND: Final = os.O_PATH | os.O_DIRECTORY


class _State:
    """What steps leave for later ones.

    status: the descriptor that tells the supervisor; root: the rootfs; empty: a mount of the empty
    directory that covers masked ones; terminal: the socket over which a terminal is handed out, or
    -1; owns_terminal: the standard descriptors are the container's own terminal; index: the step
    under way; plan: all of them; trees: what was opened for a step beforehand, by its index.
    """

    __slots__ = ("empty", "index", "owns_terminal", "plan", "root", "status", "terminal", "trees")

    def __init__(
        self,
        plan: tuple[steps.Step, ...],
        status_fd: int,
        terminal: int,
        trees: dict[int, int] | None = None,
    ) -> None:
        self.trees = trees or {}
        self.plan = plan
        self.index = 0
        self.status = status_fd
        self.terminal = terminal
        self.root = -1
        self.empty = -1
        self.owns_terminal = False


def run(
    plan: tuple[steps.Step, ...],
    status_fd: int,
    terminal: int = -1,
    trees: dict[int, int] | None = None,
) -> NoReturn:
    """Take all steps; the last one is execve. `trees` as `open_trees` gives them."""
    code = _NOT_MADE
    state = _State(plan, status_fd, terminal, trees)
    try:
        os.umask(0)
        code = _interpret(state)
    except Exception as error:  # the edge: what is wrong here is seen nowhere else
        text = f"{type(error).__name__}: {error}".encode(errors="replace")
        status.write(status_fd, status.Record(status.FAILED, state.index, 0, text))
    finally:
        os._exit(code)


def _interpret(state: _State) -> int:
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


# -- paths in the rootfs --------------------------------------------------------------------------


def _open(state: _State, path: bytes, flags: int = os.O_PATH) -> int:
    return mount.openat2(
        state.root, path, flags, mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS
    )


def _directory(state: _State, path: bytes, mode: int = 0o755, links: int = _MOST_LINKS) -> int:
    """A descriptor of the directory at `path`, made with what is missing above it.

    Where a symlink of the rootfs's leads to nothing, what it names is made, within the rootfs.
    """
    try:
        return _open(state, path, _DESCEND)
    except FileNotFoundError:
        above, name = _split(path)
        if not name:
            raise
    parent = _directory(state, above, links=links)
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        target = _target(parent, above, name, links)
        os.close(_directory(state, target, mode, links - 1))
    finally:
        os.close(parent)
    return _open(state, path, _DESCEND)


def _file(state: _State, path: bytes, links: int = _MOST_LINKS) -> int:
    """A descriptor of the object at `path`, made as an empty file if there is none.

    Symlinks that lead to nothing are taken as `_directory` takes them.
    """
    try:
        return _open(state, path)
    except FileNotFoundError:
        above, name = _split(path)
    parent = _directory(state, above)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:
        target = _target(parent, above, name, links)
        os.close(_file(state, target, links - 1))
    finally:
        os.close(parent)
    return _open(state, path)


def _target(parent: int, above: bytes, name: bytes, links: int) -> bytes:
    """The path that a symlink stands for, itself not looked at."""
    if links == 0:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return os.path.normpath(os.path.join(above, os.readlink(name, dir_fd=parent)))


def _split(path: bytes) -> tuple[bytes, bytes]:
    above, _, name = path.rstrip(b"/").rpartition(b"/")
    return above or b"/", name


# -- the steps, before the root changes -----------------------------------------------------------


def _become_root(_: _State, __: steps.BecomeRoot) -> None:
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def hide(title: bytes) -> None:
    """Close /proc/PID of this process to others: nothing there leads to the launcher's files."""
    process.overwrite_arguments(title)
    prctl.set_name(title.decode())
    prctl.set_dumpable(0)


def _hide_process(_: _State, step: steps.HideProcess) -> None:
    hide(step.title)


def _new_session(_: _State, __: steps.NewSession) -> None:
    os.setsid()


def _new_keyring(_: _State, __: steps.NewKeyring) -> None:
    try:
        process.join_session_keyring()
    except OSError as error:
        # A kernel without keys has none to leave.
        if error.errno != errno.ENOSYS:
            raise


def _raise_loopback(_: _State, __: steps.RaiseLoopback) -> None:
    any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    # struct ifreq of netdevice(7): a name and, here, flags.
    request = struct.pack("=16sH22x", b"lo", _IFF_UP)
    fcntl.ioctl(any_socket.fileno(), _SIOCSIFFLAGS, request)
    any_socket.close()


def _set_oom_score(state: _State, step: steps.SetOomScore) -> None:
    try:
        process.set_oom_score(step.value)
    except PermissionError:
        # proc(5): lowering it asks for CAP_SYS_RESOURCE, which the machine may lack.
        status.write(state.status, status.Record(status.WARNING, state.index))


def _unshare_cgroup(_: _State, __: steps.UnshareCgroup) -> None:
    process.unshare(process.CLONE_NEWCGROUP)


def _set_propagation(_: _State, step: steps.SetPropagation) -> None:
    mount.mount_setattr(mount.AT_FDCWD, step.path, recursive=True, propagation=step.propagation)


def open_borrowed(plan: tuple[steps.Step, ...]) -> dict[int, int]:
    """What `open_trees` gives, of the mounts in other containers (`steps.Bind.owner`) alone.

    The process, which must have one thread, enters the mount namespace of each and comes back. The
    error of what is not to be had names its path.
    """
    borrowed = [(index, each) for index, each in enumerate(plan) if isinstance(each, steps.Bind)]
    borrowed = [(index, each) for index, each in borrowed if each.owner]
    if not borrowed:
        return {}
    trees = {}
    home = os.open(b"/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    root = os.open(b"/", _DESCEND | os.O_CLOEXEC)
    for index, each in borrowed:
        theirs = os.open(b"/proc/%d/ns/mnt" % each.owner, os.O_RDONLY | os.O_CLOEXEC)
        process.setns(theirs, process.CLONE_NEWNS)
        os.close(theirs)
        trees[index] = mount.open_tree(mount.AT_FDCWD, each.source, recursive=each.recursive)
        # setns(2) leads to the root of the namespace, which need not be this process's.
        process.setns(home, process.CLONE_NEWNS)
        os.fchdir(root)
        os.chroot(b".")
    os.close(home)
    os.close(root)
    return trees


def open_trees(plan: tuple[steps.Step, ...]) -> dict[int, int]:
    """Copies of the host's mounts that a plan names, by the index of the step, as descriptors.

    For a container with a user namespace of its own: root there may not search the host's
    directories that lead to them.
    """
    trees = {}
    for index, step in enumerate(plan):
        if isinstance(step, steps.Bind) and step.owner:
            continue
        if isinstance(step, steps.EnterRoot | steps.Bind):
            recursive = isinstance(step, steps.EnterRoot) or step.recursive
            # Where it fails the step itself will, and say why; or, for an ordinary user, who may
            # do this in a namespace only, it will not.
            with contextlib.suppress(OSError):
                below = step.below if isinstance(step, steps.Bind) else b""
                trees[index] = _open_source(step.source, below, recursive=recursive)
    return trees


def _open_source(source: bytes, below: bytes, *, recursive: bool) -> int:
    if not below:
        return mount.open_tree(mount.AT_FDCWD, source, recursive=recursive)
    top = os.open(source, _DESCEND | os.O_CLOEXEC)
    try:
        resolve = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_MAGICLINKS
        found = mount.openat2(top, below, os.O_PATH, resolve)
    except OSError as error:
        error.filename = source + b"/" + below
        raise
    finally:
        os.close(top)
    try:
        return mount.open_tree(found, b"", recursive=recursive)
    finally:
        os.close(found)


def _enter_root(state: _State, step: steps.EnterRoot) -> None:
    if state.index in state.trees:
        state.root = state.trees[state.index]
        # Anywhere will do: it becomes the root, and what it covers is let go of.
        above = os.open(b"/", _DESCEND | os.O_CLOEXEC)
        mount.move_mount(state.root, above)
        os.close(above)
        mount.mount_setattr(state.root, b"", recursive=True, propagation=mount.MS_PRIVATE)
        return
    target = os.open(step.source, _DESCEND | os.O_CLOEXEC)
    state.root = mount.open_tree(target, b"", recursive=True)
    mount.move_mount(state.root, target)
    os.close(target)
    # A copy of a mount inherits how the original spreads.
    mount.mount_setattr(state.root, b"", recursive=True, propagation=mount.MS_PRIVATE)


def _filesystem(state: _State, step: steps.Filesystem) -> None:
    target = _directory(state, step.path)
    new = mount.new_filesystem(step.kind, step.source, step.options, step.attributes)
    _attach(new, target, step.path)
    if step.propagation:
        mount.mount_setattr(new, b"", recursive=False, propagation=step.propagation)
    os.close(new)


def _bind(state: _State, step: steps.Bind) -> None:
    tree = state.trees.get(state.index, -1)
    if tree < 0:
        tree = _open_source(step.source, step.below, recursive=step.recursive)
    if step.wanted or step.cleared or step.propagation:
        mount.mount_setattr(
            tree,
            b"",
            recursive=step.recursive,
            wanted=step.wanted,
            cleared=step.cleared,
            propagation=step.propagation,
        )
    is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    target = _directory(state, step.path) if is_directory else _file(state, step.path)
    _attach(tree, target, step.path)
    os.close(tree)


def _attach(new: int, target: int, path: bytes) -> None:
    try:
        mount.move_mount(new, target)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(target)


def _make_directory(state: _State, step: steps.MakeDirectory) -> None:
    os.close(_directory(state, step.path, step.mode))


def _make_node(state: _State, step: steps.MakeNode) -> None:
    device = os.makedev(step.major, step.minor)

    def make(name: bytes, parent: int) -> None:
        os.mknod(name, step.mode, device, dir_fd=parent)
        if step.uid or step.gid:
            os.chown(name, step.uid, step.gid, dir_fd=parent, follow_symlinks=False)

    _replace(state, step.path, make)


def _make_symlink(state: _State, step: steps.MakeSymlink) -> None:
    _replace(state, step.path, lambda name, parent: os.symlink(step.target, name, dir_fd=parent))


def _replace(state: _State, path: bytes, make: Callable[[bytes, int], None]) -> None:
    above, name = _split(path)
    parent = _directory(state, above)
    try:
        make(name, parent)
    except FileExistsError:
        os.unlink(name, dir_fd=parent)
        make(name, parent)
    finally:
        os.close(parent)


def _sysctl(state: _State, step: steps.Sysctl) -> None:
    path = b"/proc/sys/" + step.name
    fd = mount.openat2(
        state.root, path, os.O_WRONLY, mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_SYMLINKS
    )
    try:
        os.write(fd, step.value)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def _mask_path(state: _State, step: steps.MaskPath) -> None:
    try:
        target = _open(state, step.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(os.fstat(target).st_mode):
        null = mount.open_tree(mount.AT_FDCWD, b"/dev/null", recursive=False)
        _attach(null, target, step.path)
        os.close(null)
    elif state.empty < 0:
        attributes = (
            mount.MOUNT_ATTR_RDONLY
            | mount.MOUNT_ATTR_NOSUID
            | mount.MOUNT_ATTR_NODEV
            | mount.MOUNT_ATTR_NOEXEC
        )
        options = ((b"mode", b"555"), (b"size", b"4k"))
        state.empty = mount.new_filesystem(b"tmpfs", b"masked", options, attributes)
        _attach(state.empty, target, step.path)
    else:
        again = mount.open_tree(state.empty, b"", recursive=False)
        _attach(again, target, step.path)
        os.close(again)


def _read_only_path(state: _State, step: steps.ReadOnlyPath) -> None:
    try:
        target = _open(state, step.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    tree = mount.open_tree(target, b"", recursive=True)
    mount.mount_setattr(tree, b"", recursive=True, wanted=mount.MOUNT_ATTR_RDONLY)
    _attach(tree, target, step.path)
    os.close(tree)


def _set_attributes(state: _State, step: steps.SetAttributes) -> None:
    target = _open(state, step.path)
    mount.mount_setattr(target, b"", recursive=False, wanted=step.wanted)
    os.close(target)


def _read_only_root(state: _State, _: steps.ReadOnlyRoot) -> None:
    mount.mount_setattr(state.root, b"", recursive=False, wanted=mount.MOUNT_ATTR_RDONLY)


def _open_terminal(state: _State, step: steps.OpenTerminal) -> None:
    entering = state.root < 0  # a further process: the container's root is this one's already
    if entering:
        state.root = os.open(b"/", _DESCEND | os.O_CLOEXEC)
    master = _open(state, b"/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("=i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if step.rows or step.columns:
        fcntl.ioctl(slave, _TIOCSWINSZ, struct.pack("=4H", step.rows, step.columns, 0, 0))
    if not entering:
        console = mount.open_tree(slave, b"", recursive=False)
        _attach(console, _file(state, b"/dev/console"), b"/dev/console")
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


def _pivot_root(state: _State, _: steps.PivotRoot) -> None:
    old = os.open(b"/", _DESCEND | os.O_CLOEXEC)
    os.fchdir(state.root)
    # pivot_root(2): with "." twice the old root lies on top of the new one and can be let go of.
    mount.pivot_root(b".", b".")
    os.fchdir(old)
    mount.mount_setattr(old, b"", recursive=True, propagation=mount.MS_SLAVE)
    mount.umount(b".", mount.MNT_DETACH)
    os.chdir(b"/")
    os.close(old)


# -- the steps, behind the walls ------------------------------------------------------------------


def _set_hostname(_: _State, step: steps.SetHostname) -> None:
    process.sethostname(step.name)


def _set_domainname(_: _State, step: steps.SetDomainname) -> None:
    process.setdomainname(step.name)


def _set_rlimit(state: _State, step: steps.SetRlimit) -> None:
    if not rlimits.lower(step.number, step.soft, step.hard):
        status.write(state.status, status.Record(status.WARNING, state.index))


def _set_umask(_: _State, step: steps.SetUmask) -> None:
    os.umask(step.mask)


def _drop_bounding(_: _State, step: steps.DropBounding) -> None:
    number = 0
    while True:
        try:
            present = process.prctl(process.PR_CAPBSET_READ, number)
        except OSError:
            return  # EINVAL: the kernel knows no capability of this number, nor any above
        if present and not step.keep >> number & 1:
            process.prctl(process.PR_CAPBSET_DROP, number)
        number += 1


def _set_user(state: _State, step: steps.SetUser) -> None:
    if step.uid != 0:
        _give_standard_descriptors(state, step.uid)
    prctl.set_keepcaps(True)
    if step.groups is not None:
        os.setgroups(step.groups)
    os.setresgid(step.gid, step.gid, step.gid)
    os.setresuid(step.uid, step.uid, step.uid)
    prctl.set_keepcaps(False)


def _give_standard_descriptors(state: _State, uid: int) -> None:
    """Let the user open /dev/stdout and the like again, where they are the container's own."""
    for fd in (0, 1, 2):
        try:
            mode = os.fstat(fd).st_mode
            own = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
            if own or (state.owns_terminal and stat.S_ISCHR(mode)):
                os.fchown(fd, uid, -1)
        except OSError:
            continue  # closed, or on a filesystem without owners: the user has what there is


def _set_capabilities(_: _State, step: steps.SetCapabilities) -> None:
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


def _set_no_new_privileges(_: _State, __: steps.SetNoNewPrivileges) -> None:
    prctl.set_no_new_privs(1)


def _load_seccomp(_: _State, step: steps.LoadSeccomp) -> None:
    process.load_seccomp(step.program)


def _chdir(_: _State, step: steps.Chdir) -> None:
    os.chdir(step.path)
    # getcwd(3): a directory that no path from the root leads to is not this container's.
    if not os.getcwdb().startswith(b"/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), step.path)


def _set_parent_death_signal(state: _State, step: steps.SetParentDeathSignal) -> None:
    prctl.set_pdeathsig(step.signal)
    # A supervisor that died before the call sends nothing; then this write fails.
    status.write(state.status, status.Record(status.READY))


def _close_descriptors(state: _State, step: steps.CloseDescriptors) -> None:
    keep = (*step.keep, state.status)
    try:
        process.close_all_but(keep)
    except OSError:
        # The container's own filter may know nothing of close_range(2): one by one, then.
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in keep:
                with contextlib.suppress(OSError):
                    os.close(int(name))


def _exec(_: _State, step: steps.Exec) -> None:
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


def _become_init(state: _State, _: steps.BecomeInit) -> None:
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


_VERBS: Final[dict[type, Callable[[_State, Any], None]]] = {
    steps.BecomeRoot: _become_root,
    steps.HideProcess: _hide_process,
    steps.NewSession: _new_session,
    steps.NewKeyring: _new_keyring,
    steps.RaiseLoopback: _raise_loopback,
    steps.SetOomScore: _set_oom_score,
    steps.UnshareCgroup: _unshare_cgroup,
    steps.SetPropagation: _set_propagation,
    steps.EnterRoot: _enter_root,
    steps.Filesystem: _filesystem,
    steps.Bind: _bind,
    steps.MakeDirectory: _make_directory,
    steps.MakeNode: _make_node,
    steps.MakeSymlink: _make_symlink,
    steps.Sysctl: _sysctl,
    steps.MaskPath: _mask_path,
    steps.ReadOnlyPath: _read_only_path,
    steps.SetAttributes: _set_attributes,
    steps.ReadOnlyRoot: _read_only_root,
    steps.OpenTerminal: _open_terminal,
    steps.PivotRoot: _pivot_root,
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
