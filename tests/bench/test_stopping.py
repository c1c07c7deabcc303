"""A stopping rule: as many rounds as it takes, on samples whose interval is known by hand."""

import pytest

from bench.measure.stopping import Enough


def rounds(enough, samples):
    """How many of `samples` are taken."""
    enough.start()
    for taken, sample in enumerate(samples, start=1):
        enough.add(sample)
        if enough.finished():
            return taken
    return None


def test_many_rounds_are_enough():
    assert rounds(Enough(7), [1.0, 2.0] * 10) == 7


# 1 and 3 in turn: mean 2 and standard deviation sqrt(n / (n - 1)) after an even number n, so that
# the 95 % interval is 2 +- 1.96 / sqrt(n - 1).
@pytest.mark.parametrize(("margin", "expected"), [(0.5, 6), (0.25, 18), (0.1, 98)])
def test_a_mean_that_is_known_well_is_enough(margin, expected):
    assert 1.96 / (expected - 1) ** 0.5 <= 2 * margin < 1.96 / (expected - 3) ** 0.5
    assert rounds(Enough(1000, margin=margin), [1.0, 3.0] * 500) == pytest.approx(expected, abs=1)


def test_a_steady_call_still_takes_the_least_rounds():
    assert rounds(Enough(100, least=5, margin=0.01), [1.0] * 100) == 5


def test_no_round_begins_after_the_deadline():
    now = iter(range(100))
    assert rounds(Enough(100, deadline=3, now=lambda: next(now)), [1.0] * 100) == 5


def test_a_start_forgets_what_was():
    enough = Enough(3)
    assert [rounds(enough, [1.0] * 9) for _ in range(2)] == [3, 3]
