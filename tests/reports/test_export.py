"""What other tools are given is what was measured, with the report's intervals."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports import __main__ as report
from reports.export import COLUMNS, bmf, exported, table
from reports.findings.findings import Findings
from reports.results import CELL, Cell, ResultsError, Run, load
from tests.reports.synthetic import cell, remembered, timed, write_run

FIELDS = ("classes", "batch", "features", "threads", "replica")
"""Of a cell, that are numbers."""


@pytest.fixture(scope="module")
def run(synthetic: Path) -> Run:
    return load(synthetic)


@pytest.fixture(scope="module")
def frame(run: Run) -> pd.DataFrame:
    return table(run, "loop")


@pytest.fixture(scope="module")
def rows(run: Run) -> list[dict[str, str]]:
    """The table as a tool reads it that knows CSV and nothing of us."""
    return list(csv.DictReader(io.StringIO(exported(run, "csv").decode())))


@pytest.fixture(scope="module")
def journal(synthetic: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (synthetic / "journal.jsonl").read_text().splitlines())
    return [line for line in lines if line["status"] == "measured"]


def place(row: dict[str, Any]) -> tuple[object, ...]:
    """What of a cell both the journal of a first version and the table have."""
    named = (row[name] for name in ("scope", "head", "phase", "dtype", "device"))
    return *named, *(int(row[name]) for name in FIELDS)


def small(folder: Path, *lines: dict[str, Any], **facts: Any) -> Run:
    return load(write_run(folder, lines, trainings=[], **facts))


def test_every_time_is_what_the_journal_says(
    rows: list[dict[str, str]], journal: list[dict[str, Any]]
) -> None:
    """The geometric mean of the passes' medians, here by NumPy from the raw lines."""
    passes: dict[Any, list[list[float]]] = defaultdict(list)
    for line in journal:
        if line["kind"] == "time":
            passes[place(line["cell"])].append(line["seconds"])
    times = {place(row): row for row in rows if row["measure"] == "time"}
    assert len(times) == len([row for row in rows if row["measure"] == "time"])
    assert times.keys() == passes.keys()
    for where, row in times.items():
        medians = [np.median(seconds) for seconds in passes[where]]
        assert float(row["estimate"]) == pytest.approx(np.exp(np.mean(np.log(medians))), rel=1e-12)
        assert int(row["samples"]) == sum(map(len, passes[where]))
        assert int(row["passes"]) == len(passes[where])
        assert float(row["low"]) < float(row["estimate"]) < float(row["high"])
        assert (row["unit"], row["clock"]) == ("s", "loop")


def test_intervals_are_those_of_the_report(rows: list[dict[str, str]], findings: Findings) -> None:
    shown = {place(vars(one)): one.seconds for one in findings.cells}
    for row in rows:
        if row["measure"] == "time":
            interval = shown[place(row)]
            assert interval is not None
            assert (float(row["low"]), float(row["high"])) == (interval.low, interval.high)


def test_bytes_are_counted_and_have_no_interval(
    rows: list[dict[str, str]], journal: list[dict[str, Any]]
) -> None:
    counted = {
        (place(line["cell"]), name): line[name]
        for line in journal
        if line["kind"] == "memory"
        for name in ("peak_bytes", "parameter_bytes", "gradient_bytes", "optimizer_bytes")
    }
    found = {(place(row), row["measure"]): row for row in rows if row["unit"] == "B"}
    assert found.keys() == counted.keys()
    assert all(float(found[one]["estimate"]) == counted[one] for one in counted)
    assert {(row["low"], row["high"], row["clock"]) for row in found.values()} == {("", "", "")}


def test_a_row_names_run_machine_and_date(rows: list[dict[str, str]], run: Run) -> None:
    assert list(rows[0]) == [*COLUMNS]
    told = {tuple(row[name] for name in COLUMNS[:6]) for row in rows}
    assert told == {("1", run.name, "2026-01-01T00:00:00+00:00", "Synthetic CPU", "0.0", "")}


def test_the_documented_schema_is_the_one_written() -> None:
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text("utf-8")
    section = text.partition("## Exports")[2]
    documented = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = [name.strip(" `") for names in documented for name in names.split(",")]
    assert [*named] == [name for name in COLUMNS if name not in CELL]
    assert ", ".join(f"`{name}`" for name in CELL) in " ".join(section.split())


def test_options_of_a_head_are_a_column_of_their_own(tmp_path: Path) -> None:
    where = cell("hierarchical", "train", 64, 32, options="tree=huffman")
    found = table(small(tmp_path / "run", timed(where, 0, [1e-3] * 6)), "loop")
    assert found[["head", "options"]].to_numpy().tolist() == [["hierarchical", "tree=huffman"]]


