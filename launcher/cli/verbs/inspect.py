# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina inspect`: all that is known of containers and images, as JSON or by a template."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.documents import json_text
from launcher.errors import LaunchError, shown
from launcher.paths import Paths
from launcher.typed import Any, Final
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina inspect",
    "[-f TEMPLATE] [-s] [--type container|image] NAME…",
    "show all that is known of containers and images",
    (
        Flag(("-f", "--format"), "TEMPLATE", "json, or a template like {{.State.Pid}}"),
        Flag(("-s", "--size"), None, "also how much a container's files are"),
        Flag(("--type",), "TYPE", "only a container, or only an image"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)
_TYPES: Final = ("container", "image")


def run(arguments: Arguments, context: Context) -> int:
    """Print what there is; returns the exit status, 1 if one of the names stands for nothing."""
    if not arguments.operands:
        raise UsageError("inspect", "", "it takes at least one container or image")
    kind = os.fsdecode(arguments.one("--type") or b"")
    if kind and kind not in _TYPES:
        raise UsageError("understand", f"--type {shown(kind)}", f"it is {' or '.join(_TYPES)}")
    form = os.fsdecode(arguments.one("--format") or b"")
    render = _renderer(form)
    documents: list[Any] = []
    failures: list[LaunchError] = []
    for word in arguments.operands:
        name = os.fsdecode(word)
        try:
            document = _document(context.paths, name, kind, arguments.has("--size"))
            if render is None:
                documents.append(document)
            else:
                sys.stdout.write(render(document) + "\n")
        except LaunchError as error:
            failures.append(error)
    if render is None:
        sys.stdout.write(json_text(documents, indent=4) + "\n")
    sys.stdout.flush()
    for each in failures:
        sys.stderr.write(f"lamina: {each}\n")
    return 1 if failures else 0


def _renderer(form: str) -> Any:
    if form == "":
        return None
    if form == "json":
        return json_text
    from launcher.cli.template.evaluation import render
    from launcher.cli.template.parser import parse

    template = parse(form)
    return lambda document: render(template, document)


def _document(paths: Paths, name: str, kind: str, sizes: bool) -> dict[str, Any]:
    if kind != "image":
        from launcher.inspection import inspected
        from launcher.record import load
        from launcher.state import State

        try:
            with State(paths) as state:
                entry = state.find(name)
        except LaunchError:
            if kind == "container":
                raise
        else:
            return inspected(paths, entry, load(paths, entry.row.id), sizes=sizes)
    from launcher.image.inspection import inspected as inspected_image

    try:
        return inspected_image(paths, name)
    except LaunchError as error:
        if kind == "image" or error.what != "find image":
            raise
        reason = "there is no container and no image of that name or id"
        raise LaunchError("find", name, reason) from None
