"""Where the maps of several runs agree, and where heads merely are close."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports import summary
from reports.findings import agreement
from reports.findings.findings import Findings, find
from reports.results import load
from tests.reports.synthetic import cell, timed, write_run

SIZES = (64, 4_096, 65_536)


def run(folder: Path, name: str, **microseconds: tuple[float, ...]) -> Findings:
    lines = [
        timed(cell(head, "train", n, 128), index, [1e-6 * level * (1 + 1e-4 * k) for k in range(6)])
        for head, levels in microseconds.items()
        for n, level in zip(SIZES, levels, strict=True)
        for index in range(3)
    ]
    return find(load(write_run(folder / name, lines, trainings=[])))


def test_runs_agree_where_a_head_is_fastest_or_equal_in_all(tmp_path: Path) -> None:
    one = run(tmp_path, "a", softmax=(100, 100, 100), adaptive=(300, 104, 50))
    two = run(tmp_path, "b", softmax=(110, 103, 100), adaptive=(300, 100, 300))
    found = agreement.squares([one, two], "train")
    assert [(square.classes, square.reading) for square in found] == [
        *((64, "same"), (4_096, "close"), (65_536, "apart"))
    ]
    assert agreement.said(found, 2) == (
        "in 2 runs: of 3 squares 1 have the same fastest head, 1 heads within 5% of each other, "
        "1 differ by more (65,536 classes, batch 128)"
    )


def test_only_squares_of_all_runs_are_compared(tmp_path: Path) -> None:
    one = run(tmp_path, "a", softmax=(100, 100, 100))
    assert len(agreement.squares([one, one], "train")) == 3
    assert agreement.squares([one], "predict") == ()


def test_a_summary_of_several_runs_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        run(tmp_path, name, softmax=(100, 100, 100), adaptive=(300, 200, 50))
    assert summary.main(["a", "b", "--results", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "map of the training step in 2 runs: of 3 squares 3 have the same fastest head" in shown
    assert summary.main(["a", "--results", str(tmp_path)]) == 0
    assert "in 1 runs" not in capsys.readouterr().out
