# SPDX-License-Identifier: GPL-3.0-or-later
"""What a try changed in the text of files, in the unified format of diff(1)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from launcher.trial.changes import Item
from launcher.trial.host import Host
from launcher.trial.record import Trial
from launcher.trial.view import View, opened
from launcher.typed import Final

__all__ = ["text_differences"]

# difflib's time grows with the square of what differs.
_LONGEST: Final = 1 << 20


def text_differences(trial: Trial, items: list[Item]) -> Iterator[str]:
    """Lines without their ends, for each change of a file's content. Raises OSError, UnionError."""
    for number, place in enumerate(trial.places):
        mine = [item for item in items if item.place == number and _has_content(item)]
        if not mine:
            continue
        host = Host(place.lower)
        try:
            with opened(trial, number) as view:
                for item in mine:
                    yield from _of(host, view, place.mountpoint.rstrip(b"/"), item)
        finally:
            host.close()


def _has_content(item: Item) -> bool:
    if item.kind == "D":
        return item.type == "file"
    return item.type == "file" and (item.kind == "A" or bool({"content", "type"} & set(item.what)))


def _of(host: Host, view: View, top: bytes, item: Item) -> Iterator[str]:
    before = after = b""
    origin = item.base if item.kind == "D" else item.source if item.kind == "R" else item.base
    if item.kind != "A" and origin is not None:
        before = _read_host(host, origin)
    if item.kind != "D":
        node, _ = view.need(item.alias or item.path)
        with view.content(node) as fd:
            after = os.pread(fd, _LONGEST + 1, 0)
    name = os.fsdecode(top + item.path)
    old = os.fsdecode(top + (item.source or item.path))
    if max(len(before), len(after)) > _LONGEST:
        yield f"Files {old} and {name} differ (too long to be shown)"
        return
    if b"\0" in before or b"\0" in after:
        yield f"Binary files {old} and {name} differ"
        return
    from difflib import unified_diff

    yield from unified_diff(
        _lines(before),
        _lines(after),
        "/dev/null" if item.kind == "A" else old,
        "/dev/null" if item.kind == "D" else name,
        lineterm="",
    )


def _read_host(host: Host, path: bytes) -> bytes:
    try:
        directory, name = host.parent(path)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        return file.read(_LONGEST + 1)


def _lines(content: bytes) -> list[str]:
    text = content.decode("utf-8", "backslashreplace")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    elif lines:
        lines[-1] += " (no newline at the end)"
    return lines
