# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs of small size on real mounts: what they leave, which is results and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import environment, mounttable, session
from bench.__main__ import main
from bench.peers import chosen
from bench.results import Results
from bench.sizes import PROFILES, SMOKE
from launcher.cli import main as lamina

ROOT = Path(__file__).parents[2]
ABSENT = "absent=no-such-filesystem {lower} {merged}"
LOWER_WRITER = "bind=mount --bind {lower} {merged}"
# A FUSE mount whose server reads no request: everything on it waits for ever.
SILENT = """
import os, subprocess, sys, time
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
words = ["mount", "-i", "-t", "fuse", "-o", options, "silent", sys.argv[2]]
subprocess.run(words, pass_fds=[fd], check=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Temporary directories of the bench go where this test looks for leftovers."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", os.fspath(temporary))
    monkeypatch.setenv("TMPDIR", os.fspath(temporary))
    yield temporary
    assert mounttable.below(tmp_path) == []
    assert list(temporary.iterdir()) == []


def bench(tmp_path: Path, *words: str) -> Results:
    output = tmp_path / "output"
    assert main(["smoke", "--no-install", "--output", os.fspath(output), *words]) == 0
    assert (output / "report.html").stat().st_size > 1000
    assert (output / "report.md").read_text().startswith("# Bench: ")
    return Results.load_file(output / "results.json")


def measured(results: Results, peer: str) -> set[str]:
    return {found.row.name for found in results.measured.values() if peer in found.samples}


def failed(results: Results, peer: str) -> dict[str, list[str]]:
    rows = results.measured.values()
    return {found.row.name: found.failures[peer] for found in rows if peer in found.failures}


def test_every_workload_runs_on_a_directory_and_on_kernel_overlayfs(tmp_path: Path) -> None:
    results = bench(tmp_path, "--on", "tmpfs", "--peers", "plain,overlayfs")
    assert results.complete
    assert results.left_out == {}
    assert results.present == ["plain", "overlayfs"]
    for peer in results.present:
        assert failed(results, peer) == {}
    names = {found.row.name for found in results.measured.values()}
    of_daemons = {"memory per million nodes", "CPU when idle"}
    assert measured(results, "overlayfs") == names - of_daemons
    assert measured(results, "plain") == names - of_daemons - {"mount"}
    assert {"kernel", "CPU", "memory", "client", "Python"} <= set(results.environment)
    assert results.filesystems["tmpfs"].startswith("tmpfs on ")
    assert "loadavg" in results.load[0]


def test_a_daemon_is_weighed_and_its_idling_too(tmp_path: Path) -> None:
    results = bench(
        tmp_path, "--on", "tmpfs", "--peers", "fuse-overlayfs", "--workload", "footprint"
    )
    assert measured(results, "fuse-overlayfs") == {
        "mount",
        "memory per million nodes",
        "CPU when idle",
    }


def test_a_directory_of_the_users_choice_and_several_rounds(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    words = ("--on", os.fspath(home), "--rounds", "3", "--workload", "cold stat")
    results = bench(tmp_path, *words, "--peers", "plain,overlayfs", "--peer", ABSENT)
    assert results.rounds == 3
    assert [len(found.samples["overlayfs"]) for found in results.measured.values()][:1] == [3]
    assert results.peers[-1].absent == "no-such-filesystem: No such file or directory"
    assert results.present == ["plain", "overlayfs"]
    assert list(home.iterdir()) == []


def test_a_loop_of_ext4(tmp_path: Path) -> None:
    results = bench(
        tmp_path, "--on", "loop", "--peers", "overlayfs", "--workload", "copy-up: small"
    )
    assert results.filesystems["ext4"].startswith("ext4 on /dev/loop")
    assert measured(results, "overlayfs") == {"small file, 4 KiB"}


def test_a_peer_that_writes_to_the_layers_is_found_out(tmp_path: Path) -> None:
    words = ("--on", "tmpfs", "--rounds", "2", "--workload", "copy-up: small")
    results = bench(tmp_path, *words, "--peers", "plain,overlayfs", "--peer", LOWER_WRITER)
    assert failed(results, "bind") == {"small file, 4 KiB": ["it wrote to a lower layer"]}
    assert measured(results, "bind") == set()
    (row,) = results.measured.values()
    assert [len(row.samples[peer]) for peer in ("plain", "overlayfs")] == [2, 2]
    assert failed(results, "overlayfs") == {}


def test_a_mount_that_does_not_answer_costs_only_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MOUNT_SECONDS", 2)
    monkeypatch.setattr(session, "UNMOUNT_SECONDS", 2)
    script = tmp_path / "silent.py"
    script.write_text(SILENT)
    silent = f"silent={sys.executable} {script} {{lower}} {{merged}}"
    words = ("--on", "tmpfs", "--workload", "cold stat", "--peers", "plain", "--peer", silent)
    results = bench(tmp_path, *words)
    assert results.peers[-1].absent.startswith("mounted, but does not answer: ")
    assert "cold stat" in measured(results, "plain")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_writes_what_is_done(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "output"
    child = subprocess.Popen(
        [sys.executable, "-m", "bench", "smoke", "--no-install", "--on", "tmpfs",
         "--rounds", "1000", "--workload", "metadata", "--peers", "plain,overlayfs,fuse-overlayfs",
         "--output", os.fspath(output)],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert child.stderr is not None
    with child:
        for line in child.stderr:
            if "round 3" in line:
                break
        child.send_signal(number)
        rest = child.stderr.read()
        assert child.wait(60) == 130, rest
    assert "writing what is done" in rest
    plain = json.loads((output / "results.json").read_text())
    assert plain["complete"] is False
    results = Results.load_file(output / "results.json")
    assert results.rounds >= 2
    for peer in ("plain", "overlayfs", "fuse-overlayfs"):
        assert {"cold stat", "create", "unlink"} <= measured(results, peer)
        assert failed(results, peer) == {}
    assert "stopped before its end" in (output / "report.md").read_text()
    assert (output / "report.html").exists()


def test_when_the_time_is_over_no_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = replace(SMOKE, rounds_min=3, rounds_max=9, budget=0)
    monkeypatch.setitem(PROFILES, "smoke", hasty)
    results = bench(tmp_path, "--on", "tmpfs", "--workload", "databases", "--peers", "plain")
    assert results.complete
    assert results.rounds == 1
    assert results.left_out == {"the rest of round 2": "the time was over"}
    assert [found.samples["plain"] for found in results.measured.values() if found.samples]


def test_a_report_can_be_made_again_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(tmp_path, "--on", "tmpfs", "--workload", "databases", "--peers", "plain,overlayfs")
    file = tmp_path / "output" / "results.json"
    again = tmp_path / "again"
    words = [
        "--report",
        os.fspath(file),
        "--against",
        os.fspath(file),
        "--output",
        os.fspath(again),
    ]
    assert main(words) == 0
    assert "## Against the run of" in (again / "report.md").read_text()
    assert os.fspath(again / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--peers", "zfs"], 2, "bench: cannot use the peer zfs: there are plain, "),
        (["--peer", "x=fs"], 2, "bench: cannot use the peer x: its command has no {lower}"),
        (["--workload", "dance"], 2, "bench: cannot use the workload dance: there are metadata"),
        (["--subject", "zfs"], 2, "bench: cannot use the subject zfs: there are plain, "),
        (["--on", "/nowhere"], 1, "bench: cannot use /nowhere: No such file or directory"),
        (["--report", "/nowhere"], 1, "bench: cannot read /nowhere: No such file or directory"),
        (["--against", "/nowhere"], 1, "bench: cannot read /nowhere: No such file or directory"),
    ],
)
def test_bad_input_gets_one_line(
    words: list[str], status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", "--no-install", *words]) == status
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith(said)


def test_lamina_has_it_as_a_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lamina", "bench", "--list", "--workload", "sqlite"])
    assert lamina() == 0
    assert "real work: SQLite, write-ahead log [µs]" in capsys.readouterr().out


def test_what_cannot_be_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.install([]) == ""
    monkeypatch.setenv("PATH", "/nowhere")
    missing = environment.packages(chosen(["fuse-overlayfs", "plain"], []), fio=True)
    assert missing == ["fio", "fuse-overlayfs", "gcc", "git", "libc6-dev", "make"]
    said = environment.install(missing)
    assert said == f"{' '.join(missing)}: not installed, and there is no apt-get"


def test_list_shows_workloads_and_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["full", "--list", "--peers", "plain,overlayfs"]) == 0
    said = capsys.readouterr().out
    assert "real work: apt-get install [ms]" in said
    assert "overlayfs: mount -t overlay" in said
