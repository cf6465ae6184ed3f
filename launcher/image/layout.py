# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the store: an OCI image layout (image-layout.md), and the unpacked layers beside it.

    ROOT/oci-layout  index.json  blobs/sha256/DIGEST
    ROOT/layers/sha256/TREE/
    ROOT/incoming/…           what is on its way in; garbage once nobody holds the lock
    ROOT/images.lock          shared by who adds, exclusive to who throws away

`index.json` is written anew from the database at every change, for tools that read the directory;
the launcher itself never reads it.
"""

from __future__ import annotations

import fcntl
import os

from launcher.errors import LaunchError
from launcher.image import config
from launcher.image.catalog import LayerRow
from launcher.paths import Paths
from launcher.typed import TYPE_CHECKING, Any, Callable, Final, Iterator, Sequence
from unionfs.light import contextlib, json

if TYPE_CHECKING:
    from unionfs.light import sqlite3

__all__ = [
    "CONFIG",
    "INDEX",
    "LAYER",
    "MANIFEST",
    "REF_NAME",
    "blob",
    "ensure",
    "hold",
    "incoming",
    "index",
    "manifest",
    "read_json",
    "sync_directory",
    "tree",
    "write_durably",
    "write_index",
]

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
# What the media type of a layer ends with (media-types.md), by its compression.
_SUFFIXES: Final = {"": "", "gzip": "+gzip", "zstd": "+zstd"}
REF_NAME: Final = "org.opencontainers.image.ref.name"


def blob(paths: Paths, digest: str) -> bytes:
    """Where a blob lies. `digest` is 64 hex digits."""
    return paths.root + b"/blobs/sha256/" + digest.encode()


def tree(paths: Paths, name: str) -> bytes:
    """Where an unpacked layer lies."""
    return paths.layers + b"/sha256/" + name.encode()


def incoming(paths: Paths) -> bytes:
    return paths.root + b"/incoming"


def ensure(paths: Paths) -> None:
    """Make the directories, and an empty index where there is none. Raises LaunchError."""
    paths.ensure()
    try:
        for path in (blob(paths, ""), tree(paths, ""), incoming(paths)):
            os.makedirs(path, 0o700, exist_ok=True)
        if not os.path.exists(paths.root + b"/index.json"):
            version = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
            write_durably(paths.root + b"/oci-layout", version)
            empty = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
            write_durably(paths.root + b"/index.json", json.dumps(empty).encode())
    except OSError as error:
        raise LaunchError("use directory", paths.root, error) from error


@contextlib.contextmanager
def hold(paths: Paths, *, alone: bool, wait: bool = True) -> Iterator[bool]:
    """Hold the store's lock: shared by who adds, `alone` by who throws away.

    Gives whether it is held, which without `wait` it may not be. It ends with the process.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    fd = os.open(paths.root + b"/images.lock", flags, 0o600)
    try:
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(fd, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def manifest(id: str, size: int, layers: Sequence[LayerRow]) -> bytes:
    """The manifest (manifest.md) of an image that came without one, or with other blobs.

    id, size -- of its configuration
    """
    described = [
        {
            "mediaType": LAYER + _SUFFIXES[layer.compression],
            "digest": f"sha256:{layer.blob}",
            "size": layer.blob_size,
        }
        for layer in layers
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": f"sha256:{id}", "size": size},
        "layers": described,
    }
    return config.encoded(document)


def index(paths: Paths, db: sqlite3.Connection) -> dict[str, Any]:
    """What index.json has to say. An image without a name is listed without the annotation that
    names it. FileNotFoundError if a manifest is missing.
    """
    manifests: list[dict[str, Any]] = []
    rows = db.execute(
        "SELECT manifest, name FROM images LEFT JOIN tags ON image = id ORDER BY name, id"
    )
    for digest, name in rows:
        entry: dict[str, Any] = {
            "mediaType": MANIFEST,
            "digest": f"sha256:{digest}",
            "size": os.stat(blob(paths, digest)).st_size,
        }
        if name is not None:
            entry["annotations"] = {REF_NAME: name}
        manifests.append(entry)
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}


def write_index(
    paths: Paths, db: sqlite3.Connection, ready: Callable[[], object] | None = None
) -> None:
    """Write index.json as the database has it; inside a transaction, so that none overtakes.

    ready -- called before it is in place: what it names is there when that returns
    """
    content = json.dumps(index(paths, db)).encode()
    write_durably(paths.root + b"/index.json", content, ready=ready)


def write_durably(
    path: bytes, content: bytes, mode: int = 0o600, ready: Callable[[], object] | None = None
) -> None:
    """A file that is there whole or not at all, and on the disc.

    ready -- called before it gets its name
    """
    fresh = b"%s.%d.new" % (path, os.getpid())
    try:
        with open(fresh, "wb", opener=_private) as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        if ready is not None:
            ready()
        os.rename(fresh, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise


def read_json(paths: Paths, digest: str, what: str) -> dict[str, Any]:
    """A blob that is a JSON object. Raises LaunchError; `what` it is, for the message."""
    try:
        with open(blob(paths, digest), "rb") as file:
            value = json.loads(file.read())
    except OSError as error:
        raise LaunchError(f"read {what}", digest[:12], error) from error
    except ValueError as error:
        raise LaunchError(f"read {what}", digest[:12], f"it is damaged: {error}") from error
    if not isinstance(value, dict):
        raise LaunchError(f"read {what}", digest[:12], "it is damaged: not an object")
    return value


def sync_directory(path: bytes) -> None:
    """Have what was renamed into a directory stay there after a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _private(path: bytes | str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
