# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina prune`: removes what nobody needs: ended containers, their leavings, unused images."""

from __future__ import annotations

import sys
import time

from launcher import pruning, record
from launcher.cli.context import Context
from launcher.cli.filters import Filters, labelled, read_filters
from launcher.cli.ownership import become_owner
from launcher.cli.sizes import decimal_size
from launcher.cli.timespec import moment
from launcher.errors import LaunchError
from launcher.pruning import Pruned
from launcher.state import Entry
from launcher.volumes import Volume
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina prune",
    "[OPTION…]",
    "remove containers that have ended, what crashes left, and images that nothing uses",
    (
        HELP_FLAG,
        DEBUG_FLAG,
        Flag(("-a", "--all"), None, "images that have a name but no container, too"),
        Flag(("--volumes",), None, "anonymous volumes that no container uses, too"),
        Flag(("-f", "--force"), None, "do not ask (it never does)"),
        Flag(("--filter",), "KEY=VALUE", "only until=TIME, label=KEY[=VALUE], label!=…"),
    ),
)

_KEYS = ("until", "label", "label!")


def run(arguments: Arguments, context: Context) -> int:
    """Remove it, and say what went; returns 1 if something could not be removed."""
    if arguments.operands:
        raise UsageError("prune", arguments.operands[0], "it takes no names")
    filters = read_filters(arguments.all("--filter"), _KEYS)
    until = _until(filters)
    paths = context.paths
    failures: list[LaunchError] = []

    def container_fits(entry: Entry) -> bool:
        labels: dict[str, str] = {}
        if "label" in filters or "label!" in filters:
            found = record.glance(paths, entry.row.id).get("labels", ())
            labels = {str(name): str(value) for name, value in found}
        return entry.row.created < until and _labels_fit(filters, labels)

    def volume_fits(volume: Volume) -> bool:
        return volume.anonymous and _labels_fit(filters, dict(volume.labels))

    size = 0
    ended = pruning.prune_containers(paths, container_fits, failures.append)
    size += _say("Deleted Containers:", ended)
    left = pruning.prune_orphans(paths, failures.append)
    size += _say("Deleted remains of containers:", left)
    images, freed = _images(context, every=arguments.has("--all"), filters=filters, until=until)
    if images:
        print("Deleted Images:")
        for line in images:
            print(line)
        print()
    size += freed
    if arguments.has("--volumes"):
        if "until" in filters:
            raise UsageError("use filter", "until", "volumes know no time of last use")
        unused = pruning.prune_volumes(paths, volume_fits, failures.append)
        size += _say("Deleted Volumes:", unused)
    size += _prune_images(arguments, context, filters, until)
    print(f"Total reclaimed space: {decimal_size(size)}", flush=True)
    for error in failures:
        sys.stderr.write(f"lamina: {error}\n")
    return 1 if failures else 0


def _images(
    context: Context, *, every: bool, filters: Filters, until: int
) -> tuple[list[str], int]:
    """What went of images and of files that no image needs, and the bytes that this freed."""
    from launcher.image import layout
    from launcher.image.catalog import ImageRow
    from launcher.image.collect import prune
    from launcher.image.store import Store

    def fits(row: ImageRow) -> bool:
        labels: dict[str, str] = {}
        if "label" in filters or "label!" in filters:
            document = layout.read_json(context.paths, row.id, "configuration of image")
            labels = (document.get("config") or {}).get("Labels") or {}
        return row.created < until and _labels_fit(filters, labels)

    become_owner()
    with Store(context.paths) as store:
        removed, collected = prune(store, fits, every=every)
    lines = [f"untagged: {name}" for name in removed.untagged]
    lines += [f"deleted: sha256:{digest}" for digest in removed.deleted]
    return lines, collected.size


def _prune_images(arguments: Arguments, context: Context, filters: Filters, until: int) -> int:
    """Remove images, say which, and return the bytes that went."""
    from launcher.image import layout
    from launcher.image.catalog import ImageRow
    from launcher.image.collect import prune
    from launcher.image.store import Store

    def fits(row: ImageRow) -> bool:
        labels: dict[str, str] = {}
        if "label" in filters or "label!" in filters:
            document = layout.read_json(context.paths, row.id, "configuration of image")
            labels = (document.get("config") or {}).get("Labels") or {}
        return row.created < until and _labels_fit(filters, labels)

    become_owner()
    with Store(context.paths) as store:
        removed, collected = prune(store, fits, every=arguments.has("--all"))
    if removed.untagged or removed.deleted:
        print("Deleted Images:")
        for name in removed.untagged:
            print(f"untagged: {name}")
        for digest in removed.deleted:
            print(f"deleted: sha256:{digest}")
        print()
    return collected.size


def _say(title: str, pruned: Pruned) -> int:
    if pruned.names:
        print(title)
        for name in pruned.names:
            print(name)
        print()
    return pruned.size


def _until(filters: Filters) -> int:
    now = time.time_ns()
    return min((moment(text, now) for text in filters.get("until", ())), default=now + 1)


def _labels_fit(filters: Filters, labels: dict[str, str]) -> bool:
    without = filters.get("label!", ())
    return labelled(filters, labels) and not any(
        labelled({"label": [each]}, labels) for each in without
    )
