"""Other labels, states, precisions and optimizers: what they change is said, and what not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports import compare
from reports.findings import answer, faults, notices, optimizers, phases, workloads
from reports.findings.findings import Findings, find
from reports.findings.step_time import step_times
from reports.page import html
from reports.results import load
from reports.stats.estimates import Interval
from tests.reports.synthetic import (
    CLASSES,
    cell,
    journal,
    missing,
    remembered,
    split,
    timed,
    write_run,
)

HEADS = ("softmax", "hierarchical")
MICROSECONDS: dict[str, Callable[[int], float]] = {
    "softmax": lambda n: 60 + 0.012 * n,
    "hierarchical": lambda n: 40 + 30 * math.log2(n),
}


def lines(
    phase: str, curves: dict[str, Callable[[int], float]], seed: int = 1, **where: Any
) -> Iterable[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    for index in range(3):
        for head, curve in curves.items():
            for n in CLASSES:
                noise = 1 + 0.02 * draw.standard_normal(6)
                yield timed(cell(head, phase, n, 128, **where), index, 1e-6 * curve(n) * noise)


def found(tmp_path: Path, *more: dict[str, Any], heads: Iterable[str] = HEADS) -> Findings:
    return find(load(write_run(tmp_path / "run", [*journal(heads), *more], trainings=[])))


@pytest.fixture
def reversed_by_labels(tmp_path: Path) -> Findings:
    """Under zipf:1 labels the tree is slow everywhere."""
    curves = {**MICROSECONDS, "hierarchical": lambda n: 10 * MICROSECONDS["softmax"](n)}
    return found(tmp_path, *lines("train", curves, labels="zipf:1"))


def test_the_usual_workload_is_said_and_stands_first(reversed_by_labels: Findings) -> None:
    usual, other = reversed_by_labels.settings
    assert usual == reversed_by_labels.alone
    assert workloads.holds(reversed_by_labels) == (
        "uniform labels, untrained predictions, float32, sgd, 128 features, eager calls"
    )
    assert workloads.differences(other, usual) == "zipf:1 labels"


def test_a_head_that_wins_elsewhere_is_one_of_the_first_sentences(
    reversed_by_labels: Findings,
) -> None:
    (change,) = workloads.changes(reversed_by_labels)
    assert change.phase == "train"
    # Where a tree is the fastest among uniform labels, softmax is now; the sizes below stay.
    assert {one.head for one in change.before} == {"hierarchical"}
    assert {one.head for one in change.after} == {"softmax"}
    assert max(one.classes for one in change.after) == 262_144
    said = answer.sentences(reversed_by_labels)
    assert any(
        one.startswith(
            "The answer changes with the workload: under zipf:1 labels, the fastest head for a "
            "training step at 262,144 classes and batch 128 is softmax, not hierarchical"
        )
        for one in said[:3]
    )


def test_what_changes_nothing_is_said_too(tmp_path: Path) -> None:
    findings = found(tmp_path, *lines("train", MICROSECONDS, dtype="bfloat16"))
    assert workloads.changes(findings) == ()
    assert workloads.sentences(findings) == [
        "No other head is the fastest, as far as that is decided, under bfloat16."
    ]


def test_one_workload_leaves_nothing_to_say(tmp_path: Path) -> None:
    findings = found(tmp_path)
    assert len(findings.settings) == 1
    assert workloads.sentences(findings) == []


def test_a_state_is_a_workload_of_predictions_alone(tmp_path: Path) -> None:
    curves = {**MICROSECONDS, "softmax": lambda n: 1.0}
    findings = found(tmp_path, *lines("predict", curves, state="sure"))
    (change,) = workloads.changes(findings)
    assert (change.words, change.phase) == ("sure predictions", "predict")
    assert len(findings.under(findings.settings[1]).alone_at("train")) == len(
        findings.alone_at("train")
    )


def test_a_head_that_is_absent_elsewhere_has_not_lost_there(tmp_path: Path) -> None:
    only = {"softmax": MICROSECONDS["softmax"]}
    findings = found(tmp_path, *lines("train", only, labels="zipf:1"))
    assert workloads.changes(findings) == ()


def under_optimizers(tmp_path: Path) -> Findings:
    """The tree's step stays logarithmic under Adam; under AdamW it walks every row."""
    tree = MICROSECONDS["hierarchical"]
    adamw = {"hierarchical": lambda n: tree(n) + 0.02 * n}
    more = [
        *lines("train", {"hierarchical": tree}, optimizer="adam"),
        *lines("train", adamw, optimizer="adamw"),
    ]
    for line in more:
        if line["cell"]["optimizer"] == "adamw":
            weights = line["cell"]["classes"] * 128
            line["multiply_adds"], line["bytes"] = 5 * weights, 28 * weights
    memory = remembered(cell("hierarchical", "train", 262_144, 128, optimizer="adamw"))
    return found(tmp_path, *more, memory | {"optimizer_bytes": 2**28})


