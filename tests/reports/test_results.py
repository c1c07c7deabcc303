"""The loader takes a folder as it comes: whole, torn, foreign or hostile."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import reports
from reports.results import ResultsError, latest, load, locate
from reports.results.fields import LARGEST
from tests.reports.synthetic import cell, missing, timed, training, write_run

REFERENCE = Path(reports.__file__).parent / "reference"
WHERE = cell("softmax", "train", 64, 32)


def small(folder: Path, **facts: object) -> Path:
    lines = [timed(WHERE, index, [1e-3, 1.1e-3]) for index in range(3)]
    return write_run(folder, lines=lines, trainings=[training("softmax")], **facts)


def append(folder: Path, text: str | bytes) -> None:
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def test_complete_run_is_read_without_warnings(synthetic: Path) -> None:
    run = load(synthetic)
    lines = [json.loads(line) for line in (synthetic / "journal.jsonl").read_text().splitlines()]
    assert run.warnings == ()
    assert len(run.times) == sum(line["kind"] == "time" and "seconds" in line for line in lines)
    assert len(run.memory) == sum(line["kind"] == "memory" for line in lines)
    assert len(run.missing) == 2
    assert [t.head for t in run.trainings] == ["softmax", "hierarchical", "gumbel-normal"]
    assert set(run.traces) == {"softmax", "hierarchical", "gumbel-normal"}


def test_raw_samples_survive(tmp_path: Path) -> None:
    run = load(small(tmp_path / "run"))
    assert [list(taken) for taken in run.times["seconds"]] == [[1e-3, 1.1e-3]] * 3


def test_heads_keep_the_order_the_run_named_them_in(tmp_path: Path) -> None:
    lines = [timed(WHERE | {"head": head}, 0, [1e-3]) for head in ("b", "a", "z")]
    folder = write_run(tmp_path / "run", lines=lines, trainings=[], options={"heads": ["z", "b"]})
    assert load(folder).heads[:2] == ("z", "b")


def test_torn_last_line_is_left_out_and_reported(tmp_path: Path) -> None:
    folder = small(tmp_path / "run")
    append(folder, json.dumps(timed(WHERE, 3, [1e-3]))[:50])
    run = load(folder)
    assert len(run.times) == 3
    assert len(run.warnings) == 1
    assert "torn" in run.warnings[0]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("no json", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        ("[1, 2]", "expected a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "kind"),
        (json.dumps(timed(WHERE | {"classes": "many"}, 0, [1.0])), "classes"),
        (json.dumps(timed(WHERE | {"classes": True}, 0, [1.0])), "classes"),
        (json.dumps(timed(WHERE | {"classes": LARGEST + 1}, 0, [1.0])), "classes"),
        (json.dumps(timed(WHERE | {"phase": "lunch"}, 0, [1.0])), "phase"),
        (json.dumps(timed(WHERE | {"head": "a\nb"}, 0, [1.0])), "head"),
        (json.dumps(timed(WHERE | {"head": "x" * 1000}, 0, [1.0])), "head"),
        (json.dumps(timed(WHERE, 0, [])), "seconds"),
        (json.dumps(timed(WHERE, 0, [-1.0])), "seconds"),
        (json.dumps(timed(WHERE, 0, [math.nan])), "seconds"),
        (json.dumps(timed(WHERE, 0, [math.inf])), "seconds"),
        (json.dumps(timed(WHERE, 0, [1.0]) | {"seconds": "fast"}), "seconds"),
        (json.dumps(timed(WHERE, 0, [10**400])), "seconds"),
        (json.dumps(timed(WHERE, 0, [1.0]) | {"status": "perhaps"}), "status"),
        (json.dumps(missing(WHERE, "failed", "x") | {"reason": 7}), "reason"),
    ],
)
def test_malformed_line_is_named_and_the_rest_is_read(
    tmp_path: Path, line: str | bytes, complaint: str
) -> None:
    folder = small(tmp_path / "run")
    append(folder, line)
    append(folder, "\n" + json.dumps(timed(WHERE, 7, [2e-3])) + "\n")
    run = load(folder)
    assert list(run.times["pass"]) == [0, 1, 2, 7]
    assert len(run.warnings) == 1
    assert complaint in run.warnings[0]
    assert "\n" not in run.warnings[0]


def test_a_thousand_malformed_lines_are_a_handful_of_warnings(tmp_path: Path) -> None:
    folder = small(tmp_path / "run")
    append(folder, "x\n" * 1000)
    assert 1 < len(load(folder).warnings) < 20


def test_cell_measured_twice_in_a_pass_counts_once(tmp_path: Path) -> None:
    folder = small(tmp_path / "run")
    append(folder, json.dumps(timed(WHERE, 2, [9e-3])) + "\n")
    run = load(folder)
    assert len(run.times) == 3
    assert run.times["seconds"].iloc[2][0] == 9e-3
    assert "twice" in run.warnings[0]


def test_unknown_schema_is_one_clear_line(tmp_path: Path) -> None:
    folder = small(tmp_path / "run", schema=99)
    with pytest.raises(ResultsError, match=r"schema 99 .*expected 1 or 2") as found:
        load(folder)
    assert "\n" not in str(found.value)


def test_foreign_training_record_is_left_out(tmp_path: Path) -> None:
    folder = small(tmp_path / "run")
    (folder / "training" / "other.json").write_text(json.dumps(training("a") | {"schema": 9}))
    (folder / "training" / "broken.json").write_text("{")
    run = load(folder)
    assert [t.head for t in run.trainings] == ["softmax"]
    assert len(run.warnings) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"confusion": [[1, 2], [3]]},
        {"confusion": [[1.5]]},
        {"confusion": "large"},
        {"accuracy": 23.0},
        {"per_class": {"precision": [1.0], "recall": [1.0], "f1": [1.0]}},
    ],
)
def test_record_with_impossible_metrics_is_left_out(
    tmp_path: Path, change: dict[str, object]
) -> None:
    record = training("softmax")
    record["final"] |= change
    run = load(write_run(tmp_path / "run", trainings=[record]))
    assert run.trainings == ()
    assert len(run.warnings) == 1


def test_loss_that_is_not_finite_is_kept(tmp_path: Path) -> None:
    record = training("softmax", status="failed", reason="loss is not finite", final=None)
    record["losses"][-1]["loss"] = None
    run = load(write_run(tmp_path / "run", trainings=[record]))
    assert run.warnings == ()
    assert math.isnan(run.trainings[0].losses[-1].loss)


@pytest.mark.parametrize("name", ["run.json", "journal.jsonl", "training/softmax-seed0.json"])
def test_link_out_of_the_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    folder = small(tmp_path / "run")
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    run = load(folder)
    assert any(name in warning and "not a regular file" in warning for warning in run.warnings)


def test_trace_folder_linked_from_outside_is_not_read(tmp_path: Path) -> None:
    folder = small(tmp_path / "run")
    outside = tmp_path / "outside"
    (folder / "traces" / "softmax").rename(outside)
    (folder / "traces" / "softmax").symlink_to(outside)
    assert "softmax" not in load(folder).traces


def test_missing_run_json_still_leaves_the_measurements(tmp_path: Path) -> None:
    folder = small(tmp_path / "run")
    (folder / "run.json").unlink()
    run = load(folder)
    assert len(run.times) == 3
    assert run.warnings == ("run.json is missing",)


def test_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ResultsError, match=r"journal\.jsonl"):
        load(tmp_path / "run")


def test_latest_is_the_run_started_last(tmp_path: Path) -> None:
    small(tmp_path / "z", started="2026-01-01T00:00:00+00:00")
    small(tmp_path / "a", started="2026-01-02T00:00:00+00:00")
    (tmp_path / "no-run").mkdir()
    assert latest(tmp_path).name == "a"


def test_latest_of_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="tox -e bench"):
        latest(tmp_path / "absent")


def test_a_run_is_located_by_name_by_path_or_as_the_latest(tmp_path: Path) -> None:
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    named, given = small(results / "named"), small(elsewhere / "given")
    assert locate("named", results) == locate("latest", results) == named
    assert locate(str(given), results) == given


def test_a_run_that_is_nowhere_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no run 'nowhere': neither a folder nor"):
        locate("nowhere", tmp_path)
    (tmp_path / "a-file").write_text("x")
    with pytest.raises(ResultsError, match="a-file is not a whole zip"):
        locate("a-file", tmp_path)


@pytest.mark.parametrize("folder", sorted(REFERENCE.glob("*/")), ids=lambda folder: folder.name)
def test_every_line_and_record_of_the_kept_runs_is_still_read(folder: Path) -> None:
    run = load(folder)
    assert not [warning for warning in run.warnings if not warning.endswith("is missing")]
    assert len(run.trainings) == len(list(folder.glob("training/*.json")))
    journal = folder / "journal.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    read = (run.times, run.clocks, run.memory, run.splits, run.searches, run.missing)
    assert sum(map(len, (*read, run.communication))) == len(lines)


def test_a_kept_run_tells_its_pipelines_from_its_heads() -> None:
    run = load(REFERENCE / "cpu")
    assert {"ours", "published-style"} <= set(run.pipelines)
    assert not set(run.pipelines) & set(run.heads)
    assert set(run.times[run.times["pipeline"] != ""]["head"]) == {"softmax"}
