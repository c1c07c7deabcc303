"""Tables of heads by class counts: each figure is the one that the findings have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reports.sizes import main
from tests.reports.synthetic import cell, remembered, timed, write_run

SECONDS = {"softmax": {100: 2e-3, 1_000: 2e-2}, "liger": {100: 1e-3}, "fasttext": {1_000: 1e-4}}
LIMITS = {"copy_bytes_per_second": 1e15, "peak_multiply_adds_per_second": 1e11}


def lines():
    found = []
    for head, by_classes in SECONDS.items():
        for classes, seconds in by_classes.items():
            where = cell(head, "train", classes, 128)
            counted = {} if head == "softmax" else {"multiply_adds": None, "bytes": None}
            computes = {"computes": "softmax"} if head == "liger" else {}
            found += [timed(where, n, [seconds] * 3) | counted | computes for n in range(2)]
            found.append(remembered(where))
    return found


def shown(tables, title):
    """Head -> its cells in the table of this title."""
    (table,) = [one for one in re.split(r"\n(?=\S[^|]*:\n)", tables) if title in one.split("\n")[0]]
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", lines=lines(), trainings=[], machine=LIMITS)


def test_a_table_has_a_line_for_each_head_and_a_column_for_each_class_count(run, capsys):
    assert main([str(run)]) == 0
    said = capsys.readouterr().out.replace("\u00a0", " ")
    times = shown(said, "loop time of train")
    assert times["head"] == ["100", "1,000"]
    assert times["liger"][1] == "—"
    assert times["softmax"][0].startswith("2")
    assert times["softmax"][0].split()[1] == "ms"

    ratios = shown(said, "multiple of that of softmax")
    assert ratios["softmax"] == ["1", "1"]
    assert float(ratios["liger"][0].split()[0]) == 0.5
    assert ratios["fasttext"][0] == "—"
    assert 1 / float(ratios["fasttext"][1].split()[0]) == pytest.approx(200)

    assert shown(said, "peak memory")["softmax"][0] == "114 KiB"  # 4 * 128 * (100 + 128) bytes

    # 3 * 128 * 128 * 100 multiply-adds are 49.152 us at the peak.
    shares = shown(said, "share of the roof")
    assert float(shares["softmax"][0].split()[0]) == pytest.approx(100 * 49.152e-6 / 2e-3, abs=0.06)
    assert float(shares["liger"][0].split()[0]) == pytest.approx(100 * 49.152e-6 / 1e-3, abs=0.06)
    assert "fasttext" not in shares


def test_without_such_a_cell_there_is_one_line_of_error(run, capsys):
    assert main([str(run), "--batch", "7"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "no such cell" in err
