"""When rivals have been timed in enough turns: their ratios are known well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, median, stdev

Samples = Mapping[int, float]
"""Turn -> seconds."""


def enough(samples: Sequence[Samples], margin: float, confidence: float, least: float) -> bool:
    """Whether the ratio of each rival to the fastest is known to within `margin`, relative to it.

    What the turns of two rivals share cancels in the ratio of rounds of the same turn, so that is
    what is looked at; of a rival without others, its own rounds.

    Args:
        samples: of each rival; every one was there in the first turn.
        margin: half the width of an interval that is small enough; 0 is never reached.
        confidence: of that interval, a normal one for the mean of logarithms.
        least: turns in common before it is looked at.
    """
    if not margin or any(second <= 0 for rival in samples for second in rival.values()):
        return False
    quantile = NormalDist().inv_cdf(0.5 + confidence / 2)
    best = min(samples, key=lambda rival: median(rival.values()))
    logs = [
        [math.log(rival[turn] / best[turn]) for turn in rival.keys() & best.keys()]
        for rival in samples
        if rival is not best
    ] or [[math.log(second) for second in best.values()]]
    return all(
        len(of_one) >= max(least, 2) and quantile * stdev(of_one) <= margin * math.sqrt(len(of_one))
        for of_one in logs
    )
