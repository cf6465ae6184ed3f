# SPDX-License-Identifier: GPL-3.0-or-later
"""`--change`: an instruction in the manner of a Dockerfile, worked into an image's `config`.

CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and
WORKDIR, as docker import and docker commit take them.
"""

from __future__ import annotations

import json
import re

from launcher.errors import LaunchError
from launcher.typed import Any, Final

__all__ = ["apply"]

_PAIR: Final = re.compile(
    r"""\s*((?:[^\s"'=\\]|\\.)+)=((?:"(?:[^"\\]|\\.)*"|'[^']*'|\\.|[^\s"'\\])*)"""
)
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PORT: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?\Z")


def apply(config: dict[str, Any], instructions: list[str]) -> dict[str, Any]:
    """A copy of an image's `config` with the instructions worked in. Raises LaunchError."""
    changed = dict(config)
    for line in instructions:
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        try:
            _change(changed, word.upper(), rest)
        except ValueError as error:
            raise LaunchError("apply change", line, str(error)) from error
    return changed


def _change(config: dict[str, Any], word: str, rest: str) -> None:
    if not rest and word not in ("CMD", "ENTRYPOINT"):
        raise ValueError("it says nothing" if word else "it is empty")
    if word in ("CMD", "ENTRYPOINT"):
        shell = config.get("Shell") or ["/bin/sh", "-c"]
        words = _exec_form(rest)
        config["Cmd" if word == "CMD" else "Entrypoint"] = (
            words if words is not None else [*shell, rest]
        )
        if word == "ENTRYPOINT":
            # As docker: a command that was meant for another entrypoint means nothing to this one.
            config.pop("Cmd", None)
    elif word == "ENV":
        for name, value in _pairs(rest):
            kept = [each for each in config.get("Env") or [] if each.partition("=")[0] != name]
            config["Env"] = [*kept, f"{name}={value}"]
    elif word == "LABEL":
        config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(rest))}
    elif word == "EXPOSE":
        ports = dict(config.get("ExposedPorts") or {})
        for each in rest.split():
            ports.update(_ports(each))
        config["ExposedPorts"] = ports
    elif word == "VOLUME":
        words = _exec_form(rest)
        paths = words if words is not None else rest.split()
        config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}
    elif word == "USER":
        config["User"] = rest
    elif word == "WORKDIR":
        before = config.get("WorkingDir") or "/"
        config["WorkingDir"] = rest if rest.startswith("/") else before.rstrip("/") + "/" + rest
    elif word == "STOPSIGNAL":
        config["StopSignal"] = rest
    elif word == "SHELL":
        words = _exec_form(rest)
        if not words:
            raise ValueError('it has to be a list, as ["/bin/sh", "-c"]')
        config["Shell"] = words
    elif word == "ONBUILD":
        config["OnBuild"] = [*(config.get("OnBuild") or []), rest]
    elif word == "HEALTHCHECK":
        config["Healthcheck"] = _health(rest, config.get("Shell"))
    else:
        raise ValueError("there is no such instruction for images")


def _exec_form(text: str) -> list[str] | None:
    """A JSON list of texts, or None for anything else, which is then a shell's line."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    if not isinstance(words, list) or not all(isinstance(each, str) for each in words):
        return None
    return words


def _pairs(text: str) -> list[tuple[str, str]]:
    """NAME=VALUE …, with quotes as a shell has them; or NAME VALUE, the older form."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise ValueError("it has to be NAME=VALUE")
        return [(first[0], first[1])]
    pairs: list[tuple[str, str]] = []
    at = 0
    while at < len(text.rstrip()):
        found = _PAIR.match(text, at)
        if found is None:
            raise ValueError("it has to be NAME=VALUE …")
        pairs.append((_unquoted(found[1]), _unquoted(found[2])))
        at = found.end()
        if at < len(text) and not text[at].isspace():
            raise ValueError("it has to be NAME=VALUE …")
    return pairs


def _unquoted(text: str) -> str:
    made: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        each = text[at]
        if each == "\\" and quote != "'" and at + 1 < len(text):
            at += 1
            following = text[at]
            # Inside double quotes only these lose the backslash, as in a shell.
            made.append(following if not quote or following in '"\\$' else "\\" + following)
        elif quote and each == quote:
            quote = ""
        elif not quote and each in "\"'":
            quote = each
        else:
            made.append(each)
        at += 1
    return "".join(made)


def _ports(text: str) -> dict[str, dict[str, Any]]:
    found = _PORT.match(text.lower())
    if found is None:
        raise ValueError(f"{text} is no port, as 80, 53/udp or 8000-8010")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 0 < first <= last < 1 << 16:
        raise ValueError(f"{text} is no port")
    return {f"{port}/{found[3] or 'tcp'}": {} for port in range(first, last + 1)}


def _health(text: str, shell: list[str] | None) -> dict[str, Any]:
    health: dict[str, Any] = {}
    words = text
    while words.startswith("--"):
        option, _, words = words.partition(" ")
        name, _, value = option[2:].partition("=")
        words = words.lstrip()
        if name == "retries" and value.isdigit():
            health["Retries"] = int(value)
        elif name in ("interval", "timeout", "start-period", "start-interval"):
            key = "".join(part.capitalize() for part in name.split("-"))
            health[key] = _duration(value)
        else:
            raise ValueError(f"there is no option {option}")
    word, _, rest = words.partition(" ")
    if word.upper() == "NONE":
        return {"Test": ["NONE"]}
    if word.upper() != "CMD" or not rest.strip():
        raise ValueError("it has to be NONE, or [OPTIONS] CMD command")
    exact = _exec_form(rest.strip())
    if exact is not None:
        health["Test"] = ["CMD", *exact]
    else:
        health["Test"] = ["CMD-SHELL", rest.strip()]
    return health


def _duration(text: str) -> int:
    """Go's durations (1m30s) → nanoseconds."""
    at = 0
    total = 0.0
    for found in _DURATION.finditer(text):
        if found.start() != at:
            break
        total += float(found[1]) * _UNITS[found[2]]
        at = found.end()
    if not text or at != len(text):
        raise ValueError(f"{text} is no duration, as 1m30s")
    return int(total)
