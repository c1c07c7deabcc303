"""What is said of the pairs: which heads have changed, by how much, and how surely."""

import math

import numpy as np
import pytest
from scipy.stats import mstats, ttest_1samp

from bench.versus import __main__ as command
from bench.versus.verdict import interval, midmeans, verdicts
from tests.bench.versus.imagined import GRID, measured


def changes(pairs, threshold=0.01):
    return {
        (one.head, one.change)
        for one in verdicts(pairs, threshold)
        if one.change in ("slower", "faster")
    }


def test_nothing_is_claimed_between_identical_revisions():
    chance = np.random.default_rng(0)
    # 0.05 of 400 are 20; more than 31 of them happen once in 200 times.
    assert sum(bool(changes(measured(chance), threshold=0)) for _ in range(400)) <= 31
    assert sum(bool(changes(measured(chance))) for _ in range(400)) <= 4


def test_five_percent_of_one_head_are_found():
    chance = np.random.default_rng(1)
    found = [changes(measured(chance, {"c": 0.05})) for _ in range(200)]
    assert sum(("c", "slower") in one for one in found) >= 180
    assert sum(one <= {("c", "slower")} for one in found) >= 190


def test_disturbed_blocks_do_not_move_a_pair():
    cell = GRID[0]
    calm = [[0.01] * 12] * 3
    hit = [[0.01] * 9 + [2.0, -3.0, 1.0]] * 3
    np.testing.assert_allclose(midmeans({cell: calm})[cell], midmeans({cell: hit})[cell])


def test_pairs_that_are_far_off_hide_nothing():
    chance = np.random.default_rng(6)
    pairs = measured(chance, {"c": 0.05})
    disturbed = chance.choice(30, 2, replace=False)
    for logs in pairs.values():
        logs[disturbed] += chance.choice([-1, 1], 2)
    assert changes(pairs) == {("c", "slower")}


@pytest.mark.parametrize("confidence", [0.95, 0.995])
@pytest.mark.parametrize("pairs", [2, 9, 10, 30, 100])
def test_an_interval_is_that_of_a_trimmed_mean_where_there_is_something_to_trim(pairs, confidence):
    logs = 0.02 * np.random.default_rng(pairs).standard_t(3, pairs)
    found = interval(logs, confidence)
    expected = (
        mstats.trimmed_mean_ci(logs, (0.1, 0.1), alpha=1 - confidence)
        if pairs >= 10
        else ttest_1samp(logs, 0).confidence_interval(confidence)
    )
    np.testing.assert_allclose(np.log([found.low, found.high]), expected)


def test_one_pair_bounds_nothing():
    assert interval(np.array([0.5]), 0.95).low == 0
    assert interval(np.array([0.5]), 0.95).high == math.inf


def test_the_slowest_comes_first_with_its_sizes_below():
    chance = np.random.default_rng(2)
    found = verdicts(measured(chance, {"c": 0.5}), 0.01)
    assert {one.head for one in found[:2]} == {"c"}
    rows = command.rows(found)
    assert [row[2] for row in rows[:5]] == ["all", "128", "1,024", "8,192", "all"]
