"""Verdicts on curves whose complexity is known."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from reports.stats.complexity import FLAT, MODELS, _inflation, _least_squares, classify, growth

SIZES = 2.0 ** np.arange(5, 20)
GROWING = MODELS[1:]


def curve(model, overhead=50e-6, times=20.0, sizes=SIZES):
    """Seconds whose growing part is `times` the overhead at the largest size."""
    g = growth(model, sizes)
    return overhead * (1 + times * g / max(g[-1], 1))


def measured(truth, random, noise=0.03, drift=0.03, spikes=0.03, passes=3, rounds=10):
    """Rounds of all passes together, one array a size; a share of them 1.5 to 4 times too long."""
    shape = (len(truth), passes, rounds)
    drifts = drift * random.standard_normal((len(truth), passes, 1))
    samples = truth[:, None, None] * np.exp(drifts + noise * random.standard_normal(shape))
    spiked = random.random(shape) < spikes
    samples = np.where(spiked, samples * random.uniform(1.5, 4, shape), samples)
    return list(samples.reshape(len(truth), -1))


def exactly(values):
    return [[float(value)] for value in values]


@pytest.mark.parametrize("model", MODELS)
def test_exact_counts_are_named_with_certainty(model):
    verdict = classify(SIZES, exactly(7 + 3 * growth(model, SIZES)))
    assert verdict.model == model
    assert verdict.probabilities[model] == pytest.approx(1)
    assert verdict.set_aside == ()


@pytest.mark.parametrize("model", GROWING)
def test_coefficients_of_exact_counts_are_recovered(model):
    fitted = classify(SIZES, exactly(7000 + 3 * growth(model, SIZES))).curve
    assert (fitted.a, fitted.b) == pytest.approx((7000, 3), rel=1e-4)
    assert fitted(SIZES) == pytest.approx(7000 + 3 * growth(model, SIZES), rel=1e-6)


@pytest.mark.parametrize(
    ("model", "exponent"), [("O(log n)", 0), ("O(n)", 1), ("O(n^2)", 2), ("O(1)", 0)]
)
def test_exponent_of_exact_counts_is_exact(model, exponent):
    found = classify(SIZES, exactly(5000 + growth(model, SIZES))).exponent
    assert exponent in found
    assert found.estimate == pytest.approx(exponent, abs=1e-4)


def test_exponent_of_a_power_law_between_the_models_is_found():
    found = classify(SIZES, exactly(10 + SIZES**0.5)).exponent
    assert found.estimate == pytest.approx(0.5, abs=0.03)  # the family holds n^p - 1, a >= 0


def test_tree_depths_at_sizes_between_powers_of_two_are_logarithmic():
    sizes = np.array([16, 100, 256, 1000, 1024, 4096, 10_000, 65_536, 267_735, 1_000_000])
    depths = [np.mean([int(c).bit_length() - 1 for c in range(n, 2 * n)]) for n in sizes[:7]]
    depths += [math.log2(n) for n in sizes[7:]]
    verdict = classify(sizes, exactly(np.array(depths) * 128))
    assert verdict.model == "O(log n)"


@pytest.mark.parametrize("model", MODELS)
def test_noisy_curves_are_named_or_left_open_and_hardly_ever_misnamed(model):
    random = np.random.default_rng(0)
    said = Counter(
        classify(SIZES, measured(curve(model, times=times), random)).model
        for times in np.geomspace(2, 100, 30)
    )
    assert said[model] >= 25
    assert said[model] + said["inconclusive"] >= 29


@pytest.mark.parametrize(("model", "truth"), [("O(log n)", 0), ("O(n)", 1), ("O(n^2)", 2)])
def test_exponent_intervals_cover_the_truth_as_often_as_they_say(model, truth):
    random = np.random.default_rng(1)
    covered = sum(
        truth in classify(SIZES, measured(curve(model, times=times), random)).exponent
        for times in np.geomspace(2, 100, 100)
    )
    low, high = stats.binom.ppf([0.001, 0.999], 100, 0.95)
    assert low <= covered <= high


def test_slope_of_a_flat_curve_is_covered_as_often_as_it_says():
    random = np.random.default_rng(2)
    flat = [classify(SIZES, measured(curve("O(1)"), random)).exponent for _ in range(100)]
    low, high = stats.binom.ppf([0.001, 0.999], 100, 0.95)
    assert low <= sum(0 in exponent for exponent in flat) <= high


def test_prediction_covers_the_curve_inside_and_beyond_the_sizes():
    random = np.random.default_rng(3)
    sizes, inside, beyond = SIZES[:12], 0, 0
    truth = curve("O(n)", sizes=sizes)
    slope = (truth[-1] - truth[0]) / (sizes[-1] - sizes[0])
    for _ in range(100):
        fitted = classify(sizes, measured(truth, random)).curve
        inside += truth[6] in fitted.interval(sizes[6])
        beyond += truth[0] + slope * (2**22 - sizes[0]) in fitted.interval(2**22)
    assert min(inside, beyond) >= 88


def test_the_verdict_does_not_depend_on_unit_order_or_chance():
    random = np.random.default_rng(4)
    samples = measured(curve("O(n log n)"), random)
    first = classify(SIZES, samples)
    scaled = classify(SIZES, [1e9 * rounds for rounds in samples])
    backwards = classify(SIZES[::-1], samples[::-1])
    assert first == classify(SIZES, samples) == backwards
    assert scaled.model == first.model
    assert scaled.exponent.estimate == pytest.approx(first.exponent.estimate)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(2, 10**7), min_size=2, max_size=20, unique=True),
    st.integers(0, 2**32 - 1),
)
def test_any_positive_samples_give_a_sound_verdict(sizes, seed):
    random = np.random.default_rng(seed)
    verdict = classify(
        sizes, [random.lognormal(sigma=2, size=random.integers(1, 9)) for _ in sizes]
    )
    assert sum(verdict.probabilities.values()) == pytest.approx(1)
    assert verdict.model in (*MODELS, "inconclusive")
    assert verdict.reason
    assert not verdict.exponent.low > verdict.exponent.high


def test_a_spike_at_one_size_is_set_aside_and_named():
    truth = curve("O(log n)")
    truth[6] *= 2.5
    verdict = classify(SIZES, measured(truth, np.random.default_rng(5)))
    assert verdict.model == "O(log n)"
    assert verdict.set_aside == (SIZES[6],)


def test_single_samples_with_a_spike_are_enough():
    random = np.random.default_rng(6)
    truth = curve("O(n)", times=100)
    truth[3] *= 3
    verdict = classify(SIZES, measured(truth, random, rounds=1, passes=1, spikes=0, noise=0.01))
    assert verdict.model == "O(n)"


def test_growth_that_drift_could_feign_is_no_growth():
    truth = 1e-4 * (1 + 0.7 * FLAT * np.linspace(0, 1, SIZES.size))
    assert classify(SIZES, measured(truth, np.random.default_rng(7))).model == "O(1)"


def test_a_step_in_the_machine_is_no_model():
    truth = curve("O(log n)") * np.where(SIZES > 2**12, 2.0, 1.0)
    verdict = classify(SIZES, measured(truth, np.random.default_rng(8)))
    assert verdict.model == "inconclusive"
    assert verdict.reason.startswith("no model fits: the best, O(log n), misses the points by")


def test_a_power_between_the_models_is_no_model():
    verdict = classify(SIZES, measured(1e-6 * SIZES**0.5, np.random.default_rng(9)))
    assert verdict.model == "inconclusive"
    assert verdict.reason.startswith("no model fits: the growing part goes like n^p, p = 0.")
    assert 0.5 in verdict.exponent


def test_a_decade_of_noise_cannot_tell_n_from_n_log_n():
    sizes = np.geomspace(1000, 10_000, 6).round()
    truth = curve("O(n)", times=3, sizes=sizes)
    verdict = classify(sizes, measured(truth, np.random.default_rng(10), noise=0.05, drift=0.05))
    assert verdict.model == "inconclusive"
    assert "O(n) and O(n log n) fit equally well: less than two decades of n" in verdict.reason


def test_a_curve_bent_by_caches_is_not_called_n_log_n():
    truth = curve("O(n)", times=300)
    truth *= np.interp(np.log2(SIZES), [5, 10, 13, 16, 19], [1.0, 1.0, 1.6, 1.7, 2.6])
    verdict = classify(SIZES, measured(truth, np.random.default_rng(12), noise=0.1, drift=0.1))
    assert verdict.model == "inconclusive"


def test_noise_that_hides_growth_is_not_called_constant():
    random = np.random.default_rng(11)
    truth = curve("O(1)", sizes=SIZES[:6])
    verdict = classify(SIZES[:6], measured(truth, random, noise=0.4, drift=0.3, rounds=3))
    assert verdict.model == "inconclusive"


def test_too_few_sizes_are_inconclusive():
    verdict = classify([10, 100, 1000, 10_000], exactly([10, 100, 1000, 10_000]))
    assert (verdict.model, verdict.reason) == ("inconclusive", "4 sizes, at least 5 are needed")


def test_a_cost_of_zero_is_constant_and_a_sudden_one_is_not_judged():
    assert classify(SIZES, exactly(0 * SIZES)).model == "O(1)"
    mixed = classify(SIZES, exactly(np.where(SIZES > 100, SIZES, 0)))
    assert mixed.model == "inconclusive"
    assert mixed.reason.startswith("zero at some sizes")


@pytest.mark.parametrize("model", GROWING)
@pytest.mark.parametrize("times", [0.0, 3.0, 1e3])
def test_least_squares_finds_the_optimum_that_scipy_finds(model, times):
    random = np.random.default_rng(12)
    y = np.log(curve(model, times=times)) + 0.05 * random.standard_normal(SIZES.size)
    g = growth(model, SIZES) / growth(model, SIZES[-1:])
    scale, c, squares = _least_squares(y[None], g[None])
    residual = y - scale[0, 0] - np.log(c[0, 0] + g)
    assert squares[0, 0] == pytest.approx((residual**2).sum())

    def misfit(log_c):
        h = np.log(math.exp(log_c) + g)
        return ((y - h - (y - h).mean()) ** 2).sum()

    best = min(
        optimize.minimize_scalar(misfit, bounds=(low, low + 4), method="bounded").fun
        for low in range(-24, 9, 4)
    )
    assert squares[0, 0] <= best * (1 + 1e-3)


def test_least_squares_ignores_points_of_no_weight():
    y = np.log(curve("O(n)"))
    g = (SIZES / SIZES[-1])[None]
    kept = np.arange(SIZES.size) != 4
    spiked = y + 1.0 * ~kept
    with_weights = _least_squares(spiked[None], g, kept[None].astype(float))
    without = _least_squares(y[None, kept], g[:, kept])
    for ours, theirs in zip(with_weights, without, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_smooth_residuals_count_for_fewer_points_and_rough_ones_do_not():
    random = np.random.default_rng(13)
    assert _inflation(np.sin(np.linspace(0, 6, 15))) > 3
    rough = [_inflation(random.standard_normal(15)) > 1 for _ in range(2000)]
    assert np.mean(rough) < 0.05


@pytest.mark.parametrize(
    ("sizes", "samples", "message"),
    [
        ([2, 4], [[1.0]], "got 2 sizes, 1 arrays"),
        ([1, 4], [[1.0], [1.0]], "sizes must be finite and at least 2"),
        ([2, 4], [[1.0], []], "samples at size 4 must be a non-empty 1-D array"),
        ([2, 4], [[1.0], [-1.0]], "samples at size 4 must be finite and not negative"),
        ([2, 4], [[np.nan], [1.0]], "samples at size 2 must be finite and not negative"),
    ],
)
def test_what_cannot_be_judged_is_refused(sizes, samples, message):
    with pytest.raises(ValueError, match=message):
        classify(sizes, samples)
