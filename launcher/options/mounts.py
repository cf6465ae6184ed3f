# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted in a container: `-v`, `--mount`, `--tmpfs`, as `RequestedMount`s.

Only what the words themselves say is settled here; the sources are looked at when the container is
created (`volumes`), and mounted when it is started (`specify`).

Options of a `RequestedMount` are those of mount(8), and these: `missing` (of bind: the source is
made if it is not there), `nocopy` (of volume: the image's content is not copied into it),
`anonymous` (of volume: it goes with the container), `subpath=…` (of volume).
"""

from __future__ import annotations

import os

from launcher.names import identifier, is_name
from launcher.options.quantities import invalid, size, whole
from launcher.record import RequestedMount
from launcher.typed import Final
from unionfs import Arguments

__all__ = ["mounts_of", "tmpfs_of", "volume_of"]

_PROPAGATION: Final = ("shared", "rshared", "slave", "rslave", "private", "rprivate")
_PLAIN: Final = (*_PROPAGATION, "ro", "rw", "z", "Z", "nocopy", "bind", "rbind")
_CONSISTENCY: Final = ("consistent", "cached", "delegated", "default")
# Options of tmpfs(5) and of mount(8) that docker lets through.
_TMPFS: Final = (
    *("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "defaults", "async"),
    *("noatime", "diratime", "nodiratime", "relatime", "strictatime"),
)
_TMPFS_VALUES: Final = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol")
_TMPFS_DEFAULT: Final = ("noexec", "nosuid", "nodev")


def mounts_of(arguments: Arguments, image_volumes: tuple[str, ...]) -> tuple[RequestedMount, ...]:
    """All that is to be mounted; of two on one path the flags' wins over the image's.

    Raises SpecError.
    """
    asked = [_mount_of(os.fsdecode(each)) for each in arguments.all("--mount")]
    asked += [volume_of(os.fsdecode(each)) for each in arguments.all("--volume")]
    asked += [tmpfs_of(os.fsdecode(each)) for each in arguments.all("--tmpfs")]
    found: dict[str, RequestedMount] = {}
    for each in asked:
        if each.destination in found:
            raise invalid("mount point", each.destination, "two mounts were asked for there")
        found[each.destination] = each
    for path in image_volumes:
        destination = _destination("VOLUME", path, path)
        if destination not in found:
            found[destination] = _anonymous(destination, ())
    return tuple(found.values())


def _anonymous(destination: str, options: tuple[str, ...]) -> RequestedMount:
    return RequestedMount("volume", identifier(), destination, ("anonymous", *options))


def volume_of(text: str) -> RequestedMount:
    """`-v [SOURCE:]PATH[:OPTIONS]`."""
    parts = text.split(":")
    if not all(parts) or len(parts) > 3:
        raise invalid("--volume", text, "it is written [SOURCE:]PATH[:OPTIONS]")
    if len(parts) == 1:
        return _anonymous(_destination("--volume", text, parts[0]), ())
    source, path = parts[:2]
    options = _options(text, parts[2]) if len(parts) == 3 else ()
    destination = _destination("--volume", text, path)
    if source.startswith("/"):
        if "nocopy" in options:
            raise invalid("--volume", text, "nocopy is for volumes, not for directories")
        return RequestedMount("bind", _clean(source), destination, ("missing", *options))
    if source in (".", "..") or source.startswith(("./", "../")):
        source = os.path.join(os.getcwd(), source)
        return RequestedMount("bind", _clean(source), destination, ("missing", *options))
    _check_name("--volume", text, source)
    if any(each in _PROPAGATION for each in options):
        raise invalid("--volume", text, "propagation is for directories, not for volumes")
    return RequestedMount("volume", source, destination, options)


def _options(text: str, words: str) -> tuple[str, ...]:
    options = []
    for word in words.split(","):
        if word in _CONSISTENCY:
            continue  # of other systems' discs; docker takes them and does nothing
        if word not in _PLAIN:
            raise invalid("--volume", text, f"there is no option {word or 'without a name'}")
        options.append(word)
    for kinds in (("ro", "rw"), _PROPAGATION, ("z", "Z")):
        if len([each for each in options if each in kinds]) > 1:
            raise invalid("--volume", text, f"only one of {', '.join(kinds)} can hold")
    return tuple(options)


def _destination(flag: str, text: str, path: str) -> str:
    if not path.startswith("/"):
        raise invalid(flag, text, "the path in the container is not absolute")
    clean = _clean(path)
    if clean == "/":
        raise invalid(flag, text, "the path in the container cannot be /")
    return clean


def _clean(path: str) -> str:
    clean = os.path.normpath(path)
    return clean[1:] if clean.startswith("//") else clean


def _check_name(flag: str, text: str, name: str) -> None:
    if not is_name(name):
        reason = "a volume's name is of letters, digits, _, . and -, and of two at least"
        raise invalid(flag, text, f"{reason}; a path begins with / or ./")


# -- tmpfs -----------------------------------------------------------------------------------------


def tmpfs_of(text: str) -> RequestedMount:
    """`--tmpfs PATH[:OPTIONS]`."""
    path, _, words = text.partition(":")
    options = []
    for word in words.split(",") if words else ():
        name, equals, value = word.partition("=")
        if equals and name in _TMPFS_VALUES:
            options.append(f"{name}={size('--tmpfs', value)}" if _counts(name, value) else word)
        elif word in _TMPFS or word in _PROPAGATION:
            options.append(word)
        else:
            raise invalid("--tmpfs", text, f"there is no option {word or 'without a name'}")
    return _tmpfs(_destination("--tmpfs", text, path), options)


def _counts(name: str, value: str) -> bool:
    # tmpfs(5): a size may be a share of the memory, too.
    return name == "size" and not value.endswith("%")


def _tmpfs(destination: str, options: list[str]) -> RequestedMount:
    against = {"noexec": "exec", "nosuid": "suid", "nodev": "dev"}
    standing = [each for each in _TMPFS_DEFAULT if against[each] not in options]
    return RequestedMount("tmpfs", "", destination, (*standing, *options))


# -- --mount ---------------------------------------------------------------------------------------

_FOR: Final = {
    "bind-propagation": "bind",
    "bind-nonrecursive": "bind",
    "bind-recursive": "bind",
    "volume-nocopy": "volume",
    "volume-subpath": "volume",
    "volume-label": "volume",
    "volume-driver": "volume",
    "volume-opt": "volume",
    "tmpfs-size": "tmpfs",
    "tmpfs-mode": "tmpfs",
}
_ALIASES: Final = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
}


def _mount_of(text: str) -> RequestedMount:
    kind, source, target = "volume", "", ""
    options: list[str] = []
    said: dict[str, str] = {}
    for name, value in _pairs(text):
        said[name] = value
    kind = said.pop("type", "volume")
    if kind not in ("bind", "volume", "tmpfs"):
        raise invalid("--mount", text, f"type {kind} is none of bind, volume and tmpfs")
    source, target = said.pop("source", ""), said.pop("target", "")
    if not target:
        raise invalid("--mount", text, "it needs a target")
    destination = _destination("--mount", text, target)
    for name, value in said.items():
        if _FOR.get(name, kind) != kind:
            raise invalid("--mount", text, f"{name} is for type={_FOR[name]}")
        options += _option(text, name, value)
    if kind == "tmpfs":
        if source:
            raise invalid("--mount", text, "a tmpfs has no source")
        return _tmpfs(destination, options)
    if kind == "bind":
        if not source:
            raise invalid("--mount", text, "it needs a source")
        if not source.startswith("/"):
            if not source.startswith("."):
                raise invalid("--mount", text, "the source is not an absolute path")
            source = os.path.join(os.getcwd(), source)
        return RequestedMount("bind", _clean(source), destination, tuple(options))
    if not source:
        return _anonymous(destination, tuple(options))
    _check_name("--mount", text, source)
    return RequestedMount("volume", source, destination, tuple(options))


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = []
    for field in _fields(text):
        name, equals, value = field.partition("=")
        name = _ALIASES.get(name.lower(), name.lower())
        if not equals:
            if name not in ("readonly", "volume-nocopy", "bind-nonrecursive"):
                raise invalid("--mount", text, f"{field or 'a field'} is not written KEY=VALUE")
            value = "true"
        pairs.append((name, value))
    return pairs


def _fields(text: str) -> list[str]:
    """The fields of one line of CSV (RFC 4180): a quoted one may hold commas."""
    fields, field, quoted, at = [], "", False, 0
    while at < len(text):
        char = text[at]
        at += 1
        if quoted and char == '"' and text[at : at + 1] == '"':
            field += '"'
            at += 1
        elif char == '"' and (quoted or not field):
            quoted = not quoted
        elif char == "," and not quoted:
            fields.append(field)
            field = ""
        else:
            field += char
    if quoted:
        raise invalid("--mount", text, 'a " is not closed')
    return [*fields, field]


def _option(text: str, name: str, value: str) -> list[str]:
    """The options that one key of --mount stands for."""
    if name == "readonly":
        return ["ro"] if _truth(text, name, value) else []
    if name == "volume-nocopy":
        return ["nocopy"] if _truth(text, name, value) else []
    if name == "bind-nonrecursive":
        return ["bind"] if _truth(text, name, value) else []
    if name == "bind-recursive":
        known = {"enabled": [], "disabled": ["bind"], "writable": [], "readonly": []}
        if value in known:
            return list(known[value])
        raise invalid("--mount", text, f"bind-recursive={value} is none of {', '.join(known)}")
    if name == "bind-propagation":
        if value not in _PROPAGATION:
            words = ", ".join(_PROPAGATION)
            raise invalid("--mount", text, f"bind-propagation={value} is none of {words}")
        return [value]
    if name == "consistency" and value in _CONSISTENCY:
        return []
    if name == "volume-subpath":
        if value.startswith("/") or ".." in value.split("/"):
            raise invalid("--mount", text, "volume-subpath leaves the volume")
        return [f"subpath={value}"]
    if name == "volume-label":
        return [f"label={value}"]
    if name == "volume-driver" and value in ("", "local"):
        return []
    if name == "tmpfs-size":
        return [f"size={size('--mount', value)}"]
    if name == "tmpfs-mode":
        if not value or value.strip("01234567"):
            raise invalid("--mount", text, f"tmpfs-mode={value} is not octal")
        whole("--mount", value, 0, 7777)
        return [f"mode={value}"]
    raise invalid("--mount", text, f"{name}={value} is not known here")


def _truth(text: str, name: str, value: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise invalid("--mount", text, f"{name} is true or false, not {value}")
