# SPDX-License-Identifier: GPL-3.0-or-later
"""The client whose loop is timed: client.c compiled on the spot, or client_fallback.py."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bench import processes

SOURCE = Path(__file__).with_name("client.c")
FALLBACK = Path(__file__).with_name("client_fallback.py")
COMPILERS = ("cc", "gcc", "clang")


@dataclass(frozen=True, slots=True)
class Client:
    """`words` starts it; `language` is for the report."""

    words: tuple[str, ...]
    language: str

    def ns_per_operation(self, operation: str, seconds: float, **given: object) -> float:
        """Do one kind of operation with the parameters that client.c describes; raises
        processes.CommandFailed with the operation, the name and the error."""
        words = [f"op={operation}", *(f"{key}={value}" for key, value in given.items())]
        count, ns = processes.run([*self.words, *words], seconds=seconds).output.split()
        if int(count) <= 0:
            raise processes.CommandFailed(f"{operation}: there was nothing to do")
        return int(ns) / int(count)


def client(directory: Path, compilers: tuple[str, ...] = COMPILERS) -> Client:
    """Compile into `directory` with the first compiler that works."""
    program = directory / "client"
    for compiler in compilers:
        try:
            processes.run(
                [compiler, "-O2", "-o", os.fspath(program), os.fspath(SOURCE)], seconds=60
            )
            version = processes.run([compiler, "--version"], seconds=10).output.splitlines()[0]
        except processes.CommandFailed:
            continue
        return Client((os.fspath(program),), f"C ({version})")
    words = (sys.executable, "-I", "-S", os.fspath(FALLBACK))
    return Client(words, f"Python {sys.version.split()[0]}, there being no C compiler")
