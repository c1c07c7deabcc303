"""Which contest is worth another pass: where the fastest head is not known yet, and cheap to know.

In the manner of best-arm identification: what is measured next follows from the samples so far.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from statistics import mean, median, stdev
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.special import stdtrit  # a tenth of what importing scipy.stats takes

from reports.results import Time

ALIKE = math.log(1.03)
"""Two heads within 3 % of each other are equally fast: that is an answer, too, and the report's."""

CONFIDENCE = 0.95
"""That the first head of an undecided contest is the fastest, or as fast as it."""

MOST_PASSES = 50
"""What would take more passes than that is not decided by measuring on."""

Name = TypeVar("Name")


class Duel(NamedTuple):
    """What is known of the two fastest of a contest.

    Attributes:
        best: the fastest, by its head and options.
        gap: logarithm of the ratio of the second to it, not negative.
        error: the standard error of that.
        passes: behind it.
    """

    best: object
    gap: float
    error: float
    passes: int

    @property
    def decided(self) -> bool:
        """Whether one is faster, or both are alike, as far as one can be sure."""
        margin = _quantile(self.passes) * self.error
        return self.gap > margin or self.gap + margin < ALIKE

    @property
    def passes_needed(self) -> float:
        """That it takes in all until it is decided, if the gap is what it seems to be."""
        margin = max(self.gap, ALIKE - self.gap)
        return self.passes * (_quantile(self.passes) * self.error / margin) ** 2


def _quantile(passes: int) -> float:
    """Of Student's t; one pass alone has the width of two, as nothing is known of its scatter."""
    return float(stdtrit(max(1, passes - 1), 0.5 + CONFIDENCE / 2))


def duel(rivals: Mapping[Name, Mapping[int, Time]]) -> Duel | None:
    """The fastest against the one that it is least sure to beat; None where nobody competes.

    Args:
        rivals: of each, pass -> what was measured in it.
    """
    level = {
        name: median(map(_log_median, found.values())) for name, found in rivals.items() if found
    }
    if len(level) < 2:
        return None
    best = min(level, key=lambda name: level[name])
    duels = [_against(best, rivals[best], found) for name, found in rivals.items() if name != best]
    return max((d for d in duels if d), key=lambda d: d.error / max(d.gap, 1e-9), default=None)


def _against(name: object, best: Mapping[int, Time], other: Mapping[int, Time]) -> Duel | None:
    shared = sorted(best.keys() & other.keys())
    gaps = [paired(best[index], other[index]) for index in shared]
    if not gaps:
        return None
    # Of one pass alone, all that is known is how rounds scatter; passes scatter more.
    error = stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else 2 * ALIKE
    return Duel(name, max(0.0, mean(gaps)), error, len(gaps))


def paired(best: Time, other: Time) -> float:
    """Logarithm of the ratio of `other` to `best`, from the turns they share, if they do any."""
    if best.block and best.block == other.block:
        seconds = dict(zip(best.turns, best.seconds, strict=True))
        shared = [
            math.log(second / seconds[turn])
            for turn, second in zip(other.turns, other.seconds, strict=True)
            if turn in seconds
        ]
        return median(shared)
    return _log_median(other) - _log_median(best)


def _log_median(time: Time) -> float:
    return math.log(float(np.median(time.seconds)))


def next_contest(
    duels: Mapping[Name, Duel], cost: Mapping[Name, float], near: Collection[Name]
) -> Name | None:
    """The undecided contest that is decided soonest; None if there is none that can be.

    Args:
        duels: of every contest.
        cost: seconds that a pass over it takes, of those that there is time for.
        near: contests beside which another head is the fastest: what is learned there moves a
            crossover, so that counts double.
    """
    worth = {
        name: max(1.0, one.passes_needed - one.passes) * cost[name] / (2 if name in near else 1)
        for name, one in duels.items()
        if not one.decided and one.passes_needed <= MOST_PASSES and name in cost
    }
    return min(worth, key=lambda name: worth[name], default=None)
