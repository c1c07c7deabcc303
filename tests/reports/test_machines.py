"""A run of several machines is read one at a time: their figures never meet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports import __main__ as report
from reports.findings.findings import Findings, find
from reports.findings.outcomes import outcomes
from reports.page import html
from reports.results import ResultsError, load, locate
from tests.reports.synthetic import BATCHES, journal, training, write_run

LARGE = BATCHES[1]
FACTS = {
    "near": {"machine": {"cpu": "Near CPU", "cores": 2}, "others_busy": 0.5},
    "far": {"machine": {"cpu": "Far CPU", "cores": 64}, "others_busy": 0.0},
    "idle": {"machine": {"cpu": "Idle CPU", "cores": 4}, "others_busy": 0.0},
}
SEEDS = {"near": (0, 1), "far": (2,)}


def machine_of(line: dict[str, Any]) -> str:
    return "near" if line["cell"]["batch"] == LARGE else "far"


def write(folder: Path, slower: float = 1.0) -> Path:
    """Batches and seeds of two machines; `far` takes so many times as long for all it does."""
    lines = [line | {"machine": machine_of(line)} for line in journal()]
    for line in lines:
        if line["machine"] == "far" and "seconds" in line:
            line["seconds"] = [slower * s for s in line["seconds"]]
    trainings = [
        training(head, seed, epoch_seconds=7.0 * (slower if name == "far" else 1), machine=name)
        for name, seeds in SEEDS.items()
        for seed in seeds
        for head in ("softmax", "gumbel-normal")
    ]
    return write_run(folder, lines, trainings, machines=FACTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("results") / "spread")


def part(run: Path, machine: str) -> Path:
    return run.with_name(f"{run.name}@{machine}")


def test_a_run_alone_is_that_of_the_machine_that_measured_most(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    most = max(SEEDS, key=lambda name: sum(line.get("machine") == name for line in lines))
    assert load(run).machine == load(run).machines[0] == most
    assert set(load(run).machines) == {"near", "far"}


@pytest.mark.parametrize("machine", ["near", "far"])
def test_a_part_has_its_machine_s_lines_facts_and_name(run: Path, machine: str) -> None:
    found = load(locate(f"{run.name}@{machine}", run.parent))
    assert found.name == f"spread@{machine}"
    assert set(found.times["batch"]) == ({LARGE} if machine == "near" else {BATCHES[0]})
    assert found.facts["machine"] == FACTS[machine]["machine"]
    assert found.facts["others_busy"] == FACTS[machine]["others_busy"]


def test_a_machine_that_there_is_not_is_named_beside_those_that_there_are(run: Path) -> None:
    with pytest.raises(ResultsError, match=r"no machine 'idle' measured spread; there are: .*far"):
        load(part(run, "idle"))


def test_accuracies_are_of_all_seeds_and_seconds_of_the_machine_s_own(run: Path) -> None:
    near, far = (find(load(part(run, name))) for name in ("near", "far"))
    assert [row.seeds for row in near.trained] == [row.seeds for row in far.trained] == [3, 3]
    assert [row.accuracy for row in near.trained] == [row.accuracy for row in far.trained]
    assert {len(one.each_seed) for one in outcomes(near)} == {2}
    assert {len(one.each_seed) for one in outcomes(far)} == {1}


def everything(findings: Findings) -> list[object]:
    """What is said of times: each is of one machine, or it would change with another's."""
    return [
        *((cell.name, cell.classes, cell.seconds) for cell in findings.cells),
        *findings.growths,
        *findings.overtakes("train"),
        findings.floor,
        *((row.epoch_seconds, row.total_seconds) for row in findings.trained),
        *(one.costs for one in outcomes(findings)),
    ]


def test_nothing_that_is_said_of_one_machine_depends_on_another(tmp_path: Path, run: Path) -> None:
    slow = write(tmp_path / "spread", slower=1_000)
    near, near_beside_slow = (find(load(part(folder, "near"))) for folder in (run, slow))
    assert repr(everything(near)) == repr(everything(near_beside_slow))
    first, second = (load(part(folder, "far")).times["seconds"].iloc[0] for folder in (run, slow))
    assert (second > 500 * first).all()


def test_a_page_of_a_machine_that_trained_nothing_has_accuracies_all_the_same(
    tmp_path: Path,
) -> None:
    # Nor did it measure a step of the model, so that nothing is known of what accuracy costs.
    lines = [
        line | {"machine": "near"} for line in journal() if line["cell"]["scope"] == "isolated"
    ]
    trained = [training("softmax", seed, machine="far") for seed in range(2)]
    folder = write_run(tmp_path / "spread", lines, trained, machines=FACTS)
    found = find(load(part(folder, "near")))
    assert [(row.seeds, row.epoch_seconds) for row in found.trained] == [(2, None)]
    page = html.render(found)
    assert "One machine of several" in page
    assert "Near CPU" in page


def test_every_machine_has_a_page_of_its_own(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "render", lambda findings: findings.run.name)
    monkeypatch.setattr("reports.summary.show", lambda *given: None)
    assert report.main([str(run), "--output", str(tmp_path)]) == 0
    assert {page.name for page in tmp_path.iterdir()} == {"spread@near.html", "spread@far.html"}


@pytest.mark.parametrize("name", ["a/b", "", "a b", "x" * 61])
def test_a_line_of_a_machine_whose_name_is_none_is_left_out(tmp_path: Path, name: str) -> None:
    first, *others = journal()
    folder = write_run(tmp_path / "run", [first | {"machine": name}, *others])
    found = load(folder)
    assert found.machines == ()
    assert any("machine: expected" in warning for warning in found.warnings)
