# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that make a container's tree: its root, its mounts, devices and closed paths.

Taken by `launcher.child`, between clone and execve: nothing here imports anything when it runs.
Until `PivotRoot` every path of the container's is resolved from the rootfs's descriptor with
RESOLVE_IN_ROOT, and what was resolved is then used by descriptor.
"""

from __future__ import annotations

import errno
import os
import stat

from launcher import steps
from launcher.sys import mount, process
from launcher.typed import Any, Callable, Final
from unionfs.light import contextlib

__all__ = ["VERBS", "State", "attach", "file_at", "open_borrowed", "open_inside", "open_trees"]

# path_resolution(7)
_MOST_LINKS: Final = 40

_DESCEND: Final = os.O_PATH | os.O_DIRECTORY


class State:
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


# -- paths in the rootfs --------------------------------------------------------------------------


def open_inside(state: State, path: bytes, flags: int = os.O_PATH) -> int:
    """What is at a path of the container's, as a descriptor of the caller's."""
    return mount.openat2(
        state.root, path, flags, mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS
    )


def directory_at(state: State, path: bytes, mode: int = 0o755, links: int = _MOST_LINKS) -> int:
    """A descriptor of the directory at `path`, made with what is missing above it.

    Where a symlink of the rootfs's leads to nothing, what it names is made, within the rootfs.
    """
    try:
        return open_inside(state, path, _DESCEND)
    except FileNotFoundError:
        above, name = _split(path)
        if not name:
            raise
    parent = directory_at(state, above, links=links)
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        target = _target(parent, above, name, links)
        os.close(directory_at(state, target, mode, links - 1))
    finally:
        os.close(parent)
    return open_inside(state, path, _DESCEND)


def file_at(state: State, path: bytes, links: int = _MOST_LINKS) -> int:
    """A descriptor of the object at `path`, made as an empty file if there is none.

    Symlinks that lead to nothing are taken as `directory_at` takes them.
    """
    try:
        return open_inside(state, path)
    except FileNotFoundError:
        above, name = _split(path)
    parent = directory_at(state, above)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:
        target = _target(parent, above, name, links)
        os.close(file_at(state, target, links - 1))
    finally:
        os.close(parent)
    return open_inside(state, path)


def _target(parent: int, above: bytes, name: bytes, links: int) -> bytes:
    """The path that a symlink stands for, itself not looked at."""
    if links == 0:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return os.path.normpath(os.path.join(above, os.readlink(name, dir_fd=parent)))


def _split(path: bytes) -> tuple[bytes, bytes]:
    above, _, name = path.rstrip(b"/").rpartition(b"/")
    return above or b"/", name


# -- what is the host's ---------------------------------------------------------------------------


def _set_propagation(_: State, step: steps.SetPropagation) -> None:
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


def _enter_root(state: State, step: steps.EnterRoot) -> None:
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


def _filesystem(state: State, step: steps.Filesystem) -> None:
    target = directory_at(state, step.path)
    new = mount.new_filesystem(step.kind, step.source, step.options, step.attributes)
    attach(new, target, step.path)
    if step.propagation:
        mount.mount_setattr(new, b"", recursive=False, propagation=step.propagation)
    os.close(new)


def _bind(state: State, step: steps.Bind) -> None:
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
    target = directory_at(state, step.path) if is_directory else file_at(state, step.path)
    attach(tree, target, step.path)
    os.close(tree)


def attach(new: int, target: int, path: bytes) -> None:
    """Mount what is detached on what `target`, which is closed, is open on; `path` names it."""
    try:
        mount.move_mount(new, target)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(target)


def _make_directory(state: State, step: steps.MakeDirectory) -> None:
    os.close(directory_at(state, step.path, step.mode))


def _make_node(state: State, step: steps.MakeNode) -> None:
    device = os.makedev(step.major, step.minor)

    def make(name: bytes, parent: int) -> None:
        os.mknod(name, step.mode, device, dir_fd=parent)
        if step.uid or step.gid:
            os.chown(name, step.uid, step.gid, dir_fd=parent, follow_symlinks=False)

    _replace(state, step.path, make)


def _make_symlink(state: State, step: steps.MakeSymlink) -> None:
    _replace(state, step.path, lambda name, parent: os.symlink(step.target, name, dir_fd=parent))


def _replace(state: State, path: bytes, make: Callable[[bytes, int], None]) -> None:
    above, name = _split(path)
    parent = directory_at(state, above)
    try:
        make(name, parent)
    except FileExistsError:
        os.unlink(name, dir_fd=parent)
        make(name, parent)
    finally:
        os.close(parent)


def _sysctl(state: State, step: steps.Sysctl) -> None:
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


def _mask_path(state: State, step: steps.MaskPath) -> None:
    try:
        target = open_inside(state, step.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(os.fstat(target).st_mode):
        null = mount.open_tree(mount.AT_FDCWD, b"/dev/null", recursive=False)
        attach(null, target, step.path)
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
        attach(state.empty, target, step.path)
    else:
        again = mount.open_tree(state.empty, b"", recursive=False)
        attach(again, target, step.path)
        os.close(again)


def _read_only_path(state: State, step: steps.ReadOnlyPath) -> None:
    try:
        target = open_inside(state, step.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    tree = mount.open_tree(target, b"", recursive=True)
    mount.mount_setattr(tree, b"", recursive=True, wanted=mount.MOUNT_ATTR_RDONLY)
    attach(tree, target, step.path)
    os.close(tree)


def _set_attributes(state: State, step: steps.SetAttributes) -> None:
    target = open_inside(state, step.path)
    mount.mount_setattr(target, b"", recursive=False, wanted=step.wanted)
    os.close(target)


def _read_only_root(state: State, _: steps.ReadOnlyRoot) -> None:
    mount.mount_setattr(state.root, b"", recursive=False, wanted=mount.MOUNT_ATTR_RDONLY)


def _pivot_root(state: State, _: steps.PivotRoot) -> None:
    old = os.open(b"/", _DESCEND | os.O_CLOEXEC)
    os.fchdir(state.root)
    # pivot_root(2): with "." twice the old root lies on top of the new one and can be let go of.
    mount.pivot_root(b".", b".")
    os.fchdir(old)
    mount.mount_setattr(old, b"", recursive=True, propagation=mount.MS_SLAVE)
    mount.umount(b".", mount.MNT_DETACH)
    os.chdir(b"/")
    os.close(old)


VERBS: Final[dict[type, Callable[[State, Any], None]]] = {
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
    steps.PivotRoot: _pivot_root,
}
