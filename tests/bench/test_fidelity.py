"""Ratios come with intervals that hold the median as often as they say."""

import numpy as np
import pytest

from bench import fidelity


def test_the_interval_holds_the_median_as_often_as_it_says():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2_000):
        found = fidelity.interval(random.exponential(size=25))
        assert found.low <= found.estimate <= found.high
        held += found.low <= np.log(2) <= found.high
    assert held / 2_000 >= 0.94


def test_few_values_give_their_whole_range():
    found = fidelity.interval([3.0, 1.0, 2.0])
    assert (found.low, found.estimate, found.high) == (1, 2, 3)


@pytest.mark.parametrize("head", ["hierarchical", "adaptive"])
def test_a_step_inside_is_measured_against_its_parts(head):
    found = fidelity.inside(head, classes=10, seconds=0.01)
    assert 0 < found.low <= found.estimate <= found.high
