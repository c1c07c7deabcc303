"""The adviser in the page gives the answer of the command line, to the last digit shown."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from reports.findings.adviser import Adviser, Question, advise, adviser, recommend
from reports.findings.findings import Findings, find
from reports.page import html
from reports.results import load
from tests.reports import test_browser
from tests.reports.synthetic import journal, wider, write_run

browser = test_browser.browser
pytestmark = test_browser.pytestmark

FILL_IN = """
    const asked = arguments[0], form = document.querySelector("form[data-adviser]");
    for (const [name, value] of Object.entries(asked)) form.elements[name].value = value;
    form.dispatchEvent(new Event("input", { bubbles: true }));
    return {
      said: [...document.querySelectorAll("#adviser-answer li")].map((item) => item.textContent),
      rows: [...document.querySelectorAll("#adviser-table tbody tr")].map((row) => ({
        head: row.dataset.head,
        cells: [...row.cells].map((cell) => cell.innerText.trim().split(/\\n+/)),
        seconds: { ...row.cells[1].dataset },
        memory: { ...row.cells[2].dataset },
      })),
    };
"""

MIB = 2**20
QUESTIONS = [
    Question(30_000, 128, 128),
    Question(1_000, 32, 128, "predict"),
    Question(500_000, 256, 512, "train", 2_048 * MIB),
    Question(500_000, 256, 64, "train", 300 * MIB),
    Question(2, 1, 1),
    Question(1_000_000_000, 100_000, 4_096, "predict", 64 * MIB),
]


@pytest.fixture(scope="module")
def opened(browser, page, tmp_path_factory):
    path = tmp_path_factory.mktemp("html") / "page.html"
    path.write_text(page, encoding="utf-8")
    test_browser.show(browser, path.as_uri(), test_browser.DESKTOP, "light")
    return browser


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("widths") / "run"
    return find(load(write_run(folder, [*journal(), *wider((64, 512))])))


def fill_in(opened: Any, asked: Question) -> Any:
    memory = "" if asked.memory is None else asked.memory / MIB
    return opened.execute_script(FILL_IN, asdict(asked) | {"memory": memory, "unit": str(MIB)})


@pytest.mark.parametrize("asked", QUESTIONS, ids=str)
def test_page_and_command_line_agree(opened, known, asked):
    assert_agree(opened, known, asked)


def assert_agree(opened: Any, known: Adviser, asked: Question) -> None:
    rows = advise(known, asked)
    shown = fill_in(opened, asked)
    assert shown["said"] == recommend(known, asked, rows)
    assert [row["head"] for row in shown["rows"]] == [row.head for row in rows]
    for there, here in zip(shown["rows"], rows, strict=True):
        for name, value in (("seconds", here.seconds), ("memory", here.memory)):
            for end, text in there[name].items():
                assert float(text) == pytest.approx(getattr(value, end), rel=1e-9)
        fits = here.fits if asked.memory is not None else ""
        told = [*here.seconds_shown], [*here.memory_shown], [fits], [", ".join(here.extrapolated)]
        assert there["cells"][1:] == [*told]


def test_a_field_that_makes_no_sense_leaves_the_answer(opened):
    before = fill_in(opened, QUESTIONS[0])
    after = opened.execute_script(FILL_IN, {"classes": "-1"})
    assert after == before


def test_what_is_shown_first_is_the_answer_to_what_the_fields_say(opened, known):
    opened.refresh()
    untouched = opened.execute_script(FILL_IN.replace("form.dispatchEvent", "void "), {})
    asked = opened.execute_script(FILL_IN, {})
    assert asked["said"] == untouched["said"]
    assert [row["cells"] for row in asked["rows"]] == [row["cells"] for row in untouched["rows"]]
    assert len(asked["rows"]) == len(known.phases["train"])


def test_they_agree_on_a_run_of_several_widths(browser, several, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html.render(several), encoding="utf-8")
    test_browser.show(browser, path.as_uri(), test_browser.DESKTOP, "light")
    known = adviser(several)
    for asked in (*QUESTIONS, Question(30_000, 64, 200), Question(5_000, 128, 90, "predict")):
        assert_agree(browser, known, asked)
