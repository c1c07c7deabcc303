"""Two runs compared: changes are found, equals are not called changed, CI gets its exit status."""

import json

import numpy as np
import pytest

from reports import compare
from reports.compare import Measured
from reports.stats import estimates


def side(name, factor=1.0, cells=200, noise=0.02, seed=0, machine=None):
    """So many cells of 1 ms, three passes of ten rounds, with drift between passes."""
    draw = np.random.default_rng(seed)
    passes = {
        f"cell {i}": tuple(
            1e-3 * factor * np.exp(noise * draw.normal() + noise * draw.normal(size=10))
            for _ in range(3)
        )
        for i in range(cells)
    }
    return Measured(name, passes, estimates.scatter(passes.values()), machine or {})


@pytest.mark.parametrize(("factor", "change"), [(2.0, "slower"), (0.5, "faster")])
def test_a_real_change_is_found_in_every_cell(factor, change):
    found = compare.compare(side("a"), side("b", factor, seed=1), threshold=0.05)
    assert set(found.counts) == {change}
    assert all(factor == pytest.approx(c.ratio.estimate, rel=0.15) for c in found.cells)


def test_without_a_change_no_cell_of_a_whole_run_is_called_changed():
    called = 0
    for seed in range(20):
        found = compare.compare(side("a", seed=2 * seed), side("b", seed=2 * seed + 1), threshold=0)
        called += bool({"faster", "slower"} & set(found.counts))
    assert called <= 4  # 1 is expected; 5 or more has a chance of 0.3 %


def test_a_change_within_the_threshold_is_no_change():
    old, new = side("a", noise=0.001), side("b", 1.1, noise=0.001, seed=1)
    assert set(compare.compare(old, new, threshold=0.3).counts) == {"same"}
    assert set(compare.compare(old, new, threshold=0.02).counts) == {"slower"}


def test_only_cells_of_both_sides_are_compared():
    old, new = side("a", cells=3), side("b", cells=5)
    assert {c.cell for c in compare.compare(old, new, 0.05).cells} == set(old.cells)


def test_another_machine_is_named():
    old, new = side("a", machine={"cpu": "one"}), side("b", machine={"cpu": "two"})
    assert compare.differences(old, new) == ["cpu: one against two"]
    assert compare.differences(old, old) == []


def test_two_quiet_runs_of_one_machine_are_mostly_the_same_and_nothing_changed():
    found = compare.compare(side("a", noise=0.03), side("b", noise=0.03, seed=1), threshold=0.1)
    assert not {"faster", "slower"} & set(found.counts)
    assert found.counts["same"] > 0.8 * len(found.cells)
    assert found.agreeing(0.2) == 1


def test_what_differs_from_run_to_run_is_no_change():
    """A cell's pages lie elsewhere in the other run, for all of its passes."""
    called = 0
    for seed in range(20):
        old, new = side("a", noise=0.005, seed=2 * seed), side("b", noise=0.005, seed=2 * seed + 1)
        moved = np.exp(0.04 * np.random.default_rng(seed).normal(size=len(new.cells)))
        cells = {
            cell: tuple(rounds * factor for rounds in passes)
            for (cell, passes), factor in zip(new.cells.items(), moved, strict=True)
        }
        found = compare.compare(old, Measured("b", cells, new.known, {}), threshold=0)
        called += bool({"faster", "slower"} & set(found.counts))
    assert called <= 4  # as above


def test_one_regression_among_many_cells_is_found_alone():
    old, new = side("a", noise=0.01), side("b", noise=0.01, seed=1)
    slow = {"cell 7": tuple(1.5 * rounds for rounds in new.cells["cell 7"])}
    found = compare.compare(old, Measured("b", {**new.cells, **slow}, new.known, {}), threshold=0.1)
    assert [c.cell for c in found.cells if c.change in ("faster", "slower")] == ["cell 7"]


