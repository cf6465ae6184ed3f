# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina top`: the processes of a container, as the host sees them."""

from __future__ import annotations

import os
import sys
import time

from launcher.cli.context import Context
from launcher.cli.tables import aligned
from launcher.errors import LaunchError
from launcher.processes import Process, look, pids_of
from launcher.state import State
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, UsageError

COMMAND = Command(
    "lamina top",
    "CONTAINER [OPTION OF PS]…",
    "show the processes of a container",
    (HELP_FLAG, DEBUG_FLAG),
    ordered=True,
)
_TITLES = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
# As docker: columns are wider here than in other tables.
_NARROWEST = 20


def run(arguments: Arguments, context: Context) -> int:
    """Print the table; returns the exit status."""
    if not arguments.operands:
        raise UsageError("show processes", "", "it takes a container (see lamina top --help)")
    name, *options = (os.fsdecode(word) for word in arguments.operands)
    with State(context.paths) as state:
        entry = state.find(name)
    if entry.running is None or not entry.running.pid:
        raise LaunchError("show processes of", name, f"it does not run, it is {entry.status}")
    pids = pids_of(entry.row.id, entry.running.pid)
    if options:
        lines = _of_ps(name, options, pids)
    else:
        found = (look(pid) for pid in pids)
        lines = [list(_TITLES), *(_line(each) for each in found if each is not None)]
    sys.stdout.write(aligned(lines, narrowest=_NARROWEST))
    return 0


def _line(process: Process) -> list[str]:
    seconds = process.busy // 10**9
    return [
        _user(process.uid),
        str(process.pid),
        str(process.parent),
        str(process.share),
        _start(process.started),
        _terminal(process.terminal),
        f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
        process.command,
    ]


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _start(when: int) -> str:
    """The hour within a day, then the date, then the year (ps(1), STIME)."""
    then, now = time.localtime(when // 10**9), time.localtime()
    if (then.tm_year, then.tm_yday) == (now.tm_year, now.tm_yday):
        return time.strftime("%H:%M", then)
    return time.strftime("%b%d" if then.tm_year == now.tm_year else "%Y", then)


def _terminal(number: int) -> str:
    if not number:
        return "?"
    major, minor = os.major(number), os.minor(number)
    if 136 <= major <= 143:  # Documentation/admin-guide/devices.txt
        return f"pts/{(major - 136) * 256 + minor}"
    return f"tty{minor}" if major == 4 and minor < 64 else f"{major}:{minor}"


def _of_ps(name: str, options: list[str], pids: list[int]) -> list[list[str]]:
    """The lines of the host's ps that are about these processes."""
    import subprocess

    try:
        ended = subprocess.run(["ps", *options], capture_output=True, check=False)
    except FileNotFoundError:
        reason = "options are for ps, and there is no ps on this machine"
        raise LaunchError("show processes of", name, reason) from None
    if ended.returncode:
        reason = os.fsdecode(ended.stderr.strip()).partition("\n")[0] or "it failed"
        raise LaunchError("show processes of", name, f"ps {' '.join(options)}: {reason}")
    header, *rest = os.fsdecode(ended.stdout).splitlines()
    titles = header.split()
    if "PID" not in titles:
        reason = f"ps {' '.join(options)} prints no PID to tell its processes by"
        raise LaunchError("show processes of", name, reason)
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    lines = (line.split(None, len(titles) - 1) for line in rest)
    return [
        titles,
        *(fields for fields in lines if len(fields) > column and fields[column] in wanted),
    ]
