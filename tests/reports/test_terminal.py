"""Whatever a name holds, the terminal stays as it is; whatever its width, no content is lost."""

from __future__ import annotations

import io
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reports import advise, compare, summary, terminal
from reports.findings.adviser import Question
from reports.terminal import Column
from tests.reports import synthetic as made
from tests.reports.test_compare import side

WIDTHS = (10, 20, 30, 40, 60, 80, 200)
ENCODINGS = ("ascii", "latin-1", "cp1252", "utf-8", "shift_jis")
LINES = re.compile(r"[^\w%]+")


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=st.text(st.characters(), max_size=30))
def test_nothing_but_lines_gets_through_that_moves_a_cursor_or_cannot_be_written(encoding, text):
    shown = terminal.printable(text, encoding)
    shown.encode(encoding)
    assert not {unicodedata.category(c) for c in shown if c != "\n"} & terminal.ESCAPED
    assert terminal.printable(shown, encoding) == shown


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("softmax é—µ", "utf-8", "softmax é—µ"),
        ("a\x1b[31mb\x9b0m\x7f\r\b", "utf-8", r"a\x1b[31mb\x9b0m\x7f\r\x08"),
        ("\udcff \ud800 \u202e", "utf-8", r"\udcff \ud800 \u202e"),
        ("1.5 µs — 3 % \u00d7 é…", "ascii", r"1.5 us - 3 % x \xe9..."),
        ("1.5 µs — é", "latin-1", "1.5 µs - é"),
        ("one\ntwo", "ascii", "one\ntwo"),
    ],
)
def test_what_cannot_be_shown_is_named(text, encoding, shown):
    assert terminal.printable(text, encoding) == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_no_output_fails_for_its_encoding(encoding, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    console = terminal.console()
    terminal.say(console, "é — \ud800\x1b[2J")
    terminal.show(console, {"héad": Column()}, [["\udcff µ 中"]], title="—", caption="…")
    print("as print does: 中 — µ")
    out.flush()
    written = out.buffer.getvalue()
    assert b"\x1b" not in written
    assert written.decode(encoding).isprintable() is False  # lines, and nothing worse
    assert {c for c in written.decode(encoding) if not c.isprintable()} <= {"\n", "\xa0"}


def test_half_a_character_is_written_into_a_page_as_its_escape():
    assert terminal.utf8("é\ud800") == "é\\ud800".encode()


@pytest.mark.parametrize(("columns", "width"), [("0", 10), ("3", 10), ("40", 40), ("9" * 12, 500)])
def test_a_width_nobody_has_is_taken_for_the_next_one_that_somebody_has(
    columns, width, monkeypatch
):
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal.console(io.StringIO()).width == width


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_command_ends_with_its_status(status):
    assert terminal.command(lambda: status) == status


def test_an_interrupted_command_ends_without_a_traceback():
    def main():
        raise KeyboardInterrupt

    assert terminal.command(main) == 130


# --- width -------------------------------------------------------------------------------------

COLUMNS = {
    "name": Column(),
    "first": Column(number=True, given_up=1),
    "second": Column(given_up=2),
}
TABLES = st.lists(
    st.tuples(*[st.text("abcde fgh", min_size=1, max_size=40).map(str.strip)] * 3), min_size=1
)


@pytest.mark.parametrize("width", WIDTHS)
@given(rows=TABLES)
def test_columns_are_given_up_in_order_and_those_that_remain_fit_whole(width, rows):
    given_room = terminal.fitting(COLUMNS, rows, width)
    order = ["name", "first", "second"]
    assert list(given_room) == order[: len(given_room)]
    assert sum(given_room.values()) + 3 * len(given_room) + 1 <= width
    assert min(given_room.values()) >= 1
    if "first" in given_room:
        assert given_room["first"] >= max(len("first"), *(len(row[1]) for row in rows))


def printed(width, show):
    console = Console(width=width, file=io.StringIO(), record=True, highlight=False)
    show(console)
    return console.export_text()


def letters(text):
    """What is left of a text once frames, line ends and spaces are taken out."""
    return LINES.sub("", text)


def first_column(text):
    """The first column of all framed tables."""
    rows = [line for line in text.splitlines() if line[:1] in "│┃"]
    return letters("".join(re.split("[│┃]", row)[1] for row in rows))


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_of_a_summary_hold_every_head_and_fit(width, findings):
    text = printed(width, lambda console: summary.show(findings, Path("page.html"), console))
    report, *_ = (line for line in text.splitlines() if line.startswith("report: "))
    assert report == "report: page.html"
    assert max(len(line.rstrip()) for line in text.splitlines() if line != report) <= width
    column = first_column(text)
    assert all(letters(head) in column for head in made.HEADS)
    assert "…" not in text.partition("claim")[0]
    assert ("no room for:" in " ".join(text.split())) == (width < 80)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_names_every_changed_cell(width):
    old, new = side("old", cells=6), side("new", factor=2.0, cells=6, seed=1)
    found = compare.compare(old, new, threshold=0.1)
    text = printed(width, lambda console: compare.show(old, new, found, 25, False, console))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    column = first_column(text)
    assert found.counts["slower"] == 6
    assert all(letters(cell) in column for cell in old.cells)


@pytest.mark.parametrize("width", WIDTHS)
def test_advice_names_every_head(width, findings, known):
    asked = Question(500_000, 128, 128, "train", memory=2**31)
    text = printed(width, lambda console: advise._show(findings, known, asked, console))
    text = text.partition("Predicted from")[0]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert all(letters(head) in first_column(text) for head in made.HEADS)
