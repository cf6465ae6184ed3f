# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container has put out is read whole, in order, over rotations, and as it comes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

import pytest

from launcher import logs
from launcher.record import LogOptions, Record
from launcher.rfc3339 import rfc3339_fixed
from tests.launcher.show.made import Made
from tests.launcher.show.test_events import watches
from tests.support.clock import wait_until

SECOND = 10**9


class Log:
    """Writes a log as the supervisor does."""

    def __init__(self, made: Made, record: Record) -> None:
        self.path = made.paths.container(record.id) + b"/log"

    def write(self, text: str, when: int = SECOND, stream: str = "stdout", **more: object) -> None:
        fields = {"log": text, "stream": stream, "time": rfc3339_fixed(when)} | more
        self.write_raw(json.dumps(fields, ensure_ascii=False).encode() + b"\n")

    def write_raw(self, content: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(content)

    def rotate(self, kept: int = 9) -> None:
        if kept == 1:
            os.unlink(self.path)
            return
        for number in range(kept - 1, 1, -1):
            if os.path.exists(self.path + b".%d" % (number - 1)):
                os.rename(self.path + b".%d" % (number - 1), self.path + b".%d" % number)
        os.rename(self.path, self.path + b".1")


@pytest.fixture
def record(made: Made) -> Record:
    return made.add(1, "x")


@pytest.fixture
def log(made: Made, record: Record) -> Log:
    return Log(made, record)


def test_streams_stay_apart(made: Made, log: Log) -> None:
    log.write("one é\n")
    log.write("two\n", stream="stderr")
    log.write("no newline")
    ended = made.lamina("logs", "x")
    assert (ended.out, ended.err, ended.status) == ("one é\nno newline", "two\n", 0)


def test_there_may_be_nothing(made: Made, record: Record) -> None:
    assert made.lamina("logs", "x") == (0, "", "")
    assert made.lamina("logs", "-f", "--tail", "5", "x") == (0, "", "")
    made.add(2, "silent", log=LogOptions("none"))
    ended = made.lamina("logs", "silent")
    assert ended.status == 1
    assert ended.err == "lamina: cannot show logs of silent: it keeps none (--log-driver none)\n"


def test_a_damaged_line_costs_only_itself(made: Made, log: Log) -> None:
    log.write("one\n")
    log.write_raw(b"\0\0\0\0\n{}\n[1]\n")
    log.write("two\n")
    log.write_raw(b'{"log":"half')
    assert made.lamina("logs", "x").out == "one\ntwo\n"


@pytest.mark.parametrize("tail", [0, 1, 2, 3, 4, 5, 6, 7, 8, 100])
def test_the_end_of_a_log_of_several_files(made: Made, log: Log, tail: int) -> None:
    expected = []
    for number in range(7):
        if number in (2, 3, 6):
            log.rotate()
        log.write(f"{number}\n")
        expected.append(f"{number}\n")
    log.write_raw(b'{"log":"half')
    assert made.lamina("logs", "x").out == "".join(expected)
    wanted = expected[max(len(expected) - tail, 0) :]
    assert made.lamina("logs", "-n", str(tail), "x").out == "".join(wanted)


@pytest.mark.parametrize("size", [10, 3000, 70_000])
def test_the_end_of_a_long_log(made: Made, log: Log, size: int) -> None:
    for number in range(20):
        log.write(f"{number}" + "x" * size + "\n")
    shown = made.lamina("logs", "--tail", "3", "x").lines
    assert [line.rstrip("x") for line in shown] == ["17", "18", "19"]
    assert made.lamina("logs", "--tail", "all", "x").out.count("\n") == 20
    assert made.lamina("logs", "--tail", "-1", "x").out.count("\n") == 20


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--since 3", "3 4 5"),
        ("--since 3.000000001", "4 5"),
        ("--until 3", "1 2 3"),
        ("--since 2 --until 4", "2 3 4"),
        ("--since 1970-01-01T00:00:04Z", "4 5"),
        ("--since 1m", ""),
        ("--since 2 --tail 2", "4 5"),
        ("--until 2 --tail 2", ""),
    ],
)
def test_a_part_of_the_log_by_time(made: Made, log: Log, words: str, expected: str) -> None:
    for number in range(1, 6):
        log.write(f"{number}\n", number * SECOND)
    assert made.lamina("logs", *words.split(), "x").out.split() == expected.split()


def test_times_stand_where_lines_begin(made: Made, log: Log) -> None:
    log.write("a long ", SECOND)
    log.write("complaint ", SECOND, stream="stderr")
    log.write("line\n", 2 * SECOND)
    log.write("ends\n", 2 * SECOND, stream="stderr")
    log.write("next\n", 3_500_000_000, attrs={"b": "x y", "a": "1"})
    ended = made.lamina("logs", "-t", "x")
    assert ended.out == (
        "1970-01-01T00:00:01.000000000Z a long line\n1970-01-01T00:00:03.500000000Z next\n"
    )
    assert ended.err == "1970-01-01T00:00:01.000000000Z complaint ends\n"
    assert made.lamina("logs", "--details", "-n1", "x").out == "a=1,b=x+y next\n"