def test_who_keeps_the_logarithm_is_told_from_who_loses_it(tmp_path: Path) -> None:
    findings = under_optimizers(tmp_path)
    rows = {(row.head, row.optimizer): row for row in optimizers.rows(findings)}
    assert [optimizer for head, optimizer in rows if head == "hierarchical"] == [
        *("sgd", "adam", "adamw")
    ]
    adamw = rows["hierarchical", "adamw"]
    assert (adamw.state, adamw.classes) == (2**28, 262_144)
    assert adamw.counted is not None
    assert adamw.counted.model == "O(n)"
    assert optimizers.sentences(list(rows.values())) == [
        "By counted work, the step of hierarchical is O(log n) under sgd and adam, "
        "O(n) under adamw.",
        "The training step of hierarchical, end to end: sgd and adam keep it at O(log n); "
        "adamw makes it O(n).",
    ]


def test_one_optimizer_is_no_comparison(tmp_path: Path) -> None:
    assert optimizers.rows(found(tmp_path)) == ()


def test_phases_that_add_up_need_no_notice(tmp_path: Path) -> None:
    findings = found(tmp_path)
    sums = phases.sums(findings)
    assert len(sums) == len(HEADS) * len(CLASSES) * 2
    assert {one.reading for one in sums} == {"adds up"}
    assert phases.said(sums) == ""
    assert phases.summary(sums).endswith("within 10% in 32 of 32 cells")


def laps(head: str, n: int, index: int) -> Iterable[dict[str, Any]]:
    """A pass of a training step and its phases, on a machine whose calls take anything."""
    draw = np.random.default_rng(n + index)
    parts = {phase: draw.lognormal(-8, 2, 6) for phase in phases.PARTS}
    place = {"block": f"1.{index}{n}", "turns": [*range(6)]}
    for phase, seconds in (*parts.items(), ("train", sum(parts.values()))):
        yield timed(cell(head, phase, n, 128), index, seconds) | place


def test_laps_of_a_step_add_up_on_the_noisiest_machine(tmp_path: Path) -> None:
    made = [line for n in CLASSES for index in range(3) for line in laps("softmax", n, index)]
    sums = phases.sums(find(load(write_run(tmp_path / "run", made, trainings=[]))))
    assert len(sums) == len(CLASSES)
    assert {one.reading for one in sums} == {"adds up"}
    assert phases.summary(sums).endswith("by construction")


def test_a_backward_that_is_not_that_of_training_is_found_out(tmp_path: Path) -> None:
    slow = {"hierarchical": lambda n: 1.8 * MICROSECONDS["hierarchical"](n)}
    others = [
        line
        for line in journal(HEADS)
        if (line["cell"]["head"], line["cell"]["phase"], line["cell"]["scope"])
        != ("hierarchical", "train", "isolated")
    ]
    run = write_run(tmp_path / "run", [*others, *lines("train", slow)], trainings=[])
    findings = find(load(run))
    apart = [one for one in phases.sums(findings) if one.reading == "does not add up"]
    assert {one.head for one in apart} == {"hierarchical"}
    for one in apart:
        assert one.share.low < 1 / 1.8 < one.share.high
    (notice,) = [n for n in notices.notices(findings) if n.title == "Phases and steps"]
    assert "of hierarchical at" in notice.text


@pytest.mark.parametrize(
    ("low", "high", "read"),
    [
        (0.95, 1.05, "adds up"),
        (0.5, 0.8, "does not add up"),
        (1.2, 1.3, "does not add up"),
        (0.8, 1.0, "undecided"),
    ],
)
def test_a_sum_is_read_by_its_interval(low: float, high: float, read: str) -> None:
    share = Interval(low, math.sqrt(low * high), high)
    assert phases.Sum("softmax", 100, 128, share).reading == read


