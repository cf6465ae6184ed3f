# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench`: plan, run, report. Exit status 2 for usage, 1 for failure, 130 if stopped."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from bench import environment, peers, workloads
from bench.ground import NoGround
from bench.options import parser
from bench.peers import BadPeer, Peer
from bench.progress import Progress, clock
from bench.report import write
from bench.results import BadResults, PeerFacts, Results
from bench.run import Interrupted, Plan, Run, interruptible
from bench.sizes import PROFILES
from bench.workloads.scenario import Scenario

DEFAULT_GROUNDS = ("tmpfs", "ext4")
STOPPED = 130


def main(words: Sequence[str] | None = None, program: str = "bench") -> int:
    options = parser(program).parse_args(words)
    try:
        return _do(options)
    except (BadPeer, workloads.NoSuchWorkload) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except (BadResults, NoGround) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: stopped before anything was measured", file=sys.stderr)
        return STOPPED
    except OSError as error:
        print(f"{program}: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _do(options: argparse.Namespace) -> int:
    against = None if options.against is None else Results.load_file(options.against)
    if options.report is not None:
        _write(Results.load_file(options.report), against, options.output or options.report.parent)
        return 0
    sizes = PROFILES[options.profile]
    chosen = peers.chosen([name for name in options.peers.split(",") if name], options.peer)
    scenarios = workloads.scenarios(sizes, options.workload)
    if options.list:
        _list(chosen, scenarios)
        return 0
    if options.drop_caches and os.geteuid() != 0:
        raise NoGround("cannot empty the kernel's caches: that needs root")
    results = Results(sizes.name, _subject(options.subject, chosen))
    progress = Progress()
    if not options.no_install:
        _install(chosen, any("fio" in scenario.needs for scenario in scenarios), progress)
    results.peers = [PeerFacts(peer.name, peer.command, peer.version()) for peer in chosen]
    plan = Plan(
        sizes=sizes,
        peers=chosen,
        scenarios=scenarios,
        grounds=options.on or DEFAULT_GROUNDS,
        rounds=options.rounds,
        drop_caches=options.drop_caches,
        seed=options.seed,
    )
    output = options.output or options.results / datetime.now().strftime("%Y%m%d-%H%M%S")
    stopped = False
    with interruptible():
        try:
            Run(plan, results, progress).go()
        except Interrupted:
            stopped = True
            progress.say(f"stopped after {clock(progress.elapsed)}: writing what is done")
        if results.measured or not stopped:
            _write(results, against, output)
        else:
            progress.say("nothing was measured yet, so there is nothing to write")
    return STOPPED if stopped else 0


def _subject(name: str, chosen: Sequence[Peer]) -> str:
    names = [peer.name for peer in chosen]
    if name and name not in names:
        raise BadPeer(f"cannot use the subject {name}: there are {', '.join(names)}")
    if name or peers.SUBJECT in names:
        return name or peers.SUBJECT
    # Without lamina the bars are for the first peer that is no reference itself.
    others = [n for n in names if n not in (peers.PLAIN, peers.OVERLAYFS, peers.FUSE_OVERLAYFS)]
    return (others or names)[0]


def _install(chosen: Sequence[Peer], fio: bool, progress: Progress) -> None:
    missing = environment.packages(chosen, fio)
    if missing:
        progress.say(f"installing from Debian: {' '.join(missing)}")
        complaint = environment.install(missing)
        if complaint:
            progress.say(complaint)


def _list(chosen: Sequence[Peer], scenarios: Sequence[Scenario]) -> None:
    for scenario in scenarios:
        print(f"{scenario.name}")
        for step in scenario.steps:
            note = f"  ({step.row.note})" if step.row.note else ""
            print(f"    {step.row.group}: {step.row.name} [{step.row.unit}]{note}")
    print("peers")
    for peer in chosen:
        print(f"    {peer.name}: {peer.command}")


def _write(results: Results, against: Results | None, output: Path) -> None:
    for path in write(results, against, output):
        print(path)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        raise SystemExit(main())
