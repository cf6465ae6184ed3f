# SPDX-License-Identifier: GPL-3.0-or-later
"""From the words of `run` and `create` and an image's configuration to a `Record`.

Rooms that only some flags need are loaded where such a flag is given: this is on the way of every
start.
"""

from __future__ import annotations

import os

from launcher.cli.context import Context
from launcher.errors import SpecError
from launcher.image.model import Image, ImageConfig
from launcher.names import identifier, is_name
from launcher.options.limits import resources_of, restart_of
from launcher.options.quantities import invalid, size, whole
from launcher.record import LogOptions, Port, Record, RequestedMount, RestartPolicy
from launcher.typed import Final
from unionfs import Arguments

__all__ = ["environment", "record_of"]

_STREAMS: Final = ("stdin", "stdout", "stderr")
_STOP_SIGNAL: Final = 15
_STOP_TIMEOUT: Final = 10  # seconds
_SHM_SIZE: Final = 64 << 20
_DRIVERS: Final = ("json-file", "none")
_HOST_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_LONGEST_HOST_NAME: Final = 64  # HOST_NAME_MAX
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}


def record_of(arguments: Arguments, context: Context, image: Image, now_ns: int) -> Record:
    """What the words ask for; the operands are the image and the command.

    `name` is "" where none is given: `containers.create` finds one. Raises SpecError and
    UsageError.
    """
    config = image.config
    name = _text(arguments, "--name").removeprefix("/")
    if name and not is_name(name):
        reason = "a name is of letters, digits, _, . and -, and of two at least"
        raise invalid("--name", name, reason)
    _check_pull(arguments)
    args, entrypoint = _command(arguments, config)
    record = Record(
        id=identifier(),
        name=name,
        image=os.fsdecode(arguments.operands[0]),
        image_id=image.id,
        created=now_ns,
        layers=image.layers,
        args=args,
        entrypoint=entrypoint,
        env=environment(arguments, config),
        cwd=_directory(arguments, config),
        user=_text(arguments, "--user") or config.user,
        group_add=_texts(arguments, "--group-add"),
        tty=arguments.has("--tty"),
        interactive=arguments.has("--interactive"),
        init=arguments.has("--init"),
        auto_remove=arguments.has("--rm"),
        read_only=arguments.has("--read-only"),
        privileged=arguments.has("--privileged"),
        volatile=arguments.has("--volatile"),
        labels=_labels(arguments, config),
        annotations=tuple(_pairs(arguments, "--annotation").items()),
        shm_size=size("--shm-size", _text(arguments, "--shm-size", str(_SHM_SIZE))),
        resources=resources_of(arguments),
        restart=restart_of(arguments) or RestartPolicy(),
        attach=_streams(arguments),
    )
    if record.shm_size == 0:
        record = record._replace(shm_size=_SHM_SIZE)
    if record.auto_remove and record.restart.name != "no":
        raise invalid("--restart", record.restart.name, "--rm removes what is to be restarted")
    return _with_names(
        _with_rights(_with_life(record, arguments, config), arguments), arguments, context, config
    )


# -- words ----------------------------------------------------------------------------------------


def _text(arguments: Arguments, flag: str, otherwise: str = "") -> str:
    value = arguments.one(flag)
    return otherwise if value is None else os.fsdecode(value)


def _texts(arguments: Arguments, flag: str) -> tuple[str, ...]:
    return tuple(os.fsdecode(each) for each in arguments.all(flag))


def _check_pull(arguments: Arguments) -> None:
    pull = _text(arguments, "--pull", "missing")
    if pull not in ("missing", "never"):
        raise invalid("--pull", pull, "images are not fetched from anywhere: load or import them")
    platform = _text(arguments, "--platform")
    if platform:
        machine = os.uname().machine
        own = f"linux/{_MACHINES.get(machine, machine)}"
        if platform not in (own, "linux", own.partition("/")[2]):
            raise invalid("--platform", platform, f"this machine is {own}")


def _streams(arguments: Arguments) -> tuple[str, ...]:
    streams = tuple(each.lower() for each in _texts(arguments, "--attach"))
    for each in streams:
        if each not in _STREAMS:
            raise invalid("--attach", each, f"it is one of {', '.join(_STREAMS)}")
    return streams


