# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina diff` and `lamina explain` as a person reads them; test_model holds that it is so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Lamina
from tests.support.clock import scaled
from tests.support.daemon import environment
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, run
from unionfs import diff


def edit(merged: Path) -> None:
    """A day's work in the union of the CD."""
    with (merged / "letters/may").open("a") as stream:
        stream.write("added today\n")
    (merged / "letters/june").rename(merged / "letters/july")
    (merged / "advertisement").unlink()
    (merged / "new").mkdir()
    (merged / "new/file").write_text("new\n")
    subprocess.run(["rm", "-r", merged / "old"], check=True)
    (merged / "old").mkdir(mode=0o755)
    (merged / "old/y").write_text("another\n")
    (merged / "keep").chmod(0o600)
    os.utime(merged / "photos/summer/lake", ns=(5, 5))


CHANGES = """\
D /advertisement
C /keep
C /keep2
R /letters/june -> /letters/july
C /letters/may
A /new
A /new/file
D /old/sub
C /old/y
R /photos/summer -> /photos/winter
C /photos/winter/lake
"""


@pytest.fixture
def edited(cd: Layers, lamina: Lamina, transport: str) -> Layers:
    """The CD with a day's work, mounted."""
    words = ("--transport", transport, "--lower", cd.lower, "--upper", cd.upper, cd.merged)
    lamina("mount", *words)
    edit(cd.merged)
    (cd.merged / "photos/summer").rename(cd.merged / "photos/winter")
    return cd


def test_lines(edited: Layers, lamina: Lamina) -> None:
    """A mounted union, and an upper with its lowers named: the same lines."""
    assert lamina("diff", edited.merged).stdout == CHANGES
    assert lamina("diff", "merged/", cwd=edited.root).stdout == CHANGES
    lamina("umount", edited.merged)
    named = lamina("diff", "--lower", edited.lower, edited.upper)
    assert named.stdout == CHANGES
    options = f"lowerdir={edited.lower}"
    assert lamina("diff", "-o", options, "upper", cwd=edited.root).stdout == CHANGES


def test_json(edited: Layers, lamina: Lamina) -> None:
    found = json.loads(lamina("diff", "--json", edited.merged).stdout)
    assert [(one["kind"], one["path"]) for one in found] == [
        (line[0], line[2:].rpartition(" -> ")[2]) for line in CHANGES.splitlines()
    ]
    by_path: dict[str, Any] = {one["path"]: one for one in found}
    assert by_path["/advertisement"] == {"kind": "D", "path": "/advertisement", "type": "file"}
    assert by_path["/keep"]["what"] == ["mode"]
    assert by_path["/keep2"]["what"] == ["mode"]
    assert by_path["/letters/may"]["what"] == ["times", "content"]
    assert by_path["/photos/winter/lake"]["what"] == ["times"]
    assert by_path["/photos/winter"] == {
        "kind": "R",
        "path": "/photos/winter",
        "type": "directory",
        "source": "/photos/summer",
        "what": [],
    }


def test_a_directory_that_was_there_by_itself(cd: Layers, lamina: Lamina, transport: str) -> None:
    """Only additions in it: it is not taken for one of them."""
    words = ("--transport", transport, "--lower", cd.lower, "--upper", cd.upper, cd.merged)
    lamina("mount", *words)
    (cd.merged / "photos/summer/note").write_text("warm\n")
    lamina("umount", cd.merged)
    assert lamina("diff", cd.upper).stdout == "A /photos/summer/note\n"


def test_an_upper_by_itself(edited: Layers, lamina: Lamina) -> None:
    """Its marks tell added from changed; a directory with a change in it was there before."""
    lamina("umount", edited.merged)
    assert lamina("diff", edited.upper).stdout.splitlines() == [
        "D /advertisement",
        "C /keep",
        "C /letters/july",
        "D /letters/june",
        "C /letters/may",
        "A /new",
        "A /new/file",
        "A /old",
        "A /old/y",
        "R /photos/summer -> /photos/winter",
        "C /photos/winter/lake",
    ]


def test_nothing_was_changed(cd: Layers, lamina: Lamina) -> None:
    """What was copied up and is as it was is no change."""
    lamina("mount", "--lower", cd.lower, "--upper", cd.upper, cd.merged)
    with (cd.merged / "letters/may").open("r+"):
        pass
    assert (cd.upper / "letters/may").exists()
    assert lamina("diff", cd.merged).stdout == ""
    assert json.loads(lamina("diff", "--json", cd.merged).stdout) == []
    lamina("umount", cd.merged)


