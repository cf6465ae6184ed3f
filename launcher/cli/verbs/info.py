# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina info`: what there is, where it is kept, and what the machine can do."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.cli.sizes import binary_size
from launcher.documents import Absent, json_text
from launcher.information import info
from launcher.typed import Any
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina info",
    "[-f TEMPLATE]",
    "show what there is, where it is kept, and what the machine can do",
    (
        Flag(("-f", "--format"), "TEMPLATE", "json, or a template like {{.DockerRootDir}}"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Print it; returns the exit status."""
    if arguments.operands:
        raise UsageError("show information", "", "it takes no names")
    form = os.fsdecode(arguments.one("--format") or b"")
    document = info(context.paths)
    if form == "json":
        sys.stdout.write(json_text(document) + "\n")
    elif form:
        from launcher.cli.template.evaluation import render
        from launcher.cli.template.parser import parse

        sys.stdout.write(render(parse(form), document) + "\n")
    else:
        sys.stdout.write(_text(document))
        sys.stdout.flush()
        warnings = document["Warnings"]
        if not isinstance(warnings, Absent):
            sys.stderr.write("".join(f"{line}\n" for line in warnings))
    return 0


def _text(found: dict[str, Any]) -> str:
    controllers = found["CgroupControllers"]
    by_version = ", ".join(f"{name} (v{controllers[name]})" for name in sorted(controllers))
    lines = [
        ("Containers", found["Containers"]),
        (" Running", found["ContainersRunning"]),
        (" Paused", found["ContainersPaused"]),
        (" Stopped", found["ContainersStopped"]),
        ("Images", found["Images"]),
        ("Version", found["ServerVersion"]),
        ("Storage Driver", found["Driver"]),
        *((f" {name}", value) for name, value in found["DriverStatus"]),
        ("Logging Driver", found["LoggingDriver"]),
        ("Cgroup Driver", found["CgroupDriver"]),
        ("Cgroup Version", found["CgroupVersion"]),
        (" Controllers", by_version),
        ("Security Options:", None),
        *((f" {each.removeprefix('name=')}", None) for each in found["SecurityOptions"]),
        ("Rootless", str(found["Rootless"]).lower()),
        ("Kernel Version", found["KernelVersion"]),
        ("Operating System", found["OperatingSystem"]),
        ("OSType", found["OSType"]),
        ("Architecture", found["Architecture"]),
        ("CPUs", found["NCPU"]),
        ("Total Memory", binary_size(found["MemTotal"])),
        ("Name", found["Name"]),
        ("Root Dir", found["DockerRootDir"]),
        ("Run Dir", found["RunDir"]),
    ]
    return "".join(f" {name}{'' if value is None else f': {value}'}\n" for name, value in lines)
