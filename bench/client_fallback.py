# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of client.c in Python, for machines without a compiler: same parameters, same output.

It is a program, run as `python -I -S client_fallback.py op=stat …`; nothing imports it. The loops
hold only the call itself, so what Python adds is about 1 µs for each operation.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from struct import Struct
from time import monotonic_ns

DEFAULTS = {
    "op": "", "root": ".", "prefix": "f", "to": "r", "path": "", "dirs": "1", "files": "1",
    "passes": "1", "warm": "0", "clients": "1", "count": "0", "size": "0", "block": "131072",
}  # fmt: skip
LAP = Struct("qqq")  # first start, last end, operations


class Refused(Exception):
    """The work cannot be done; the text is what standard error shows."""


def stat(name: str, other: str) -> None:
    os.lstat(name)


def missing(name: str, other: str) -> None:
    try:
        os.lstat(name)
    except FileNotFoundError:
        return
    raise Refused(f"{name}: exists")


def open_read(name: str, other: str) -> None:
    descriptor = os.open(name, os.O_RDONLY)
    os.read(descriptor, 4096)
    os.close(descriptor)


def create(name: str, other: str) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def append(name: str, other: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"x")
    os.close(descriptor)


def truncate(name: str, other: str) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_TRUNC))


def make_directory(name: str, other: str) -> None:
    os.mkdir(name, 0o755)


def make_symlink(name: str, other: str) -> None:
    os.symlink(other, name)


def chmod(name: str, other: str) -> None:
    os.chmod(name, 0o600)


def unlink(name: str, other: str) -> None:
    os.unlink(name)


NAME_OPERATIONS: dict[str, Callable[[str, str], None]] = {
    "stat": stat,
    "missing": missing,
    "open": open_read,
    "create": create,
    "append": append,
    "truncate": truncate,
    "mkdir": make_directory,
    "symlink": make_symlink,
    "chmod": chmod,
    "rename": os.rename,
    "unlink": unlink,
}


def list_directory(name: str, with_stat: bool) -> int:
    seen = 0
    with os.scandir(name) as entries:
        for entry in entries:
            seen += 1
            if with_stat:
                entry.stat(follow_symlinks=False)
    return seen


def tree_loop(given: dict[str, str], mine: int, wait: Callable[[], None]) -> tuple[int, int, int]:
    operation = given["op"]
    dirs, files, clients = int(given["dirs"]), int(given["files"]), int(given["clients"])
    passes, warm = int(given["passes"]), int(given["warm"])
    seen = start = 0
    if operation in ("list", "walk"):
        names = [f"d{d:03d}" for d in range(mine, dirs, clients)]
        for turn in range(-warm, passes):
            if turn == 0:
                wait()
                seen, start = 0, monotonic_ns()
            for name in names:
                seen += list_directory(name, operation == "walk")
        return start, monotonic_ns(), seen
    if operation not in NAME_OPERATIONS:
        raise Refused("no such operation")
    act = NAME_OPERATIONS[operation]
    pairs = [
        (f"d{d:03d}/{given['prefix']}{f:05d}", f"d{d:03d}/{given['to']}{f:05d}")
        for d in range(mine, dirs, clients)
        for f in range(files)
    ]
    for turn in range(-warm, passes):
        if turn == 0:
            wait()
            start = monotonic_ns()
        for name, other in pairs:
            act(name, other)
    return start, monotonic_ns(), passes * len(pairs)


def several(given: dict[str, str]) -> tuple[int, int, int]:
    clients = int(given["clients"])
    laps = mmap.mmap(-1, clients * LAP.size)
    gate_out, gate_in = os.pipe()

    def wait() -> None:
        os.close(gate_in)
        os.read(gate_out, 1)  # end of file for all of them at once: they start

    for number in range(clients):
        if os.fork() == 0:
            try:
                LAP.pack_into(laps, number * LAP.size, *tree_loop(given, number, wait))
            except (OSError, Refused) as error:
                complain(given["op"], error)
                os._exit(1)
            os._exit(0)
    os.close(gate_out)
    os.close(gate_in)
    if any([os.wait()[1] for _ in range(clients)]):
        raise SystemExit(1)
    parts = [LAP.unpack_from(laps, number * LAP.size) for number in range(clients)]
    return min(p[0] for p in parts), max(p[1] for p in parts), sum(p[2] for p in parts)


def places(count: int, block: int, blocks: int) -> list[int]:
    """The same pseudo-random places as in client.c (xorshift)."""
    dice, mask, found = 88172645463325252, (1 << 64) - 1, []
    for _ in range(count):
        dice ^= (dice << 13) & mask
        dice ^= dice >> 7
        dice ^= (dice << 17) & mask
        found.append(dice % blocks * block)
    return found


def data_loop(given: dict[str, str]) -> tuple[int, int, int]:
    operation, path = given["op"], given["path"]
    size, block, count = int(given["size"]), int(given["block"]), int(given["count"])
    if size < block:
        raise Refused(f"{path}: size is less than block")
    writes = operation in ("seqwrite", "randwrite", "mmapwrite", "fsync")
    data, at, done = b"x" * block, places(count, block, size // block), count
    buffer = [bytearray(block)]
    start = monotonic_ns()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT if writes else os.O_RDONLY, 0o644)
    moved = block
    if operation in ("seqread", "seqwrite"):
        done = size // block
        for _ in range(done):
            moved = os.write(descriptor, data) if writes else os.readv(descriptor, buffer)
    elif operation in ("randread", "randwrite", "fsync"):
        for place in at:
            if operation == "randread":
                moved = os.preadv(descriptor, buffer, place)
            else:
                moved = os.pwrite(descriptor, data, place)
                if operation == "fsync":
                    os.fsync(descriptor)
    elif operation in ("mmapread", "mmapwrite"):
        access = mmap.ACCESS_WRITE if writes else mmap.ACCESS_READ
        with mmap.mmap(descriptor, size, access=access) as view:
            for place in at:
                if writes:
                    view[place] = 120
                else:
                    view[place]
            if writes:
                view.flush()
    else:
        raise Refused(f"{path}: no such operation")
    os.close(descriptor)
    end = monotonic_ns()
    if moved != block:
        raise Refused(f"{path}: short transfer")
    return start, end, done


def complain(operation: str, error: Exception) -> None:
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        text = f"{error.filename or ''}: {os.strerror(error.errno)}"
    print(f"{operation} {text}", file=sys.stderr, flush=True)


def main(words: list[str]) -> int:
    given = dict(DEFAULTS)
    for word in words:
        key, _, value = word.partition("=")
        if key not in given:
            complain(given["op"], Refused(f"{word}: no such parameter"))
            return 1
        given[key] = value
    try:
        if given["path"]:
            start, end, done = data_loop(given)
        else:
            os.chdir(given["root"])
            if int(given["clients"]) > 1:
                start, end, done = several(given)
            else:
                start, end, done = tree_loop(given, 0, lambda: None)
    except (OSError, Refused) as error:
        complain(given["op"], error)
        return 1
    print(done, end - start)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
