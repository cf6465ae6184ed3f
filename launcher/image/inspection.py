# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is known of an image, in the form of docker's API (`GET /images/NAME/json`)."""

from __future__ import annotations

import os

from launcher import database
from launcher.documents import ABSENT_LIST, ABSENT_MAP, GoMap
from launcher.image import builtin, catalog, config, layout
from launcher.paths import Paths
from launcher.rfc3339 import NEVER, rfc3339
from launcher.typed import Any

__all__ = ["inspected"]


def inspected(paths: Paths, reference: str) -> dict[str, Any]:
    """The document of the image that a name or an id stands for. Raises LaunchError.

    Nothing is made of it: `busybox` is no image before it has been run or asked for.
    """
    if reference in ("host", "host:latest", builtin.HOST_ID):
        return _host()
    db = database.connect(paths)
    try:
        row = catalog.find_image(db, reference)
        names = catalog.names_of(db, row.id)
        layers = catalog.layers_of(db, row.id)
    finally:
        db.close()
    document = layout.read_json(paths, row.id, "configuration of image")
    trees = [os.fsdecode(layout.tree(paths, layer.tree)) for layer in reversed(layers)]
    return {
        "Id": "sha256:" + row.id,
        "RepoTags": names,
        "RepoDigests": [],
        "Parent": f"sha256:{row.parent}" if row.parent else "",
        "Comment": document.get("comment") or "",
        "Created": document.get("created") or rfc3339(row.created),
        "DockerVersion": "",
        "Author": document.get("author") or "",
        "Config": _config(document.get("config") or {}),
        "Architecture": document.get("architecture", ""),
        **({"Variant": document["variant"]} if document.get("variant") else {}),
        "Os": document.get("os", ""),
        "Size": sum(layer.size for layer in layers),
        "GraphDriver": _driver(trees),
        "RootFS": {"Type": "layers", "Layers": [f"sha256:{each.diff_id}" for each in layers]},
        "Metadata": {"LastTagTime": rfc3339(row.added)},
    }


def _driver(trees: list[str]) -> dict[str, Any]:
    # docker: the topmost layer is where a container's upper would be; the rest lies below it.
    data = GoMap(UpperDir=trees[0] if trees else "")
    if trees[1:]:
        data["LowerDir"] = ":".join(trees[1:])
    return {"Data": data, "Name": "lamina"}


def _config(found: dict[str, Any]) -> dict[str, Any]:
    """Docker's fields in docker's order, and then whatever else the configuration has."""
    shown: dict[str, Any] = {
        "User": "",
        "ExposedPorts": None,
        "Env": ABSENT_LIST,
        "Entrypoint": ABSENT_LIST,
        "Cmd": ABSENT_LIST,
        "Volumes": ABSENT_MAP,
        "WorkingDir": "",
        "Labels": ABSENT_MAP,
    }
    for name, value in found.items():
        is_map = name in ("ExposedPorts", "Volumes", "Labels") and isinstance(value, dict)
        if value is not None:
            shown[name] = GoMap(value) if is_map else value
    return {name: value for name, value in shown.items() if value is not None}


def _host() -> dict[str, Any]:
    image = builtin.host()
    settings = {"Env": list(image.config.env), "Cmd": list(image.config.cmd)}
    made = config.new(settings, (), 0, ())
    return {
        "Id": "sha256:" + image.id,
        "RepoTags": [image.name],
        "RepoDigests": [],
        "Parent": "",
        "Comment": "the machine's own root",
        "Created": NEVER,
        "DockerVersion": "",
        "Author": "",
        "Config": _config(settings),
        "Architecture": made["architecture"],
        "Os": "linux",
        "Size": 0,
        "GraphDriver": _driver([os.fsdecode(each) for each in image.layers]),
        "RootFS": {"Type": "layers", "Layers": []},
        "Metadata": {"LastTagTime": NEVER},
    }
