# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the bench."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.peers import SUBJECT, standard
from bench.sizes import PROFILES

EPILOG = """\
places in the command of a --peer:
  {lower}       colon list of the lower layers, topmost first
  {lower:=RO}   the same with =RO behind each of them
  {upper}       where the edits go      {work}  an empty directory beside it
  {merged}      the mount point

for instance:
  --peer 'kept=fuse-overlayfs -o lowerdir={lower},upperdir={upper},workdir={work} {merged}'

cold means a fresh mount over layers that the kernel has in its caches; with --drop-caches those are
emptied before each mount as well.
"""


def parser(program: str) -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(
        prog=program,
        description="Do the same work on lamina, its peers and a plain directory, and compare.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.add_argument(
        "profile",
        nargs="?",
        choices=sorted(PROFILES),
        default="quick",
        help="quick: four minutes (the default); full: hours; smoke: does everything run at all",
    )
    own.add_argument(
        "--peers",
        metavar="NAME,…",
        default="",
        help="only these of " + ", ".join(peer.name for peer in standard()),
    )
    own.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="one more, by its mount command (see below); can be repeated",
    )
    own.add_argument(
        "--subject",
        default="",
        metavar="NAME",
        help=f"the peer that the bars are for (default: {SUBJECT})",
    )
    own.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="WORD",
        help="only work with this word in its name; can be repeated",
    )
    own.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="tmpfs|ext4|loop|DIRECTORY",
        help="where the layers lie: can be repeated (default: tmpfs, then ext4)",
    )
    own.add_argument("--rounds", type=_positive, metavar="N", help="exactly so many rounds")
    own.add_argument("--seed", type=int, default=1, help="of the order of the peers")
    own.add_argument(
        "--drop-caches", action="store_true", help="empty the kernel's caches before each mount"
    )
    own.add_argument(
        "--no-install", action="store_true", help="do not install what is missing from Debian"
    )
    own.add_argument(
        "--output",
        type=Path,
        metavar="DIRECTORY",
        help="for results.json, report.md and report.html",
    )
    own.add_argument(
        "--results",
        type=Path,
        default=Path("lamina-bench"),
        metavar="DIRECTORY",
        help="without --output: make a directory named by the time in here (default: %(default)s)",
    )
    own.add_argument(
        "--against", type=Path, metavar="FILE", help="compare with the results.json of another run"
    )
    own.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="run nothing: write the report of this results.json again",
    )
    own.add_argument("--list", action="store_true", help="show the workloads and peers, and end")
    return own


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is not at least 1")
    return number