def test_bencher_gets_nanoseconds_with_our_bounds_and_bytes(frame: pd.DataFrame) -> None:
    """The shape that Bencher's own schema of its metric format asks for."""
    found, rows = bmf(frame), frame
    assert len(found) == len(rows[rows["replica"] == 0].drop_duplicates([*CELL]))
    name = "isolated softmax train n=4096 batch=128 d=128 cpu"
    (row,) = rows[
        (rows["measure"] == "time")
        & (rows[["head", "phase"]] == ["softmax", "train"]).all(axis=1)
        & (rows[["classes", "batch", "replica"]] == [4096, 128, 0]).all(axis=1)
    ].to_dict("records")
    ends = {"lower_value": "low", "value": "estimate", "upper_value": "high"}
    assert found[name]["latency"] == pytest.approx({k: 1e9 * row[v] for k, v in ends.items()})
    assert found[name]["parameter-bytes"] == {"value": 4 * 4096 * 128}
    for measures in found.values():
        for metric in measures.values():
            assert {"value"} <= metric.keys() <= ends.keys()
            assert all(isinstance(value, float) for value in metric.values())


def test_cells_that_differ_bear_different_names_at_bencher() -> None:
    usual = Cell("isolated", "softmax", "predict", 64, 32, 128)
    train = replace(usual, phase="train")
    cells = [
        *(usual, train, replace(usual, classes=65), replace(usual, batch=33)),
        *(replace(usual, features=129), replace(usual, dtype="bfloat16"), replace(usual, head="x")),
        *(replace(usual, device="cuda"), replace(usual, labels="zipf:1")),
        *(replace(usual, state="sure"), replace(usual, options="draws=8")),
        *(replace(train, optimizer="adam"), replace(train, mode="graph")),
        *(replace(train, scope="in-model"), replace(train, scope="pipeline", pipeline="ours")),
    ]
    assert len({one.label for one in cells}) == len(cells)


@pytest.mark.parametrize("seconds", [[1e-3] * 3, [1e-9, 1e9, 1e-9, 1e9, 1e9, 1e9]])
def test_an_interval_without_bounds_is_no_bound_at_bencher(
    tmp_path: Path, seconds: list[float]
) -> None:
    where = cell("softmax", "train", 64, 32)
    run = small(tmp_path / "run", *(timed(where, k, seconds[k:]) for k in range(len(seconds) // 3)))
    (metric,) = (measures["latency"] for measures in json.loads(exported(run, "bmf")).values())
    (row,) = table(run, "loop").to_dict("records")
    assert ("upper_value" in metric) == math.isfinite(row["high"] * 1e9)


def test_no_name_runs_in_a_spreadsheet_or_breaks_a_line(tmp_path: Path) -> None:
    lines = [timed(cell(f"{sign}1", "train", 64, 32), 0, [1e-3] * 6) for sign in "=+-@"]
    run = small(tmp_path / "=a\n\x1b", *lines, machine={"cpu": "=A1\n" + "x" * 10**6})
    text = exported(run, "csv").decode()
    assert len(text.splitlines()) == 5
    assert max(map(len, text.splitlines())) < 500
    for row in csv.DictReader(io.StringIO(text)):
        assert not [value for value in row.values() if value.startswith(("=", "+", "-", "@"))]
    assert {name.split()[1] for name in json.loads(exported(run, "bmf"))} == {
        "=1", "+1", "-1", "@1",
    }  # fmt: skip


def test_parquet_holds_the_same_table_with_its_types(run: Run, frame: pd.DataFrame) -> None:
    pytest.importorskip("pyarrow")
    found = pd.read_parquet(io.BytesIO(exported(run, "parquet")))
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True), frame.reset_index(drop=True), check_dtype=False
    )
    assert {str(found[name].dtype) for name in (*FIELDS, "samples", "passes")} == {"int64"}
    assert {str(found[name].dtype) for name in ("estimate", "low", "high")} == {"float64"}


def test_parquet_without_pyarrow_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ResultsError, match=r"needs pyarrow.*tox -e report-parquet") as refused:
        exported(run, "parquet")
    assert "\n" not in str(refused.value)


def test_a_run_without_figures_or_clock_is_one_line(tmp_path: Path, run: Run) -> None:
    empty = small(tmp_path / "run")
    with pytest.raises(ResultsError, match="nothing to export"):
        exported(empty, "bmf")
    with pytest.raises(ResultsError, match="has no device time"):
        exported(run, "csv", "device")


def test_the_command_writes_the_file_in_place_of_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = cell("softmax", "train", 64, 32)
    runs = [tmp_path / name for name in ("one", "two")]
    for folder in runs:
        small(folder, timed(where, 0, [1e-3] * 6), remembered(where))
    out = tmp_path / "out"
    for form, ending in (("bmf", "bmf.json"), ("csv", "csv")):
        assert report.main([*map(str, runs), "--export", form, "--output", str(out)]) == 0
        assert (out / f"two.{ending}").read_bytes() == exported(load(runs[1]), form)  # type: ignore[arg-type]
    assert {path.name for path in out.iterdir()} == {
        *("one.bmf.json", "two.bmf.json", "one.csv", "two.csv")
    }
    assert f"exported: {out / 'one.csv'}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        report.main(["--export", "csv", "--figure"])
    assert "not allowed with" in capsys.readouterr().err
