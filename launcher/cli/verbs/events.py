# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina events`: what happens to containers and images, as it happens."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from launcher.cli.context import Context
from launcher.cli.filters import Filters, any_fits, labelled, read_filters
from launcher.cli.timespec import moment
from launcher.documents import GoMap, Row, json_text
from launcher.events import Event, Follower
from launcher.rfc3339 import rfc3339_fixed
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag

COMMAND = Command(
    "lamina events",
    "[-f FILTER]… [--since TIME] [--until TIME] [--format TEMPLATE]",
    "show what happens to containers and images, until interrupted",
    (
        Flag(("-f", "--filter"), "FILTER", "only what fits: type= event= container= image= label="),
        Flag(("--since",), "TIME", "begin with what happened since then (a date, or 10m)"),
        Flag(("--until",), "TIME", "end then"),
        Flag(("--format",), "TEMPLATE", "json, or a template"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)
_FILTERS = ("type", "event", "container", "image", "label", "scope")


def run(arguments: Arguments, context: Context) -> int:
    """Print events; returns the exit status."""
    filters = read_filters(arguments.all("--filter"), _FILTERS)
    now = time.time_ns()
    since, until = (
        None if word is None else moment(os.fsdecode(word), now)
        for word in (arguments.one("--since"), arguments.one("--until"))
    )
    show = _printer(os.fsdecode(arguments.one("--format") or b""))
    # With an end alone docker tells from the beginning what it still knows.
    begin = (0 if until is not None else now) if since is None else since
    with Follower(context.paths) as follower:
        while True:
            for event in follower.more():
                if event.when < begin or (until is not None and event.when > until):
                    continue
                if _fits(event, filters):
                    sys.stdout.write(show(event))
            sys.stdout.flush()
            if not follower.wait(until):
                return 0


def _printer(form: str) -> Callable[[Event], str]:
    """What makes the line of an event."""
    if form in ("", "table"):
        return _line
    if form == "json":
        return lambda event: json_text(_fields(event)) + "\n"
    from launcher.cli.template.evaluation import render
    from launcher.cli.template.parser import parse

    template = parse(form.replace("\\t", "\t").replace("\\n", "\n"))
    return lambda event: render(template, _template_fields(event)) + "\n"


def _line(event: Event) -> str:
    text = f"{rfc3339_fixed(event.when, local=True)} {event.kind} {event.action} {event.id}"
    if event.attributes:
        pairs = (f"{key}={value}" for key, value in sorted(event.attributes.items()))
        text += f" ({', '.join(pairs)})"
    return text + "\n"


def _fields(event: Event) -> dict[str, object]:
    """An event as docker's API has it; the first three are of old, and only of containers."""
    fields: dict[str, object] = {}
    if event.kind == "container":
        fields["status"] = event.action
        fields["id"] = event.id
        fields["from"] = event.attributes.get("image", "")
    return fields | {
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": GoMap(event.attributes)},
        "scope": "local",
        "time": event.when // 10**9,
        "timeNano": event.when,
    }


def _template_fields(event: Event) -> Row:
    names = {"status": "Status", "id": "ID", "from": "From", "scope": "Scope"}
    names |= {"time": "Time", "timeNano": "TimeNano"}
    fields = {"Status": "", "ID": "", "From": ""} | {
        names.get(key, key): value for key, value in _fields(event).items()
    }
    return Row(fields, as_json=_fields(event))


def _fits(event: Event, filters: Filters) -> bool:
    attributes = event.attributes
    is_container = event.kind == "container"
    image = attributes.get("image", "") if is_container else attributes.get("name", "")
    return (
        any_fits(filters, "type", lambda value: value == event.kind)
        and any_fits(filters, "event", lambda value: value in _spellings(event.action))
        and any_fits(
            filters,
            "container",
            lambda value: is_container and _stands_for(value, event.id, attributes.get("name", "")),
        )
        and any_fits(
            filters,
            "image",
            lambda value: (
                value in (image, image.partition(":")[0])
                or (event.kind == "image" and _stands_for(value, event.id, ""))
            ),
        )
        and any_fits(filters, "scope", lambda value: value == "local")
        and labelled(filters, attributes)
    )


def _spellings(action: str) -> tuple[str, str]:
    """`exec_start: ls` is asked for as it is, or as exec_start."""
    return action, action.partition(":")[0]


def _stands_for(reference: str, id: str, name: str) -> bool:
    return reference == name or id.removeprefix("sha256:").startswith(reference)
