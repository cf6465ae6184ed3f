# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives as an attacker might write them: valid ones of every kind, then bent at random.

    python -m tests.image.hostile --minutes 60 [--seed N]

runs for so long in a directory of its own on /dev/shm, and prints the seed of whatever broke a
rule: what is refused is refused in one line and leaves the store as it was; what is taken is whole
(`fsck` says so); nothing outside of the store changes; nothing else is ever raised.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from launcher.errors import LaunchError
from launcher.image import tar
from launcher.image.check import check
from launcher.image.importing import import_image
from launcher.image.loading import load
from launcher.image.store import Store
from launcher.image.tar import Entry
from launcher.image.tarwrite import Writer
from launcher.paths import Paths

__all__ = ["Arena", "attack"]

_NAMES: Final = (
    b"a",
    b"b",
    b"a/b",
    b"a/b/c",
    b"./a",
    b"a/",
    b".",
    b"./",
    b"..",
    b"../x",
    b"a/../../x",
    b"/a",
    b"//a",
    b"a//b",
    b"link/x",
    b"link",
    b"out/x",
    b"out",
    b".wh.a",
    b"a/.wh.b",
    b".wh..wh..opq",
    b"a/.wh..wh..opq",
    b".wh..wh.plnk",
    b".wh.",
    b".wh...",
    b".wh.a/b",
    b"x" * 255,
    b"x" * 256,
    b"d/" * 300 + b"e",
    b"d/" * 2100 + b"e",
    b"\xff\xfe",
    b"new\nline",
)
_LINKS: Final = (b"a", b"b", b"..", b"../../outside", b"/etc/passwd", b"a/b", b"link", b"out", b"")
_XATTRS: Final = (
    (b"user.x", b"\0\xff"),
    (b"security.capability", bytes.fromhex("0100000200040000000000000000000000000000")),
    (b"trusted.overlay.opaque", b"y"),
    (b"user.overlay.redirect", b"/etc"),
    (b"trusted.overlay.whiteout", b""),
    (b"user.fuseoverlayfs.opaque", b"y"),
    (b"nonsense", b"1"),
    (b"trusted.x", b"2"),
    (b"user." + b"n" * 300, b"3"),
)
_KINDS: Final = (
    tar.FILE,
    tar.FILE,
    tar.DIRECTORY,
    tar.DIRECTORY,
    tar.SYMLINK,
    tar.HARD_LINK,
    tar.CHARACTER_DEVICE,
    tar.BLOCK_DEVICE,
    tar.FIFO,
)


