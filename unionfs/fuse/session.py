# SPDX-License-Identifier: GPL-3.0-or-later
"""One served mount, from the choice of its transport to its entry in the registry.

`serve` blocks until the union is unmounted; what happens meanwhile is the transport's. Putting it
into the background is in `daemon`, ending it from outside in `unmount`.
"""

from __future__ import annotations

import os
import sys
import time

from unionfs.config import MountConfig, SessionConfig
from unionfs.errors import UnionError
from unionfs.fuse.mountinfo import mounts, topmost
from unionfs.typed import TYPE_CHECKING, Callable, Final

if TYPE_CHECKING:
    from unionfs.union import Union

    _Serve = Callable[[Union, SessionConfig, Callable[[], None]], None]

__all__ = ["choose_transport", "run", "serve"]

_MODULES: Final = {"device": "unionfs.fuse.device", "pyfuse3": "unionfs.fuse.pyfuse"}


def run(
    config: MountConfig,
    session: SessionConfig,
    ready: Callable[[], None],
    log: bytes | None = None,
) -> None:
    """Open the union, mount it and serve it until it is unmounted; then close it.

    `ready` is called once, when the mount answers. Raises UnionError where the union cannot be
    made or mounted; nothing is then left mounted.
    """
    transport = choose_transport(session)
    from unionfs.union import Union

    union = Union(config)
    try:
        serve(union, session, ready, transport=transport, log=log)
    finally:
        union.close()


def serve(
    union: Union,
    session: SessionConfig,
    ready: Callable[[], None],
    *,
    transport: str | None = None,
    log: bytes | None = None,
    registered: bool = True,
) -> None:
    """Mount `union` and serve it until it is unmounted or SIGTERM or SIGINT arrives.

    On a thread that is not the main one it is served until it is unmounted. The mount is in the
    registry for as long as it is served, unless `registered` is false: it is then somebody's own
    affair. The union stays the caller's.
    """
    name = transport or choose_transport(session)
    if session.debug:
        print(f"lamina: transport {name}", file=sys.stderr, flush=True)
    serve_mount = _load(name, session)
    union.refuse_mountpoint(session.mountpoint)
    recorded: list[bytes | None] = []

    def announce() -> None:
        if registered:
            recorded.append(_record(union.config, session, name, log))
        ready()

    try:
        serve_mount(union, session, announce)
    finally:
        if recorded:
            from unionfs.fuse import registry

            registry.forget(recorded[0])


def choose_transport(session: SessionConfig) -> str:
    """The transport to use: the one asked for, or device where it can run, else pyfuse3.

    Raises UnionError if the one asked for, or both, cannot run here.
    """
    if session.transport != "auto":
        lack = _lack(session.transport)
        if lack is not None:
            raise UnionError("mount", session.mountpoint, lack)
        return session.transport
    device_lack = _lack("device")
    if device_lack is None:
        return "device"
    if session.debug:
        print(f"lamina: not the device transport: {device_lack}", file=sys.stderr, flush=True)
    pyfuse_lack = _lack("pyfuse3")
    if pyfuse_lack is None:
        return "pyfuse3"
    reason = device_lack if device_lack == pyfuse_lack else f"{device_lack}; {pyfuse_lack}"
    raise UnionError("mount", session.mountpoint, reason)


def _lack(transport: str) -> str | None:
    """What a transport needs and this machine has not; None if it can run."""
    from importlib.util import find_spec

    if find_spec(_MODULES[transport]) is None:
        return f"the {transport} transport is not installed"
    if transport == "pyfuse3" and find_spec("pyfuse3") is None:
        return "the pyfuse3 transport needs the Python module pyfuse3 (install python3-pyfuse3)"
    if os.geteuid() != 0:
        if _on_path("fusermount3") is None:
            return "an ordinary user needs fusermount3 to mount (install fuse3)"
        if not os.path.exists("/dev/fuse"):
            return "there is no /dev/fuse (modprobe fuse)"
        # fusermount3 mounts with root's rights, but opens the device with the caller's.
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            return "/dev/fuse is not open to this user (udev opens it to all: chmod 666 /dev/fuse)"
        return None
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse: {error.strerror} (modprobe fuse)"
    return None


def _on_path(program: str) -> str | None:
    for directory in os.get_exec_path():
        path = os.path.join(directory, program)
        if os.access(path, os.X_OK):
            return path
    return None


def _load(transport: str, session: SessionConfig) -> _Serve:
    """A transport's `serve`; what the other one needs is never imported."""
    try:
        if transport == "device":
            from unionfs.fuse import device

            return device.serve
        from unionfs.fuse import pyfuse

        return pyfuse.serve
    except ImportError as error:
        reason = f"the {transport} transport cannot be loaded: {error}"
        raise UnionError("mount", session.mountpoint, reason) from error


def _record(
    config: MountConfig, session: SessionConfig, transport: str, log: bytes | None
) -> bytes | None:
    """Enter the mount in the registry. Called on the serving thread: mountinfo asks no daemon."""
    from unionfs.fuse import registry  # and with it options, which a container's mount spares

    mounted = topmost(session.mountpoint, mounts())
    if mounted is None:
        return None
    pid = os.getpid()
    entry = registry.Entry(
        session.mountpoint,
        mounted.fstype,
        config,
        transport,
        pid,
        registry.started(pid) or 0,
        int(time.time()),
        log,
    )
    return registry.record(mounted.device, entry)
