# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina squash`: an image whose layers are one; of a container, after a commit."""

from __future__ import annotations

import contextlib
import os
import sys

from launcher.cli.context import Context
from launcher.cli.ownership import become_owner
from launcher.errors import LaunchError
from launcher.typed import TYPE_CHECKING
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

if TYPE_CHECKING:
    from launcher.image.store import Store

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina squash",
    "[OPTION…] IMAGE|CONTAINER [REPOSITORY[:TAG]]",
    "make an image whose layers are one of another, or of a container",
    (
        Flag(("-n", "--layers"), "COUNT", "only so many layers, from the topmost down"),
        Flag(("-m", "--message"), "TEXT", "what for"),
        DEBUG_FLAG,
        HELP_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Squash, and print the new image's id."""
    from launcher.image.collect import remove
    from launcher.image.squashing import squash
    from launcher.image.store import Store

    if not 1 <= len(arguments.operands) <= 2:
        raise UsageError("squash", "", "name an image or a container, and a name for the result")
    reference, *name = map(os.fsdecode, arguments.operands)
    message = os.fsdecode(arguments.one("--message") or b"")
    become_owner()
    store = Store(context.paths)
    context.kept.append(store)
    count = _count(arguments.one("--layers"))
    image, passing = _image_of(store, reference, context)
    try:
        made = squash(store, image, name[0] if name else None, count, message)
    finally:
        if passing:
            with contextlib.suppress(LaunchError):
                remove(store, image, force=False)
    for note in made.notes:
        sys.stderr.write(f"lamina: squash: {note}\n")
    print(f"sha256:{made.id}")
    return 0


def _image_of(store: Store, reference: str, context: Context) -> tuple[str, bool]:
    """An image's id; or, of a container, that of an image made for the purpose: True."""
    from launcher.image import catalog
    from launcher.image.committing import Wishes, commit
    from launcher.state import State

    try:
        return catalog.find_image(store.db, reference).id, False
    except LaunchError as missing:
        with State(context.paths) as state:
            try:
                entry = state.find(reference)
            except LaunchError:
                reason = "there is neither an image nor a container of that name or id"
                raise LaunchError("squash", reference, reason) from missing
    made = commit(store, entry, Wishes()).id
    return made, not catalog.names_of(store.db, made)


def _count(text: bytes | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError("squash", text, "the number of layers has to be 1 or more")
    return int(text)
