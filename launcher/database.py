# SPDX-License-Identifier: GPL-3.0-or-later
"""The one SQLite file: how it is opened, and the tables in it.

WAL, so that readers never wait for a writer; a writer waits for another up to `_PATIENCE`. What is
said of containers is in `state`, of images in `image.catalog`. A row is written after the files
that it points at, and taken out before they are: a crash leaves garbage, never a row without files.
"""

from __future__ import annotations

from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.typed import Final
from unionfs.light import sqlite3

__all__ = ["connect"]

_PATIENCE: Final = 30.0  # seconds

# One entry for each version of the schema; a file of version N has had the first N run.
_MIGRATIONS: Final = (
    """
    CREATE TABLE containers (
        id        TEXT PRIMARY KEY,
        name      TEXT NOT NULL UNIQUE,
        image     TEXT NOT NULL,
        image_id  TEXT NOT NULL,
        created   INTEGER NOT NULL,
        started   INTEGER NOT NULL DEFAULT 0,
        finished  INTEGER NOT NULL DEFAULT 0,
        exit_code INTEGER NOT NULL DEFAULT 0,
        oom       INTEGER NOT NULL DEFAULT 0,
        restarts  INTEGER NOT NULL DEFAULT 0,
        stopped   INTEGER NOT NULL DEFAULT 0,
        removing  INTEGER NOT NULL DEFAULT 0,
        error     TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX containers_by_image ON containers (image_id);
    """,
    # id, manifest and blob are digests in hex; tree is the name of a directory of ROOT/layers.
    """
    CREATE TABLE images (
        id       TEXT PRIMARY KEY,
        manifest TEXT NOT NULL,
        created  INTEGER NOT NULL,
        added    INTEGER NOT NULL,
        parent   TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE TABLE tags (
        name  TEXT PRIMARY KEY,
        image TEXT NOT NULL REFERENCES images (id)
    ) STRICT;
    CREATE INDEX tags_by_image ON tags (image);
    CREATE TABLE layers (
        tree       TEXT PRIMARY KEY,
        diff_id    TEXT NOT NULL,
        size       INTEGER NOT NULL,
        plain_size INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE image_layers (
        image       TEXT NOT NULL REFERENCES images (id),
        position    INTEGER NOT NULL,
        tree        TEXT NOT NULL REFERENCES layers (tree),
        blob        TEXT NOT NULL,
        blob_size   INTEGER NOT NULL,
        compression TEXT NOT NULL,
        PRIMARY KEY (image, position)
    ) STRICT;
    CREATE INDEX image_layers_by_tree ON image_layers (tree);
    """,
)


def connect(paths: Paths, *, durable: bool = False) -> sqlite3.Connection:
    """Open the database, made or brought up to date where need be; the caller closes it.

    Every statement is a transaction of its own unless BEGIN is said. `durable`: a commit is on disc
    when it returns; otherwise a loss of power may take the last ones back, a crash may not.
    Raises LaunchError where it cannot be opened or is of a later version.
    """
    paths.ensure()
    try:
        connection = sqlite3.connect(paths.database, timeout=_PATIENCE, isolation_level=None)
    except sqlite3.Error as error:
        raise LaunchError("open", paths.database, str(error)) from error
    try:
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection, paths)
    except sqlite3.Error as error:
        connection.close()
        raise LaunchError("use", paths.database, str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, paths: Paths) -> None:
    if _version(connection) == len(_MIGRATIONS):
        return
    connection.execute("PRAGMA journal_mode = WAL")
    # Two at once take turns, and the second finds the work done.
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > len(_MIGRATIONS):
            reason = f"it is of version {version}; this lamina knows {len(_MIGRATIONS)}"
            raise LaunchError("use", paths.database, reason)
        for script in _MIGRATIONS[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