def _command(arguments: Arguments, config: ImageConfig) -> tuple[tuple[bytes, ...], int]:
    """Entrypoint and command as one, and how many words are entrypoint.

    As docker: another entrypoint leaves the image's command out; an empty one takes the image's
    away.
    """
    command = tuple(arguments.operands[1:])
    entrypoint = tuple(os.fsencode(each) for each in config.entrypoint)
    said = arguments.one("--entrypoint")
    if said is not None:
        entrypoint = (said,) if said else ()
    elif not command:
        command = tuple(os.fsencode(each) for each in config.cmd)
    args = entrypoint + command
    if not args:
        image = os.fsdecode(arguments.operands[0])
        raise SpecError("start image", image, "no command was given, and it has none of its own")
    return args, len(entrypoint)


def _directory(arguments: Arguments, config: ImageConfig) -> bytes:
    said = arguments.one("--workdir")
    if said is not None and not said.startswith(b"/"):
        raise invalid("--workdir", os.fsdecode(said), "it is not an absolute path")
    path = said if said is not None else os.fsencode(config.working_dir)
    # An image may have a relative one, which docker takes from the root.
    clean = os.path.normpath(b"/" + path)
    return clean[1:] if clean.startswith(b"//") else clean


# -- variables and labels -------------------------------------------------------------------------


def environment(arguments: Arguments, config: ImageConfig) -> tuple[bytes, ...]:
    """The image's variables, each in its place unless it is said anew; then what is added.

    A name without a value that is not set here either takes the image's variable away.
    """
    found: dict[bytes, bytes | None] = {}
    for each in config.env:
        name, equals, value = os.fsencode(each).partition(b"=")
        if equals:
            found[name] = value
    for path in arguments.all("--env-file"):
        for line in _lines(path, "--env-file"):
            _set(found, line, b"--env-file " + path)
    for each_said in arguments.all("--env"):
        _set(found, each_said, b"--env " + each_said)
    return tuple(name + b"=" + value for name, value in found.items() if value is not None)


def _set(found: dict[bytes, bytes | None], text: bytes, where: bytes) -> None:
    name, equals, value = text.partition(b"=")
    if not name or b"\0" in text:
        raise SpecError("use", where, "a variable needs a name")
    found[name] = value if equals else os.environb.get(name)


