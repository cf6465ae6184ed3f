# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and ports: `-p`, `--expose`, `--add-host`, `--dns` and its kin."""

from __future__ import annotations

import _socket as socket
import os

from launcher.options.quantities import invalid
from launcher.record import Port
from launcher.typed import Final
from unionfs import Arguments

__all__ = ["check_address", "check_host", "exposed_of", "ports_of"]

_PROTOCOLS: Final = ("tcp", "udp", "sctp")


def ports_of(text: str) -> list[Port]:
    """`-p [IP:][HOST:]PORT[/PROTO]`; both may be ranges of one length."""
    flag = "--publish"
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise invalid(flag, text, f"the protocol is none of {', '.join(_PROTOCOLS)}")
    ip = ""
    if rest.startswith("["):
        ip, _, rest = rest[1:].partition("]")
        check_address(flag, text, ip)
        rest = rest.removeprefix(":")
    parts = rest.split(":")
    if len(parts) == 3 and not ip:
        ip = parts.pop(0)
        if ip:
            check_address(flag, text, ip)
    if len(parts) > 2:
        raise invalid(flag, text, "it is written [IP:][HOST:]PORT[/PROTOCOL]")
    first, last = _range(flag, text, parts[-1])
    if len(parts) == 1 or not parts[0]:
        return [Port(each, protocol, 0, ip) for each in range(first, last + 1)]
    outer_first, outer_last = _range(flag, text, parts[0])
    if outer_last - outer_first != last - first:
        if first != last:
            raise invalid(flag, text, "the two ranges are not of one length")
        # docker: any one of the host's range will do; the first is taken.
        return [Port(first, protocol, outer_first, ip)]
    return [
        Port(first + each, protocol, outer_first + each, ip) for each in range(last - first + 1)
    ]


def exposed_of(text: str) -> list[str]:
    """`--expose PORT[-PORT][/PROTO]`, one for each: "80/tcp"."""
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise invalid("--expose", text, f"the protocol is none of {', '.join(_PROTOCOLS)}")
    first, last = _range("--expose", text, rest)
    return [f"{each}/{protocol}" for each in range(first, last + 1)]


def _range(flag: str, text: str, part: str) -> tuple[int, int]:
    first, dash, last = part.partition("-")
    numbers = [first, last] if dash else [first]
    if not all(each.isascii() and each.isdecimal() for each in numbers):
        raise invalid(flag, text, f"{part or 'an empty word'} is not a port")
    low, high = int(numbers[0]), int(numbers[-1])
    if not 0 < low <= high <= 65535:
        raise invalid(flag, text, "ports are between 1 and 65535")
    return low, high


def check_host(text: str) -> str:
    """`--add-host NAME:ADDRESS`, or NAME=ADDRESS; an IPv6 address may stand in brackets."""
    at = min((i for i in (text.find(":"), text.find("=")) if i >= 0), default=-1)
    name, address = text[: max(at, 0)], text[at + 1 :]
    address = address.removeprefix("[").removesuffix("]")
    if not name or any(each.isspace() for each in name):
        raise invalid("--add-host", text, "it is written NAME:ADDRESS")
    check_address("--add-host", text, address)
    return f"{name}:{address}"


def check_address(flag: str, text: str, address: str) -> str:
    """An IPv4 or IPv6 address, as it is written."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return address
    raise invalid(flag, text, f"{address or 'an empty word'} is not an address")


def dns_of(arguments: Arguments) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Name servers, search domains and options."""
    servers = tuple(os.fsdecode(each) for each in arguments.all("--dns"))
    for each in servers:
        check_address("--dns", each, each)
    search = tuple(os.fsdecode(each) for each in arguments.all("--dns-search"))
    options = tuple(os.fsdecode(each) for each in arguments.all("--dns-option"))
    for flag, words in (("--dns-search", search), ("--dns-option", options)):
        for each in words:
            if any(char.isspace() for char in each):
                raise invalid(flag, each, "it is more than one word")
    return servers, search, options
