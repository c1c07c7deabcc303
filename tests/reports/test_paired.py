"""Rivals that took turns are compared turn by turn, and what disturbs them both cancels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from reports import duets_simulation
from reports.stats import estimates, paired
from reports.stats.estimates import Interval, Scatter
from reports.stats.paired import EQUAL, Known, Series, quotients

TURNS = 40
SURE = Known(Scatter(1e-4, 100), Scatter(1.0, 100), least=0.002)


def series(seconds, passes=3, every=1, drift=None, block="block", noise=0.0, seed=0):
    """A cell in every `every`-th turn of a machine whose slowness at each turn is `drift`."""
    random = np.random.default_rng(seed)
    drift = np.zeros((passes, TURNS)) if drift is None else drift
    turns = tuple(range(0, TURNS, every))
    return Series(
        [
            seconds * np.exp(of[::every] + noise * random.standard_normal(len(turns)))
            for of in drift
        ],
        range(passes),
        [block] * passes,
        [turns] * passes,
    )


def wandering(passes=3, steps=0.05, seed=0):
    """A machine that drifts by far more than rivals differ."""
    random = np.random.default_rng(seed)
    return np.cumsum(steps * random.standard_normal((passes, TURNS)), axis=1)


def test_a_drift_of_the_machine_cancels_in_quotients():
    drift = wandering()
    taken = quotients(series(1.1e-3, drift=drift), series(1e-3, drift=drift))
    np.testing.assert_allclose(taken, 1.1, rtol=1e-12)


@pytest.mark.parametrize("every", [2, 4, 16])
def test_a_rival_in_few_turns_meets_the_rounds_nearest_to_them(every):
    drift = np.linspace(0, 1, 3 * TURNS).reshape(3, TURNS)
    rare, often = series(5e-3, every=every, drift=drift), series(1e-3, drift=drift)
    above, below = quotients(rare, often), quotients(often, rare)
    for up, down in zip(above, below, strict=True):
        assert len(up) == len(range(0, TURNS, every))
        np.testing.assert_allclose(np.asarray(up) * down, 1)
        # Between two of its turns the machine slows down by `every` steps.
        np.testing.assert_allclose(up, 5, rtol=every / (3 * TURNS))


def test_turns_may_be_out_of_order_and_need_not_begin_with_the_first():
    first = Series([[1.0, 2.0, 4.0]], [0], ["b"], [(9, 1, 5)])
    second = Series([[2.0, 4.0, 1.0]], [0], ["b"], [(1, 5, 9)])
    np.testing.assert_allclose(quotients(first, second), 1)


@pytest.mark.parametrize(
    "other",
    [
        series(1e-3, block="another"),
        series(1e-3, block=""),
        Series([np.full(TURNS, 1e-3)] * 3),
        replace(series(1e-3), passes=(3, 4, 5)),
        replace(series(1e-3), passes=(2, 3, 4)),
    ],
    ids=["other block", "no block", "no places", "other passes", "one pass in common"],
)
def test_what_shares_no_two_blocks_is_compared_as_ever(other):
    cell = series(1.2e-3, noise=0.02)
    assert quotients(cell, other) == ()
    known = Known(Scatter(1e-4, 10))
    assert known.ratio(cell, other) == estimates.ratio(cell.samples, other.samples, known.cells)


def test_passes_are_paired_by_number_where_one_has_failed():
    whole = series(1e-3, passes=4, drift=wandering(4))
    holed = Series(whole.samples[1:], [1, 2, 3], whole.blocks[1:], whole.turns[1:])
    np.testing.assert_allclose(quotients(holed, whole), 1)


def test_a_ratio_and_its_inverse_say_the_same():
    a, b = series(1.2e-3, noise=0.02, seed=1), series(1e-3, noise=0.02, seed=2, every=4)
    up, down = SURE.ratio(a, b), SURE.ratio(b, a)
    # All but the mean of the two middle ones of an even number.
    assert up.low == pytest.approx(1 / down.high, rel=1e-4)
    assert up.estimate == pytest.approx(1 / down.estimate, rel=1e-4)


def test_a_machine_far_noisier_than_any_expected_is_known_to_be_so():
    random = np.random.default_rng(0)
    wild = [
        [series(1e-3, passes=2, drift=0.5 * random.standard_normal((2, 1)) * np.ones((2, TURNS)))
         for _ in range(2)]
        for _ in range(100)
    ]  # fmt: skip
    known = paired.learn(Scatter(), wild)
    assert np.mean([1 in known.ratio(*pair) for pair in wild]) > 0.9


def test_nothing_is_bounded_by_one_pass_of_one_pair():
    a, b = series(1.2e-3, passes=1, noise=0.02), series(1e-3, passes=1)
    found = paired.learn(Scatter(), [[a, b]]).ratio(a, b)
    assert (found.low, found.high) == (0, math.inf)


def test_what_passes_differ_by_is_learned_in_two_parts():
    random = np.random.default_rng(0)
    shift, noises = 0.01, (0.02, 0.1)
    contests = [
        [
            series(
                seconds=1e-3,
                drift=np.repeat(shift * random.standard_normal((3, 1)), TURNS, axis=1),
                noise=noises[place % 2],
                seed=2 * place + half,
            )
            for half in (0, 1)
        ]
        for place in range(300)
    ]
    known = paired.learn(Scatter(), contests)
    assert known.pairs.degrees >= 8
    for noise in noises:
        taken = quotients(*(series(1e-3, noise=noise, seed=seed) for seed in (7, 8)))
        learned = known.scatter_of(taken).variance
        assert learned == pytest.approx(2 * shift**2 + math.pi * noise**2 / TURNS, rel=0.35)


@pytest.mark.parametrize("passes", [2, 3])
def test_intervals_cover_the_truth_on_a_machine_whose_noise_is_autocorrelated(passes):
    random = np.random.default_rng(passes)
    rows = duets_simulation.coverage(2, passes, random)
    shares = {pair: float(covered.rstrip("%")) for _, pair, covered, *_ in rows}
    assert 93 <= shares["all"] <= 97.5
    assert min(shares.values()) > 90


def test_the_simulated_machine_forgets_as_fast_as_the_measured_one():
    for _, measured, simulated in duets_simulation.autocorrelation(np.random.default_rng(0)):
        assert float(simulated) == pytest.approx(float(measured), abs=0.03)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Interval(0.98, 1.0, 1.02), "same"),
        (Interval(1.005, 1.01, 1.02), "same"),
        (Interval(1.02, 1.04, 1.06), "ambiguous"),
        (Interval(1.02, 1.06, 1.1), "slower"),
        (Interval(0.9, 0.94, 0.98), "faster"),
        (Interval(0.96, 1.0, 1.04), "ambiguous"),
        (Interval(0.0, 1.0, math.inf), "ambiguous"),
    ],
)
def test_a_ratio_is_equal_another_or_open(change, said):
    assert paired.judge(change, floor=0.05) == said


def test_noise_alone_never_makes_heads_equal():
    random = np.random.default_rng(0)
    for width in random.uniform(1.035, 2, 50):
        assert paired.judge(Interval(1 / width, 1, width), 0.0) == "ambiguous"


def test_the_fastest_is_the_one_ahead_in_turns():
    drift = wandering(steps=0.2)
    often = series(1e-3, drift=drift)
    # It meets the machine in its slowest turns only, so that its own median is larger.
    slow = [np.argsort(of)[-8:] for of in drift]
    rare = Series(
        [0.9e-3 * np.exp(of[turns]) for of, turns in zip(drift, slow, strict=True)],
        range(3),
        ["block"] * 3,
        [tuple(turns) for turns in slow],
    )
    assert estimates.median(rare.samples).estimate > estimates.median(often.samples).estimate
    best, (other,) = paired.standing([often, rare], SURE)
    assert (best, other.place, other.change) == (1, 0, "slower")


def test_drift_between_blocks_is_divided_out_by_their_anchor():
    slowness = np.exp(np.random.default_rng(0).normal(size=(5, 3)))
    truth = np.arange(1, 6) * 1e-3
    cells = [[np.full(7, t * s) for s in of] for t, of in zip(truth, slowness, strict=True)]
    anchors = [[np.full(4, 2e-3 * s) for s in of] for of in slowness]
    cleaned = paired.without_drift(cells, anchors)
    medians = np.array([[np.median(taken) for taken in cell] for cell in cleaned])
    np.testing.assert_allclose(medians / medians[0, 0], np.outer(truth / truth[0], np.ones(3)))


def pairs_of(seconds, apart):
    return [
        (series(s, passes=2), series(s * math.exp(d), passes=2))
        for s, d in zip(seconds, apart, strict=True)
    ]


def test_the_noise_floor_is_that_of_cells_of_about_one_duration():
    random = np.random.default_rng(0)
    short = pairs_of(random.uniform(1e-5, 1e-4, 40), 0.05 * random.standard_normal(40))
    long = pairs_of(random.uniform(1e-2, 1e-1, 40), 0.005 * random.standard_normal(40))
    floors = paired.local_floors([*long, *short], SURE)
    assert len(floors) == 4
    assert paired.margin(floors, 5e-5) > 5 * paired.margin(floors, 5e-2)
    assert paired.margin(floors, 10.0) == floors[-1].margin
    assert floors[0].floor.typical.estimate < floors[0].margin


def test_few_pairs_or_unpaired_ones_have_one_floor_for_all():
    pairs = pairs_of([1e-3] * 39, [0.01] * 39)
    assert len(paired.local_floors(pairs, SURE)) == 1
    alone = [tuple(replace(half, blocks=[""] * 2) for half in pair) for pair in pairs * 3]
    assert len(paired.local_floors(alone, SURE)) == 1
    assert paired.local_floors([], SURE) == ()
    assert paired.margin((), 1e-3) == 0


def test_equal_costs_are_a_fixed_share_apart():
    assert EQUAL == 0.03