def test_a_slower_machine_is_told_from_a_slower_cell():
    old, new = side("a", noise=0.01), side("b", 1.3, noise=0.01, seed=1)
    slow = {"cell 7": tuple(1.5 * rounds for rounds in new.cells["cell 7"])}
    shifted = Measured("b", {**new.cells, **slow}, new.known, {})
    absolute = compare.compare(old, shifted, threshold=0.1)
    assert absolute.counts["slower"] == len(old.cells)
    assert 1.3 in absolute.shift
    assert "--relative" in compare.common(absolute.shift, relative=False)
    beside = compare.compare(old, shifted, threshold=0.1, relative=True)
    assert [c.cell for c in beside.cells if c.change in ("faster", "slower")] == ["cell 7"]


def test_a_steady_machine_is_not_blamed():
    found = compare.compare(side("a"), side("b", seed=1), threshold=0.1)
    assert "the machine" not in compare.common(found.shift, relative=False)


def benchmark_json(path, seconds):
    data = list(np.random.default_rng(0).normal(seconds, seconds / 1000, size=20))
    path.write_text(json.dumps({"benchmarks": [{"fullname": "a::b", "stats": {"data": data}}]}))
    return str(path)


def test_pytest_benchmarks_own_files_are_read(tmp_path):
    read = compare.read(tmp_path / benchmark_json(tmp_path / "a.json", 1e-3))
    assert list(read.cells) == ["a::b"]
    assert np.concatenate(read.cells["a::b"]).size == 20
    assert np.median(read.cells["a::b"][0]) == pytest.approx(1e-3, rel=0.01)


def test_pytest_benchmarks_own_files_can_be_told_apart(tmp_path):
    same, slow = (
        str(tmp_path / benchmark_json(tmp_path / f"{seconds}.json", seconds))
        for seconds in (1e-3, 2e-3)
    )
    assert compare.main([same, same]) == 0
    assert compare.main([same, slow]) == 1


@pytest.mark.parametrize("content", ["", "{}", '{"benchmarks": [{"fullname": "x"}]}', "[1]"])
def test_a_foreign_file_is_one_line(tmp_path, capsys, content):
    path = tmp_path / "foreign.json"
    path.write_text(content)
    assert compare.main([str(path), str(path)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


def test_an_unknown_run_is_one_line(tmp_path, capsys):
    assert compare.main(["nope", "nope", "--results", str(tmp_path)]) == 2
    assert "no run 'nope'" in capsys.readouterr().err


def write_run(results, name, factor):
    """A run of twelve cells as `bench` writes it, every one `factor` times 1 ms."""
    folder = results / name
    folder.mkdir(parents=True)
    draw = np.random.default_rng(len(name))
    with (folder / "journal.jsonl").open("w") as journal:
        for classes in range(2, 14):
            for index in range(3):
                seconds = 1e-3 * factor * np.exp(0.005 * draw.normal(size=8))
                cell = {
                    **{"scope": "isolated", "head": "softmax", "phase": "train"},
                    **{"classes": classes, "batch": 32, "features": 16, "dtype": "float32"},
                    **{"device": "cpu", "threads": 1, "replica": 0},
                }
                line = {
                    **{"kind": "time", "status": "measured", "cell": cell, "pass": index},
                    **{"seconds": list(seconds), "iterations": 1, "warmup_seconds": [0.001]},
                    **{"multiply_adds": None, "bytes": None},
                }
                journal.write(json.dumps(line) + "\n")
    (folder / "run.json").write_text(json.dumps({"schema": 1, "run": name, "machine": {}}))


@pytest.mark.parametrize(
    ("factor", "threshold", "status"), [(1.0, "0.05", 0), (1.3, "0.05", 1), (1.3, "0.5", 0)]
)
def test_a_regression_beyond_the_threshold_is_exit_status_1(
    tmp_path, capsys, factor, threshold, status
):
    write_run(tmp_path, "before", 1.0)
    write_run(tmp_path, "after", factor)
    arguments = ["before", "after", "--results", str(tmp_path), "--threshold", threshold]
    assert compare.main(arguments) == status
    assert "12 cells" in capsys.readouterr().out
