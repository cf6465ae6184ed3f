# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina run` and `volume`: what is mounted in a container, and volumes that outlive it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.command import Lamina


def volume(lamina: Lamina, name: str) -> Path:
    return lamina.root / "volumes" / name / "_data"


def test_binds(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host\n")
    made = tmp_path / "made/here"
    flags = ["-v", f"{tmp_path}:/b", "-v", f"{tmp_path}/file:/etc/motd:ro", "-v", f"{made}:/new"]
    text = (
        "cat /etc/motd; (echo x >> /etc/motd) 2> /dev/null || echo read only;"
        " echo inside > /b/written; touch /new/x"
    )
    assert lamina.script(*flags, text) == ["host", "read only"]
    assert (tmp_path / "written").read_text() == "inside\n"
    assert (made / "x").exists()


def test_a_mount_that_is_missing_is_refused_and_nothing_is_made(lamina: Lamina) -> None:
    before = set(os.listdir(lamina.root / "containers"))
    ended = lamina.call(
        *("run", "-v", "first:/a", "--mount", "type=bind,src=/nope/nope,dst=/x", "busybox", "true")
    )
    assert (ended.code, ended.out) == (125, "")
    line = "lamina: cannot bind /nope/nope: there is nothing on the host at that path\n"
    assert ended.err == line
    assert set(os.listdir(lamina.root / "containers")) == before
    assert not volume(lamina, "first").exists()


def test_read_only_root(lamina: Lamina, tmp_path: Path) -> None:
    flags = ["--read-only", "--tmpfs", "/tmp", "-v", f"{tmp_path}:/b", "-w", "/made/dir"]
    text = (
        "pwd; for d in / /etc /made/dir; do touch $d/x 2> /dev/null && echo wrote $d; done;"
        " touch /tmp/x /b/x /dev/shm/x && echo others"
    )
    assert lamina.script(*flags, text) == ["/made/dir", "others"]


def test_mount_options_are_kept(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    flags = [
        *("--mount", f"type=bind,src={tmp_path},dst=/ro,readonly"),
        *("--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770"),
        *("--tmpfs", "/e:exec,ro,size=64k"),
    ]
    found = {}
    for line in lamina.script(*flags, "cat /proc/self/mountinfo; stat -c %a /t"):
        head, dash, tail = line.partition(" - ")
        if dash:
            fields = head.split()
            found[fields[4]] = (fields[5].split(","), fields[6:], tail.split()[2].split(","))
        else:
            assert line == "1770"
    assert "ro" in found["/ro"][0]
    assert {"nosuid", "nodev", "noexec"} <= set(found["/t"][0])
    assert "size=1024k" in found["/t"][2]
    assert {"ro", "nosuid", "nodev"} <= set(found["/e"][0])
    assert "noexec" not in found["/e"][0]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory of which mounts spread."""
    path = tmp_path / "shared"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "t", path], check=True)
    subprocess.run(["mount", "--make-shared", path], check=True)
    (path / "sub").mkdir()
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_mounts_spread_only_where_that_was_asked_for(lamina: Lamina, shared: Path) -> None:
    flags = ["-v", f"{shared}:/slave:rslave", "-v", f"{shared}:/private"]
    id = lamina.start(*flags, "busybox", "sleep", "1000")
    subprocess.run(["mount", "-t", "tmpfs", "t", shared / "sub"], check=True)
    (shared / "sub/later").write_text("")
    assert lamina.good("exec", id, "ls", "/slave/sub").split() == ["later"]
    assert lamina.good("exec", id, "ls", "/private/sub") == ""


def test_a_named_volume_begins_as_the_image_and_stays(lamina: Lamina) -> None:
    lines = lamina.script("-v", "data:/etc", "ls /etc; echo more > /etc/mine; rm /etc/shadow")
    assert {"passwd", "group", "shadow"} <= set(lines)
    assert (volume(lamina, "data") / "mine").read_text() == "more\n"
    # It is not filled again, and not copied anew.
    lines = lamina.script("-v", "data:/etc", "-v", "fresh:/root:nocopy", "ls /etc /root")
    assert "mine" in lines
    assert "shadow" not in lines
    assert lamina.good("volume", "rm", "data", "fresh") == "data\nfresh\n"
    assert not volume(lamina, "data").exists()


def test_what_is_copied_keeps_all_it_is(lamina: Lamina) -> None:
    make = (
        "mkdir -p /src/deep; cd /src; echo hi > file; ln file deep/again; ln -s file link;"
        " mkfifo pipe; chown 7:8 file deep; chmod 4751 file; chmod 2700 deep; touch -d @86400 file"
    )
    id = lamina.good("create", "--name", "maker", "busybox", "sh", "-c", make).strip()
    lamina.good("start", "-a", id)
    # A container whose image has the tree: the upper of the first as its layer.
    record = lamina.root / "containers" / id
    show = "cd /src; stat -c '%n %a %u:%g %h %F %Y' file link pipe deep deep/again; cat file"
    other = lamina.good("create", "-v", "copy:/src", "busybox", "sh", "-c", show).strip()
    path = lamina.root / "containers" / other / "config.json"
    config = json.loads(path.read_text())
    config["layers"].insert(0, str(record / "upper"))
    path.write_text(json.dumps(config))
    seen = lamina.good("start", "-a", other).splitlines()
    lines = [line.rsplit(" ", 1)[0] for line in seen[:-1]]
    assert lines == [
        "file 4751 7:8 2 regular file",
        "link 777 0:0 1 symbolic link",
        "pipe 644 0:0 1 fifo",
        "deep 2700 7:8 2 directory",
        "deep/again 4751 7:8 2 regular file",
    ]
    assert seen[0].endswith(" 86400")
    assert seen[-1] == "hi"
    copied = volume(lamina, "copy")
    assert os.path.samefile(copied / "file", copied / "deep/again")


def test_anonymous_volumes_go_with_the_container(lamina: Lamina) -> None:
    volumes = lamina.root / "volumes"
    lamina.good("run", "--rm", "-v", "/data", "-v", "kept:/k", "busybox", "touch", "/data/x")
    assert os.listdir(volumes) == ["kept"]
    for flags, left in ((["-v"], 1), ([], 2)):
        id = lamina.good("create", "-v", "/data", "busybox").strip()
        assert len(os.listdir(volumes)) == 2
        lamina.good("rm", *flags, id)
        assert len(os.listdir(volumes)) == left
    pruned = lamina.good("volume", "prune")
    assert pruned.startswith("Deleted Volumes:\n")
    assert os.listdir(volumes) == ["kept"]


def test_a_destination_is_found_within_the_image(lamina: Lamina, tmp_path: Path) -> None:
    """A symlink of the image's leads to the image's own directory, not to the host's."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("host\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "f").write_text("bound\n")
    text = f"touch /link/x; ls {outside}; cat /dangling {outside}/file /etc/hostname"
    id = lamina.good(
        *("create", "-v", f"{tmp_path}/b:/link", "-v", f"{tmp_path}/f:/dangling", "-h", "box"),
        *("busybox", "sh", "-c", text),
    ).strip()
    upper = lamina.root / "containers" / id / "upper"
    (upper / "link").symlink_to(outside)
    (upper / "dangling").symlink_to(f"../..{outside}/file")
    (upper / "etc").mkdir()
    (upper / "etc/hostname").symlink_to("../run/not/there")
    lines = lamina.good("start", "-a", id).splitlines()
    # The mount that came first lies below the second, as its symlink says.
    assert lines == ["file", "x", "bound", "bound", "box"]
    assert sorted(os.listdir(tmp_path / "b")) == ["file", "x"]
    assert os.listdir(outside) == ["file"]
    assert (outside / "file").read_text() == "host\n"


def test_volumes_from_another(lamina: Lamina) -> None:
    lamina.good("create", "--name", "giver", "-v", "/anon", "-v", "named:/n", "busybox")
    lamina.script("--volumes-from", "giver", "touch /anon/a /n/b")
    text = "ls /anon /n; touch /n/x 2> /dev/null || echo read only"
    lines = lamina.script("--volumes-from", "giver:ro", text)
    assert [each for each in lines if each and not each.endswith(":")] == ["a", "b", "read only"]
    # The anonymous one is still the giver's.
    assert len(os.listdir(lamina.root / "volumes")) == 2


def test_part_of_a_volume(lamina: Lamina) -> None:
    lamina.script("-v", "whole:/w", "mkdir /w/part; touch /w/part/x")
    flags = ["--mount", "src=whole,dst=/p,volume-subpath=part"]
    assert lamina.script(*flags, "ls /p") == ["x"]


@pytest.mark.parametrize("users", [[], ["--userns", "300000:400000:1000"]])
def test_part_of_a_volume_never_leads_out_of_it(
    lamina: Lamina, tmp_path: Path, users: list[str]
) -> None:
    """What lies in a volume is a container's work, and the path is looked up on the host."""
    lamina.script("-v", "trap:/w", f"mkdir /w/in; ln -s {tmp_path} /w/out; ln -s in /w/to")
    for part, code in (("out", 125), ("to", 0), ("none", 125)):
        flags = ["--mount", f"src=trap,dst=/p,volume-subpath={part}", *users]
        ended = lamina.call("run", "--rm", *flags, "busybox", "true")
        assert ended.code == code, ended


def test_the_volume_command(lamina: Lamina) -> None:
    assert lamina.good("volume", "create", "-l", "a=1", "one") == "one\n"
    assert lamina.good("volume", "create", "one") == "one\n"
    anonymous = lamina.good("volume", "create").strip()
    assert len(anonymous) == 64
    lamina.good("create", "--name", "user", "-v", "used:/v", "busybox")
    lines = lamina.good("volume", "ls").splitlines()
    assert lines[0].split() == ["DRIVER", "VOLUME", "NAME"]
    assert {line.split()[1] for line in lines[1:]} == {"one", "used", anonymous}
    assert lamina.good("volume", "ls", "-q", "--filter", "label=a").split() == ["one"]
    assert lamina.good("volume", "ls", "-q", "--filter", "name=us").split() == ["used"]
    dangling = lamina.good("volume", "ls", "-q", "--filter", "dangling=true").split()
    assert set(dangling) == {"one", anonymous}
    shown = lamina.good("volume", "ls", "--filter", "name=one", "--format", "{{.Name}} {{.Labels}}")
    assert shown == "one a=1\n"
    (described,) = json.loads(lamina.good("volume", "inspect", "one"))
    assert described["Mountpoint"] == str(volume(lamina, "one"))
    assert described["Labels"] == {"a": "1"}
    assert lamina.good("volume", "inspect", "-f", "{{.Name}}", "one", "used") == "one\nused\n"
    ended = lamina.call("volume", "rm", "used", "nope")
    assert ended.code == 1
    holder, missing = ended.err.splitlines()
    assert holder.startswith("lamina: cannot remove volume used: container ")
    assert missing == "lamina: cannot find volume nope: there is none of that name"
    assert lamina.good("volume", "rm", "-f", "nope") == ""
    lamina.good("volume", "rm", "one")
    said = lamina.good("events", "--since", "5m", "--until", "0s", "--filter", "type=volume")
    assert "volume create one (driver=local)" in said
    assert "volume destroy one (driver=local)" in said


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["create", "a/b"], 1, "cannot create volume a/b: a name is of letters"),
        (["create", "--driver", "nfs", "xx"], 1, "cannot use volume driver nfs"),
        (["inspect", "../x"], 1, "cannot find volume ../x"),
        (["nope"], 2, "cannot understand volume nope"),
        (["rm"], 2, "cannot remove volumes: none is named"),
    ],
)
def test_misused_volumes(lamina: Lamina, words: list[str], code: int, line: str) -> None:
    ended = lamina.call("volume", *words)
    assert ended.code == code
    assert line in ended.err
