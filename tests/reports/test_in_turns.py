"""A run whose rivals took turns: what its report says, and that drift has no part in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from reports import summary
from reports.findings import workloads
from reports.findings.answer import sentences, squares
from reports.findings.findings import Findings, find
from reports.findings.notices import notices
from reports.page import html
from reports.results import load
from tests.reports.synthetic import cell, timed, write_run

SIZES = (16, 64, 256, 1_024, 4_096, 16_384, 65_536)
TURNS = 40

# Microseconds of a training step over n classes; a tie that stays, and one that ends.
CURVES = {
    "softmax": lambda n: 60 + 0.012 * n,
    "gumbel": lambda n: 1.005 * (60 + 0.012 * n),
    "adaptive": lambda n: 150 + 0.0015 * n,
    "hierarchical": lambda n: 100 + 16 * np.log2(n),
}


def journal(noise=0.02, place=0.002, passes=4, drift=0.3, seed=0, tie=1.0, **setting):
    """Blocks on a machine that is up to twice as slow in one as in the next, and in their course.

    `noise` is that of a round and `place` that of a pass; gumbel takes `tie` times as long as said.
    """
    random = np.random.default_rng(seed)
    rivals = [(head, 0) for head in CURVES] + [("softmax", 1)]
    for index in range(passes):
        for phase in ("train", "predict", "forward", "backward"):
            for n in SIZES:
                slow = drift * (random.standard_normal() + np.linspace(0, 1, TURNS))
                anchor = 1e-3 * np.exp(slow[::10])
                for head, replica in rivals:
                    every = 4 if head == "hierarchical" else 1
                    logs = slow[::every] + place * random.standard_normal()
                    logs += noise * random.standard_normal(len(logs))
                    where = cell(head, phase, n, 128, replica=replica, **setting)
                    typical = 1e-6 * CURVES[head](n) * (tie if head == "gumbel" else 1)
                    yield timed(where, index, typical * np.exp(logs)) | {
                        "block": f"{phase}-{n}-{seed}",
                        "turns": list(range(0, TURNS, every)),
                        "anchor_seconds": list(anchor),
                    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "in-turns", list(journal()), [])


@pytest.fixture(scope="module")
def findings(folder: Path) -> Findings:
    return find(load(folder))


def test_every_square_is_decided_although_the_machine_drifts_by_half(findings):
    for found in findings.fastest("train"):
        ranked = sorted(CURVES, key=lambda head: CURVES[head](found.classes))
        tied = {"softmax", "gumbel"} if ranked[0] in ("softmax", "gumbel") else {ranked[0]}
        assert found.decided
        assert {found.head, *found.equals} == tied


def test_without_their_places_the_same_rounds_decide_nothing_close(folder, findings):
    run = load(folder)
    apart = run.times.assign(block="", turns=[()] * len(run.times))
    assert not any(f.decided for f in find(replace(run, times=apart)).fastest("train")[:3])


def test_the_answer_has_three_states(findings):
    first = sentences(findings)[0]
    assert "gumbel or softmax (equal within 3\u00a0%) up to 4,096 classes" in first
    assert first.endswith("hierarchical from 65,536 classes on.") or "adaptive" in first
    assert squares(findings, "train").startswith(f"{len(SIZES)} squares, ")
    assert squares(findings, "train").endswith(" 0 undecided")


def test_more_noise_makes_squares_undecided_and_never_wrong(tmp_path):
    lines = list(journal(noise=0.1, place=0.05, passes=3))
    noisy = find(load(write_run(tmp_path / "noisy", lines, [])))
    assert any(not found.decided for found in noisy.fastest("train"))
    for found in noisy.fastest("train"):
        best = min(CURVES, key=lambda head: CURVES[head](found.classes))
        assert best in {found.head, *found.equals, *found.rivals}


def test_a_tie_that_tips_over_is_no_change_of_the_answer(tmp_path):
    skewed = journal(seed=1, tie=0.99, labels="zipf:1")
    found = find(load(write_run(tmp_path / "run", [*journal(), *skewed], [])))
    usual, other = (
        [f.head for f in one.fastest("predict")] for one in map(found.under, found.settings)
    )
    assert usual != other
    assert workloads.changes(found) == ()


def test_the_noise_floor_is_that_of_comparisons_in_turns(findings):
    assert findings.floor.comparisons == 4 * len(SIZES)
    assert findings.floor.typical.estimate < 0.005
    assert findings.margin < 0.02
    assert "A noisy machine" not in {notice.title for notice in notices(findings)}


def test_crossovers_rest_on_ratios_in_turns(findings):
    (overtake,) = [one for one in findings.overtakes("train") if one.head == "hierarchical"]
    assert overtake.where.at is not None
    sizes = np.arange(20_000, 40_000)
    truth = sizes[np.argmin(abs(CURVES["hierarchical"](sizes) - CURVES["softmax"](sizes)))]
    assert truth in overtake.where.at
    assert overtake.where.at.high / overtake.where.at.low < 2


def test_growth_is_that_without_the_drift_between_blocks(folder, findings):
    timed = [one for one in findings.cells if one.samples]
    assert all(len(one.anchors) == len(one.samples) for one in timed)
    grown = {one.head: one.time for one in findings.growths if one.phase == "train"}
    without = find(replace(run := load(folder), times=unanchored(run)))
    drifting = {one.head: one.time for one in without.growths if one.phase == "train"}
    for head in CURVES:
        low, high = grown[head].exponent.low, grown[head].exponent.high
        assert high - low < drifting[head].exponent.high - drifting[head].exponent.low
    assert grown["softmax"].model == "O(n)"


def unanchored(run):
    return run.times.assign(anchor_seconds=[()] * len(run.times))


def test_terminal_and_page_say_how_many_squares_are_undecided(findings, tmp_path):
    with (tmp_path / "said.txt").open("w+") as file:
        summary.show(findings, None, Console(file=file, width=400))
        file.seek(0)
        said = " ".join(file.read().split())
    assert "28 A/A pairs measured in turns half differ by less than 0." in said
    assert f"map of the training step: {len(SIZES)} squares" in said
    page = html.render(findings)
    assert 'class="equal"' in page
    assert "95 % below" in page
    assert "map of" not in page


def test_the_command_summarises_runs_without_a_page(folder, capsys):
    assert summary.main([str(folder)]) == 0
    assert "undecided" in capsys.readouterr().out
    assert summary.main(["nowhere", "--results", str(folder.parent)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
