"""Nobody on the front is beaten, and everybody off it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.findings.findings import find
from reports.findings.outcomes import outcomes
from reports.results import load
from reports.stats.pareto import front
from tests.reports.synthetic import training, write_run

values = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(values, values), max_size=12))
def test_front_is_what_brute_force_finds(points: list[tuple[float, float]]) -> None:
    def beaten(point: tuple[float, float]) -> bool:
        cost, gain = point
        return any(c <= cost and g >= gain and (c, g) != point for c, g in points)

    assert front(points) == sorted({point for point in points if not beaten(point)})


def test_each_variant_stands_with_its_seeds_and_the_front_with_its_costs(tmp_path: Path) -> None:
    trainings = [
        training("softmax", seed=0, accuracy=0.3, epoch_seconds=7.0),
        training("softmax", seed=1, accuracy=0.28, epoch_seconds=9.0),
        training("gumbel", accuracy=0.2, epoch_seconds=6.0),
        training("adaptive", accuracy=0.1, epoch_seconds=8.5),
    ]
    run = write_run(tmp_path / "run", lines=[], trainings=trainings)
    rows = {row.variant: row for row in outcomes(find(load(run)))}
    assert [name for name, row in rows.items() if "training" in row.front] == ["softmax", "gumbel"]
    softmax = rows["softmax"]
    assert [accuracy for _, accuracy in softmax.each_seed] == pytest.approx([0.3, 0.28])
    taken = [seconds for seconds, _ in softmax.each_seed]
    spread = softmax.costs["training"]
    assert (spread.low, spread.high) == (min(taken), max(taken))
    assert spread.estimate == pytest.approx(sum(taken) / 2)
    assert "step" not in softmax.costs
