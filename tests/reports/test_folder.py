"""A run has a folder to itself, and is found again by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reports.results import ResultsError, RunFolder, latest, locate
from reports.results.folder import create
from reports.results.schema import RUNS
from tests.reports.synthetic import training

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_runs_started_in_the_same_second_do_not_share_a_folder(tmp_path: Path) -> None:
    paths = {create(tmp_path, "quick", NOW).path for _ in range(5)}
    assert len(paths) == 5
    assert tmp_path / "20260102-030405-quick" in paths


def test_latest_is_the_run_started_last_also_after_an_older_one_was_resumed(
    tmp_path: Path,
) -> None:
    first, second = (create(tmp_path, "quick", NOW) for _ in range(2))
    first.write_facts({"started": "2026-01-02T03:04:05+00:00"})
    second.write_facts({"started": "2026-01-02T03:04:06+00:00"})
    first.write_facts(first.read_facts() | {"finished": "2026-01-03T00:00:00+00:00"})
    assert latest(tmp_path) == locate("latest", tmp_path) == second.path


def test_of_runs_started_in_the_same_second_the_latest_is_the_last_by_name(tmp_path: Path) -> None:
    runs = [create(tmp_path, "quick", NOW) for _ in range(3)]
    for run in reversed(runs):
        run.write_facts({"started": "2026-01-02T03:04:05+00:00"})
    assert latest(tmp_path) == runs[-1].path


def test_an_unknown_run_is_answered_with_those_that_exist(tmp_path: Path) -> None:
    create(tmp_path, "quick", NOW).write_facts({})
    with pytest.raises(ResultsError, match=r"no run 'nope'.*20260102-030405-quick"):
        locate("nope", tmp_path)


def test_facts_survive_the_round_trip(tmp_path: Path) -> None:
    run = create(tmp_path, "quick", NOW)
    run.write_facts({"machine": {"cpu": "x"}, "finished": None})
    assert run.read_facts() == {
        "schema": RUNS[-1],
        "run": run.path.name,
        "machine": {"cpu": "x"},
        "finished": None,
    }


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"schema": 99}'])
def test_foreign_facts_are_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ResultsError, match=r"run\.json") as refused:
        RunFolder(tmp_path).read_facts()
    assert "\n" not in str(refused.value)


def test_a_results_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ResultsError, match=r"cannot write to .*--results"):
        create(blocked, "quick", NOW)


@pytest.mark.parametrize(
    ("content", "is_trained"),
    [
        (training("softmax"), True),
        (training("softmax", status="failed", final=None), False),
        (training("softmax") | {"epochs": "many"}, False),
        ({"status": "measured"}, False),
    ],
)
def test_only_a_training_that_can_be_reported_is_not_made_again(
    tmp_path: Path, content: object, is_trained: bool
) -> None:
    run = RunFolder(tmp_path)
    run.training("softmax-seed0").parent.mkdir()
    run.training("softmax-seed0").write_text(json.dumps(content))
    assert run.is_trained("softmax-seed0") == is_trained


def test_what_was_measured_when_a_session_was_killed_is_known_to_the_next(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_attempt() == {}
    run.write_attempt("a cell", 2)
    assert run.read_attempt() == {"a cell": 2}
    (tmp_path / "running.json").write_text('{"what": "a ce')
    assert run.read_attempt() == {}
    run.forget_attempt()
    assert not (tmp_path / "running.json").exists()
