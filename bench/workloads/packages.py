# SPDX-License-Identifier: GPL-3.0-or-later
"""Real work of a package manager: apt-get install of local .debs into a Debian root.

The root is the database of packages that dpkg(1) keeps, as large as that of a small Debian, and no
more: the packages are made on the spot, have no scripts, and are installed with `--root`, so that
neither a network nor a chroot is needed and every file operation is dpkg's own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench import processes
from bench.layers import EPOCH, Layout, age, text, write
from bench.results import Row
from bench.session import Session
from bench.sizes import Sizes
from bench.workloads.scenario import Scenario, Step, one_layer

GROUP = "real work"
INSTALLED = 200
FILES = 60
STATE = ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers",
         "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt",
         "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d",
         "etc/apt/trusted.gpg.d", "usr/share/doc", "tmp")  # fmt: skip


def _control(name: str) -> str:
    return (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: bench <bench@localhost>\n"
        f"Description: {name}\n"
    )


def _build(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    for directory in STATE:
        (layer / directory).mkdir(parents=True)
    status = []
    for number in range(INSTALLED):
        name = f"installed{number:03d}"
        first, *rest = _control(name).splitlines(keepends=True)
        status.append(first + "Status: install ok installed\n" + "".join(rest))
        listed = [f"/usr/share/doc/{name}/file{n}" for n in range(10)]
        write(layer / "var/lib/dpkg/info" / f"{name}.list", "\n".join(["/.", *listed, ""]).encode())
        for path in listed:
            write(layer / path.lstrip("/"), b"x\n")
    write(layer / "var/lib/dpkg/status", "\n".join(status).encode())
    write(layer / "var/lib/dpkg/available", b"")
    write(layer / "var/lib/dpkg/info/format", b"1\n")
    age(layer)
    # Instead of the machine's own configuration, which may have hooks.
    write(layout.extras / "apt.conf", b'Dir::Etc::main "none";\nDir::Etc::parts "none";\n')
    for number in range(sizes.packages):
        _package(layout.extras, f"added{number:03d}")
    return layout


def _package(extras: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(dir=extras) as content:
        root = Path(content)
        root.chmod(0o755)
        for n in range(FILES):
            write(root / "usr/share" / name / f"part{n // 20}" / f"file{n}", text(500 + n * 97, n))
        age(root)
        write(root / "DEBIAN/control", _control(name).encode())
        processes.run(
            ["dpkg-deb", "-Zgzip", "--root-owner-group", "--build", content,
             os.fspath(extras / f"{name}.deb")],
            seconds=60, env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        )  # fmt: skip


def _install(session: Session) -> float:
    root = os.fspath(session.merged)
    settings = {
        "Dir": root,
        "Dir::State::status": f"{root}/var/lib/dpkg/status",
        "Dir::Log": f"{root}/var/log/apt",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
        "DPkg::Options::": f"--root={root}",
        "DPkg::Path": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    words = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    packages = sorted(session.layout.extras.glob("*.deb"))
    finished = session.command(
        "apt-get", "-qq", "-y", *words, "install", *packages,
        env={
            "DEBIAN_FRONTEND": "noninteractive",
            "APT_CONFIG": os.fspath(session.layout.extras / "apt.conf"),
        },
    )  # fmt: skip
    return finished.ns / 1e6


def scenarios(sizes: Sizes) -> list[Scenario]:
    if not sizes.packages:
        return []
    step = Step(
        Row(GROUP, "apt-get install", "ms", f"{sizes.packages} local packages of {FILES} files"),
        _install,
    )
    return [
        Scenario(name="packages", build=_build, steps=(step,), on_disc=True,
                 needs=("apt-get", "dpkg-deb"), rehearse=True),
    ]  # fmt: skip
