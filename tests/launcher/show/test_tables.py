# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns, spans of time and sizes look as docker's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from launcher.cli.listing import Listing, show
from launcher.cli.quoting import ellipsis, quoted
from launcher.cli.sizes import binary_size, decimal_size
from launcher.cli.tables import aligned
from launcher.cli.times import ago, span, wall_clock
from launcher.cli.timespec import moment
from launcher.cli.timespec import span as spelled_span
from launcher.documents import Row
from launcher.errors import LaunchError
from launcher.rfc3339 import rfc3339, rfc3339_fixed

SECOND = 10**9
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND


def test_cells_are_ten_wide_and_three_apart() -> None:
    assert aligned([["ID", "NAME"], ["1", "x"]]) == "ID        NAME\n1         x\n"
    assert aligned([["ID", "N"], ["123456789", "x"]]) == "ID          N\n123456789   x\n"
    assert aligned([["é" * 9, "x"]]) == "é" * 9 + "   x\n"
    assert aligned([]) == ""


def test_a_line_of_one_cell_ends_the_columns_above_it() -> None:
    lines = [["a" * 20, "b"], ["alone"], ["c", "d"]]
    assert aligned(lines) == "a" * 20 + "   b\nalone\nc         d\n"


LISTING = Listing({"ID": "CONTAINER ID", "Names": "NAMES"}, ("ID", "Names"), "id: {{.ID}}\n")
ROWS = [
    Row({"ID": "1", "Names": "x"}, {"Label": lambda name: "value of " + name}),
    Row({"ID": "22", "Names": "y"}, {"Label": lambda name: ""}),
]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("", "CONTAINER ID   NAMES\n1              x\n22             y\n"),
        ("table", "CONTAINER ID   NAMES\n1              x\n22             y\n"),
        ("table {{.Names}}\\t{{.ID}}", "NAMES     CONTAINER ID\nx         1\ny         22\n"),
        ("table {{upper .Names}}", "NAMES\nX\nY\n"),
        (
            'table {{.ID}}\t{{.Label "com.x.my-long_name"}}',
            "CONTAINER ID   my long name\n1              value of com.x.my-long_name\n"
            "22             \n",
        ),
        ("json", '{"ID":"1","Names":"x"}\n{"ID":"22","Names":"y"}\n'),
        ("{{json .}}", '{"ID":"1","Names":"x"}\n{"ID":"22","Names":"y"}\n'),
        ("raw", "id: 1\n\nid: 22\n\n"),
        ("{{.ID}}\\t{{.Names}}", "1\tx\n22\ty\n"),
    ],
)
def test_a_listing_in_each_form(form: str, expected: str) -> None:
    assert show(LISTING, ROWS, form) == expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (-5 * SECOND, "Less than a second"),
        (SECOND - 1, "Less than a second"),
        (SECOND, "1 second"),
        (59 * SECOND, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE - 1, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (HOUR - 1, "59 minutes"),
        (HOUR, "About an hour"),
        (89 * MINUTE, "About an hour"),
        (90 * MINUTE, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
        (3650 * DAY, "10 years"),
    ],
)
def test_a_span_is_told_in_one_unit(length: int, expected: str) -> None:
    assert span(length) == expected
    assert ago(7, 7 + length) == f"{expected} ago"


@pytest.mark.parametrize(
    ("size", "decimal", "binary"),
    [
        (0, "0B", "0B"),
        (999, "999B", "999B"),
        (1000, "1kB", "1000B"),
        (1024, "1.02kB", "1KiB"),
        (4500, "4.5kB", "4.395KiB"),
        (1234567, "1.23MB", "1.177MiB"),
        (123456789, "123MB", "117.7MiB"),
        (2 << 30, "2.15GB", "2GiB"),
        (10**27, "1e+03YB", "827.2YiB"),
    ],
)
def test_sizes_in_both_units(size: int, decimal: str, binary: str) -> None:
    assert decimal_size(size) == decimal
    assert binary_size(size) == binary


@pytest.fixture
def india() -> Iterator[None]:
    old = os.environ.get("TZ")
    os.environ["TZ"] = "IST-5:30"
    time.tzset()
    yield
    del os.environ["TZ"]
    if old is not None:
        os.environ["TZ"] = old
    time.tzset()


@pytest.mark.usefixtures("india")
def test_times_are_utc_in_data_and_local_for_people() -> None:
    when = 1764066600 * SECOND + 120_000_000
    assert rfc3339(when) == "2025-11-25T10:30:00.12Z"
    assert rfc3339(1764066600 * SECOND) == "2025-11-25T10:30:00Z"
    assert rfc3339(0) == "0001-01-01T00:00:00Z"
    assert rfc3339_fixed(when) == "2025-11-25T10:30:00.120000000Z"
    assert rfc3339_fixed(when, local=True) == "2025-11-25T16:00:00.120000000+05:30"
    assert wall_clock(when) == "2025-11-25 16:00:00 +0530 IST"


@pytest.mark.usefixtures("india")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-11-25T10:30:00.12Z", 1764066600_120000000),
        ("2025-11-25T16:00:00+05:30", 1764066600 * SECOND),
        ("2025-11-25T16:00:00", 1764066600 * SECOND),
        ("2025-11-25T16:00", 1764066600 * SECOND),
        ("2025-11-25T16", 1764066600 * SECOND),
        ("2025-11-25", 1764066600 * SECOND - 16 * HOUR),
        ("2025-11-25Z", 1764066600 * SECOND - (10 * 60 + 30) * MINUTE),
        ("2025-11-25T06:30:00-0400", 1764066600 * SECOND),
        ("1764066600", 1764066600 * SECOND),
        ("1764066600.000000001", 1764066600_000000001),
        ("10m", 10**18 - 10 * MINUTE),
        ("1h30m", 10**18 - 90 * MINUTE),
        ("1.5s", 10**18 - 1500 * 10**6),
        ("-10s", 10**18 + 10 * SECOND),
    ],
)
def test_a_moment_can_be_typed_in_many_ways(text: str, expected: int) -> None:
    assert moment(text, 10**18) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "10", "2025-13-01", "2025-02-30", "2025-11-25T25:00", "10 m", "1h30"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    if text == "10":  # seconds since the epoch
        assert moment(text, 0) == 10 * SECOND
        return
    with pytest.raises(LaunchError, match="cannot understand time"):
        moment(text, 0)


def test_spans_as_typed() -> None:
    assert spelled_span("1h2m3s4ms5us6ns") == 3723_004005006
    assert spelled_span("5") is None


def test_text_is_cut_to_columns_and_quoted() -> None:
    assert ellipsis("x" * 20, 20) == "x" * 20
    assert ellipsis("x" * 21, 20) == "x" * 19 + "…"
    assert ellipsis("漢" * 11, 20) == "漢" * 9 + "…"
    assert ellipsis("é" * 20, 20) == "é" * 20
    assert quoted('say "hi"\\\n\x01é\udcff\u00ad') == '"say \\"hi\\"\\\\\\n\\x01é\\xff\\u00ad"'