def _lines(path: bytes, flag: str) -> list[bytes]:
    """The lines of a file of variables or labels, without comments and empty ones."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise SpecError("read", f"{flag} {os.fsdecode(path)}", error) from error
    lines = []
    for line in content.removeprefix(b"\xef\xbb\xbf").splitlines():
        line = line.lstrip()
        if not line or line.startswith(b"#"):
            continue
        name = line.partition(b"=")[0]
        if not name or any(char.isspace() for char in os.fsdecode(name)):
            reason = f"{os.fsdecode(name) or 'a line'!r} is no name"
            raise SpecError("read", f"{flag} {os.fsdecode(path)}", reason)
        lines.append(line)
    return lines


def _labels(arguments: Arguments, config: ImageConfig) -> tuple[tuple[str, str], ...]:
    found = dict(config.labels)
    for path in arguments.all("--label-file"):
        for line in _lines(path, "--label-file"):
            name, _, value = os.fsdecode(line).partition("=")
            found[name] = value
    found.update(_pairs(arguments, "--label"))
    return tuple(found.items())


def _pairs(arguments: Arguments, flag: str) -> dict[str, str]:
    found = {}
    for each in _texts(arguments, flag):
        name, _, value = each.partition("=")
        if not name:
            raise invalid(flag, each, "it needs a name")
        found[name] = value
    return found


# -- how it ends, is watched and is logged --------------------------------------------------------


def _with_life(record: Record, arguments: Arguments, config: ImageConfig) -> Record:
    said = _text(arguments, "--stop-signal") or config.stop_signal
    if said:
        from launcher.signals import number

        record = record._replace(stop_signal=number(said, "use --stop-signal"))
    if arguments.has("--stop-timeout"):
        text = _text(arguments, "--stop-timeout")
        record = record._replace(stop_timeout=whole("--stop-timeout", text, -1))
    flags = arguments.flags
    if config.health is not None or any("-health" in each for each in flags):
        from launcher.options.health import health_of

        record = record._replace(health=health_of(arguments, config.health))
        if record.health is not None and record.health.test[0] == "CMD-SHELL" and config.shell:
            test = ("CMD", *config.shell, *record.health.test[1:])
            record = record._replace(health=record.health._replace(test=test))
    keys = _text(arguments, "--detach-keys")
    if keys:
        _check_keys(keys)
    pid_file = _text(arguments, "--pidfile")
    return record._replace(
        log=_log(arguments),
        detach_keys=keys,
        pid_file=os.path.abspath(pid_file) if pid_file else "",
    )


def _check_keys(text: str) -> None:
    for key in text.split(","):
        letter = key.removeprefix("ctrl-")
        known = len(letter) == 1 and (
            letter == key or (letter.isascii() and (letter.isalpha() or letter in "@[\\]^_"))
        )
        if not known:
            raise invalid(
                "--detach-keys", text, f"{key or 'nothing'} is neither a key nor ctrl-KEY"
            )


def _log(arguments: Arguments) -> LogOptions:
    driver = _text(arguments, "--log-driver", "json-file")
    if driver not in _DRIVERS:
        raise invalid("--log-driver", driver, f"it is one of {', '.join(_DRIVERS)}")
    made = LogOptions(driver)
    for name, value in _pairs(arguments, "--log-opt").items():
        text = f"{name}={value}"
        if driver != "json-file" or name not in ("max-size", "max-file"):
            raise invalid("--log-opt", text, f"{driver} has no such option")
        if name == "max-size" and value != "-1":
            # Of docker's units these alone are decimal.
            made = made._replace(max_size=size("--log-opt max-size", value, 1000))
        elif name == "max-file":
            made = made._replace(max_file=whole("--log-opt max-file", value, 1))
    if made.max_file > 1 and made.max_size == 0:
        raise invalid("--log-opt", f"max-file={made.max_file}", "it needs a max-size")
    return made


# -- rights ---------------------------------------------------------------------------------------


def _with_rights(record: Record, arguments: Arguments) -> Record:
    record = record._replace(
        cap_add=_texts(arguments, "--cap-add"),
        cap_drop=_texts(arguments, "--cap-drop"),
        ulimits=_texts(arguments, "--ulimit"),
        sysctls=tuple(_sysctls(arguments).items()),
        seccomp="unconfined" if record.privileged else "",
        systempaths=not record.privileged,
    )
    flags = arguments.flags
    if not flags.keys().isdisjoint(_OF_RIGHTS):
        from launcher.options import security

        security.check_capabilities(record.cap_add, record.cap_drop)
        security.check_ulimits(record.ulimits)
        made = security.security_of([os.fsdecode(each) for each in flags.get("--security-opt", ())])
        record = record._replace(
            no_new_privileges=made.no_new_privileges,
            seccomp=made.seccomp or record.seccomp,
            apparmor=made.apparmor,
            selinux=made.selinux,
            systempaths=made.systempaths and record.systempaths,
            devices=tuple(security.device_of(each) for each in _texts(arguments, "--device")),
            device_rules=tuple(
                security.rule_of(each) for each in _texts(arguments, "--device-cgroup-rule")
            ),
        )
    score = arguments.one("--oom-score-adj")
    if score is not None:
        adjusted = whole("--oom-score-adj", os.fsdecode(score), -1000, 1000)
        record = record._replace(oom_score_adj=adjusted)
    return record


_OF_RIGHTS: Final = frozenset(
    {
        "--security-opt",
        "--cap-add",
        "--cap-drop",
        "--ulimit",
        "--device",
        "--device-cgroup-rule",
    }
)


def _sysctls(arguments: Arguments) -> dict[str, str]:
    found = {}
    for each in _texts(arguments, "--sysctl"):
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise invalid("--sysctl", each, "it is written NAME=VALUE")
        found[name] = value
    return found


# -- namespaces, names, ports and mounts ----------------------------------------------------------


def _with_names(
    record: Record, arguments: Arguments, context: Context, config: ImageConfig
) -> Record:
    record = record._replace(
        pid=_mode(arguments, "--pid", ("host",), joins=True),
        ipc=_mode(arguments, "--ipc", ("none", "private", "shareable", "host"), joins=True),
        uts=_mode(arguments, "--uts", ("host",)),
        cgroupns=_mode(arguments, "--cgroupns", ("private", "host")),
        network=_mode(arguments, "--network", ("none", "host"), joins=True) or "none",
        userns=_users(_text(arguments, "--userns")),
        hostname=_host_name(arguments, "--hostname"),
        domainname=_host_name(arguments, "--domainname"),
    )
    if record.ipc == "shareable":
        record = record._replace(ipc="")
    if record.cgroupns == "private":
        record = record._replace(cgroupns="")
    for flag, name in (("--hostname", record.hostname), ("--domainname", record.domainname)):
        if name and record.uts == "host":
            raise invalid(flag, name, "--uts host shares the host's names")
        if name and record.network.startswith("container:"):
            raise invalid(flag, name, f"--network {record.network} shares another's name")
    if not record.hostname:
        shared = record.uts == "host" or record.network == "host"
        record = record._replace(hostname=os.uname().nodename if shared else record.id[:12])
    return _with_mounts(_with_network(record, arguments, config), arguments, context, config)


def _mode(arguments: Arguments, flag: str, known: tuple[str, ...], *, joins: bool = False) -> str:
    text = _text(arguments, flag)
    if text in known or not text:
        return text
    if joins and text.startswith("container:"):
        if text == "container:":
            raise invalid(flag, text, "it needs a container's name or id")
        return text
    words = (*known, *(("container:ID",) if joins else ()))
    raise invalid(flag, text, f"it is one of {', '.join(words)}")


def _users(text: str) -> str:
    if text in ("", "host", "auto"):
        return "" if text == "host" else text
    name, colon, rest = text.partition(":")
    if name == "auto" and colon and rest.startswith("size="):
        return f"auto:{whole('--userns', rest[5:], 1, 1 << 31)}"
    parts = text.split(":")
    if len(parts) != 3:
        raise invalid("--userns", text, "it is host, auto, auto:size=N or UID:GID:SIZE")
    for part in parts:
        whole("--userns", part, 0, (1 << 32) - 2)
    if int(parts[2]) == 0:
        raise invalid("--userns", text, "the size is 0")
    return text


def _host_name(arguments: Arguments, flag: str) -> str:
    name = _text(arguments, flag)
    if name and (
        not _HOST_NAME.issuperset(name) or len(name) > _LONGEST_HOST_NAME or name[0] in "-."
    ):
        reason = "it is of letters, digits, - and ., and of 64 at most"
        raise invalid(flag, name, reason)
    return name


_OF_NETWORK: Final = frozenset(
    {"--publish", "--publish-all", "--expose", "--add-host", "--dns", "--dns-search"}
    | {"--dns-option"}
)


def _with_network(record: Record, arguments: Arguments, config: ImageConfig) -> Record:
    exposed = dict.fromkeys(config.exposed_ports)
    ports: list[Port] = []
    flags = arguments.flags
    if not flags.keys().isdisjoint(_OF_NETWORK):
        from launcher.options import network

        for text in _texts(arguments, "--publish"):
            ports += network.ports_of(text)
        for text in _texts(arguments, "--expose"):
            exposed.update(dict.fromkeys(network.exposed_of(text)))
        exposed.update(dict.fromkeys(f"{each.container}/{each.protocol}" for each in ports))
        servers, search, options = network.dns_of(arguments)
        record = record._replace(
            extra_hosts=tuple(network.check_host(each) for each in _texts(arguments, "--add-host")),
            dns=servers,
            dns_search=search,
            dns_options=options,
        )
        if record.network.startswith("container:"):
            flag = next(iter(sorted(flags.keys() & _OF_NETWORK)))
            reason = f"--network {record.network} has its own"
            raise invalid(flag, _text(arguments, flag), reason)
    if (ports or "--publish-all" in flags) and not arguments.has("--network"):
        thing = _text(arguments, "--publish", "all")
        reason = "there is no bridge to publish from yet; with --network host every port is open"
        raise invalid("--publish", thing, reason)
    return record._replace(ports=tuple(ports), exposed=tuple(exposed))


def _with_mounts(
    record: Record, arguments: Arguments, context: Context, config: ImageConfig
) -> Record:
    flags = arguments.flags
    asked = not flags.keys().isdisjoint({"--mount", "--volume", "--tmpfs"})
    mounts: tuple[RequestedMount, ...] = ()
    if asked or config.volumes:
        from launcher.options.mounts import mounts_of

        mounts = mounts_of(arguments, config.volumes)
    for text in _texts(arguments, "--volumes-from"):
        mounts = _with_those_of(mounts, text, context)
    return record._replace(mounts=mounts)


def _with_those_of(
    mounts: tuple[RequestedMount, ...], text: str, context: Context
) -> tuple[RequestedMount, ...]:
    """What another container mounts, where nothing is asked for yet."""
    from launcher.record import load
    from launcher.state import State

    name, colon, mode = text.partition(":")
    if colon and mode not in ("ro", "rw", "z", "Z"):
        raise invalid("--volumes-from", text, f"there is no option {mode}")
    with State(context.paths) as state:
        other = load(context.paths, state.find(name).row.id)
    taken = {each.destination for each in mounts}
    added = []
    for each in other.mounts:
        if each.kind != "tmpfs" and each.destination not in taken:
            # It stays the other's: it does not go with this container.
            options = tuple(one for one in each.options if one not in ("anonymous", mode))
            added.append(each._replace(options=(*options, "ro") if mode == "ro" else options))
    return (*mounts, *added)
