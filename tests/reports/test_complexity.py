"""Verdicts on curves whose complexity is known."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.stats.complexity import APART, FLAT, MODELS, TOGETHER, classify, growth

SIZES = 2.0 ** np.arange(5, 20)
GROWING = MODELS[1:]
# Of 20 curves: what a step in a linear cost imitates is named where it is unmistakable only.
FOUND = {"O(n log n)": 8, "O(n^2)": 14}


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
        classify(SIZES, measured(curve(model, times=times), random), draws=0).model
        for times in np.geomspace(2, 100, 20)
    )
    assert said[model] >= FOUND.get(model, 17)
    assert said[model] + said["inconclusive"] >= 19


@pytest.mark.parametrize(("model", "truth"), [("O(log n)", 0), ("O(n)", 1), ("O(n^2)", 2)])
def test_exponent_intervals_cover_the_truth_as_often_as_they_say(model, truth):
    random = np.random.default_rng(1)
    covered = sum(
        truth in classify(SIZES, measured(curve(model, times=times), random), draws=0).exponent
        for times in np.geomspace(2, 100, 25)
    )
    low, _ = stats.binom.ppf([0.001, 0.999], 25, 0.95)
    assert covered >= low


def test_slope_of_a_flat_curve_is_covered_as_often_as_it_says():
    random = np.random.default_rng(2)
    flat = [classify(SIZES, measured(curve("O(1)"), random), draws=0).exponent for _ in range(25)]
    low, high = stats.binom.ppf([0.001, 0.999], 25, 0.95)
    assert low <= sum(0 in exponent for exponent in flat) <= high


def test_prediction_covers_the_curve_inside_and_beyond_the_sizes():
    random = np.random.default_rng(3)
    sizes, inside, beyond = SIZES[:12], 0, 0
    truth = curve("O(n)", sizes=sizes)
    slope = (truth[-1] - truth[0]) / (sizes[-1] - sizes[0])
    for _ in range(12):
        fitted = classify(sizes, measured(truth, random)).curve
        inside += truth[6] in fitted.interval(sizes[6])
        beyond += truth[0] + slope * (2**22 - sizes[0]) in fitted.interval(2**22)
    assert min(inside, beyond) >= 9


def test_the_verdict_does_not_depend_on_unit_order_or_chance():
    random = np.random.default_rng(4)
    samples = measured(curve("O(n log n)"), random)
    first = classify(SIZES, samples)
    scaled = classify(SIZES, [1e9 * rounds for rounds in samples])
    backwards = classify(SIZES[::-1], samples[::-1])
    assert first == classify(SIZES, samples) == backwards
    assert scaled.model == first.model
    assert scaled.exponent.estimate == pytest.approx(first.exponent.estimate)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.integers(2, 10**7), min_size=2, max_size=9, unique=True),
    st.integers(0, 2**32 - 1),
)
def test_any_positive_samples_give_a_sound_verdict(sizes, seed):
    random = np.random.default_rng(seed)
    verdict = classify(
        sizes, [random.lognormal(sigma=2, size=random.integers(1, 9)) for _ in sizes]
    )
    assert 0 <= sum(verdict.probabilities.values()) <= 1 + 1e-9
    assert verdict.model in (*MODELS, "inconclusive") or re.match(r"O\(n\^\d\.\d\)", verdict.model)
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


@pytest.mark.parametrize("low", [1e-6, 3e-5, 2e-4])
def test_a_plateau_before_linear_growth_is_linear_and_never_quadratic(low):
    truth = np.maximum(1e-4, low * SIZES / 256)
    verdict = classify(SIZES, measured(truth, np.random.default_rng(8)))
    assert verdict.model in (("O(n)", "inconclusive") if low < 1e-5 else ("O(n)",))


@pytest.mark.parametrize("knee", [2**9, 2**13, 2**16])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_step_in_the_cost_per_class_does_not_change_the_growth(knee, factor):
    truth = 5e-5 + 1e-7 * SIZES * np.where(knee < SIZES, factor, 1)
    verdict = classify(SIZES, measured(truth, np.random.default_rng(8)))
    assert verdict.model == "O(n)"
    assert "a step in the cost" in verdict.reason


@pytest.mark.parametrize("model", ["O(n)", "O(n^2)"])
def test_one_size_beyond_the_plateau_tells_no_growth(model):
    truth = np.maximum(1, 3 * growth(model, SIZES) / growth(model, SIZES[-1:]))
    sizes, truth = SIZES[2::3], truth[2::3]
    verdict = classify(sizes, measured(truth, np.random.default_rng(8)))
    assert verdict.model == "inconclusive"
    assert "have left the plateau" in verdict.reason


@pytest.mark.parametrize(("power", "name"), [(0.5, "O(sqrt n)"), (0.7, "O(n^0.7)")])
def test_a_power_between_the_models_gets_an_exponent(power, name):
    verdict = classify(SIZES, measured(1e-6 * SIZES**power, np.random.default_rng(9)))
    assert verdict.model == name
    assert power in verdict.exponent


def test_rise_of_three_times_is_not_called_flat():
    times = [95.6, 131.3, 130.4, 140.3, 154.3, 171.3, 196.9, 253.9, 304.1]
    sizes = [16, 100, 256, 512, 1024, 4096, 16384, 65536, 262144]
    assert classify(sizes, [[t * (1 + 0.01 * k) for k in range(-2, 3)] for t in times]).model in (
        "O(log n)",
        "inconclusive",
    )


def test_drift_with_the_sizes_is_no_growth_and_what_is_little_more_is_said_to_be_little():
    ramp = np.linspace(0, 1, SIZES.size)
    random = np.random.default_rng(15)
    assert classify(SIZES, measured(1e-4 * (1 + 0.08 * ramp), random)).model == "O(1)"
    small = classify(SIZES, measured(1e-4 * (1 + 0.22 * ramp), random, noise=0.01, drift=0.01))
    assert small.model == "inconclusive" or "drift of the machine" in small.warning


def test_counts_decide_between_what_the_clock_cannot_tell_apart_but_nothing_else():
    random = np.random.default_rng(16)
    sizes = SIZES[5:12]
    near = measured(curve("O(n)", times=4, sizes=sizes), random, noise=0.08, drift=0.08)
    assert classify(sizes, near).model == "inconclusive"
    assert classify(sizes, near, expected=["O(n)"]).model == "O(n)"
    other = measured(1e-6 * sizes**0.5, random)
    assert classify(sizes, other, expected=["O(n)"]).model == "O(sqrt n)"


def test_a_decade_of_noise_cannot_tell_n_from_n_log_n():
    sizes = np.geomspace(1000, 10_000, 6).round()
    truth = curve("O(n)", times=3, sizes=sizes)
    verdict = classify(sizes, measured(truth, np.random.default_rng(10), noise=0.05, drift=0.05))
    assert verdict.model == "inconclusive"
    assert "O(n) and O(n log n)" in verdict.reason
    assert verdict.reason.endswith("cannot be told apart: less than two decades of n")


@pytest.mark.parametrize(("pair", "noise"), [*zip(APART, (0.3, 0.03), strict=True)])
def test_where_nothing_but_a_logarithm_is_left_open_the_verdict_says_so(pair, noise):
    random = np.random.default_rng(6)
    said = Counter()
    for model, times in product(pair, np.geomspace(0.3, 30, 20)):
        truth = curve(model, times=times)
        verdict = classify(SIZES, measured(truth, random, noise, noise), draws=0)
        assert verdict.either in ((), *APART)
        assert verdict.model == "inconclusive" or not verdict.either
        if verdict.either:
            assert sum(verdict.probabilities[one] for one in verdict.either) >= TOGETHER
        said["either"] += verdict.either == pair
        said["wrong"] += bool(verdict.either) and model not in verdict.either
    assert said["either"] >= 3
    assert said["wrong"] <= 1


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