def test_aufs(cd: Layers, lamina: Lamina) -> None:
    """The other format, where a directory with lower content is not renamed."""
    words = ("--format", "aufs", "--lower", cd.lower, "--upper", cd.upper, cd.merged)
    lamina("mount", *words)
    edit(cd.merged)
    expected = [
        line
        for line in CHANGES.replace("winter", "summer").splitlines()
        if not line.startswith(("R", "C /keep2", "C /letters/july"))
    ]
    expected += ["A /letters/july", "D /letters/june"]
    order = sorted(expected, key=lambda line: line[2:])
    assert (cd.upper / ".wh.advertisement").exists()
    assert lamina("diff", cd.merged).stdout.splitlines() == order
    told = lamina("explain", cd.merged / "advertisement").stdout
    assert f"deleted in  upper layer {cd.upper}/advertisement\n" in told
    lamina("umount", cd.merged)
    named = lamina("diff", "--format", "aufs", "--lower", cd.lower, cd.upper)
    assert named.stdout.splitlines() == order


def test_a_kernel_upper(cd: Layers, lamina: Lamina) -> None:
    """What kernel overlayfs wrote reads the same."""
    options = f"lowerdir={cd.lower},upperdir={cd.upper},workdir={cd.work},redirect_dir=on,index=on"
    run("mount", "-t", "overlay", "-o", options, "overlay", str(cd.merged))
    try:
        edit(cd.merged)
        (cd.merged / "photos/summer").rename(cd.merged / "photos/winter")
    finally:
        run("umount", str(cd.merged))
    words = ("-o", f"workdir={cd.work}", "--lower", cd.lower, cd.upper)
    assert lamina("diff", *words).stdout == CHANGES


def test_the_mount_is_not_disturbed(edited: Layers, lamina: Lamina) -> None:
    """The layers are read, not the mount: a daemon that does not answer does not matter."""
    (record,) = (
        one
        for one in json.loads(lamina("mounts", "--json").stdout)
        if one["merged"] == str(edited.merged)
    )
    run("kill", "-STOP", str(record["daemon"]))
    try:
        assert lamina("diff", edited.merged).stdout == CHANGES
        told = lamina("explain", edited.merged / "keep").stdout
        assert told.startswith("/keep: file\n")
    finally:
        run("kill", "-CONT", str(record["daemon"]))
    lamina("umount", edited.merged)
    assert mount_at(edited.merged) is None


def test_explained(edited: Layers, lamina: Lamina) -> None:
    upper, lower = f"upper layer {edited.upper}", f"lower layer {edited.lower}"

    def told(path: str) -> list[str]:
        return lamina("explain", edited.merged / path).stdout.splitlines()

    assert told("letters/may") == [
        "/letters/may: file",
        f"  comes from  {upper}/letters/may (file)",
        f"  hides       {lower}/letters/may (file)",
        f"  copied up   from {edited.lower}/letters/may: times, content changed",
    ]
    assert told("letters/july") == [
        "/letters/july: file",
        f"  comes from  {upper}/letters/july (file)",
        f"  copied up   from {edited.lower}/letters/june: renamed",
    ]
    assert told("advertisement") == [
        "/advertisement: not there",
        f"  deleted in  {upper}/advertisement",
        f"  hides       {lower}/advertisement (file)",
    ]
    assert told("photos/winter/lake") == [
        "/photos/winter/lake: file",
        f"  comes from  {upper}/photos/winter/lake (file)",
        f"  hides       {lower}/photos/summer/lake (file)",
        f"  because     of a redirect: {edited.upper}/photos/winter is called summer"
        " in the layers below",
        f"  copied up   from {edited.lower}/photos/summer/lake: times changed",
    ]
    assert told("photos/winter")[-1] == f"  copied up   from {edited.lower}/photos/summer: renamed"
    assert told("photos") == [
        "/photos: directory",
        f"  comes from  {upper}/photos (directory)",
        f"  merged with {lower}/photos (directory)",
        f"  copied up   from {edited.lower}/photos for a change inside it",
    ]
    assert told("old/sub/x") == [
        "/old/sub/x: not there",
        f"  hides       {lower}/old/sub/x (file)",
        f"  because     of an opaque mark: what is below {edited.upper}/old is not seen",
    ]
    assert told("keep2")[1].startswith(
        f"  comes from  upper layer {edited.root}/.upper.work/index/"
    )
    assert told("keep2")[2:] == [
        f"  hides       {lower}/keep2 (file)",
        "  because     of the hard-link index: another name of this file was changed",
    ]
    assert told("link") == ["/link: symlink", f"  comes from  {lower}/link (symlink)"]
    assert told("") == [
        "/: directory",
        f"  comes from  {upper} (directory)",
        f"  merged with {lower} (directory)",
    ]
    done = lamina("explain", edited.merged / "nothing", status=1)
    assert done.stderr == f"lamina: cannot explain {edited.merged}/nothing: no layer has it\n"


