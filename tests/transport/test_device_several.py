# SPDX-License-Identifier: GPL-3.0-or-later
"""One process and one loop that serve several unions, as a launcher of containers would."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.clock import scaled
from tests.support.daemon import environment
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, run, unmount_all

COUNT = 3


def test_several_unions_in_one_process(layers: Layers) -> None:
    (layers.lower / "shared").write_bytes(b"from below")
    merged: list[Path] = []
    paths = []
    for number in range(COUNT):
        own = layers.more(f"own{number}")
        for name in ("upper", "work", "merged"):
            (own / name).mkdir()
        merged.append(own / "merged")
        paths.append([str(layers.lower), *(str(own / n) for n in ("upper", "work", "merged"))])
    guard = ["timeout", "-s", "KILL", f"{scaled(60):g}"]
    server = subprocess.Popen(
        [*guard, sys.executable, "-m", "tests.transport.device_several", json.dumps(paths)],
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

        def work(path: Path) -> None:
            for step in range(100):
                (path / f"{step}").write_bytes(path.as_posix().encode())
                assert (path / "shared").read_bytes() == b"from below"
            (path / "shared").write_bytes(b"changed")
            assert len(list(path.iterdir())) == 101

        with ThreadPoolExecutor(COUNT) as pool:
            for future in [pool.submit(work, path) for path in merged]:
                future.result(scaled(30))
        assert (layers.lower / "shared").read_bytes() == b"from below"
        # The others go on when one is taken down.
        run("umount", str(merged[0]))
        assert (merged[1] / "99").read_bytes() == merged[1].as_posix().encode()
        for path in merged[1:]:
            run("umount", str(path))
        assert server.wait(scaled(20)) == 0
    finally:
        if server.poll() is None:
            server.kill()
        for path in merged:
            unmount_all(path)
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
    assert not any(mount_at(path) for path in merged)
