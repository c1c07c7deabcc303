"""Enough is seen when every ratio to the fastest is known well, on ratios of known spread."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure.stopping import enough


def alternating(turns, level, step=0.0, noise=lambda turn: 1.0):
    """`level` times e to the +-`step` in turns, all of it under what disturbs a turn."""
    return {turn: level * math.exp(step * (-1) ** turn) * noise(turn) for turn in turns}


# +-s in turns: standard deviation s sqrt(n / (n - 1)) after an even number n, so that the 95 %
# interval of the mean is +- 1.96 s / sqrt(n - 1).
@pytest.mark.parametrize(("margin", "needed"), [(0.5, 6), (0.25, 18), (0.1, 98)])
def test_a_ratio_is_known_when_its_interval_is_narrow(margin, needed):
    assert 1.96 * 0.5 / (needed - 1) ** 0.5 <= margin < 1.96 * 0.5 / (needed - 3) ** 0.5
    for turns, expected in ((needed - 2, False), (needed, True)):
        rivals = [alternating(range(turns), 1.0), alternating(range(turns), 9.0, 0.5)]
        assert enough(rivals, margin, 0.95, 2) is expected


@given(st.lists(st.floats(0.5, 50.0), min_size=10, max_size=30))
def test_what_a_turn_does_to_all_cancels(noise):
    turns = range(len(noise))
    rivals = [alternating(turns, level, noise=noise.__getitem__) for level in (1.0, 2.0)]
    assert enough(rivals, 0.001, 0.95, 5)


def test_the_undecided_rival_holds_the_others():
    turns = range(20)
    steady, shaky = alternating(turns, 1.0), alternating(turns, 1.1, 0.3)
    assert enough([steady, alternating(turns, 5.0)], 0.01, 0.95, 5)
    assert not enough([steady, alternating(turns, 5.0), shaky], 0.01, 0.95, 5)


def test_only_turns_in_common_count():
    rivals = [alternating(range(40), 1.0), alternating(range(0, 40, 16), 50.0)]
    assert not enough(rivals, 0.01, 0.95, 5)
    assert enough(rivals, 0.01, 0.95, 3)


def test_one_without_rivals_is_looked_at_itself():
    assert enough([alternating(range(20), 1.0)], 0.01, 0.95, 5)
    assert not enough([alternating(range(20), 1.0, 0.3)], 0.01, 0.95, 5)


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_without_a_margin_or_with_no_time_nothing_is_enough(margin):
    seconds = 0.0 if margin else 1.0
    assert not enough([dict.fromkeys(range(9), seconds)] * 2, margin, 0.95, 2)