def test_explained_in_json(edited: Layers, lamina: Lamina) -> None:
    done = lamina("explain", "--json", "winter/lake", cwd=edited.merged / "photos")
    found = json.loads(done.stdout)
    assert found == {
        "path": "/photos/winter/lake",
        "type": "file",
        "layers": [
            {
                "layer": str(edited.upper),
                "number": 0,
                "path": "photos/winter/lake",
                "type": "file",
                "role": "shown",
            },
            {
                "layer": str(edited.lower),
                "number": 1,
                "path": "photos/summer/lake",
                "type": "file",
                "role": "hidden",
            },
        ],
        "decisions": [
            {
                "mark": "redirect",
                "layer": str(edited.upper),
                "path": "photos/winter",
                "value": "summer",
            },
            {
                "mark": "cover",
                "layer": str(edited.upper),
                "path": "photos/winter/lake",
                "value": None,
            },
        ],
        "copied_up": ["times"],
        "origin": [str(edited.lower), "photos/summer/lake"],
    }


def test_which_of_many_layers(cd: Layers, lamina: Lamina) -> None:
    """Lower layers are counted from the top; one that has a whiteout hides those below it."""
    words: list[str | Path] = []
    for number in range(1, 4):
        layer = cd.more(f"l{number}")
        words += ["--lower", layer]
        if number != 2:
            (layer / "x").write_text(str(number))
    os.mknod(cd.root / "l2/x", 0o020000, 0)
    lamina("mount", *words, cd.merged)
    assert lamina("explain", cd.merged / "x").stdout.splitlines() == [
        "/x: file",
        f"  comes from  lower layer 1 {cd.root}/l1/x (file)",
        f"  hides       lower layer 2 {cd.root}/l2/x (whiteout)",
        f"  hides       lower layer 3 {cd.root}/l3/x (file)",
    ]
    lamina("umount", cd.merged)
    lamina("mount", *words[2:], cd.merged)
    assert lamina("explain", cd.merged / "x").stdout.splitlines() == [
        "/x: not there",
        f"  deleted in  lower layer 1 {cd.root}/l2/x",
        f"  hides       lower layer 2 {cd.root}/l3/x (file)",
    ]
    lamina("umount", cd.merged)


def test_deep_trees(cd: Layers) -> None:
    """A tree deeper than Python's stack is compared like any other."""
    depth = 1500
    for layer in (cd.lower, cd.upper):
        fd = os.open(layer, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("d", dir_fd=fd)
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        if layer == cd.upper:
            os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
    lower, upper = os.fsencode(cd.lower), os.fsencode(cd.upper)
    (change,) = diff(upper, [lower])
    assert (change.kind, change.path) == ("A", b"/d" * depth + b"/new")


def test_a_large_upper_is_quick(cd: Layers) -> None:
    """The cost is that of the change: 20,000 files below are not looked at."""
    many = cd.lower / "many"
    many.mkdir()
    for number in range(20_000):
        (many / str(number)).touch()
    (cd.upper / "many").mkdir()
    (cd.upper / "many/new").touch()
    script = (
        "import sys, resource\nfrom unionfs import diff\n"
        "a = resource.getrusage(resource.RUSAGE_SELF)\n"
        "changes = diff(sys.argv[1].encode(), [sys.argv[2].encode()])\n"
        "b = resource.getrusage(resource.RUSAGE_SELF)\n"
        "assert [c[:2] for c in changes] == [('A', b'/many/new')], changes\n"
        "print(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime)"
    )
    words = [sys.executable, "-c", script, str(cd.upper), str(cd.lower)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=True)
    assert float(done.stdout) < scaled(0.5)
