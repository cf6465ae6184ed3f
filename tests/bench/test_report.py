# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: figures, tables, a page that needs nothing else, and JSON that can be read back."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.report import html, markdown, write
from bench.report.figures import digits, percent, quantity, tick, times
from bench.results import BadResults, PeerFacts, Results, Row
from tests.bench.made import STAT, results, steady

VOID = {"meta", "br", "circle", "line", "polyline"}


def example() -> Results:
    walk = [Row("scale", f"cold walk, {n} layers", "µs/entry", "", "walk", n) for n in (1, 10)]
    idle = Row("footprint", "CPU when idle", "%")
    made = results(
        {
            STAT: steady(plain=1, overlayfs=6, fuse_overlayfs=70, lamina_device=28),
            walk[0]: steady(overlayfs=8, fuse_overlayfs=40, lamina_device=30),
            walk[1]: steady(overlayfs=9, fuse_overlayfs=90, lamina_device=33),
            idle: {"lamina-device": [0, 0, 0.01]},
        }
    )
    made.failure("tmpfs", STAT, "lamina-device", "stat d000/f00001: Input/output <error>")
    made.peers.append(PeerFacts("odd", "odd {merged} | x", "", "needs <root> & a | moon"))
    return made


class Page(HTMLParser):
    """Checks that what is opened is closed, and gathers what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "data")]
        if tag in ("script", "link", "iframe", "img"):
            self.fetched.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed where it is opened."""

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1234"),
        (99.96, "100"),
        (9.996, "10.0"),
        (1.234, "1.23"),
        (0.01, "0.0100"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert digits(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.5, "µs", "500 ns"),
        (12345, "µs", "12.3 ms"),
        (2500, "ms", "2.50 s"),
        (3, "µs/entry", "3.00 µs/entry"),
        (1e-5, "µs", "0.0100 ns"),
        (600, "MiB", "600 MiB"),
        (0.03, "%", "0.0300%"),
        (0, "µs", "0 µs"),
    ],
)
def test_the_unit_that_fits(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_ratios_shares_and_marks_of_an_axis() -> None:
    assert [times(value) for value in (0.414, 9.99, 12.34)] == ["0.41×", "9.99×", "12.3×"]  # noqa: RUF001
    assert percent(0.126) == "13 %"
    assert tick(10, "µs") == "10 µs"
    assert tick(0.5, "MiB") == "0.5 MiB"


def test_the_page_is_whole_and_fetches_nothing() -> None:
    page = Page()
    text = html.render(example(), example())
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.fetched == []
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "prefers-color-scheme: dark" in text
    assert "Input/output <error>" in page.text


def test_the_plots_are_svg_with_all_samples_in_view() -> None:
    text = html.render(example(), None)
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == 5  # one for each row, and one curve
    for plot in plots:
        tree = ElementTree.fromstring(plot)
        _, _, width, height = (float(word) for word in tree.attrib["viewBox"].split())
        circles = [element for element in tree.iter() if element.tag.endswith("circle")]
        assert circles
        for circle in circles:
            assert 0 < float(circle.attrib["cx"]) < width
            assert 0 < float(circle.attrib["cy"]) < height
    assert len(re.findall("<circle", plots[0])) == 12  # cold stat: three samples of four peers


def test_markdown_tables_have_the_same_columns_in_all_lines() -> None:
    text = markdown.render(example(), example())
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 6  # bars, comparison, three groups, facts
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1
    assert "28.0 µs ±1 %<br>0.40× · 4.67×" in text  # noqa: RUF001
    assert "1 of 4 failed: stat d000/f00001" in text
    assert "needs <root> & a \\| moon" in text


def test_the_bars_of_a_missing_subject_are_not_judged() -> None:
    made = results({STAT: steady(overlayfs=6, fuse_overlayfs=70)}, peers=("overlayfs",))
    assert "## The bars" not in markdown.render(made, None)


def test_flags_and_warnings() -> None:
    made = results({STAT: {"overlayfs": [5, 10, 20], "lamina-device": [30, 30]}}, complete=False)
    text = markdown.render(made, None)
    assert "| cold stat ! |" in text
    assert "10.0 µs ±75 % ~" in text
    assert "30.0 µs ~" in text
    assert "stopped before its end" in text
    assert "In 1 of 1 rows kernel overlayfs itself did not repeat within 20 %" in text


def test_no_results_make_a_report_too(tmp_path: Path) -> None:
    assert [path.exists() for path in write(Results("quick", "x"), None, tmp_path)] == [True] * 3


def test_json_can_be_read_back(tmp_path: Path) -> None:
    made = example()
    made.save(tmp_path / "results.json")
    again = Results.load_file(tmp_path / "results.json")
    assert again == made
    assert html.render(again, None) == html.render(made, None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ("{", "it is not JSON"),
        ("[]", "not the results of a run"),
        ("{}", "not the results of a run"),
        ('{"format": "other"}', "it is of another format"),
        ('{"format": "lamina-bench/1", "measured": [], "peers": []}', "not the results of a run"),
    ],
)
def test_another_file_is_refused_in_one_line(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadResults, match=re.escape(f"cannot read {path}: ")) as caught:
        Results.load_file(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
