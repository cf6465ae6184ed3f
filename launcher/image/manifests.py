# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images a bundle holds: docker's `manifest.json`, or an OCI image layout's `index.json`.

What is read here is what others wrote: every value is checked before it is used, and what does not
fit is `Damaged`, with where and why.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator

from launcher.errors import shown
from launcher.image import config, layout, reference
from launcher.image.bundle import Bundle
from launcher.image.limits import Limits
from launcher.image.tar import Damaged
from launcher.typed import Any, Final, NamedTuple

__all__ = ["Found", "FoundLayer", "found_in"]

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})\Z")
_MANIFESTS: Final = (layout.MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_INDEXES: Final = (layout.INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_LAYERS: Final = re.compile(
    r"application/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+(?:gzip|zstd))?"
    r"|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.(?:gzip|zstd))?)\Z"
)
_CONTAINERD_NAME: Final = "io.containerd.image.name"
_MOST_IMAGES: Final = 1000
_DEEPEST: Final = 4


class FoundLayer(NamedTuple):
    """A layer of an image: the file it is in, and what it has to be (None: it is not said)."""

    file: str
    size: int | None
    digest: str | None
    diff_id: str


class Found(NamedTuple):
    """An image. `manifest` is None where none came with it that can be kept as it is."""

    document: bytes
    layers: tuple[FoundLayer, ...]
    names: tuple[str, ...]
    manifest: bytes | None


def found_in(bundle: Bundle, limits: Limits) -> list[Found]:
    """The images in a bundle. Raises `Damaged`."""
    # Docker writes both since version 25; what manifest.json names is what it loads.
    if bundle.has("index.json") and bundle.has("oci-layout"):
        version = _object(bundle.content("oci-layout", limits.json), "oci-layout")
        if version.get("imageLayoutVersion") != "1.0.0":
            raise Damaged("oci-layout: a version that is not known")
        index = _object(bundle.content("index.json", limits.json), "index.json")
        found = list(_from_index(bundle, index, "index.json", limits, (), 0))
    elif bundle.has("manifest.json"):
        found = list(_from_docker(bundle, limits))
    else:
        raise Damaged("it holds no image: neither manifest.json nor index.json is in it")
    if not found:
        raise Damaged("it holds no image for this machine")
    return found


# -- docker ---------------------------------------------------------------------------------------


def _from_docker(bundle: Bundle, limits: Limits) -> Iterator[Found]:
    images = _json(bundle.content("manifest.json", limits.json), "manifest.json")
    if not isinstance(images, list) or len(images) > _MOST_IMAGES:
        raise Damaged("manifest.json: it is not a list of images")
    for image in images:
        if not isinstance(image, dict):
            raise Damaged("manifest.json: an image that is not an object")
        path = _text(image.get("Config"), "manifest.json: Config")
        document = bundle.content(path, limits.json)
        diff_ids = _diff_ids(document, path, limits)
        files = image.get("Layers") or []
        if not isinstance(files, list) or len(files) != len(diff_ids):
            raise Damaged(f"manifest.json: not as many Layers as {shown(path)} has diff ids")
        layers = tuple(
            FoundLayer(_text(file, "manifest.json: Layers"), None, None, diff_id)
            for file, diff_id in zip(files, diff_ids, strict=True)
        )
        tags = image.get("RepoTags") or []
        if not isinstance(tags, list):
            raise Damaged("manifest.json: RepoTags is not a list")
        names = tuple(_name(_text(tag, "manifest.json: RepoTags")) for tag in tags)
        yield Found(document, layers, names, None)


# -- OCI ------------------------------------------------------------------------------------------


def _from_index(
    bundle: Bundle,
    index: dict[str, Any],
    where: str,
    limits: Limits,
    names: tuple[str, ...],
    depth: int,
) -> Iterator[Found]:
    entries = index.get("manifests")
    if not isinstance(entries, list) or len(entries) > _MOST_IMAGES:
        raise Damaged(f"{where}: manifests is not a list of images")
    if depth >= _DEEPEST:
        raise Damaged(f"{where}: indexes inside indexes, too deep")
    chosen = [each for each in entries if _for_this_machine(each, where)]
    if depth and len(chosen) > 1:  # one image for several machines: the first that fits
        chosen = chosen[:1]
    by_digest: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for entry in chosen:
        digest = _digest(entry.get("digest"), where)
        named = by_digest.setdefault(digest, (entry, list(names)))[1]
        annotations = entry.get("annotations") or {}
        if not isinstance(annotations, dict):
            raise Damaged(f"{where}: annotations is not an object")
        name = annotations.get(_CONTAINERD_NAME) or annotations.get(layout.REF_NAME)
        if name is not None:
            named.append(_name(_text(name, f"{where}: name")))
    for digest, (entry, named) in by_digest.items():
        content = _blob(bundle, entry, digest, where, limits)
        what = f"manifest {digest[:12]}"
        document = _object(content, what)
        kind = document.get("mediaType") or entry.get("mediaType")
        if kind in _INDEXES:
            yield from _from_index(bundle, document, what, limits, tuple(named), depth + 1)
        elif kind in _MANIFESTS:
            yield _from_manifest(bundle, content, document, what, limits, tuple(named))
        else:
            raise Damaged(f"{where}: a manifest of the kind {shown(str(kind)[:80])}")


def _from_manifest(
    bundle: Bundle,
    content: bytes,
    manifest: dict[str, Any],
    what: str,
    limits: Limits,
    names: tuple[str, ...],
) -> Found:
    described = manifest.get("config")
    entries = manifest.get("layers")
    if not isinstance(described, dict) or not isinstance(entries, list):
        raise Damaged(f"{what}: it has no config or no layers")
    digest = _digest(described.get("digest"), f"{what}: config")
    document = _blob(bundle, described, digest, f"{what}: config", limits)
    diff_ids = _diff_ids(document, f"config {digest[:12]}", limits)
    if len(entries) != len(diff_ids):
        raise Damaged(f"{what}: not as many layers as its config has diff ids")
    layers: list[FoundLayer] = []
    for entry, diff_id in zip(entries, diff_ids, strict=True):
        if not isinstance(entry, dict):
            raise Damaged(f"{what}: a layer that is not an object")
        kind = entry.get("mediaType")
        if not isinstance(kind, str) or not _LAYERS.match(kind):
            raise Damaged(f"{what}: a layer of the kind {shown(str(kind)[:80])}")
        digest = _digest(entry.get("digest"), f"{what}: layer")
        size = _size(entry, f"{what}: layer {digest[:12]}")
        layers.append(FoundLayer(f"blobs/sha256/{digest}", size, digest, diff_id))
    # A manifest of docker's kind has no place in an OCI layout: it is written anew.
    keep = manifest.get("mediaType", layout.MANIFEST) == layout.MANIFEST
    return Found(document, tuple(layers), names, content if keep else None)


def _for_this_machine(entry: object, where: str) -> bool:
    if not isinstance(entry, dict):
        raise Damaged(f"{where}: a manifest that is not an object")
    platform = entry.get("platform")
    if platform is None:
        return True
    if not isinstance(platform, dict):
        raise Damaged(f"{where}: platform is not an object")
    here = config.architecture()
    return bool(
        platform.get("os", "linux") == "linux" and platform.get("architecture", here) == here
    )


def _blob(bundle: Bundle, entry: dict[str, Any], digest: str, where: str, limits: Limits) -> bytes:
    """A small blob, which is what its digest and size say."""
    size = _size(entry, where)
    content = bundle.content(f"blobs/sha256/{digest}", limits.json)
    if len(content) != size:
        raise Damaged(
            f"{where}: blob {digest[:12]} has {len(content)} bytes and should have {size}"
        )
    if hashlib.sha256(content).hexdigest() != digest:
        raise Damaged(f"{where}: blob {digest[:12]} has another digest than its name")
    return content


# -- values ---------------------------------------------------------------------------------------


def _diff_ids(document: bytes, where: str, limits: Limits) -> list[str]:
    """The diff ids of a configuration, which is checked to be one that can be run here."""
    where = shown(where)
    content = _object(document, where)
    try:
        config.read(content)
    except ValueError as error:
        raise Damaged(f"{where}: {error}") from error
    system = content.get("os") or "linux"
    if system != "linux":
        raise Damaged(f"{where}: it is for {shown(str(system)[:40])}")
    rootfs = content.get("rootfs") or {}
    if not isinstance(rootfs, dict):
        raise Damaged(f"{where}: rootfs is not an object")
    diff_ids = rootfs.get("diff_ids") or []
    if not isinstance(diff_ids, list) or len(diff_ids) > limits.layers:
        raise Damaged(f"{where}: diff_ids is not a list of at most {limits.layers} digests")
    return [_digest(each, f"{where}: diff_ids") for each in diff_ids]


def _name(text: str) -> str:
    found = reference.of(text)
    if found is None or found.repository == "host":
        raise Damaged(f"{shown(text[:80])}: it is no image name that can be used")
    return found.name


def _digest(value: object, where: str) -> str:
    found = _DIGEST.match(value) if isinstance(value, str) else None
    if found is None:
        raise Damaged(f"{where}: {shown(str(value)[:80])} is no sha256 digest")
    return found[1]


def _size(entry: dict[str, Any], where: str) -> int:
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
        raise Damaged(f"{where}: its size is no number of bytes")
    return size


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value or not _encodable(value):
        raise Damaged(f"{where}: it is no text")
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(content: bytes, where: str) -> dict[str, Any]:
    value = _json(content, where)
    if not isinstance(value, dict):
        raise Damaged(f"{where}: it is not an object")
    return value


def _json(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{where}: it is not JSON ({error})") from error