def test_times_of_other_writers_are_understood(made: Made, log: Log) -> None:
    log.write_raw(b'{"log":"a\\n","stream":"stdout","time":"1970-01-01T00:00:01.5Z"}\n')
    log.write_raw(b'{"log":"b\\n","stream":"stdout","time":"1970-01-01T00:00:02Z"}\n')
    assert made.lamina("logs", "-t", "--since", "1.5", "x").out == (
        "1970-01-01T00:00:01.500000000Z a\n1970-01-01T00:00:02.000000000Z b\n"
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["x", "y"], "it takes one container"),
        ([], "it takes one container"),
        (["--tail", "few", "x"], "it is a number of lines, or all"),
        (["nobody"], "there is none of that name or id"),
        (["--since", "soon", "x"], "it is no RFC 3339 date"),
    ],
)
@pytest.mark.usefixtures("record")
def test_what_is_asked_for_wrongly_is_refused(made: Made, words: list[str], reason: str) -> None:
    ended = made.lamina("logs", *words)
    assert ended.status in (1, 2)
    assert reason in ended.err
    assert ended.err.count("\n") == 1


class Following:
    """`lamina logs -f` in a process of its own."""

    def __init__(self, made: Made, *words: str) -> None:
        program = "from launcher.cli import main; raise SystemExit(main())"
        root = os.fsdecode(made.paths.root)
        command = [sys.executable, "-c", program, "--root", root, "logs", "-f", *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.out: IO[str] = self.process.stdout
        wait_until(lambda: watches(f"/proc/{self.process.pid}/fdinfo"), "the follower to wait")

    def end(self) -> tuple[str, str, int]:
        out, err = self.process.communicate(timeout=20)
        return out, err, self.process.returncode


@pytest.fixture
def supervisor() -> Iterator[subprocess.Popen[bytes]]:
    """A process that can stand for a supervisor."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def test_following_shows_what_comes_until_the_container_ends(
    made: Made, record: Record, log: Log
) -> None:
    log.write("old\n")
    made.start(record)
    following = Following(made, "x")
    assert following.out.readline() == "old\n"
    log.write("new\n")
    assert following.out.readline() == "new\n"
    log.write_raw(b'{"log":"torn\\n","stream":"stdout",')
    log.write_raw(b'"time":"1970-01-01T00:00:02.000000000Z"}\n')
    assert following.out.readline() == "torn\n"
    log.write("bad\n", stream="stderr")
    log.write("last\n")
    made.end(record)
    made.clear(record)
    assert following.end() == ("last\n", "bad\n", 0)


def test_following_ends_with_a_supervisor_that_is_killed(
    made: Made, record: Record, log: Log, supervisor: subprocess.Popen[bytes]
) -> None:
    made.start(record, supervisor=supervisor.pid)
    following = Following(made, "--tail", "0", "x")
    log.write("last\n")
    made.leave(record)
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    assert following.end() == ("last\n", "", 0)


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_following_loses_nothing_in_rotations(
    made: Made, record: Record, log: Log, kept: int
) -> None:
    made.start(record)
    following = Following(made, "x")
    for number in range(40):
        if number % 4 == 3:
            log.rotate(kept)
        log.write(f"{number}\n")
        # It may be one file behind, not more than are kept.
        if number % 4 == 1 or kept == 1:
            read = following.out.readline()
            while read != f"{number}\n":
                read = following.out.readline()
    made.end(record)
    made.clear(record)
    assert following.end()[0] == "38\n39\n"[0 if kept > 1 else 6 :]


def test_following_reads_on_over_several_rotations(made: Made, record: Record, log: Log) -> None:
    log.write("0\n")
    made.start(record)
    following = iter(logs.follow(made.paths, record.id))
    seen = [_text(next(following)) for _ in range(2)]
    for number in range(1, 30):
        if number % 5 == 0:
            log.rotate(9)
        log.write(f"{number}\n")
    made.end(record)
    seen += [_text(piece) for piece in following]
    assert [text for text in seen if text] == [f"{number}\n" for number in range(30)]


def _text(piece: logs.Piece | None) -> str:
    return piece.text if piece is not None else ""


def test_following_ends_at_its_time(made: Made, record: Record, log: Log) -> None:
    log.write("old\n")
    made.start(record)
    started = time.monotonic()
    assert made.lamina("logs", "-f", "--until", "-100ms", "x").out == "old\n"
    assert time.monotonic() - started >= 0.09
