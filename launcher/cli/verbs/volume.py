# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina volume`: create, ls, inspect, rm and prune of directories that outlive containers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from launcher import volumes
from launcher.cli.context import Context
from launcher.cli.filters import Filters, any_fits, labelled, read_filters
from launcher.cli.listing import Listing, show
from launcher.documents import Row, json_text
from launcher.errors import LaunchError
from launcher.volumes import Volume
from unionfs import HELP_FLAG, Arguments, Command, Flag, UsageError, parse_words

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina volume",
    "create|ls|inspect|rm|prune …",
    "keep directories that outlive containers",
    (),
    ordered=True,
)

_COMMANDS = {
    "create": Command(
        "lamina volume create",
        "[OPTION…] [NAME]",
        "make a volume",
        (
            HELP_FLAG,
            Flag(("-l", "--label"), "KEY=VALUE", "label it"),
            Flag(("-d", "--driver"), "NAME", "local"),
        ),
    ),
    "ls": Command(
        "lamina volume ls",
        "[OPTION…]",
        "list volumes",
        (
            HELP_FLAG,
            Flag(("-q", "--quiet"), None, "names only"),
            Flag(("-f", "--filter"), "NAME=VALUE", "only those (name, label, dangling)"),
            Flag(("--format",), "TEMPLATE", "table, json or a template of {{.Name}} and the like"),
        ),
    ),
    "inspect": Command(
        "lamina volume inspect",
        "NAME…",
        "tell all about volumes",
        (HELP_FLAG, Flag(("-f", "--format"), "TEMPLATE", "json or a template")),
    ),
    "rm": Command(
        "lamina volume rm",
        "[OPTION…] NAME…",
        "remove volumes that no container uses",
        (HELP_FLAG, Flag(("-f", "--force"), None, "those that are not there are no error")),
    ),
    "prune": Command(
        "lamina volume prune",
        "[OPTION…]",
        "remove anonymous volumes that no container uses",
        (
            HELP_FLAG,
            Flag(("-a", "--all"), None, "those with a name, too"),
            Flag(("-f", "--force"), None, "do not ask (it never does)"),
            Flag(("--filter",), "label[!]=…", "only those"),
        ),
    ),
}


def run(arguments: Arguments, context: Context) -> int:
    """Do what the second word says; returns the exit status."""
    words = arguments.operands
    name = os.fsdecode(words[0]) if words else ""
    name = {"list": "ls", "remove": "rm"}.get(name, name)
    if name in ("-h", "--help", "help"):
        print(COMMAND.help())
        for each in _COMMANDS.values():
            print(f"  {each.name} {each.usage}: {each.about}")
        return 0
    if name not in _COMMANDS:
        raise UsageError("understand volume", name, f"it is one of {', '.join(_COMMANDS)}")
    inner = parse_words(_COMMANDS[name], words[1:])
    if inner is None:
        return 0
    verbs: dict[str, Callable[[Arguments, Context], int]] = {
        "create": _create,
        "ls": _list,
        "inspect": _inspect,
        "rm": _remove,
        "prune": _prune,
    }
    return verbs[name](inner, context)


def _create(arguments: Arguments, context: Context) -> int:
    from launcher.names import identifier

    driver = os.fsdecode(arguments.one("--driver") or b"local")
    if driver != "local":
        raise LaunchError("use volume driver", driver, "there is only local")
    if len(arguments.operands) > 1:
        raise UsageError("create a volume", "", "it takes one name")
    anonymous = not arguments.operands
    name = identifier() if anonymous else os.fsdecode(arguments.operands[0])
    labels = tuple(
        (key, value)
        for each in arguments.all("--label")
        for key, _, value in [os.fsdecode(each).partition("=")]
    )
    volumes.create(context.paths, name, labels, anonymous=anonymous)
    print(name)
    return 0


