# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina ps` says of each container what docker would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from launcher.cli.container_rows import ports_text
from launcher.errors import LaunchError
from launcher.image import find
from launcher.image.inspection import inspected
from launcher.record import Port, RequestedMount
from tests.launcher.show.conftest import new_made
from tests.launcher.show.made import Made

DAY = 86400


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """One container of each kind, the newest first."""
    with new_made(tmp_path_factory.mktemp("several") / "root") as made:
        _fill(made)
        yield made


def _fill(made: Made) -> None:
    found = {
        "web": made.add(
            1,
            "web",
            200,
            labels=(("role", "front"), ("com.example.tier", "1")),
            network="bridge",
            ports=(Port(80, "tcp", 8080),),
            exposed=("443/tcp", "80/tcp"),
            mounts=(
                RequestedMount("volume", "data", "/data"),
                RequestedMount("bind", "/a/path/that/is/long", "/bound"),
            ),
        ),
        "ended": made.add(2, "ended", 3 * 3600, labels=(("role", "back"),)),
        "fresh": made.add(3, "fresh", 20 * DAY),
        "held": made.add(4, "held", 21 * DAY, image="sha256:" + "1a" * 32),
        "again": made.add(5, "again", 22 * DAY, image="other:1@sha256:" + "2b" * 32),
        "lost": made.add(0xABCD, "lost", 23 * DAY, args=(b"true",), image_id="2b" * 32),
    }
    made.start(found["web"], 180, health="healthy")
    made.end(found["ended"], 2 * 3600, 137)
    made.start(found["held"], 330, "paused")
    made.start(found["again"], 70, "restarting")
    made.start(found["lost"], 5)
    made.leave(found["lost"])


def test_all_containers_in_docker_s_table(several: Made) -> None:
    # fmt: off
    assert several.lamina("ps", "-a").lines == [
        'CONTAINER ID   IMAGE          COMMAND                  CREATED         STATUS                              PORTS                           NAMES',  # noqa: E501
        '''000100010001   busybox        "sh -c 'echo hello; …"   3 minutes ago   Up 3 minutes (healthy)              443/tcp, 0.0.0.0:8080->80/tcp   web''',  # noqa: E501
        '''000200020002   busybox        "sh -c 'echo hello; …"   3 hours ago     Exited (137) 2 hours ago                                            ended''',  # noqa: E501
        '''000300030003   busybox        "sh -c 'echo hello; …"   2 weeks ago     Created                                                             fresh''',  # noqa: E501
        '''000400040004   1a1a1a1a1a1a   "sh -c 'echo hello; …"   3 weeks ago     Up 5 minutes (Paused)                                               held''',  # noqa: E501
        '''000500050005   other:1        "sh -c 'echo hello; …"   3 weeks ago     Restarting (0) About a minute ago                                   again''',  # noqa: E501
        '''abcdabcdabcd   busybox        "true"                   3 weeks ago     Dead                                                                lost''',  # noqa: E501
    ]
    # fmt: on


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "web held again"),
        ("-a", "web ended fresh held again lost"),
        ("-l", "web"),
        ("-n 2", "web ended"),
        ("-n2", "web ended"),
        ("-n -1", "web held again"),
        ("-f status=exited", "ended"),
        ("-f status=exited -f status=dead", "ended lost"),
        ("-f status=created", "fresh"),
        ("-f status=restarting", "again"),
        ("-f exited=137", "ended"),
        ("-f exited=0", ""),
        ("-f name=e", "web held"),
        ("-af name=^/e", "ended"),
        ("-af name=^ended$", "ended"),
        ("-af id=abcd", "lost"),
        ("-f label=role", "web"),
        ("-af label=role", "web ended"),
        ("-af label=role=back", "ended"),
        ("-af label=role -f label=com.example.tier", "web"),
        ("-af before=ended", "fresh held again lost"),
        ("-af since=held", "web ended fresh"),
        ("-af since=held -f before=web", "ended fresh"),
        ("-f volume=data", "web"),
        ("-f volume=/bound", "web"),
        ("-f network=bridge", "web"),
        ("-f network=none", "held again"),
        ("-f publish=80", "web"),
        ("-f publish=443", ""),
        ("-f publish=70-90/tcp", "web"),
        ("-f publish=80/udp", ""),
        ("-f expose=443", "web"),
        ("-f health=healthy", "web"),
        ("-f health=none", "held again"),
        ("-af ancestor=busybox", "web ended fresh lost"),
        ("-af ancestor=busybox:latest", ""),
        ("-af ancestor=2b2b2b", "lost"),
    ],
)
def test_which_containers_are_shown(several: Made, words: str, expected: str) -> None:
    ended = several.lamina("ps", *words.split(), "--format", "{{.Names}}")
    assert (ended.lines, ended.err, ended.status) == (expected.split(), "", 0)


