# SPDX-License-Identifier: GPL-3.0-or-later
"""Making, naming, changing and removing containers by the command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launcher.command import Lamina, command_line


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["run", "busybox", "sh", "-c", "exit 7"], 7, ""),
        (
            ["run", "busybox", "nope"],
            127,
            "cannot execute nope: executable file not found in $PATH",
        ),
        (["run", "busybox", "/etc/passwd"], 126, "cannot execute /etc/passwd: Permission denied"),
        (["run", "-w", "x", "busybox"], 125, "cannot use --workdir x: it is not an absolute path"),
        (["run", "-u", "me", "busybox"], 125, "cannot find user me: no matching entries in the"),
        (["run", "nothing"], 125, "cannot find image nothing"),
        (["run", "--nope", "busybox"], 125, "cannot understand --nope: there is no such option"),
        (["run"], 125, "cannot create a container: no image is named"),
        (["create"], 125, "cannot create a container: no image is named"),
        (["run", "-p", "80:80", "busybox"], 125, "cannot use --publish 80:80: there is no bridge"),
        (["rm", "nobody"], 1, "cannot find container nobody: there is none of that name or id"),
        (["rm"], 2, "none is named"),
        (["rename", "one"], 2, "it takes a container and its new name"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_statuses(lamina: Lamina, words: list[str], code: int, line: str) -> None:
    if words[0] == "run" and len(words) > 1:
        words.insert(1, "--rm")
    ended = lamina.call(*words)
    assert (ended.code, ended.out) == (code, "")
    assert line in ended.err
    assert len(ended.err.splitlines()) == bool(line)
    assert os.listdir(lamina.root / "containers") == []


def test_variables_and_standard_streams(lamina: Lamina) -> None:
    text = "env; echo error >&2; cat"
    ended = lamina.call(
        *("run", "--rm", "-i", "-e", "A=b c", "--entrypoint", "sh", "-h", "box", "busybox"),
        *("-c", text),
        input=b"input",
    )
    lines = ended.lines
    assert {"A=b c", "HOSTNAME=box", "HOME=/root"} <= set(lines)
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)
    assert (lines[-1], ended.err) == ("input", "error\n")


def test_one_of_many_gets_the_name(lamina: Lamina) -> None:
    words = ("create", "--name", "wanted", "-v", "/anonymous", "busybox")
    pipe = subprocess.PIPE
    callers = [lamina.begin(*words, stdout=pipe, stderr=pipe) for _ in range(12)]
    ends = [(*caller.communicate(), caller.returncode) for caller in callers]
    assert sorted(code for _, _, code in ends) == [0, *[125] * 11]
    winner = next(out for out, _, code in ends if code == 0).decode().strip()
    for _, err, code in ends:
        line = f"lamina: cannot use name wanted: it is the name of container {winner[:12]}\n"
        assert err.decode() == ("" if code == 0 else line)
    assert os.listdir(lamina.root / "containers") == [winner]
    assert len(os.listdir(lamina.root / "volumes")) == 1


def test_names_are_invented_and_ids_are_random(lamina: Lamina) -> None:
    ids = [lamina.good("create", "busybox").strip() for _ in range(3)]
    assert len({*ids}) == 3
    assert all(len(id) == 64 and not set(id) - set("0123456789abcdef") for id in ids)
    names = {lamina.config(id)["name"] for id in ids}
    assert len(names) == 3
    assert all("_" in name for name in names)


def test_id_and_pid_files(lamina: Lamina, tmp_path: Path) -> None:
    ids, pid = tmp_path / "cid", tmp_path / "pid"
    id = lamina.start("--cidfile", str(ids), "--pidfile", str(pid), "busybox", "sleep", "1000")
    assert ids.read_text() == id
    assert int(pid.read_text()) == lamina.pid(id)
    ended = lamina.call("create", "--cidfile", str(ids), "busybox")
    assert ended.err == f"lamina: cannot write container id to {ids}: File exists\n"
    assert ids.read_text() == id
    other = tmp_path / "other"
    assert lamina.call("create", "--cidfile", str(other), "nothing").code == 125
    assert not other.exists()


def test_removing(lamina: Lamina) -> None:
    id = lamina.start("--name", "busy", "busybox", "sleep", "1000")
    lamina.good("create", "--name", "idle", "busybox")
    ended = lamina.call("rm", "busy", "idle", "nobody")
    assert (ended.code, ended.out) == (1, "idle\n")
    assert ended.err.splitlines() == [
        "lamina: cannot remove container busy: it is running; stop it first, or use --force",
        "lamina: cannot find container nobody: there is none of that name or id",
    ]
    assert lamina.good("rm", "-f", "nobody", id[:6]) == f"{id[:6]}\n"
    assert os.listdir(lamina.root / "containers") == []
    assert lamina.good("rm", "-f", "nobody") == ""


def test_removing_all(lamina: Lamina) -> None:
    busy = lamina.start("busybox", "sleep", "1000")
    idle = lamina.good("create", "busybox").strip()
    assert lamina.good("rm", "-a") == f"{idle}\n"
    assert lamina.good("rm", "-af") == f"{busy}\n"
    assert lamina.good("rm", "-a") == ""


def test_renaming(lamina: Lamina) -> None:
    id = lamina.start("--name", "old", "busybox", "sleep", "1000")
    lamina.good("create", "--name", "taken", "busybox")
    ended = lamina.call("rename", "old", "taken")
    assert ended.code == 1
    assert ended.err.startswith("lamina: cannot use name taken: it is the name of container ")
    assert "a name is of letters" in lamina.call("rename", "old", "a/b").err
    lamina.good("rename", "old", "new")
    assert lamina.config(id)["name"] == "new"
    assert lamina.good("ps", "--format", "{{.Names}}") == "new\n"
    lamina.good("rm", "-f", "new")


def test_what_a_crash_leaves_is_found(lamina: Lamina) -> None:
    # Killed between the directory and the row.
    orphan = lamina.root / "containers" / ("0" * 63 + "a")
    (orphan / "upper").mkdir(parents=True)
    (orphan / "upper/file").write_text("x" * 1000)
    young = lamina.root / "containers" / ("0" * 63 + "b")
    young.mkdir()
    an_hour_ago = orphan.stat().st_mtime - 3600
    os.utime(orphan, (an_hour_ago, an_hour_ago))
    # Its directory lost: what a disc gives back after a loss of power.
    lost = lamina.good("create", "--name", "lost", "busybox").strip()
    shutil.rmtree(lamina.root / "containers" / lost)
    out = lamina.good("ps", "-a", "--format", "{{.Names}} {{.State}}")
    assert out == "lost dead\n"
    assert lamina.call("start", "lost").code == 1
    assert lamina.good("rm", "lost") == "lost\n"
    out = lamina.good("prune")
    assert orphan.name in out
    assert "Total reclaimed space: 1kB" in out
    assert not orphan.exists()
    assert young.exists()  # somebody may be making it at this moment
    young.rmdir()


def test_pruning(lamina: Lamina) -> None:
    busy = lamina.start("-v", "/used", "busybox", "sleep", "1000")
    kept = lamina.good("create", "-l", "keep=1", "busybox").strip()
    idle = lamina.good("create", "-v", "/data", "-v", "named:/n", "busybox").strip()
    out = lamina.good("prune", "-f", "--filter", "label!=keep", "--volumes")
    assert out.splitlines()[:2] == ["Deleted Containers:", idle]
    assert set(os.listdir(lamina.root / "containers")) == {busy, kept}
    assert len(os.listdir(lamina.root / "volumes")) == 2  # the used one, and the one with a name
    lamina.good("prune", "--filter", "until=1h")
    assert kept in os.listdir(lamina.root / "containers")
    assert lamina.good("prune").splitlines()[:2] == ["Deleted Containers:", kept]
    assert lamina.call("prune", "--filter", "nope=1").code == 2
    # An image of which there is a container stays, another does not.
    lamina.good("tag", "busybox", "other")
    assert "other" not in lamina.good("prune", "-a")
    lamina.good("rm", "-f", busy)
    out = lamina.good("prune", "-a")
    assert "Deleted Images:" in out
    assert "untagged: other:latest" in out
    assert lamina.good("images", "-q") == ""


def test_a_killed_create_leaves_nothing_that_counts(lamina: Lamina) -> None:
    """SIGKILL at some moment of create: there is a whole container, or none."""
    for step in range(6):
        caller = lamina.begin("create", "--name", f"c{step}", "busybox", stdout=subprocess.DEVNULL)
        try:
            caller.wait(0.03 * (step + 1))
        except subprocess.TimeoutExpired:
            caller.send_signal(signal.SIGKILL)
            caller.wait()
    for name in lamina.good("ps", "-a", "--format", "{{.Names}}").split():
        assert lamina.good("start", "-a", name) == ""
    lamina.good("rm", "-a")
    for id in os.listdir(lamina.root / "containers"):
        shutil.rmtree(lamina.root / "containers" / id)


# -- what is loaded --------------------------------------------------------------------------------

# Of the standard library, beside what every interpreter loads; C modules are cheap.
LIGHT = frozenset(
    [
        "__future__",
        "binascii",
        "collections",
        "collections.abc",
        "contextlib",
        "copyreg",
        "datetime",
        "enum",
        "errno",
        "fcntl",
        "functools",
        "gc",
        "importlib",
        "itertools",
        "json",
        "json.decoder",
        "json.encoder",
        "json.scanner",
        "keyword",
        "math",
        "operator",
        "re",
        "re._casefix",
        "re._compiler",
        "re._constants",
        "re._parser",
        "reprlib",
        "select",
        "signal",
        "sqlite3",
        "sqlite3.dbapi2",
        "struct",
        "termios",
        "time",
        "types",
        "warnings",
    ]
)


def loaded(line: list[str], variables: dict[str, str]) -> set[str]:
    """The modules that a command has loaded by its end."""
    ended = subprocess.run(
        line,
        env=variables | {"PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = (line for line in ended.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("words", ["run --rm busybox true", "ps -a", "images"])
def test_what_is_loaded_is_little(lamina: Lamina, words: str) -> None:
    # A test before this one may have pruned the image, and making it anew loads more.
    lamina.good("run", "--rm", "busybox", "true")
    variables = lamina.environment
    bare = loaded([sys.executable, "-c", "pass"], variables)
    found = loaded([*command_line(), *words.split()], variables) - bare
    ours = {name for name in found if name.partition(".")[0] in ("launcher", "unionfs")}
    assert {name for name in found - ours if not name.startswith("_")} <= LIGHT
    # The driver, and what makes processes, are the supervisor's.
    heavy = {"unionfs.union", "launcher.start", "launcher.child", "launcher.specify"}
    assert not ours & heavy
    assert ours
    assert len(ours) < 60


def test_filters_are_compiled_before_the_supervisor_needs_them(
    lamina: Lamina, tmp_path: Path
) -> None:
    shutil.rmtree(lamina.root / "seccomp")
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    lamina.good("create", "busybox")
    assert len(os.listdir(lamina.root / "seccomp")) == 1
    lamina.good("create", "--security-opt", f"seccomp={profile}", "busybox")
    assert len(os.listdir(lamina.root / "seccomp")) == 2
    refused = tmp_path / "refused.json"
    refused.write_text('{"defaultAction": "SCMP_ACT_WHAT"}')
    ended = lamina.call("create", "--security-opt", f"seccomp={refused}", "busybox")
    assert (ended.code, len(os.listdir(lamina.root / "containers"))) == (125, 2)
    assert ended.err == "lamina: cannot use seccomp action SCMP_ACT_WHAT: it is not known here\n"
    refused.write_text('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": 7}]}')
    ended = lamina.call("create", "--security-opt", f"seccomp={refused}", "busybox")
    assert ended.code == 125
    assert ended.err.startswith("lamina: cannot read seccomp profile: it is not in docker's format")
