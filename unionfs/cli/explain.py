# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina explain`: where an object of a mounted union comes from, and why."""

from __future__ import annotations

from unionfs.cli.arguments import DEBUG, HELP, JSON, Command, parse
from unionfs.cli.output import say, say_json, text_of
from unionfs.config import MountConfig
from unionfs.errors import UnionError, UsageError
from unionfs.fuse.mountinfo import located, mount_over, mounts
from unionfs.fuse.registry import find
from unionfs.provenance import Decision, Explanation, Sighting, explain
from unionfs.typed import Final

__all__ = ["COMMAND", "run"]

COMMAND: Final = Command(
    "lamina explain",
    "PATH",
    "Say which layer an object of a mounted union comes from, what it hides, which whiteout,\n"
    "opaque mark or redirect decided, and why it was copied up. PATH may have been deleted.",
    (JSON, DEBUG, HELP),
)


def run(words: list[bytes]) -> int:
    """The verb; returns the exit status: 1 if nothing was ever at the path."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        return 0
    if len(arguments.operands) != 1:
        reason = f"one path is needed (see {COMMAND.name} --help)"
        raise UsageError("explain", b" ".join(arguments.operands), reason)
    path = arguments.operands[0]
    config, inner = _union_of(path)
    explanation = explain(config, inner)
    if not explanation.sightings and not explanation.decisions:
        raise UnionError("explain", path, "no layer has it")
    if arguments.has(JSON.key):
        say_json(_record(explanation))
    else:
        _tell(explanation, config)
    return 0


def _union_of(path: bytes) -> tuple[MountConfig, bytes]:
    """The union that a path lies in, and the path from its top."""
    absolute = located(path)
    mounted = mount_over(absolute, mounts())
    entry = None if mounted is None else find(mounted)
    if mounted is None or entry is None:
        if mounted is not None and mounted.fstype == "fuse.lamina":
            raise UnionError("explain", path, "the layers of its union are not on record")
        raise UnionError("explain", path, "it is not in a mounted union")
    return entry.config, absolute[len(mounted.mountpoint.rstrip(b"/")) :] or b"/"


def _tell(known: Explanation, config: MountConfig) -> None:
    say(known.path, ": ", known.type or "not there")
    for sighting in known.sightings:
        say(f"  {_ROLES[sighting.role]:<12}", *_place(sighting, config))
    for decision in known.decisions:
        if not _is_told(decision, known):
            say("  because     ", *_reason(decision))
    if known.copied_up is None:
        return
    assert known.origin is not None
    layer, path = known.origin
    renamed = any(
        each.mark == "redirect" and each.path == known.path[1:] for each in known.decisions
    ) or all((each.layer, each.path) != known.origin for each in known.sightings)
    changed = f"{', '.join(known.copied_up)} changed" if known.copied_up else ""
    if renamed or changed:
        why = ": " + " and ".join(filter(None, ("renamed" if renamed else "", changed)))
    elif known.type == "directory":
        why = " for a change inside it"
    else:
        why = ", and is like it: opened for writing, linked, or changed back"
    say("  copied up   from ", layer, "/", path, why)


_ROLES: Final = {
    "shown": "comes from",
    "merged": "merged with",
    "hidden": "hides",
    "whiteout": "deleted in",
}


def _place(sighting: Sighting, config: MountConfig) -> tuple[bytes | str, ...]:
    lowers = f"lower layer {sighting.number}" if len(config.lower) > 1 else "lower layer"
    layer = lowers if sighting.number else "upper layer"
    kind = "" if sighting.role == "whiteout" else f" ({sighting.type})"
    return f"{layer} ", sighting.layer, "/" if sighting.path else "", sighting.path, kind


def _is_told(decision: Decision, known: Explanation) -> bool:
    """Whether a line above says it: the object covers, or the whiteout deletes what is below."""
    return decision.mark in ("cover", "whiteout") and any(
        (each.layer, each.path) == (decision.layer, decision.path) for each in known.sightings
    )


def _reason(decision: Decision) -> tuple[bytes | str, ...]:
    place = (decision.layer, "/", decision.path)
    if decision.mark == "redirect":
        assert decision.value is not None
        return "of a redirect: ", *place, " is called ", decision.value, " in the layers below"
    if decision.mark == "cover":
        return *place, " covers what is below it"
    if decision.mark == "index":
        return ("of the hard-link index: another name of this file was changed",)
    if decision.mark == "opaque":
        return "of an opaque mark: what is below ", *place, " is not seen"
    return "of a whiteout: ", *place


def _record(known: Explanation) -> dict[str, object]:
    return {
        "path": text_of(known.path),
        "type": known.type,
        "layers": [
            {
                "layer": text_of(each.layer),
                "number": each.number,
                "path": text_of(each.path),
                "type": each.type,
                "role": each.role,
            }
            for each in known.sightings
        ],
        "decisions": [
            {
                "mark": each.mark,
                "layer": text_of(each.layer),
                "path": text_of(each.path),
                "value": text_of(each.value),
            }
            for each in known.decisions
        ],
        "copied_up": None if known.copied_up is None else list(known.copied_up),
        "origin": None if known.origin is None else [text_of(part) for part in known.origin],
    }