class Arena:
    """A store in a directory, and beside it what must not change."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.paths = Paths(os.fsencode(place / "root"), os.fsencode(place / "run"))
        self.outside = place / "outside"
        self.outside.mkdir()
        (self.outside / "file").write_bytes(b"untouched")
        with Store(self.paths) as store, store.adding():
            pass

    def state(self) -> tuple[object, ...]:
        """All that an outsider could change."""
        root = self.place / "root"
        with Store(self.paths) as store:
            tables = [
                store.db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
                for table in ("images", "tags", "layers", "image_layers")
            ]
        return (
            tables,
            (root / "index.json").read_bytes(),
            sorted(os.listdir(root / "blobs/sha256")),
            sorted(os.listdir(root / "layers/sha256")),
            sorted(os.listdir(root / "incoming")),
            self._beside(),
        )

    def _beside(self) -> tuple[object, ...]:
        found = (self.outside / "file").stat()
        return (
            (self.outside / "file").read_bytes(),
            found[:7],
            found.st_mtime_ns,
            sorted(os.listdir(self.outside)),
            sorted(os.listdir(self.place)),
            sorted(name for name in os.listdir(self.place / "root") if ".db" not in name),
        )


def attack(arena: Arena, chance: random.Random) -> str:
    """One archive. What became of it: "taken" or the reason for which it was refused.

    AssertionError where a rule was broken.
    """
    make = chance.choice((_layer, _docker, _docker, _oci, _oci))
    data = make(chance)
    if chance.random() < 0.5:
        data = _bent(chance, data)
    if chance.random() < 0.1:
        data = gzip.compress(data, 1, mtime=0)
        if chance.random() < 0.5:
            data = _bent(chance, data)
    before = arena.state()
    source = arena.place / "source.tar"
    source.write_bytes(data)
    before = (*before[:-1], arena._beside())
    try:
        if make is _layer:
            import_image(arena.paths, os.fsencode(source), "imported")
        else:
            load(arena.paths, os.fsencode(source))
    except LaunchError as error:
        text = str(error)
        assert text.isprintable(), f"more than a line: {text!r}"
        assert text.startswith(("cannot import ", "cannot load ")), text
        after = arena.state()
        assert after == before, f"the store is another one: {text}"
        return error.reason
    with Store(arena.paths) as store:
        assert store.db.execute("SELECT count(*) FROM images").fetchone() != (0,)
        faults = list(check(store, repair=False))
        assert not faults, faults
        found = arena._beside()
        assert found == before[-1]
        with store.change():
            for table in ("tags", "image_layers", "images", "layers"):
                store.db.execute(f"DELETE FROM {table}")
    for each in ("blobs/sha256", "layers/sha256"):
        for name in os.listdir(arena.place / "root" / each):
            path = arena.place / "root" / each / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return "taken"


# -- what is bent ---------------------------------------------------------------------------------


def _bent(chance: random.Random, data: bytes) -> bytes:
    """Bits turned, pieces cut out, doubled or overwritten, headers above all."""
    bent = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not bent:
            break
        at = chance.randrange(len(bent))
        if chance.random() < 0.7:  # a header
            at = at // 512 * 512 + chance.choice((0, 100, 124, 136, 148, 156, 157, 257, 345, 386))
            at = min(at + chance.randrange(8), len(bent) - 1)
        match chance.randrange(6):
            case 0:
                bent[at] ^= 1 << chance.randrange(8)
            case 1:
                del bent[at:]
            case 2:
                del bent[at : at + chance.choice((1, 511, 512, 1024))]
            case 3:
                bent[at:at] = bent[at : at + chance.choice((1, 512, 1024))]
            case 4:
                bent[at : at + 12] = chance.choice(
                    (b"7" * 12, b"\xff" * 12, b"\x80" + b"\xff" * 11)
                )
            case _:
                bent[at : at + 4] = chance.randbytes(4)
        if chance.random() < 0.7:
            _sign(bent, at // 512 * 512)
    return bytes(bent)


def _sign(data: bytearray, at: int) -> None:
    """A header whose checksum is right again, so that it is looked at further."""
    header = data[at : at + 512]
    if len(header) == 512 and header[257:262] == b"ustar":
        header[148:156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(header)


# -- what is valid at first -----------------------------------------------------------------------


def _layer(chance: random.Random) -> bytes:
    pieces: list[bytes] = []
    writer = Writer(pieces.append)
    polite = chance.random() < 0.4
    for _ in range(chance.randint(0, 8)):
        _add(chance, writer, polite)
    if chance.random() < 0.95:
        writer.close()
    return b"".join(pieces)


def _add(chance: random.Random, writer: Writer, polite: bool) -> None:
    names = _NAMES[:6] if polite else _NAMES
    kind = chance.choice(_KINDS)
    content = chance.randbytes(chance.choice((0, 0, 10, 511, 512, 70_000)))
    xattrs = tuple(
        sorted(chance.sample(_XATTRS[:2] if polite else _XATTRS, chance.choice((0, 0, 1))))
    )
    entry = Entry(
        chance.choice(names),
        kind,
        chance.choice((0o644, 0o755, 0o4711, 0o1777, 0)),
        chance.choice((0, 0, 1000, 2_097_152, 4_294_967_294)),
        chance.choice((0, 0, 1000, 3_000_000)),
        0,
        chance.choice((0, 1, 10**18 + 1, -5, 2**62)),
        chance.choice(_LINKS[:2] if polite else _LINKS)
        if kind in (tar.SYMLINK, tar.HARD_LINK)
        else b"",
        chance.choice(((1, 3), (0, 0), (4095, 1 << 19))) if 0x33 <= kind <= 0x34 else (0, 0),
        xattrs,
    )
    if kind != tar.FILE:
        writer.add(entry)
    elif content and chance.random() < 0.2:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            size = len(content) + chance.choice((0, 1 << 20, 1 << 40))
            pieces = ((chance.choice((0, 0, 5)), len(content) // 2),)
            writer.add(entry._replace(size=size, sparse=pieces), file.fileno())
    else:
        writer.add_bytes(entry, content)


def _document(chance: random.Random, diff_ids: list[str]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "architecture": "amd64",
        "os": chance.choice(("linux",) * 6 + ("windows",)),
        "config": {"Cmd": ["sh"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{each}" for each in diff_ids]},
    }
    if chance.random() < 0.3:
        _spoil(chance, document)
    return document


def _spoil(chance: random.Random, value: Any) -> None:
    """Somewhere in a document, another value than belongs there."""
    wrong: tuple[Any, ...] = (
        None,
        7,
        -1,
        10**30,
        1.5,
        True,
        "",
        "x",
        "\0",
        "\ud800",
        [],
        [[]],
        {},
        {"a": {}},
        "é" * 9,
    )
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = chance.choice(keys)
    if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.7:
        _spoil(chance, value[key])
    elif chance.random() < 0.2:
        del value[key]
    else:
        value[key] = chance.choice(wrong)


def _docker(chance: random.Random) -> bytes:
    pieces: list[bytes] = []
    writer = Writer(pieces.append)
    images: list[Any] = []
    for number in range(chance.choice((1, 1, 2))):
        layers = [_layer(chance) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
        files = [f"{number}-{at}/layer.tar" for at in range(len(layers))]
        for name, data in zip(files, layers, strict=True):
            _put(chance, writer, name, data)
        document = _document(chance, [_digest(each) for each in layers])
        _put(chance, writer, f"{number}.json", json.dumps(document).encode())
        tags = chance.choice((["one:two"], ["a/b/c:1", "host"], None, ["UPPER"], ["docker.io/x"]))
        images.append({"Config": f"{number}.json", "RepoTags": tags, "Layers": files})
    if chance.random() < 0.3:
        _spoil(chance, images)
    _put(chance, writer, "manifest.json", json.dumps(images).encode())
    writer.close()
    return b"".join(pieces)


def _put(chance: random.Random, writer: Writer, name: str, data: bytes) -> None:
    if chance.random() < 0.02:
        link = chance.choice((name, "../" * 9 + "etc/passwd", "/etc/passwd", "manifest.json"))
        writer.add(Entry(name.encode(), tar.SYMLINK, link=link.encode()))
    elif chance.random() < 0.98:
        writer.add_bytes(Entry(name.encode(), tar.FILE), data)


def _oci(chance: random.Random) -> bytes:
    pieces: list[bytes] = []
    writer = Writer(pieces.append)
    entries: list[Any] = []

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = _digest(data)
        _put(chance, writer, f"blobs/sha256/{digest}", data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    for _ in range(chance.choice((1, 1, 2))):
        plain = [_layer(chance) for _ in range(chance.choice((0, 1, 1, 2)))]
        document = _document(chance, [_digest(each) for each in plain])
        described = []
        for data in plain:
            suffix = chance.choice(("", "+gzip"))
            kept = gzip.compress(data, 1, mtime=0) if suffix else data
            if chance.random() < 0.1:
                kept = _bent(chance, kept)
            described.append(blob(kept, f"application/vnd.oci.image.layer.v1.tar{suffix}"))
        configuration = blob(
            json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json"
        )
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": configuration,
            "layers": described,
        }
        if chance.random() < 0.3:
            _spoil(chance, manifest)
        entry = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        if chance.random() < 0.7:
            entry["annotations"] = {"org.opencontainers.image.ref.name": "one:two"}
        entries.append(entry)
    index: dict[str, Any] = {"schemaVersion": 2, "manifests": entries}
    if chance.random() < 0.3:
        _spoil(chance, index)
    _put(chance, writer, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    _put(chance, writer, "index.json", json.dumps(index).encode())
    writer.close()
    return b"".join(pieces)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- for an hour ----------------------------------------------------------------------------------


def main() -> int:
    """Attack until the time is over; the exit status is 1 if a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.image.hostile", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="run this one only")
    parser.add_argument("--first", type=int, default=time.time_ns() % 10**9 * 1000)
    wanted = parser.parse_args()
    os.environ["LAMINA_MAX_LAYER_SIZE"] = "8m"
    end = time.monotonic() + 60 * wanted.minutes
    seed = wanted.first if wanted.seed is None else wanted.seed
    count = taken = 0
    reasons: dict[str, int] = {}
    broken = 0
    place = Path(tempfile.mkdtemp(prefix="lamina-hostile-", dir="/dev/shm"))
    try:
        arena = Arena(place)
        while time.monotonic() < end and broken < 20:
            try:
                became = attack(arena, random.Random(seed))
            except Exception as error:
                broken += 1
                print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
                shutil.rmtree(place)
                place.mkdir()
                arena = Arena(place)
                became = "broken"
            count += 1
            taken += became == "taken"
            words = " ".join(became.split()[-5:])
            reasons[words] = reasons.get(words, 0) + 1
            if count % 10_000 == 0:
                print(f"{count} archives, {taken} taken, {broken} broken", flush=True)
            if wanted.seed is not None:
                print(became)
                break
            seed += 1
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"{count} archives from seed {wanted.first}: {taken} taken, {broken} broken")
    for words, times in sorted(reasons.items(), key=lambda each: -each[1])[:25]:
        print(f"{times:8} … {words}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
