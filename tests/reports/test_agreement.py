"""Where the maps of several runs agree, and where heads merely are close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports import summary
from reports.findings import agreement
from reports.findings.findings import Findings, find
from reports.results import load
from tests.reports.synthetic import cell, timed, write_run

SIZES = (64, 4_096, 65_536)

Levels = tuple[float, ...]
"""Microseconds at each size; 0 where it was not measured."""


def run(
    folder: Path, name: str, where: Mapping[str, Any] | None = None, **microseconds: Levels
) -> Findings:
    lines = [
        timed(
            cell(head, "train", n, 128, **(where or {})),
            index,
            [1e-6 * level * (1 + 1e-4 * k) for k in range(6)],
        )
        for head, levels in microseconds.items()
        for n, level in zip(SIZES, levels, strict=True)
        for index in range(3)
        if level
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
        "in 2 runs: of 3 squares 1 have the same fastest head (1 decided in all), "
        "1 heads within 5% of each other, 1 differ by more (65,536 classes, batch 128)"
    )


def test_only_squares_of_all_runs_are_compared(tmp_path: Path) -> None:
    one = run(tmp_path, "a", softmax=(100, 100, 100))
    assert len(agreement.squares([one, one], "train")) == 3
    assert agreement.squares([one], "predict") == ()


def test_a_head_that_one_run_lacks_is_left_out_in_all(tmp_path: Path) -> None:
    one = run(tmp_path, "a", softmax=(100, 100, 100), gumbel=(300, 300, 300), adaptive=(9, 9, 9))
    two = run(tmp_path, "b", softmax=(100, 100, 100), gumbel=(300, 300, 300), adaptive=(9, 0, 0))
    found = agreement.squares([one, two], "train")
    assert [[answer.head for answer in square.answers] for square in found] == [
        *(["adaptive"] * 2, ["softmax"] * 2, ["softmax"] * 2)
    ]
    assert {square.reading for square in found} == {"same"}


def test_squares_that_a_run_left_open_are_counted_by_themselves(tmp_path: Path) -> None:
    one = run(tmp_path, "a", softmax=(100, 100, 100), adaptive=(300, 300, 300))
    first, *rest = agreement.squares([one, one], "train")
    sure, unsure = first.answers
    open_ = replace(first, answers=(sure, replace(unsure, rivals=("adaptive",))))
    assert first.decided
    assert not open_.decided
    said = agreement.said([open_, *rest], 2)
    assert "of 3 squares 3 have the same fastest head (2 decided in all)" in said


@pytest.mark.parametrize("other", [{"dtype": "bfloat16"}, {"threads": 7}])
def test_runs_of_other_settings_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict[str, Any]
) -> None:
    run(tmp_path, "a", softmax=(100, 100, 100))
    run(tmp_path, "b", other, softmax=(100, 100, 100))
    assert summary.main(["a", "b", "--results", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "maps are not compared: the usual settings of the runs differ" in shown
    assert "in 2 runs" not in shown


def test_runs_of_other_clocks_are_not_compared(tmp_path: Path) -> None:
    one = run(tmp_path, "a", softmax=(100, 100, 100))
    assert agreement.why_not([one, one]) == ""
    assert "clocks" in agreement.why_not([one, replace(one, clock="device")])


def test_a_summary_of_several_runs_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        run(tmp_path, name, softmax=(100, 100, 100), adaptive=(300, 200, 50))
    assert summary.main(["a", "b", "--results", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "map of the training step in 2 runs: of 3 squares 3 have the same fastest head" in shown
    assert "(3 decided in all)" in shown
    assert summary.main(["a", "--results", str(tmp_path)]) == 0
    assert "in 1 runs" not in capsys.readouterr().out
