"""A run of very many cells is shown at a coarser grid; what a clock did not see is missing."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from reports import __main__ as report
from reports.findings import findings as module
from reports.findings.joined import summary
from reports.page.sections.cells import beside
from reports.results import CELL, load
from reports.results.loader import TOO_SHORT
from tests.reports.synthetic import CLASSES, HEADS, cell, timed, write_run


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine heads at forty class counts: 360 cells in two passes."""
    folder = tmp_path_factory.mktemp("large") / "run"
    cells = [
        cell(head, "train", round(16 * 1.3**step), 128)
        for head in (*HEADS, "a", "b", "c", "d")
        for step in range(40)
    ]
    lines = [timed(one, index, [1e-3, 1.1e-3]) for index in range(2) for one in cells]
    return write_run(folder, lines=lines, trainings=[])


def test_a_coarser_grid_keeps_its_ends_and_all_heads_at_each_size(large: Path) -> None:
    whole = load(large)
    run, measured = summary(whole, 100)
    places = run.times.drop_duplicates([*CELL])
    assert measured == 360
    assert 50 <= len(places) <= 100
    assert set(places["head"]) == set(whole.times["head"])
    assert places.groupby("classes")["head"].nunique().eq(9).all()
    for end in (min, max):
        assert end(places["classes"]) == end(whole.times["classes"])
    assert (run.times.groupby([*CELL]).size() == 2).all()


def test_where_sizes_are_few_the_first_heads_stay(large: Path) -> None:
    run, _ = summary(load(large), 5)
    assert 0 < len(run.times.drop_duplicates([*CELL])) <= 5


def test_few_cells_are_left_as_they_are(synthetic: Path) -> None:
    run = load(synthetic)
    assert summary(run)[0] is run


def test_the_page_says_what_it_leaves_out_and_the_journal_lies_beside_it(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module.joined, "summary", lambda run: summary(run, 100))
    assert report.main([str(large), "--output", str(tmp_path)]) == 0
    page = (tmp_path / "run.html").read_text()
    assert "This run has 360 cells, too many for a table" in page
    assert "a summary: the run has 360 cells" in capsys.readouterr().out
    assert f'href="{beside("run")}"' in page
    packed = (tmp_path / beside("run")).read_bytes()
    assert gzip.decompress(packed) == (large / "journal.jsonl").read_bytes()


def test_a_cell_that_the_clock_did_not_see_is_missing_and_the_others_are_shown(
    tmp_path: Path,
) -> None:
    lines = [timed(cell("softmax", "train", n, 32), 0, [1e-3, 0.0, 1e-3]) for n in CLASSES]
    lines.append(timed(cell("softmax", "predict", 16, 32), 0, [0.0, 0.0, 1e-3]))
    run = load(write_run(tmp_path / "run", lines=lines, trainings=[]))
    assert list(run.times["classes"]) == list(CLASSES)
    (found,) = [row for row in run.missing.to_dict("records") if row["status"] == "measured"]
    assert (found["phase"], found["reason"]) == ("predict", TOO_SHORT)
    assert not run.warnings
