"""Where a training step's time goes, read off steps whose parts are known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.findings.findings import find
from reports.findings.study import Study
from reports.page import html
from reports.results import PARTS, load
from tests.reports.synthetic import cell, split, timed, training, write_run

SIZES = (100, 400, 1_600, 6_400)
MACHINE = {"cpu": "x", "copy_bytes_per_second": 1e10, "peak_multiply_adds_per_second": 1e11}


def taken_apart(head: str, n: int, share: float, passes: int = 3) -> list[dict[str, Any]]:
    where = cell(head, "train", n, 32, scope="in-model", features=250)
    return [split(where, k, share, seed=n) for k in range(passes)]


def linear(n: int) -> float:
    """A head's share that grows with n: half at 1,000 classes."""
    return n / (n + 1_000)


def studied(folder: Path, lines: Iterable[dict[str, Any]], **facts: Any) -> Study:
    facts = {"machine": MACHINE} | facts
    return Study(find(load(write_run(folder, lines=lines, trainings=[], **facts))))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_share_of_the_head_is_recovered(tmp_path: Path, share: float) -> None:
    (found,) = studied(tmp_path / "run", taken_apart("softmax", 100, share)).step_times
    assert share in found.head_share
    assert found.head_share.high - found.head_share.low < 0.05 * share


def test_parts_add_up_to_the_step(tmp_path: Path) -> None:
    (found,) = studied(tmp_path / "run", taken_apart("softmax", 100, 0.2)).step_times
    assert tuple(found.parts) == PARTS
    assert sum(p.estimate for p in found.parts.values()) == pytest.approx(
        found.step.estimate, rel=0.01
    )


def test_arithmetic_alone_is_the_counted_work_over_the_peak(tmp_path: Path) -> None:
    (found,) = studied(tmp_path / "run", taken_apart("softmax", 100, 0.2)).step_times
    assert found.limit == pytest.approx(32 * 7_200_000 / 2 / 1e11)


def test_without_a_measured_peak_there_is_no_limit(tmp_path: Path) -> None:
    lines = taken_apart("softmax", 100, 0.2)
    (found,) = studied(tmp_path / "run", lines, machine={"cpu": "x"}).step_times
    assert found.limit is None


def test_class_count_at_which_the_head_takes_half_is_found(tmp_path: Path) -> None:
    lines = [one for n in SIZES for one in taken_apart("softmax", n, linear(n))]
    (found,) = studied(tmp_path / "run", lines).growing
    assert found.half.at is not None
    assert found.half.at.low <= 1_000 <= found.half.at.high
    assert [step.classes for step in found.steps] == list(SIZES)


def test_a_head_that_never_takes_half_is_said_not_to(tmp_path: Path) -> None:
    lines = [one for n in SIZES for one in taken_apart("hierarchical", n, 0.1)]
    study = studied(tmp_path / "run", lines)
    assert study.growing[0].half.at is None
    assert "not up to 6,400" in html.render(study.findings)


def test_one_class_count_shows_no_growth(tmp_path: Path) -> None:
    assert not studied(tmp_path / "run", taken_apart("softmax", 100, 0.2)).growing


def test_head_share_of_the_study_is_that_of_its_own_batch_and_classes(tmp_path: Path) -> None:
    lines = [*taken_apart("softmax", 10, 0.2), *taken_apart("softmax", 100, 0.6)]
    records = [training("softmax"), training("gumbel")]
    run = write_run(tmp_path / "run", lines=lines, trainings=records)
    softmax, gumbel = Study(find(load(run))).rows
    assert softmax.head_share is not None
    assert 0.2 in softmax.head_share
    assert gumbel.head_share is None


def pipelines(slow: float, fast: float) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    return [
        timed(
            cell(name, "train", 100, 32, scope="pipeline", features=250),
            k,
            seconds * (1 + 0.01 * draw.standard_normal(6)),
        )
        for k in range(4)
        for name, seconds in (("ours", fast), ("published-style", slow))
    ]


def test_speedup_is_against_the_published_style_pipeline(tmp_path: Path) -> None:
    study = studied(tmp_path / "run", pipelines(9e-3, 3e-3))
    found = {pipeline.name: pipeline.speedup for pipeline in study.pipelines}
    assert found["published-style"] is None
    assert found["ours"] is not None
    assert found["ours"].low < 3 < found["ours"].high


def test_pipelines_are_no_heads(tmp_path: Path) -> None:
    study = studied(tmp_path / "run", pipelines(9e-3, 3e-3))
    assert set(study.findings.run.heads) == {"adaptive", "softmax"}
    assert set(study.findings.run.pipelines) == {"ours", "published-style"}
    assert len(study.findings.cells) == 2


def test_page_shows_where_the_time_goes(tmp_path: Path) -> None:
    lines = [*taken_apart("softmax", 100, 0.2), *pipelines(9e-3, 3e-3)]
    text = html.render(studied(tmp_path / "run", lines).findings)
    for said in ("Where a training step's time goes", "published-style", "parts-table"):
        assert said in text


@pytest.mark.parametrize(
    "change",
    [
        {"parts": "fast"},
        {"parts": {}},
        {"parts": {part: [] for part in PARTS}},
        {"parts": {part: [-1.0] for part in PARTS}},
        {"parts": {part: [1e-3] for part in PARTS} | {"head": [1e-3, 1e-3]}},
        {"parts": {part: [True] for part in PARTS}},
        {"flops_per_image": "many"},
        {"flops_per_image": 0},
    ],
)
def test_malformed_split_is_named_and_left_out(tmp_path: Path, change: dict[str, Any]) -> None:
    good, bad = taken_apart("softmax", 100, 0.2)[0], taken_apart("gumbel", 100, 0.2)[0] | change
    run = load(write_run(tmp_path / "run", lines=[good, bad], trainings=[]))
    assert list(run.splits["head"]) == ["softmax"]
    assert len(run.warnings) == 1
    assert "line 2: " in run.warnings[0]


def test_skipped_split_is_listed_as_missing(tmp_path: Path) -> None:
    line = {
        **taken_apart("softmax", 100, 0.2)[0],
        "status": "failed",
        "reason": "no luck",
    }
    run = load(write_run(tmp_path / "run", lines=[line], trainings=[]))
    assert "split" in set(run.missing["kind"])
    assert run.warnings == ()
