# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens is written down, within bounds, and told to whoever follows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from launcher import containers, events
from launcher.events import Event, Follower, note, past
from launcher.state import State
from tests.launcher.show.made import Made
from tests.support.clock import wait_until

ID = "ab" * 32


def test_events_are_kept_in_order(made: Made) -> None:
    note(made.paths, "container", "create", ID, {"image": "busybox", "name": "x"})
    note(made.paths, "image", "tag", "sha256:" + ID)
    create, tag = past(made.paths)
    assert create[:4] == ("container", "create", ID, {"image": "busybox", "name": "x"})
    assert tag[:4] == ("image", "tag", "sha256:" + ID, {})
    assert made.now < create.when <= tag.when <= time.time_ns()


def test_creation_and_removal_are_noted(made: Made) -> None:
    record = containers.create(
        made.paths, made.record(1, "x", labels=(("role", "web"),), layers=())
    )
    with State(made.paths) as state:
        entry = state.find("x")
    containers.remove(made.paths, entry)
    attributes = {"role": "web", "image": "busybox", "name": "x"}
    assert [event[:4] for event in past(made.paths)] == [
        ("container", "create", record.id, attributes),
        ("container", "destroy", record.id, attributes),
    ]


def test_the_first_event_makes_its_place(made: Made) -> None:
    run = made.paths.run + b"/deeper"
    note(made.paths._replace(run=run), "container", "create", ID)
    assert len(past(made.paths._replace(run=run))) == 1


def test_an_event_that_cannot_be_written_stops_nobody(made: Made) -> None:
    paths = made.paths._replace(run=b"/proc/1/nowhere")
    note(paths, "container", "create", ID)
    assert past(paths) == []


def test_there_is_an_end_to_what_is_kept(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_LARGEST", 5000)
    with Follower(made.paths) as follower:
        seen = []
        for number in range(200):
            note(made.paths, "container", "create", f"{number}")
            if number % 10 == 0:
                seen += follower.more()
        seen += follower.more()
    assert [event.id for event in seen] == [str(number) for number in range(200)]
    sizes = [os.stat(made.paths.run + name).st_size for name in (b"/events", b"/events.1")]
    assert sum(sizes) < 2 * 5000 + 200
    kept = [int(event.id) for event in past(made.paths)]
    assert kept == list(range(kept[0], 200))
    assert len(kept) >= 50


def test_many_writers_lose_and_tear_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_LARGEST", 60_000)  # one rotation

    def write(writer: int) -> None:
        for number in range(100):
            note(made.paths, "container", "create", f"{writer}-{number}", {"filler": "x" * 40})

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.path.exists(made.paths.run + b"/events.1")
    assert {event.id for event in past(made.paths)} == {
        f"{writer}-{number}" for writer in range(8) for number in range(100)
    }


def test_a_line_cut_short_costs_only_itself(made: Made) -> None:
    note(made.paths, "container", "create", "1")
    with open(made.paths.run + b"/events", "ab") as file:
        file.write(b'["container","cre\n[1]\n')
    note(made.paths, "container", "create", "2")
    assert [event.id for event in past(made.paths)] == ["1", "2"]


def _known(made: Made) -> None:
    """Events of two containers and an image, at known times from 1000 s on."""
    web = {"image": "busybox:1", "name": "web", "role": "front"}
    found = [
        Event("container", "create", "ab" * 32, web, 1000_000000001),
        Event("container", "exec_start: ls -l", "ab" * 32, web, 1001_000000000),
        Event("container", "die", "cd" * 32, {"image": "other", "exitCode": "3"}, 1002_000000000),
        Event("image", "tag", "sha256:" + "ef" * 32, {"name": "busybox:1"}, 1003_000000000),
    ]
    with open(made.paths.run + b"/events", "wb") as file:
        for event in found:
            file.write(json.dumps(event).encode() + b"\n")


def test_a_line_for_each_event(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    _known(made)
    assert made.lamina("events", "--until", "1001").lines == [
        f"1970-01-01T00:16:40.000000001Z container create {'ab' * 32} "
        "(image=busybox:1, name=web, role=front)",
        f"1970-01-01T00:16:41.000000000Z container exec_start: ls -l {'ab' * 32} "
        "(image=busybox:1, name=web, role=front)",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "create exec_start die tag"),
        ("--since 1001", "exec_start die tag"),
        ("--since 1001 --until 1002", "exec_start die"),
        ("-f type=image", "tag"),
        ("-f event=exec_start", "exec_start"),
        ("-f event=create -f event=die", "create die"),
        ("-f container=web", "create exec_start"),
        ("-f container=cdcd", "die"),
        ("-f image=busybox", "create exec_start tag"),
        ("-f image=busybox:1", "create exec_start tag"),
        ("-f image=efef", "tag"),
        ("-f label=role=front", "create exec_start"),
        ("-f scope=local -f scope=swarm", "create exec_start die tag"),
        ("-f scope=swarm", ""),
    ],
)
def test_which_events_are_shown(made: Made, words: str, expected: str) -> None:
    _known(made)
    given = words.split()
    if "--until" not in given:
        given += ["--until", "2000"]
    ended = made.lamina("events", *given, "--format", "{{.Action}}")
    assert [line.partition(":")[0] for line in ended.lines] == expected.split()


def test_events_as_json_and_by_template(made: Made) -> None:
    _known(made)
    words = ("events", "--until", "1000.5", "--format")
    assert json.loads(made.lamina(*words, "json").out) == {
        "status": "create",
        "id": "ab" * 32,
        "from": "busybox:1",
        "Type": "container",
        "Action": "create",
        "Actor": {
            "ID": "ab" * 32,
            "Attributes": {"image": "busybox:1", "name": "web", "role": "front"},
        },
        "scope": "local",
        "time": 1000,
        "timeNano": 1000_000000001,
    }
    assert made.lamina(*words, "{{json .}}").out == made.lamina(*words, "json").out
    form = "{{.ID}} {{.Status}} {{.Actor.Attributes.name}} {{.TimeNano}} {{.Type}} {{.From}}"
    expected = [f"{'ab' * 32} create web 1000000000001 container busybox:1"]
    assert made.lamina(*words, form).lines == expected


def test_followers_are_told_at_once(made: Made) -> None:
    note(made.paths, "container", "create", "old")
    command = [sys.executable, "-c", "from launcher.cli import main; raise SystemExit(main())"]
    words = ["--root", os.fsdecode(made.paths.root), "events", "--format", "{{.Actor.ID}}"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None
            path = f"/proc/{follower.pid}/fdinfo"
            wait_until(lambda: watches(path), "the follower to wait")
            for number in range(3):
                note(made.paths, "container", "start", f"new{number}")
                assert follower.stdout.readline() == f"new{number}\n"
        finally:
            follower.terminate()


def watches(fdinfo: str) -> bool:
    for name in os.listdir(fdinfo):
        try:
            with open(f"{fdinfo}/{name}") as file:
                if "inotify wd" in file.read():
                    return True
        except FileNotFoundError:
            continue
    return False


def test_following_ends_at_its_time(made: Made) -> None:
    started = time.monotonic()
    assert made.lamina("events", "--until", "-100ms").status == 0
    assert time.monotonic() - started >= 0.09
