"""The crossover: against curves whose crossing is a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.stats.crossover import crossover
from reports.stats.estimates import EXACT, scatter

SIZES = 2.0 ** np.arange(4, 20)


def exactly(values):
    return [[[value]] for value in values]


def measured(values, random, drift=0.03):
    drifts = drift * random.standard_normal((len(values), 3, 1))
    noise = 0.03 * random.standard_normal((len(values), 3, 10))
    return list(np.asarray(values)[:, None, None] * np.exp(drifts + noise))


@pytest.mark.parametrize("truth", [100.0, 1024.0, 3e4])
def test_power_laws_cross_where_the_closed_form_says(truth):
    found = crossover(SIZES, exactly(SIZES**1.0), exactly((truth * SIZES) ** 0.5), EXACT)
    assert found.at.low == pytest.approx(truth)
    assert found.at.high == pytest.approx(truth)


def test_linear_against_logarithmic_crosses_within_the_interpolation():
    slope, path = 1e-7, 1e-5
    found = crossover(SIZES, exactly(slope * SIZES), exactly(path * np.log2(SIZES)), EXACT)
    at = found.at.estimate
    assert slope * at == pytest.approx(path * math.log2(at), rel=0.02)


def test_order_of_sizes_does_not_matter():
    random = np.random.default_rng(0)
    first, second = measured(SIZES, random), measured(0 * SIZES + 3000, random)
    shuffled = random.permutation(len(SIZES))
    again = crossover(SIZES[shuffled], [first[i] for i in shuffled], [second[i] for i in shuffled])
    assert again == crossover(SIZES, first, second)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        truth = math.exp(random.uniform(math.log(50), math.log(2e5)))
        first = measured(1e-4 + 1e-7 * SIZES, random)
        second = measured(np.full(SIZES.size, 1e-4 + 1e-7 * truth), random)
        at = crossover(SIZES, first, second, scatter([*first, *second])).at
        covered.append(at is not None and truth in at)
    assert np.mean(covered) >= 0.92


def test_the_interval_covers_what_lies_between_far_sizes():
    random, sizes = np.random.default_rng(2), np.array([100.0, 1024, 16_384])
    covered = []
    for _ in range(100):
        truth = math.exp(random.uniform(math.log(200), math.log(8000)))
        first = measured(1e-4 + 1e-7 * sizes, random, drift=0.01)
        second = measured(np.full(3, 1e-4 + 1e-7 * truth), random, drift=0.01)
        at = crossover(sizes, first, second, scatter([*first, *second])).at
        covered.append(at is not None and truth in at)
    assert np.mean(covered) >= 0.92


def test_none_in_range_where_the_challenger_always_leads():
    found = crossover(SIZES, exactly(2 * SIZES), exactly(SIZES), EXACT)
    assert found.at is None
    assert found.reason == "none in range: ahead at every size"


def test_none_in_range_where_the_challenger_ends_behind():
    found = crossover(SIZES, exactly(SIZES), exactly(SIZES**1.1), EXACT)
    assert found.at is None
    assert found.reason == "none in range: behind at 524,288, the largest size"


def test_a_lead_within_the_noise_is_not_called_sure():
    random = np.random.default_rng(2)
    found = crossover(
        SIZES, measured(SIZES, random, drift=0.3), measured(0.9 * SIZES, random, drift=0.3)
    )
    assert found.at is None or found.at.high == math.inf
    assert found.at is not None or "surely" in found.reason


def test_the_last_of_several_crossings_counts():
    challenger = np.array([2.0, 0.5, 2.0, 0.5])
    found = crossover([10, 100, 1000, 10000], exactly([1.0] * 4), exactly(challenger), EXACT)
    assert found.at.estimate == pytest.approx(math.sqrt(1000 * 10000))


def test_a_single_pass_bounds_nothing():
    found = crossover([10, 1000], [[[1.0]], [[1.0]]], [[[2.0]], [[0.5]]])
    assert (found.at.low, found.at.high) == (0.0, math.inf)
    assert found.at.estimate == pytest.approx(100)
    assert found.reason == "ahead from about 100 on"


@pytest.mark.parametrize(("sizes", "cells"), [([], 0), ([10, 20], 1), ([[10]], 1)])
def test_one_cell_of_each_head_per_size(sizes, cells):
    with pytest.raises(ValueError, match="one cell of each head per size"):
        crossover(sizes, exactly([1.0] * cells), exactly([1.0] * cells))
