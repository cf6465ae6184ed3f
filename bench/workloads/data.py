# SPDX-License-Identifier: GPL-3.0-or-later
"""Data: reads of lower files, writes of new ones, through read(2), write(2) and shared mappings.

fio, in a full run, says the same in the terms of those who trust it more than any other client.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.layers import Layout, age, large
from bench.processes import CommandFailed
from bench.results import Row
from bench.session import Session
from bench.sizes import KIB, MIB, Sizes, spoken
from bench.workloads.scenario import Scenario, Step, one_layer

GROUP = "data"
PAGE = 4 * KIB
CHUNK = 128 * KIB
READ_FILES = ("sequential", "random", "mapped")
FIO_SECONDS = 2


def _build(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    for name in READ_FILES:
        large(layer / name, sizes.data_bytes)
    age(layer)
    return layout


def _build_fio(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    large(layer / "fio", sizes.data_bytes)
    age(layer)
    return layout


def _per_mib(row: Row, operation: str, name: str, size: int) -> Step:
    def action(session: Session) -> float:
        ns = session.data(operation, name, size=size, block=CHUNK)
        return ns / 1e3 * (MIB / CHUNK)

    return Step(row, action)


def _per_place(row: Row, operation: str, name: str, size: int, count: int) -> Step:
    def action(session: Session) -> float:
        return session.data(operation, name, size=size, block=PAGE, count=count) / 1e3

    return Step(row, action)


def _fio(row: Row, mode: str, block: int, engine: str) -> Step:
    """Two seconds of one fio job on the lower file, which the first write copies up."""

    def action(session: Session) -> float:
        name = session.merged / "fio"
        said = session.command(
            "fio", "--name=bench", f"--filename={name}", f"--rw={mode}", f"--bs={block}",
            f"--ioengine={engine}", f"--runtime={FIO_SECONDS}", "--time_based", "--randseed=1",
            "--invalidate=0", "--output-format=json", "--allow_file_create=0",
        )  # fmt: skip
        try:
            job = json.loads(said.output[said.output.index("{") :])["jobs"][0]
            side = job["write" if "write" in mode else "read"]
            return float(side["runtime"]) * 1e3 / int(side["total_ios"])
        except (ValueError, KeyError, IndexError, ZeroDivisionError) as error:
            raise CommandFailed(f"fio said nothing of use ({error})") from None

    return Step(row, action)


def scenarios(sizes: Sizes) -> list[Scenario]:
    size, count = sizes.data_bytes, sizes.random_ops
    whole = f"{spoken(size)}, {spoken(CHUNK)} at a time"
    steps = (
        _per_mib(Row(GROUP, "sequential read", "µs/MiB", f"a lower file of {whole}"),
                 "seqread", "sequential", size),
        _per_place(Row(GROUP, "random read", "µs", f"4 KiB anywhere in {spoken(size)}"),
                   "randread", "random", size, count),
        _per_place(Row(GROUP, "mmap read", "µs", "a byte of a page anywhere"),
                   "mmapread", "mapped", size, count),
        _per_mib(Row(GROUP, "sequential write", "µs/MiB", f"a new file of {whole}"),
                 "seqwrite", "new", size),
        _per_place(Row(GROUP, "random write", "µs", "4 KiB anywhere in the new file"),
                   "randwrite", "new", size, count),
        _per_place(Row(GROUP, "mmap write", "µs", "a byte of a page anywhere, then msync"),
                   "mmapwrite", "new", size, count),
        _per_place(Row(GROUP, "write+fsync", "µs", "4 KiB, then fsync"),
                   "fsync", "new", size, sizes.fsync_ops),
    )  # fmt: skip
    found = [
        Scenario(name="data", build=_build, steps=steps, on_disc=True, repeats=sizes.micro_repeats)
    ]
    if sizes.fio:
        jobs = tuple(
            _fio(Row("fio", f"{engine} {mode}", "µs", f"{spoken(block)} at a time, reads first"),
                 mode, block, engine)
            for engine in ("psync", "mmap")
            for mode, block in (("read", CHUNK), ("randread", PAGE), ("write", CHUNK),
                                ("randwrite", PAGE))
        )  # fmt: skip
        found.append(
            Scenario(name="fio", build=_build_fio, steps=jobs, on_disc=True, needs=("fio",))
        )
    return found
