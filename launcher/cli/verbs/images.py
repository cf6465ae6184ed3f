# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina images`: the images there are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from launcher import database
from launcher.cli.context import Context
from launcher.cli.listing import Listing, show
from launcher.cli.sizes import decimal_size
from launcher.cli.times import ago, wall_clock
from launcher.documents import Row
from launcher.image import catalog
from launcher.image.catalog import ImageRow
from launcher.paths import Paths
from launcher.typed import Final
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError
from unionfs.light import sqlite3

COMMAND = Command(
    "lamina images",
    "[-a] [-q] [--digests] [-f FILTER]… [--no-trunc] [--format TEMPLATE] [REPOSITORY[:TAG]]",
    "list images",
    (
        Flag(("-a", "--all"), None, "all of them, which is what is shown anyway"),
        Flag(("--digests",), None, "show digests"),
        Flag(("-f", "--filter"), "FILTER", "dangling=, reference=, label=, before=, since="),
        Flag(("--format",), "TEMPLATE", "table, json, or a template like {{.ID}} {{.Size}}"),
        Flag(("--no-trunc",), None, "shorten nothing"),
        Flag(("-q", "--quiet"), None, "ids only"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)

_TITLES: Final = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
    "Containers": "CONTAINERS",
}
_COLUMNS: Final = ("Repository", "Tag", "ID", "CreatedSince", "Size")
_WITH_DIGESTS: Final = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
_NONE: Final = "<none>"

Fits = Callable[[ImageRow, str], bool]


def run(arguments: Arguments, context: Context) -> int:
    """Print the listing; returns the exit status."""
    if len(arguments.operands) > 1:
        raise UsageError("list images", "", "say one repository at most")
    db = database.connect(context.paths)
    try:
        fits = _filter(db, context.paths, arguments)
        cut = not arguments.has("--no-trunc")
        shown: list[tuple[ImageRow, str]] = []
        for image in catalog.all_images(db):
            names = catalog.names_of(db, image.id)
            shown += [(image, name) for name in names or [""] if fits(image, name)]
        if arguments.has("--quiet"):
            ids = dict.fromkeys(f"sha256:{image.id}" for image, _ in shown)
            lines = [id[7:19] if cut else id for id in ids]
            sys.stdout.write("".join(line + "\n" for line in lines))
            return 0
        columns = _WITH_DIGESTS if arguments.has("--digests") else _COLUMNS
        now = time.time_ns()
        rows = [_row(db, image, name, cut, now) for image, name in shown]
        form = os.fsdecode(arguments.one("--format") or b"")
        sys.stdout.write(show(Listing(_TITLES, columns), rows, form))
    finally:
        db.close()
    return 0


def _row(db: sqlite3.Connection, image: ImageRow, name: str, cut: bool, now: int) -> Row:
    repository, _, tag = name.rpartition(":")

    def size() -> str:
        return decimal_size(sum(layer.size for layer in catalog.layers_of(db, image.id)))

    def containers() -> str:
        count = "SELECT count(*) FROM containers WHERE image_id = ?"
        return str(db.execute(count, (image.id,)).fetchone()[0])

    return Row(
        {
            "Containers": containers,
            "CreatedAt": wall_clock(image.created),
            "CreatedSince": ago(image.created, now) if image.created else "N/A",
            "Digest": f"sha256:{image.manifest}",
            "ID": image.id[:12] if cut else f"sha256:{image.id}",
            "Repository": repository or _NONE,
            "SharedSize": "N/A",
            "Size": size,
            "Tag": tag or _NONE,
            "UniqueSize": "N/A",
            "VirtualSize": size,
        }
    )


def _filter(db: sqlite3.Connection, paths: Paths, arguments: Arguments) -> Fits:
    """Whether an image under one of its names ("" for none) is to be listed."""
    from launcher.cli.filters import any_fits, labelled, read_filters
    from launcher.image import layout, reference

    known = ("dangling", "reference", "label", "before", "since")
    filters = read_filters(arguments.all("--filter"), known)
    for value in filters.get("dangling", ()):
        if value.lower() not in ("true", "false", "1", "0"):
            raise UsageError("use filter", f"dangling={value}", "it is true or false")
    patterns = list(filters.get("reference", ()))
    wanted = os.fsdecode(arguments.operands[0]) if arguments.operands else ""
    limits = {
        key: [catalog.find_image(db, each).created for each in filters.get(key, ())]
        for key in ("before", "since")
    }

    def fits(image: ImageRow, name: str) -> bool:
        dangling = {"true": True, "1": True, "false": False, "0": False}
        if not any_fits(filters, "dangling", lambda value: dangling[value.lower()] == (not name)):
            return False
        if patterns and not any(_matches(name, each) for each in patterns):
            return False
        if wanted:
            found = reference.of(wanted)
            if not _matches(name, wanted) and (
                found is None or not _matches(name, found.repository)
            ):
                return False
        if any(image.created >= each for each in limits["before"]):
            return False
        if any(image.created <= each for each in limits["since"]):
            return False
        if "label" in filters:
            config = layout.read_json(paths, image.id, "configuration of image").get("config")
            labels = (config or {}).get("Labels") or {}
            return labelled(filters, labels)
        return True

    return fits


def _matches(name: str, pattern: str) -> bool:
    """Docker's patterns: of the whole name, or of the repository alone, `*` within a part."""
    from fnmatch import fnmatchcase

    if not name:
        return False
    repository = name.rpartition(":")[0]
    for text in (name, repository):
        parts, wanted = text.split("/"), pattern.split("/")
        if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
            return True
    return False
