"""Exact against greedy: shares and ratios with their intervals, and what the page says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports.findings import races
from reports.findings.findings import find
from reports.findings.races import missed, sentences, share
from reports.page import html
from reports.results import load
from tests.reports.synthetic import cell, timed, training, write_run

RNG = np.random.default_rng(0)


def race(exact: float, greedy: float, everything: float, misses: int, rounds: int = 20) -> Any:
    """A race with these times, every round disturbed as a whole."""
    disturbed = RNG.lognormal(sigma=0.5, size=rounds)
    times = {"exact": exact, "greedy": greedy, "all": everything}
    return {
        "seconds": {
            name: list(seconds * disturbed * RNG.lognormal(sigma=0.01, size=rounds))
            for name, seconds in times.items()
        },
        "scores": {"exact": 41.0, "greedy": 16.0, "all": 4_100.0},
        "samples": 1_000,
        "misses": misses,
        "right": 950,
    }


def raced(classes: int, **models: Any) -> dict[str, Any]:
    line = timed(cell("hierarchical", "predict", classes, 128), 0, [1e-3])
    kept = {name: line[name] for name in ("status", "cell", "pass", "written")}
    return {"kind": "search", **kept, **models}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = [timed(cell("hierarchical", "predict", 4_096, 128), i, [1e-3] * 9) for i in range(3)]
    models = {"untrained": race(6e-3, 1e-3, 6e-3, 900), "trained": race(2e-3, 1e-3, 6e-3, 80)}
    lines += [raced(classes, **models) for classes in (65_536, 4_096)]
    trainings = [
        training("hierarchical", accuracy=0.2, epoch_seconds=7.0) | {"greedy_misses": 400},
        training("softmax", accuracy=0.2, epoch_seconds=7.0) | {"greedy_misses": None},
    ]
    return write_run(tmp_path_factory.mktemp("results") / "run", lines, trainings)


def test_each_head_and_model_has_a_row_per_class_count(folder: Path) -> None:
    rows = races.raced(load(folder))
    assert [(row.model, row.classes) for row in rows] == [
        *[("untrained", 4_096), ("untrained", 65_536)],
        *[("trained", 4_096), ("trained", 65_536)],
    ]
    assert {(row.head, row.batch) for row in rows} == {("hierarchical", 128)}


def test_ratios_do_not_see_what_disturbs_a_whole_round(folder: Path) -> None:
    last = races.raced(load(folder))[-1]
    for ratio, truth in ((last.cost, 2.0), (last.gain, 3.0)):
        assert truth in ratio
        assert ratio.estimate == pytest.approx(truth, rel=0.02)
        assert ratio.high < 1.05 * ratio.low
    assert (last.scores, last.all_scores) == (41, 4_100)
    assert last.wrong.estimate == pytest.approx(0.08)


@pytest.mark.parametrize("truth", [0.005, 0.1, 0.6])
def test_the_interval_of_a_share_covers_it_as_often_as_it_says(truth: float) -> None:
    counts = np.arange(301)
    covered = [truth in share(int(count), 300) for count in counts]
    assert stats.binom.pmf(counts, 300, truth)[covered].sum() > 0.92


def test_a_share_of_nothing_or_all_still_has_an_interval() -> None:
    assert share(0, 100).low == 0 < share(0, 100).high
    assert share(100, 100).low < 1 == share(100, 100).high


def test_trainings_without_a_search_have_no_misses(folder: Path) -> None:
    (found,) = missed(load(folder))
    assert found.variant == "hierarchical"
    total = next(t for t in load(folder).trainings if t.head == "hierarchical").final
    assert total is not None
    assert found.wrong.estimate == pytest.approx(400 / total.confusion.sum())


def test_the_page_says_what_exactness_costs(folder: Path) -> None:
    run = load(folder)
    page = html.render(find(run))
    said = list(sentences(races.raced(run)))
    assert said[1].startswith("hierarchical, trained, 65,536 classes: greedy is wrong in 8.0")
    assert said[1].endswith("] times as long and computes 41 of 4,100 scores.")
    assert all(sentence in page for sentence in said)
    assert "On the test images" in page


def test_a_run_without_races_says_so(page: str) -> None:
    assert "No tree head was raced." in page


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"misses": 1_001}, "misses: expected an integer of at least 0 and at most 1000, got 1001"),
        ({"samples": 0}, "samples: expected an integer of at least 1, got 0"),
        ({"scores": {"exact": 1.0}}, "greedy: expected a number"),
        ({"seconds": {"exact": [1.0], "greedy": [1.0], "all": [1.0, 2.0]}}, "as many numbers"),
        ({"seconds": [1.0]}, "seconds: expected an object"),
    ],
)
def test_a_malformed_race_is_left_out_and_named(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    good = race(2e-3, 1e-3, 6e-3, 80)
    line = raced(4_096, untrained=good, trained=good | change)
    run = load(write_run(tmp_path / "run", [line]))
    assert run.searches.empty
    assert any(complaint in warning for warning in run.warnings)