def _matching(context: Context, words: list[bytes]) -> list[Volume]:
    filters = read_filters(words, ("name", "label", "dangling", "driver"))
    used = volumes.users(context.paths) if "dangling" in filters else {}
    return [each for each in volumes.every(context.paths) if _fits(each, filters, used)]


def _fits(volume: Volume, filters: Filters, used: dict[str, list[str]]) -> bool:
    dangling = volume.name not in used
    return (
        any_fits(filters, "name", lambda text: text in volume.name)
        and any_fits(filters, "driver", lambda text: text == "local")
        and any_fits(filters, "dangling", lambda text: dangling == (text.lower() in ("1", "true")))
        and labelled(filters, dict(volume.labels))
    )


def _list(arguments: Arguments, context: Context) -> int:
    found = _matching(context, arguments.all("--filter"))
    if arguments.has("--quiet"):
        for each in found:
            print(each.name)
        return 0
    rows = []
    for each in found:
        labels = ",".join(f"{name}={value}" for name, value in each.labels)
        fields = {
            **volumes.inspected(context.paths, each),
            "Labels": labels,
            "Size": "N/A",
            "Links": "N/A",
        }
        rows.append(Row(fields, {"Label": lambda key, one=each: dict(one.labels).get(key, "")}))
    sys.stdout.write(show(_LISTING, rows, os.fsdecode(arguments.one("--format") or b"")))
    return 0


_LISTING = Listing(
    {
        "Driver": "DRIVER",
        "Name": "VOLUME NAME",
        "Labels": "LABELS",
        "Mountpoint": "MOUNTPOINT",
        "Scope": "SCOPE",
        "Size": "SIZE",
        "Links": "LINKS",
        "CreatedAt": "CREATED",
    },
    ("Driver", "Name"),
)


def _inspect(arguments: Arguments, context: Context) -> int:
    if not arguments.operands:
        raise UsageError("inspect volumes", "", "none is named")
    found, status = [], 0
    for operand in arguments.operands:
        try:
            volume = volumes.find(context.paths, os.fsdecode(operand))
        except LaunchError as error:
            sys.stderr.write(f"lamina: {error}\n")
            status = 1
            continue
        found.append(volumes.inspected(context.paths, volume))
    form = os.fsdecode(arguments.one("--format") or b"")
    if form in ("", "json"):
        print(json_text(found, None if form else 4))
    else:
        from launcher.cli.template.evaluation import render
        from launcher.cli.template.parser import parse

        template = parse(form)
        for each in found:
            print(render(template, each))
    return status


def _remove(arguments: Arguments, context: Context) -> int:
    if not arguments.operands:
        raise UsageError("remove volumes", "", "none is named")
    status = 0
    for operand in arguments.operands:
        name = os.fsdecode(operand)
        try:
            volumes.remove(context.paths, name)
        except LaunchError as error:
            if arguments.has("--force") and error.what == "find volume":
                continue
            sys.stdout.flush()
            sys.stderr.write(f"lamina: {error}\n")
            status = 1
            continue
        print(name, flush=True)
    return status


def _prune(arguments: Arguments, context: Context) -> int:
    from launcher.cli.sizes import decimal_size
    from launcher.pruning import prune_volumes

    filters = read_filters(arguments.all("--filter"), ("label", "label!"))
    failures: list[LaunchError] = []

    def fits(volume: Volume) -> bool:
        labels = dict(volume.labels)
        without = any(labelled({"label": [each]}, labels) for each in filters.get("label!", ()))
        wanted = volume.anonymous or arguments.has("--all")
        return wanted and not without and labelled(filters, labels)

    pruned = prune_volumes(context.paths, fits, failures.append)
    if pruned.names:
        print("Deleted Volumes:")
        for name in pruned.names:
            print(name)
        print()
    print(f"Total reclaimed space: {decimal_size(pruned.size)}", flush=True)
    for error in failures:
        sys.stderr.write(f"lamina: {error}\n")
    return 1 if failures else 0
