# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container was asked to be: everything `create` settled, kept until `rm`.

In docker's terms, with the image's configuration already worked in; `launcher.specify` makes a
`ContainerSpec` of it at each start. Kept as JSON in `config.json`, written whole or not at all.
"""

from __future__ import annotations

import os

from launcher.errors import LaunchError
from launcher.image.model import Health
from launcher.paths import Paths
from launcher.spec import BlockThrottle, BlockWeight, DeviceRule, Resources
from launcher.typed import Any, Final, NamedTuple
from unionfs.light import json

__all__ = [
    "LogOptions",
    "Port",
    "Record",
    "RequestedDevice",
    "RequestedMount",
    "RestartPolicy",
    "decode",
    "encode",
    "glance",
    "load",
    "save",
]


class RequestedMount(NamedTuple):
    """One `-v`, `--mount` or `--tmpfs`. `kind` is bind, volume or tmpfs.

    `source` is the host's path, or a volume's name. `options` are those of mount(8), and docker's
    (ro, z, nocopy …).
    """

    kind: str
    source: str
    destination: str
    options: tuple[str, ...] = ()


class RequestedDevice(NamedTuple):
    """One `--device`: the host's path, the container's, and which of r, w and m it may."""

    source: str
    destination: str
    access: str = "rwm"


class RestartPolicy(NamedTuple):
    """`no`, `always`, `unless-stopped` or `on-failure`; `most` tries, 0: without end."""

    name: str = "no"
    most: int = 0


class LogOptions(NamedTuple):
    """`driver` is json-file or none. A file grows to `max_size` bytes (0: without end); `max_file`
    of them are kept.
    """

    driver: str = "json-file"
    max_size: int = 0
    max_file: int = 1


class Port(NamedTuple):
    """A published port: of the host's address `ip` ("" all), 0 chooses one."""

    container: int
    protocol: str = "tcp"
    host: int = 0
    ip: str = ""


class Record(NamedTuple):
    """One container. Times are nanoseconds since the epoch.

    image     -- as it was named when the container was created; image_id its 64 hex digits
    layers    -- the lower layers of its union, topmost first
    args      -- entrypoint and command as one; `entrypoint` how many of the words are entrypoint
    user      -- as docker's --user: "", "name", "uid", either with ":group"
    pid, ipc, uts, cgroupns, userns, network
              -- which namespaces: "" one of its own, "host", "container:ID", and what else each of
                 docker's options takes (userns "auto" or "UID:GID:SIZE"; network "none", "host")
    seccomp   -- "" the default profile, "unconfined", or the text of a profile
    apparmor, selinux
              -- "" the default; "unconfined"/"disable", or a profile/label
    systempaths -- False: nothing is masked or read-only (`--security-opt systempaths=unconfined`)
    stop_signal -- number; stop_timeout in seconds, -1: without end
    health      -- the check that holds, the image's worked in; None for none
    exposed     -- "80/tcp"; extra_hosts "NAME:ADDRESS"
    pid_file    -- where the first process's number is written at each start, or ""
    attach      -- which of stdin, stdout and stderr `run` attaches to; () is up to the command
    volatile    -- the union does not pass fsync on
    """

    id: str
    name: str
    image: str
    image_id: str
    created: int
    layers: tuple[bytes, ...]
    args: tuple[bytes, ...]
    entrypoint: int = 0
    env: tuple[bytes, ...] = ()
    cwd: bytes = b"/"
    user: str = ""
    group_add: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    interactive: bool = False
    init: bool = False
    auto_remove: bool = False
    read_only: bool = False
    privileged: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    mounts: tuple[RequestedMount, ...] = ()
    devices: tuple[RequestedDevice, ...] = ()
    device_rules: tuple[str, ...] = ()
    ulimits: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    selinux: str = ""
    systempaths: bool = True
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    userns: str = ""
    cgroupns: str = ""
    network: str = "none"
    ports: tuple[Port, ...] = ()
    exposed: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    shm_size: int = 64 << 20
    oom_score_adj: int | None = None
    resources: Resources = Resources()
    restart: RestartPolicy = RestartPolicy()
    stop_signal: int = 15
    stop_timeout: int = 10
    health: Health | None = None
    log: LogOptions = LogOptions()
    detach_keys: str = ""
    pid_file: str = ""
    attach: tuple[str, ...] = ()
    volatile: bool = False


