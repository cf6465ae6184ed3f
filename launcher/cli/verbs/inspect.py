# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina inspect`: all that is known of containers, images and volumes: JSON, or a template."""

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
    "[-f TEMPLATE] [-s] [--type container|image|volume] NAME…",
    "show all that is known of containers, images and volumes",
    (
        Flag(("-f", "--format"), "TEMPLATE", "json, or a template like {{.State.Pid}}"),
        Flag(("-s", "--size"), None, "also how much a container's files are"),
        Flag(("--type",), "TYPE", "only a container, an image or a volume"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)
_TYPES: Final = ("container", "image", "volume")


def run(arguments: Arguments, context: Context) -> int:
    """Print what there is; returns the exit status, 1 if one of the names stands for nothing."""
    if not arguments.operands:
        raise UsageError("inspect", "", "it takes at least one name")
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
    """The document of the first kind of thing that has the name. Raises LaunchError."""
    kinds = {"container": _container, "image": _image, "volume": _volume}
    for each, find in kinds.items():
        if kind in ("", each):
            try:
                return find(paths, name, sizes)
            except LaunchError as error:
                if kind or error.what != f"find {each}":
                    raise
    reason = "there is no container, image or volume of that name or id"
    raise LaunchError("find", name, reason)


def _container(paths: Paths, name: str, sizes: bool) -> dict[str, Any]:
    from launcher.inspection import inspected
    from launcher.record import load
    from launcher.state import State

    with State(paths) as state:
        entry = state.find(name)
    return inspected(paths, entry, load(paths, entry.row.id), sizes=sizes)


def _image(paths: Paths, name: str, sizes: bool) -> dict[str, Any]:
    from launcher.image.inspection import inspected

    return inspected(paths, name)


def _volume(paths: Paths, name: str, sizes: bool) -> dict[str, Any]:
    from launcher import volumes

    return volumes.inspected(paths, volumes.find(paths, name))
