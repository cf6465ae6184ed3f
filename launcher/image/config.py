# SPDX-License-Identifier: GPL-3.0-or-later
"""An image's configuration: the JSON of the OCI image specification (config.md) and of docker.

Read into `ImageConfig`, and made for new images. What `--change` does to it is in `changes`.
"""

from __future__ import annotations

import os

from launcher.image.model import Health, ImageConfig
from launcher.rfc3339 import rfc3339
from launcher.typed import Any, Final, Sequence
from unionfs.light import json

__all__ = [
    "architecture",
    "encoded",
    "encoded_list",
    "history",
    "nanoseconds",
    "new",
    "read",
]

_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
}


def read(document: dict[str, Any]) -> ImageConfig:
    """How a container of the image starts. Raises ValueError for values of another kind."""
    config = document.get("config") or {}
    if not isinstance(config, dict):
        raise ValueError("its config is not an object")
    labels = _table(config, "Labels")
    return ImageConfig(
        user=_text(config, "User"),
        env=_words(config, "Env"),
        entrypoint=_words(config, "Entrypoint"),
        cmd=_words(config, "Cmd"),
        working_dir=_text(config, "WorkingDir"),
        labels=tuple(sorted((key, str(value)) for key, value in labels.items())),
        exposed_ports=tuple(sorted(_table(config, "ExposedPorts"))),
        volumes=tuple(sorted(_table(config, "Volumes"))),
        stop_signal=_text(config, "StopSignal"),
        health=_health(config.get("Healthcheck")),
        shell=_words(config, "Shell"),
    )


def new(
    config: dict[str, Any],
    diff_ids: Sequence[str],
    created: int,
    history: Sequence[dict[str, Any]],
    *,
    author: str = "",
    comment: str = "",
) -> dict[str, Any]:
    """A whole configuration for this machine. `created` in nanoseconds; diff ids in hex."""
    document: dict[str, Any] = {
        "created": rfc3339(created),
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{each}" for each in diff_ids]},
        "history": list(history),
    }
    if document["architecture"] == "arm":
        document["variant"] = "v7"
    if author:
        document["author"] = author
    if comment:
        document["comment"] = comment
    return document


def history(document: dict[str, Any], layers: int) -> list[dict[str, Any]]:
    """The steps that a configuration tells of, with one for each of so many layers.

    An image may come without (config.md has it optional). Tools that make a further layer on it
    refuse a history that counts fewer layers than there are, or more.
    """
    found = document.get("history")
    steps = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    told = sum(not each.get("empty_layer") for each in steps)
    if told > layers:
        steps, told = [], 0
    created = document.get("created")
    unknown = {"created": created if isinstance(created, str) else rfc3339(0)}
    return [*steps, *[unknown] * (layers - told)]


def architecture() -> str:
    """This machine's, by the name that Go has for it."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def encoded(document: dict[str, Any]) -> bytes:
    """The bytes of a document: the same for the same content."""
    return json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def encoded_list(document: list[dict[str, Any]]) -> bytes:
    """As `encoded`, of a list of documents."""
    return b"[" + b",".join(map(encoded, document)) + b"]"


def nanoseconds(text: object) -> int:
    """The time that an RFC 3339 text says; 0 for anything else, as docker takes it."""
    from datetime import datetime

    if not isinstance(text, str):
        return 0
    whole, dot, rest = text.partition(".")
    decimals = ""
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        decimals, rest = rest[:digits], rest[digits:]
        text = whole + rest
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return 0
        when = int(moment.timestamp()) * 1_000_000_000 + int((decimals + "000000000")[:9])
        # Go's zero time, the first year of all, is what images have that are always the same.
        return when if abs(when) < 1 << 63 else 0
    except (ValueError, OverflowError):
        return 0


def _health(value: object) -> Health | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("its Healthcheck is not an object")
    numbers = {}
    for field, key in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
        ("retries", "Retries"),
    ):
        number = value.get(key) or 0
        if not isinstance(number, int) or not 0 <= number < 1 << 63:
            raise ValueError(f"its Healthcheck.{key} is not a number")
        numbers[field] = number
    return Health(_words(value, "Test"), **numbers)


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key) or ""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"its {key} is not a text")
    return value


def _words(table: dict[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key) or []
    if isinstance(value, str):  # docker's oldest images
        value = [value]
    if not isinstance(value, list) or not all(
        isinstance(each, str) and "\0" not in each for each in value
    ):
        raise ValueError(f"its {key} is not a list of texts")
    return tuple(value)


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key) or {}
    if not isinstance(value, dict):
        raise ValueError(f"its {key} is not an object")
    return value