def save(paths: Paths, record: Record, *, durable: bool = True) -> None:
    """Write `config.json` of a container whose directory exists; replaced in one step.

    `durable`: it is on disc when this returns, so that no loss of power takes it back.
    """
    path = paths.container(record.id) + b"/config.json"
    fresh = path + b".new"
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(encode(record))
            file.flush()
            if durable:
                os.fsync(fd)
        os.rename(fresh, path)
    except OSError as error:
        raise LaunchError("write", path, error) from error


def load(paths: Paths, id: str) -> Record:
    """The container `id`. Raises LaunchError where its config.json is missing or not one."""
    path = paths.container(id) + b"/config.json"
    try:
        with open(path, "rb") as file:
            return decode(file.read())
    except OSError as error:
        raise LaunchError("read", path, error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise LaunchError("read", path, f"it is damaged: {error}") from error


def glance(paths: Paths, id: str) -> dict[str, Any]:
    """A container's fields as they are in JSON; {} where there are none to be had.

    For listings, where making the record proper of each would take longer than all the rest.
    """
    try:
        with open(paths.container(id) + b"/config.json", "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# -- JSON -----------------------------------------------------------------------------------------
# Named tuples become objects, bytes become strings in the manner of os.fsdecode.


def encode(record: Record) -> bytes:
    """JSON, in ASCII: what is not UTF-8 is escaped by json as the surrogates of PEP 383."""
    return json.dumps(_plain(record), separators=(",", ":")).encode("ascii")


def decode(content: bytes) -> Record:
    """The inverse of `encode`. ValueError, TypeError or KeyError for anything else."""
    value = _read(Record, json.loads(content))
    assert isinstance(value, Record)
    return value


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, tuple):
        if hasattr(value, "_fields"):
            pairs = zip(value._fields, value, strict=True)
            return {name: _plain(each) for name, each in pairs}
        return [_plain(each) for each in value]
    return value


# What JSON does not say by itself. Not taken from the annotations: to evaluate those costs every
# start several milliseconds. A test holds the tables against them.
_BYTES: Final = frozenset({"cwd", "layers", "args", "env"})
_TUPLES: Final[dict[str, Any]] = {
    "mounts": RequestedMount,
    "devices": RequestedDevice,
    "ports": Port,
    "resources": Resources,
    "restart": RestartPolicy,
    "health": Health,
    "log": LogOptions,
}
_OF_RESOURCES: Final[dict[str, Any]] = {
    "blkio_weight_device": BlockWeight,
    "blkio_read_bps": BlockThrottle,
    "blkio_write_bps": BlockThrottle,
    "blkio_read_iops": BlockThrottle,
    "blkio_write_iops": BlockThrottle,
    "devices": DeviceRule,
}


def _read(kind: Any, value: Any) -> Any:
    """A named tuple of an object; each field checked against the type of its default."""
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an object")
    nested = _OF_RESOURCES if kind is Resources else _TUPLES
    made: dict[str, Any] = {}
    for name, each in value.items():
        if name in nested and kind in (Record, Resources):
            inner = nested[name]
            if isinstance(each, list):
                made[name] = tuple(_read(inner, one) for one in each)
            else:
                made[name] = None if each is None else _read(inner, each)
        elif name in _BYTES and kind is Record:
            encode = os.fsencode
            made[name] = tuple(map(encode, each)) if isinstance(each, list) else encode(each)
        else:
            made[name] = _hashable(each)
        default = kind._field_defaults.get(name)
        if default is not None and type(made[name]) is not type(default):
            raise TypeError(f"{name} is {each!r}")
    return kind(**made)


def _hashable(value: Any) -> Any:
    return tuple(_hashable(each) for each in value) if isinstance(value, list) else value
