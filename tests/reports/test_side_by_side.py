"""Runs side by side are compared cell by cell, and are never mixed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from reports.__main__ import main
from reports.findings import side_by_side
from reports.findings.findings import Findings, find
from reports.page import html
from reports.results import load
from tests.reports.synthetic import cell, timed, training, write_run
from tests.reports.test_report import HOSTILE, Page, hostile_run

PACE = 0.25


def write_pair(folder: Path) -> tuple[Path, Path]:
    """A machine, and one that takes a quarter of the time per class and misses the largest size."""
    draw = np.random.default_rng(0)

    def lines(sizes: tuple[int, ...], pace: float, device: str) -> list[dict[str, object]]:
        return [
            timed(
                cell(head, phase, n, 128, device=device),
                index,
                pace * 1e-6 * n * slower * (1 + 0.01 * draw.standard_normal(8)),
            )
            for index in range(3)
            for head, slower in (("softmax", 1.0), ("gumbel", 1.5))
            for phase in ("train", "predict")
            for n in sizes
        ]

    slow = write_run(
        folder / "slow",
        lines=lines((64, 256, 1024, 4096), 1.0, "cpu"),
        trainings=[training("softmax")],
        machine={"cpu": "Old", "threads": 2},
    )
    fast = write_run(
        folder / "fast",
        lines=lines((64, 256, 1024), PACE, "cuda:0"),
        trainings=[],
        machine={"cpu": "Old", "gpu": "New <b>"},
    )
    return slow, fast


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, Findings]:
    slow, fast = write_pair(tmp_path_factory.mktemp("pair"))
    return find(load(slow)), find(load(fast))


def test_ratio_is_second_over_first_of_the_cells_that_both_have(
    pair: tuple[Findings, Findings],
) -> None:
    found = side_by_side.ratios(*pair)
    assert {ratio.classes for ratio in found} == {64, 256, 1024}
    assert len(found) == 2 * 2 * 3
    for ratio in found:
        assert ratio.times.estimate == pytest.approx(PACE, rel=0.05)
        assert ratio.change == "faster"
    for there, back in zip(found, side_by_side.ratios(*reversed(pair)), strict=True):
        assert back.times.estimate == pytest.approx(1 / there.times.estimate)


def test_a_run_beside_itself_is_the_same_everywhere(pair: tuple[Findings, Findings]) -> None:
    first, _ = pair
    for ratio in side_by_side.ratios(first, first):
        assert ratio.times.estimate == pytest.approx(1)
        assert ratio.change in {"same", "ambiguous"}


def test_facts_tell_which_differ() -> None:
    found = side_by_side.facts([{"cpu": "a", "torch": "1"}, {"cpu": "a", "gpu": "b", "torch": "2"}])
    assert {fact.name: fact.differs for fact in found} == {
        "cpu": False,
        "gpu": True,
        "torch": True,
    }
    assert next(fact for fact in found if fact.name == "gpu").values == ("", "b")


def test_page_names_both_runs_and_links_to_their_own_pages(
    pair: tuple[Findings, Findings],
) -> None:
    page = html.render_side_by_side(pair, ["slow.html", "fast.html"], "slow-and-fast")
    parsed = Page(page)
    assert {a.get("href") for a in parsed.all("a")} >= {"slow.html", "fast.html"}
    assert "New &lt;b&gt;" in page
    assert "12 of 12 cells at all batch sizes and phases are faster in B, 0 slower" in page
    assert re.search(r"nothing was trained", page)
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(svg.get("aria-label") for svg in parsed.all("svg"))


def test_runs_without_a_common_cell_say_so(pair: tuple[Findings, Findings], tmp_path: Path) -> None:
    lines = [timed(cell("softmax", "train", 77, 5), 0, [1e-3])]
    other = find(load(write_run(tmp_path / "other", lines=lines, trainings=[])))
    page = html.render_side_by_side([pair[0], other], ["a.html", "b.html"], "both")
    assert "The two have no cell in common" in page


def test_names_are_escaped_beside_each_other_too(tmp_path: Path) -> None:
    runs = [find(load(hostile_run(tmp_path / f"{HOSTILE.replace('/', '')}{i}"))) for i in "ab"]
    parsed = Page(html.render_side_by_side(runs, ["a.html", "b.html"], HOSTILE))
    assert not parsed.all("img")
    assert not [name for _, found in parsed.elements for name in found if name.startswith("on")]


def test_command_writes_each_page_and_one_for_both_and_the_same_every_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(run) for run in write_pair(tmp_path)]
    for output in ("a", "b"):
        assert main([*runs, "--output", str(tmp_path / output)]) == 0
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "slow.html",
        "fast.html",
        "slow-and-fast.html",
    }
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert "slow-and-fast.html" in capsys.readouterr().out


def test_one_run_named_twice_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, _ = write_pair(tmp_path)
    assert main([str(slow), str(slow), "--output", str(tmp_path / "html")]) == 2
    assert capsys.readouterr().err.startswith("error: two of the runs are called 'slow'")
