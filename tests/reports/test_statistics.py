"""Intervals: against scipy, closed forms, and the coverage they promise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.stats.estimates import (
    EXACT,
    Interval,
    LogRatio,
    Scatter,
    drift,
    empirical_null,
    judge,
    median,
    noise_floor,
    probability_within,
    ratio,
    scatter,
)

seconds = st.floats(1e-7, 1e3)
cells = st.lists(st.lists(seconds, min_size=1, max_size=5), min_size=2, max_size=5)


def cell(random, truth=1e-3, drift=0.03, noise=0.03, passes=3, rounds=10):
    """Passes that truly cost `truth`, each with a drift of its own."""
    drifts = drift * random.standard_normal((passes, 1))
    return list(truth * np.exp(drifts + noise * random.standard_normal((passes, rounds))))


def test_median_is_students_t_over_log_pass_medians():
    samples = cell(np.random.default_rng(0))
    logs = np.log([np.median(rounds) for rounds in samples])
    low, high = stats.t.interval(0.9, 2, logs.mean(), stats.sem(logs))
    interval = median(samples, confidence=0.9)
    assert (interval.low, interval.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert interval.estimate == pytest.approx(stats.gmean([np.median(r) for r in samples]))


def test_ratio_is_welchs_t_over_log_pass_medians():
    random = np.random.default_rng(1)
    above, below = cell(random, 2e-3, passes=4), cell(random, drift=0.1)
    logs = [np.log([np.median(rounds) for rounds in samples]) for samples in (above, below)]
    welch = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    interval = ratio(above, below)
    assert (interval.low, interval.high) == pytest.approx(
        (math.exp(welch.low), math.exp(welch.high))
    )


def test_known_scatter_of_infinite_degrees_is_the_normal_interval():
    samples = cell(np.random.default_rng(2))
    interval = median(samples, Scatter(variance=0.04, degrees=math.inf))
    reach = stats.norm.ppf(0.975) * 0.2 / math.sqrt(3)
    assert interval.high / interval.estimate == pytest.approx(math.exp(reach))


def test_own_scatter_is_shrunk_towards_the_known_by_degrees_of_freedom():
    samples = [[1.0], [math.e]]  # variance of the logarithms: 1/2, with one degree of freedom
    interval = median(samples, Scatter(variance=0.1, degrees=4))
    reach = stats.t.ppf(0.975, 5) * math.sqrt((4 * 0.1 + 1 * 0.5) / 5 / 2)
    assert math.log(interval.high / interval.estimate) == pytest.approx(reach)


def test_learned_degrees_count_once_in_a_ratio():
    above, below = [[1.0], [math.e]], [[math.e], [1.0]]
    interval = ratio(above, below, Scatter(variance=0.5, degrees=4))
    reach = stats.t.ppf(0.975, 4 + 2) * math.sqrt(0.5 / 2 + 0.5 / 2)
    assert math.log(interval.high / interval.estimate) == pytest.approx(reach)


@pytest.mark.parametrize("degrees", [3.0, 6.0])
def test_scatter_finds_the_distribution_that_cells_were_drawn_from(degrees):
    random = np.random.default_rng(3)
    variances = 0.04**2 * degrees / random.chisquare(degrees, 8000)
    drawn = np.exp(np.sqrt(variances)[:, None] * random.standard_normal((8000, 3)))
    known = scatter(passes[:, None] for passes in drawn)
    assert known.variance == pytest.approx(0.04**2, rel=0.1)
    assert 0.6 * degrees < known.degrees < 1.1 * degrees  # careful, so rather fewer


def test_scatter_of_equal_cells_is_worth_many_degrees():
    random = np.random.default_rng(4)
    known = scatter(cell(random, drift=0.05, noise=0.0) for _ in range(2000))
    assert known.variance == pytest.approx(0.05**2, rel=0.1)
    assert known.degrees > 20


def test_scatter_learns_nothing_from_single_passes_and_counts():
    assert scatter([[[1.0, 2.0]], [[5.0], [5.0], [5.0]]]) == Scatter()


@pytest.mark.parametrize("learned", [False, True])
def test_intervals_cover_the_truth_as_often_as_they_say(learned):
    random = np.random.default_rng(5)
    drifts = random.uniform(0.02, 0.05, 2000)
    measured = [cell(random, drift=drift) for drift in drifts]
    known = scatter(measured) if learned else None
    covered = np.mean([1e-3 in median(samples, known) for samples in measured])
    assert covered == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("passes", [3, 5])
def test_noisy_cells_among_quiet_ones_are_covered_as_often_as_they(passes):
    # As on shared machines: some cells scatter thirty times as much as others.
    random = np.random.default_rng(12)
    noise = np.repeat([0.01, 0.03, 0.1, 0.3], [400, 200, 200, 200])
    samples = [list(np.exp(own * random.standard_normal((passes, 1)))) for own in noise]
    known = scatter(samples)
    covered = np.array([1 in median(one, known) for one in samples])
    for own in np.unique(noise):
        assert covered[noise == own].mean() == pytest.approx(0.95, abs=0.03)


def test_cells_that_scatter_alike_to_the_last_digit_are_worth_infinite_degrees():
    assert scatter([[[1.0], [1.1]]] * 4).degrees == math.inf


@pytest.mark.parametrize("learned", [False, True])
def test_at_most_a_twentieth_of_equal_cells_are_called_different(learned):
    random = np.random.default_rng(6)
    pairs = [
        (cell(random, drift=drift), cell(random, drift=drift))
        for drift in random.uniform(0.02, 0.05, 1500)
    ]
    known = scatter(samples for pair in pairs for samples in pair) if learned else None
    floor = noise_floor([ratio(*pair, known) for pair in pairs])
    assert floor.comparisons == 1500
    assert floor.significant <= stats.binom.ppf(0.99, 1500, 0.05)


def test_noise_floor_is_the_difference_that_95_percent_of_equal_cells_stay_below():
    random = np.random.default_rng(7)
    pairs = [
        (cell(random, drift=0.03, noise=0), cell(random, drift=0.03, noise=0)) for _ in range(3000)
    ]
    expected = math.expm1(1.96 * 0.03 * math.sqrt(2 / 3))
    floor = noise_floor([ratio(*pair) for pair in pairs])
    assert floor.difference.estimate == pytest.approx(expected, rel=0.08)
    assert expected in floor.difference


def test_noise_floor_of_no_pairs_is_unknown():
    assert noise_floor([]).difference.high == math.inf


def test_one_pass_gives_the_order_statistics_of_its_rounds():
    rounds = np.random.default_rng(8).exponential(size=25)
    interval = median([rounds])
    scipys = stats.quantile_test(rounds, q=0, p=0.5).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((scipys.low, scipys.high))
    assert interval.estimate == pytest.approx(np.median(rounds))


def test_too_few_rounds_of_one_pass_bound_nothing():
    assert median([[1.0, 2.0, 3.0]]) == Interval(0.0, pytest.approx(2.0), math.inf)
    assert ratio([[2.0]], [[1.0], [1.1]]) == Interval(0.0, pytest.approx(1.907, abs=1e-3), math.inf)


def test_exact_values_have_exact_ratios():
    interval = ratio([[300]], [[100]], EXACT)
    assert interval.low == interval.high == pytest.approx(3.0)
    assert median([[7.0], [7.0], [7.0]]) == Interval(*[pytest.approx(7.0)] * 3)


@given(cells)
def test_an_interval_holds_its_estimate_between_the_smallest_and_largest_pass(samples):
    interval = median(samples)
    medians = [np.median(rounds) for rounds in samples]
    assert interval.low <= interval.estimate <= interval.high
    assert min(medians) * (1 - 1e-9) <= interval.estimate <= max(medians) * (1 + 1e-9)


@given(cells, cells)
def test_swapping_the_sides_inverts_the_ratio(above, below):
    forward, backward = ratio(above, below), ratio(below, above)
    assert forward.estimate * backward.estimate == pytest.approx(1)
    if math.isfinite(forward.high) and forward.low > 1e-300:
        assert forward.high * backward.low == pytest.approx(1)


@given(cells, st.floats(1e-3, 1e3))
def test_intervals_scale_with_the_unit(samples, factor):
    scaled = median([[factor * x for x in rounds] for rounds in samples])
    assert scaled.estimate == pytest.approx(factor * median(samples).estimate)


@pytest.mark.parametrize(
    ("interval", "margin", "expected"),
    [
        (Interval(1.02, 1.05, 1.08), 0.0, "slower"),
        (Interval(1.02, 1.05, 1.08), 0.1, "same"),
        (Interval(1.02, 1.05, 1.08), 0.05, "ambiguous"),
        (Interval(0.80, 0.85, 0.90), 0.05, "faster"),
        (Interval(0.80, 0.95, 1.10), 0.05, "ambiguous"),
        (Interval(0.0, 1.0, math.inf), 0.5, "ambiguous"),
    ],
)
def test_judge(interval, margin, expected):
    assert judge(interval, margin) == expected


@given(st.floats(0.2, 5), st.floats(0, 1), st.floats(0, 0.5))
def test_judge_mirrors_when_old_and_new_swap(estimate, width, margin):
    mirrored = {"faster": "slower", "slower": "faster"}
    forward = Interval(estimate * math.exp(-width), estimate, estimate * math.exp(width))
    backward = Interval(1 / forward.high, 1 / estimate, 1 / forward.low)
    said = judge(forward, margin)
    if min(abs(math.log(end)) - math.log1p(margin) for end in (forward.low, forward.high)) > 1e-9:
        assert judge(backward, margin) == mirrored.get(said, said)


@pytest.mark.parametrize(
    "samples", [[], [[]], [[1.0], []], [[[1.0]]], [[0.0]], [[-1.0]], [[np.nan]]]
)
def test_samples_that_say_nothing_are_refused(samples):
    with pytest.raises(ValueError, match="samples must be"):
        median(samples)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.5])
def test_drift_is_the_factor_that_all_cells_share(factor: float) -> None:
    draw = np.random.default_rng(4)
    cells = [
        [size * pace * np.exp(0.02 * draw.standard_normal(5)) for pace in (1.0, 1.2, factor)]
        for size in np.geomspace(1e-5, 1, 200)
    ]
    found = drift(cells)
    assert found.low <= factor * 1.01
    assert found.high >= factor / 1.01
    assert found.estimate == pytest.approx(factor, rel=0.02)


def test_one_pass_shows_no_drift() -> None:
    assert drift([[np.array([1.0, 2.0])]]) == Interval(1.0, 1.0, 1.0)


@given(st.floats(-1, 1), st.floats(0.001, 1), st.floats(1, 100), st.floats(0, 0.5))
def test_the_p_value_is_that_of_students_t_at_the_margin(centre, error, degrees, margin):
    p = LogRatio(centre, error, degrees).p_within(margin)
    assert p == pytest.approx(
        stats.t.sf((abs(centre) - np.log1p(margin)) / error, degrees), abs=1e-9
    )


def test_an_exact_ratio_is_beyond_a_margin_or_is_not():
    assert LogRatio(0.2, 0.0, 4).p_within(0.1) == 0
    assert LogRatio(0.05, 0.0, 4).p_within(0.1) == 1


def test_the_bulk_of_ratios_gives_the_shift_and_how_much_too_small_their_errors_are():
    draw = np.random.default_rng(0)
    centres = 0.1 + 3 * 0.02 * draw.normal(size=2_000)
    centres[:200] += 1  # what really changed does not move the null
    null = empirical_null([LogRatio(centre, 0.02, 1e6) for centre in centres])
    assert np.log(null.shift.estimate) == pytest.approx(0.1, abs=0.02)
    assert null.inflation == pytest.approx(3, rel=0.2)
    assert empirical_null([LogRatio(c / 10, 0.02, 1e6) for c in centres]).inflation == 1


def test_unchanged_cells_vouch_for_each_other_and_one_alone_has_none_to_vouch():
    noisy = LogRatio(0.02, 0.08, 100)
    draw = np.random.default_rng(0)
    others = [LogRatio(0.08 * draw.normal(), 0.08, 100) for _ in range(500)]
    assert probability_within([noisy, *others], 0.1)[0] > 0.95
    assert probability_within([noisy], 0.1)[0] < 0.95


@pytest.mark.parametrize("margin", [0.05, 0.3])
def test_probabilities_of_no_change_are_those_of_simulated_cells(margin):
    """One cell in ten changes, by 20 % typically: the mean of the claims is the share of truths."""
    draw = np.random.default_rng(1)
    truth = np.where(draw.random(4_000) < 0.1, 0.2 * draw.normal(size=4_000), 0)
    seen = [LogRatio(change + 0.05 * draw.normal(), 0.05, 1e6) for change in truth]
    claimed = probability_within(seen, margin)
    real = np.abs(truth) <= np.log1p(margin)
    assert claimed.mean() == pytest.approx(real.mean(), abs=0.02)
    assert real[claimed > 0.95].mean() > 0.95


def test_what_nothing_bounds_is_not_called_unchanged():
    assert probability_within([LogRatio(0.0, np.inf, 1)], 0.1) == 0


def test_intervals_are_widened_until_they_hold_the_passes_that_are_left_out():
    random = np.random.default_rng(20)
    quiet = 0.01 * random.standard_normal((300, 3))
    # One pass in twelve went badly, as on a machine that others use.
    spoilt = quiet + 0.15 * (random.random(quiet.shape) < 1 / 12)
    steady, shared = (
        scatter([[np.exp([log]) for log in row] for row in logs]) for logs in (quiet, spoilt)
    )
    assert steady.inflation < 1.2
    assert shared.inflation > 1.2
    cell = [np.exp([0.0]), np.exp([0.01])]
    alone = median(cell, replace(shared, inflation=1.0))
    widened = median(cell, shared)
    assert math.log(widened.high / widened.estimate) == pytest.approx(
        shared.inflation * math.log(alone.high / alone.estimate)
    )