def faulting(
    tmp_path: Path, small: float, large: float = 0.75, calls_take: float = 0.1
) -> Findings:
    """softmax's system time over the step: `small` of the smallest, `large` of the largest."""
    measured = [line for line in journal(HEADS) if line["cell"]["head"] == "softmax"]
    for line in measured:
        if line["kind"] == "time":
            part = large if line["cell"]["classes"] >= 65_536 else small
            line["iterations"] = math.ceil(calls_take / sum(line["seconds"]))
            line["system_seconds"] = part * float(np.median(line["seconds"]))
            line["minor_faults"] = 32_768.0 if part == large else 2.0
    return find(load(write_run(tmp_path / "run", measured, trainings=[])))


def test_a_knee_that_comes_with_faults_is_explained_by_them(tmp_path: Path) -> None:
    said = faults.reading(faulting(tmp_path, 0.01), "softmax", "train")
    assert "32,768 page faults) a call" in said
    assert "a knee from 65,536 classes on may be malloc's" in said


def test_faults_at_every_size_bend_nothing(tmp_path: Path) -> None:
    said = faults.reading(faulting(tmp_path, 0.7), "softmax", "train")
    assert "At 262,144 classes the operating system takes 2.40 ms of CPU time in 3.19 ms" in said
    assert "knee" not in said


def test_uncounted_faults_are_not_spoken_of(tmp_path: Path) -> None:
    findings = found(tmp_path)
    assert faults.reading(findings, "softmax", "train") == ""
    assert faults.said(findings) == ""
    assert faults.shares(findings) == ()


def test_the_page_shows_workloads_optimizers_and_faults(tmp_path: Path) -> None:
    page = html.render(under_optimizers(tmp_path))
    assert "adamw makes it O(n)" in page
    assert page.count("data-workload=") == 3
    assert "Page faults of these times were not counted." in page


def test_the_page_says_what_of_a_step_is_the_systems(tmp_path: Path) -> None:
    findings = faulting(tmp_path, 0.01)
    assert "32,768" in html.render(findings)
    (notice,) = [n for n in notices.notices(findings) if n.title == "Page faults"]
    assert "of softmax 2.40 ms of CPU time in 3.19 ms (32,768 page faults)" in notice.text


def test_system_time_of_threads_may_be_longer_than_the_step(tmp_path: Path) -> None:
    (one, *_) = faults.shares(faulting(tmp_path, 0.01, large=1.5))
    assert one.share == pytest.approx(1.5, rel=0.05)
    assert one.system_seconds is not None
    assert one.system_seconds > one.seconds


def test_system_time_below_the_kernels_ticks_is_not_told(tmp_path: Path) -> None:
    findings = faulting(tmp_path, 0.7, calls_take=0.001)
    (one, *_) = faults.shares(findings)
    assert (one.system_seconds, one.minor_faults) == (None, 32_768)
    assert faults.said(findings) == ""
    assert faults.reading(findings, "softmax", "train") == ""
    assert "32,768" in html.render(findings)


def test_cells_of_other_workloads_are_not_compared_with_the_usual_ones(tmp_path: Path) -> None:
    slow = {"hierarchical": lambda n: 100 * MICROSECONDS["hierarchical"](n)}
    run = write_run(
        tmp_path / "run", [*journal(HEADS), *lines("train", slow, optimizer="adamw")], trainings=[]
    )
    cells = compare.read(run).cells
    (usual,) = [
        name for name in cells if name.endswith("hierarchical train n=64 batch=128 d=128 cpu")
    ]
    assert np.median(cells[f"{usual} adamw"][0]) > 50 * np.median(cells[usual][0])


def test_heads_with_options_are_taken_apart_under_their_full_name(tmp_path: Path) -> None:
    where = cell("hierarchical", "train", 100, 32, scope="in-model", options="tree=huffman")
    other = where | {"dtype": "bfloat16"}
    splits = [split(where, index, 0.4) for index in range(3)] + [split(other, 0, 0.9)]
    findings = found(tmp_path, *splits)
    (step,) = step_times(findings.run, findings.scatter)
    assert step.head == "hierarchical(tree=huffman)"
    assert step.parts["head"].estimate < 0.02


def test_what_is_missing_bears_its_options_and_its_workload(tmp_path: Path) -> None:
    where = cell("hierarchical", "train", 64, 128, options="branching=16", optimizer="adam")
    lacking = missing(where, "skipped", "no reason")
    page = html.render(found(tmp_path, lacking, heads=["hierarchical"]))
    assert "hierarchical(branching=16)" in page
    assert "<td>float32 uniform adam eager</td>" in page
