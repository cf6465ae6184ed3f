# SPDX-License-Identifier: GPL-3.0-or-later
"""Real work of compilers and installers: bytecode, C, a wheel."""

from __future__ import annotations

import base64
import hashlib
import sys
import sysconfig
import zipfile
from itertools import islice
from pathlib import Path

from bench.layers import Layout, age, text, write
from bench.results import Row
from bench.session import Session
from bench.sizes import Sizes
from bench.workloads.scenario import Scenario, Step, one_layer

GROUP = "real work"
PACKAGES = ("asyncio", "email", "unittest", "json", "http", "logging", "importlib", "xml", "html",
            "concurrent", "multiprocessing", "urllib", "encodings")  # fmt: skip
HEADERS = 40
INCLUDES = 12
WHEEL = "benchwheel-1.0-py3-none-any.whl"


def _build_python(base: Path, sizes: Sizes) -> Layout:
    """Packages of this Python's own library, as they are."""
    layer, layout = one_layer(base)
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = (
        source for package in PACKAGES for source in sorted((library / package).rglob("*.py"))
    )
    for source in islice(sources, sizes.python_files):
        write(layer / "python" / source.relative_to(library), source.read_bytes())
    age(layer)
    return layout


def _build_c(base: Path, sizes: Sizes) -> Layout:
    """A project of small units that include headers found last of three include directories."""
    layer, layout = one_layer(base)
    project = layer / "project"
    for directory in ("first", "second", "include"):
        (project / directory).mkdir(parents=True)
    for h in range(HEADERS):
        lines = [f"#ifndef H{h}", f"#define H{h}"]
        if h:
            lines.append(f'#include "h{h // 2}.h"')
        lines += [f"struct s{h}_{n} {{ int a[{n + 1}]; struct s{h}_{n} *b; }};" for n in range(9)]
        lines += [f"static inline int f{h}(int x) {{ return x * {h + 3} + {h}; }}", "#endif"]
        write(project / "include" / f"h{h}.h", "\n".join(lines).encode())
    for unit in range(sizes.c_units):
        used = [(unit * 7 + n * 3) % HEADERS for n in range(INCLUDES)]
        lines = [f'#include "h{h}.h"' for h in used]
        for n in range(40):
            body = " + ".join(f"f{h}(x + {n})" for h in used)
            lines.append(f"int u{unit}_{n}(int x) {{ int y = {body}; return y ^ {n}; }}")
        write(project / f"unit{unit}.c", "\n".join(lines).encode())
    units = " ".join(f"unit{unit}.o" for unit in range(sizes.c_units))
    calls = " + ".join(f"u{unit}_0(1)" for unit in range(sizes.c_units))
    declared = "\n".join(f"int u{unit}_0(int);" for unit in range(sizes.c_units))
    write(project / "main.c", f"{declared}\nint main(void) {{ return ({calls}) & 1; }}\n".encode())
    makefile = (
        "CFLAGS = -O1 -Ifirst -Isecond -Iinclude\n"
        f"program: main.o {units}\n\t$(CC) -o $@ $^\n"
        "%.o: %.c\n\t$(CC) $(CFLAGS) -MMD -c -o $@ $<\n"
    )
    write(project / "Makefile", makefile.encode())
    age(layer)
    return layout


def _build_wheel(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    (layer / "site").mkdir()
    age(layer)
    info = "benchwheel-1.0.dist-info"
    members = {
        f"benchwheel/part{n // 25}/module{n}.py": b"# " + text(300 + n * 37 % 9000, n).replace(
            b"\n", b"\n# ") + b"\n"
        for n in range(sizes.wheel_modules)
    }  # fmt: skip
    members[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: benchwheel\nVersion: 1.0\n"
    members[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(
        f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in members.items()
    )
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(layout.extras / WHEEL, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in members.items():
            wheel.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    return layout


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _compileall(session: Session) -> float:
    tree = session.merged / "python"
    return session.command(sys.executable, "-I", "-m", "compileall", "-q", tree).ns / 1e6


def _make(session: Session) -> float:
    finished = session.command("make", "-s", "-j2", "program", cwd="project")
    return finished.ns / 1e6


def _pip(session: Session) -> float:
    finished = session.command(
        sys.executable, "-I", "-m", "pip", "install", "-q", "--no-index", "--no-deps",
        "--no-compile", "--disable-pip-version-check", "--root-user-action=ignore",
        "--no-cache-dir", "--target", session.merged / "site" / "packages",
        session.layout.extras / WHEEL,
        env={"TMPDIR": str(session.merged / "site"), "PIP_CONFIG_FILE": "/dev/null"},
    )  # fmt: skip
    return finished.ns / 1e6


def scenarios(sizes: Sizes) -> list[Scenario]:
    return [
        Scenario(
            name="builds: compileall",
            build=_build_python,
            steps=(Step(Row(GROUP, "compileall", "ms", f"{sizes.python_files} modules of Python's "
                            "library"), _compileall),),
            rehearse=True,
        ),
        Scenario(
            name="builds: C",
            build=_build_c,
            steps=(Step(Row(GROUP, "C build", "ms", f"make -j2, {sizes.c_units} units, {HEADERS} "
                            "headers"), _make),),
            needs=("make", "cc"),
            rehearse=True,
        ),
        Scenario(
            name="builds: pip",
            build=_build_wheel,
            steps=(Step(Row(GROUP, "pip install", "ms", f"a local wheel of {sizes.wheel_modules} "
                            "modules, without bytecode"), _pip),),
            modules=("pip",),
            rehearse=True,
        ),
    ]  # fmt: skip