def test_ancestors_are_images_and_what_they_were_built_upon(made: Made) -> None:
    words = ("ps", "-af", "ancestor=busybox:latest", "--format", "{{.Names}}")
    assert made.lamina(*words).lines == []
    with pytest.raises(LaunchError):  # nothing was made for being asked for
        inspected(made.paths, "busybox")
    image = find(made.paths, "busybox")
    made.add(1, "direct", 1, image_id=image.id, layers=image.layers)
    made.add(2, "derived", 2, image="own", image_id="ef" * 32, layers=(b"/top", *image.layers))
    made.add(3, "unrelated", 3, image="other", image_id="ef" * 32, layers=(b"/top",))
    assert made.lamina(*words).lines == ["direct", "derived"]
    short = (*words[:2], f"ancestor={image.id[:12]}", *words[3:])
    assert made.lamina(*short).lines == ["direct", "derived"]


def test_ids_alone(several: Made) -> None:
    assert several.lamina("ps", "-q").lines == ["000100010001", "000400040004", "000500050005"]
    assert several.lamina("ps", "-lq", "--no-trunc").lines == ["0001" * 16]


def test_nothing_is_shortened_on_demand(several: Made) -> None:
    form = "{{.ID}}|{{.Image}}|{{.Command}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}"
    assert several.lamina("ps", "-l", "--format", form).lines == [
        '000100010001|busybox|"sh -c \'echo hello; …"|data,/a/path/that/i…|1|bridge'
    ]
    assert several.lamina("ps", "-l", "--no-trunc", "--format", form).lines == [
        f"{'0001' * 16}|busybox|\"sh -c 'echo hello; sleep 5'\"|data,/a/path/that/is/long|1|bridge"
    ]


def test_json_has_docker_s_keys(several: Made) -> None:
    found = json.loads(several.lamina("ps", "-l", "--format", "json").out)
    assert " ".join(found) == (
        "Command CreatedAt ID Image Labels LocalVolumes Mounts Names Networks Platform Ports "
        "RunningFor Size State Status"
    )
    assert found["Labels"] == "com.example.tier=1,role=front"
    assert found["State"] == "running"


def test_sizes_count_what_the_container_wrote_and_its_image(made: Made) -> None:
    layer = made.paths.root + b"/layer"
    os.mkdir(layer)
    with open(layer + b"/big", "wb") as file:
        file.truncate(7_000_000)
    record = made.add(1, "x", layers=(layer,))
    upper = made.paths.container(record.id) + b"/upper"
    os.mkdir(upper + b"/d")
    with open(upper + b"/d/small", "wb") as file:
        file.write(b"x" * 1500)
    os.link(upper + b"/d/small", upper + b"/again")
    shown = made.lamina("ps", "-as").lines
    assert shown[0].endswith("NAMES     SIZE")
    assert shown[1].endswith("x         1.5kB (virtual 7MB)")
    assert made.lamina("ps", "-a", "--format", "{{.Size}}").lines == ["1.5kB (virtual 7MB)"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("-f colour=red", "there is no filter colour"),
        ("-f status", "not of the form KEY=VALUE"),
        ("-f status=happy", "it takes created, restarting"),
        ("-f exited=x", "it takes an exit status"),
        ("-f name=(", "it takes a regular expression"),
        ("-n x", "it is no number"),
        ("web", "ps takes no names"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(several: Made, words: str, reason: str) -> None:
    ended = several.lamina("ps", *words.split())
    assert ended.status == 2
    assert ended.err.startswith("lamina: cannot ")
    assert reason in ended.err
    assert ended.err.count("\n") == 1


def test_health_as_it_is_being_found_out(made: Made) -> None:
    record = made.add(1, "x")
    for health, text in (
        ("starting", "(health: starting)"),
        ("unhealthy", "(unhealthy)"),
        ("", "Up 30 seconds"),
    ):
        made.start(record, 30, health=health)
        assert made.lamina("ps", "--format", "{{.Status}}").lines[0].endswith(text)


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([], ""),
        ([("", 0, 80, "tcp"), ("", 0, 81, "tcp"), ("", 0, 81, "udp")], "80-81/tcp, 81/udp"),
        ([("0.0.0.0", 80, 80, "tcp"), ("0.0.0.0", 81, 81, "tcp")], "0.0.0.0:80-81->80-81/tcp"),
        ([("::", 8080, 80, "tcp"), ("", 0, 90, "tcp")], "90/tcp, [::]:8080->80/tcp"),
    ],
)
def test_ports_in_a_line(ports: list[tuple[str, int, int, str]], expected: str) -> None:
    assert ports_text(ports) == expected


def test_a_listing_loads_nothing_slow(made: Made) -> None:
    made.start(made.add(1, "x"))
    program = (
        "import sys; sys.argv[0] = 'lamina'; from launcher.cli import main; main(); "
        "print(*sys.modules, file=sys.stderr)"
    )
    words = ["--root", os.fsdecode(made.paths.root), "ps"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True
    )
    assert "busybox" in ended.stdout
    loaded = set(ended.stderr.split())
    slow = "argparse dataclasses inspect subprocess hashlib trio ctypes socket asyncio"
    assert not loaded & set(slow.split())
    assert "launcher.cli.template.parser" not in loaded
