# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images there are, by which names, and of which layers: the tables of the database.

Digests are 64 hex digits. Rows point at files (`blobs`, `store`) and are entered after them; only
`store` and `collect` change them, under the store's lock.
"""

from __future__ import annotations

from launcher.errors import LaunchError
from launcher.typed import TYPE_CHECKING, NamedTuple, Sequence

if TYPE_CHECKING:
    from unionfs.light import sqlite3

__all__ = [
    "ImageRow",
    "LayerRow",
    "add_image",
    "add_name",
    "all_images",
    "find_image",
    "image",
    "known_layer",
    "layers_of",
    "names_of",
    "said_name",
]


class ImageRow(NamedTuple):
    """One image. `id` is the digest of its configuration; times in nanoseconds."""

    id: str
    manifest: str
    created: int
    added: int
    parent: str = ""


class LayerRow(NamedTuple):
    """One layer of an image.

    tree       -- the directory below ROOT/layers/sha256: its diff id, or, where what it unpacks to
                  depends on the layers below, their chain id
    size       -- bytes of the files in it; plain_size of its archive, decompressed
    blob       -- digest of the archive as it is kept, blob_size its bytes
    compression -- of the blob: "", "gzip" or "zstd"
    """

    tree: str
    diff_id: str
    size: int
    plain_size: int
    blob: str
    blob_size: int
    compression: str


def find_image(db: sqlite3.Connection, text: str) -> ImageRow:
    """The image that a name, an id or an unambiguous beginning of one stands for.

    As docker: a name wins over an id. Raises LaunchError.
    """
    # As it is kept: what nearly everybody says, found without loading the grammar.
    plain = text if ":" in text.rpartition("/")[2] else text + ":latest"
    row = _one(db, "id = (SELECT image FROM tags WHERE name = ?)", plain)
    if row is not None:
        return row
    from launcher.image import reference

    named = reference.of(text)
    if named is not None:
        # As podman: what was built or loaded here may have got localhost/ before its name.
        for name in (named.name, "localhost/" + named.name):
            row = _one(
                db,
                "id = (SELECT image FROM tags WHERE name = ?) AND (? = '' OR manifest = ?)",
                name,
                named.digest,
                named.digest[7:],
            )
            if row is not None:
                return row
        if named.digest:
            row = _one(db, "manifest = ?", named.digest[7:])
            if row is not None:
                return row
    digits = text.removeprefix("sha256:")
    if digits and len(digits) <= 64 and all(each in "0123456789abcdef" for each in digits):
        rows = _rows(db, "id >= ? AND id < ? ORDER BY id LIMIT 2", digits, digits + "g")
        if len(rows) > 1:
            raise LaunchError("find image", text, "several ids begin so")
        if rows:
            return rows[0]
        row = _one(db, "manifest = ?", digits)
        if row is not None:
            return row
    raise LaunchError("find image", text, "there is none of that name or id")


def image(db: sqlite3.Connection, id: str) -> ImageRow | None:
    """An image by its whole id, without loading the grammar of names."""
    return _one(db, "id = ?", id)


def all_images(db: sqlite3.Connection) -> list[ImageRow]:
    """Every image, the newest first."""
    return _rows(db, "1 ORDER BY created DESC, added DESC, id")


def names_of(db: sqlite3.Connection, image: str) -> list[str]:
    """The names of an image, sorted."""
    found = db.execute("SELECT name FROM tags WHERE image = ? ORDER BY name", (image,))
    return [name for (name,) in found]


def said_name(db: sqlite3.Connection, image: str, text: str) -> str:
    """The name of an image that `text` says; "" if it says an id."""
    from launcher.image import reference

    found = reference.of(text)
    names = names_of(db, image)
    candidates = () if found is None else (found.name, "localhost/" + found.name)
    return next((name for name in candidates if name in names), "")


def layers_of(db: sqlite3.Connection, image: str) -> list[LayerRow]:
    """The layers of an image, the lowest first."""
    found = db.execute(
        "SELECT tree, diff_id, size, plain_size, blob, blob_size, compression "
        "FROM image_layers JOIN layers USING (tree) WHERE image = ? ORDER BY position",
        (image,),
    )
    return [LayerRow(*row) for row in found]


def known_layer(db: sqlite3.Connection, tree: str) -> LayerRow | None:
    """A layer that some image has, by its tree."""
    found = db.execute(
        "SELECT tree, diff_id, size, plain_size, blob, blob_size, compression "
        "FROM image_layers JOIN layers USING (tree) WHERE tree = ? LIMIT 1",
        (tree,),
    ).fetchone()
    return None if found is None else LayerRow(*found)


def add_image(
    db: sqlite3.Connection, image: ImageRow, layers: Sequence[LayerRow], names: Sequence[str]
) -> None:
    """Enter an image whose files are complete, and give it names, taken from who had them.

    Inside a transaction. An image that is there already only gets the names.
    """
    if _one(db, "id = ?", image.id) is None:
        db.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?)", image)
        for position, layer in enumerate(layers):
            db.execute("INSERT OR IGNORE INTO layers VALUES (?, ?, ?, ?)", layer[:4])
            db.execute(
                "INSERT INTO image_layers VALUES (?, ?, ?, ?, ?, ?)",
                (image.id, position, layer.tree, *layer[4:]),
            )
    for name in names:
        add_name(db, name, image.id)


def add_name(db: sqlite3.Connection, name: str, image: str) -> None:
    """Give an image a name, taken from who had it."""
    db.execute("INSERT OR REPLACE INTO tags VALUES (?, ?)", (name, image))


def _rows(db: sqlite3.Connection, where: str, *values: str) -> list[ImageRow]:
    found = db.execute(
        f"SELECT id, manifest, created, added, parent FROM images WHERE {where}", values
    )
    return [ImageRow(*row) for row in found]


def _one(db: sqlite3.Connection, where: str, *values: str) -> ImageRow | None:
    rows = _rows(db, where + " LIMIT 1", *values)
    return rows[0] if rows else None
