"""When a call has been timed in enough rounds: three verbs, as nvbench's stopping criteria have.

Source: `nvbench/stopping_criterion.cuh` (initialize, add a measurement, finished?).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import NormalDist


class Enough:
    """Rounds are enough when there are many, when their mean is known well, or when time is up.

    Args:
        most: rounds, whatever the others say.
        least: rounds before the mean is looked at.
        margin: half the width of the mean's interval, relative to it, that is small enough; 0
            looks at the number of rounds only.
        confidence: of that interval, which is a normal one.
        deadline: no round begins after it, unless it is the first.
        now: the clock of the deadline.
    """

    def __init__(
        self,
        most: float,
        *,
        least: float = 2,
        margin: float = 0.0,
        confidence: float = 0.95,
        deadline: float = math.inf,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._most, self._least, self._margin = most, max(least, 2), margin
        self._quantile = NormalDist().inv_cdf(0.5 + confidence / 2)
        self._deadline, self._now = deadline, now
        self.start()

    def start(self) -> None:
        """Forget all samples."""
        self._rounds = 0
        self._mean = self._squares = 0.0

    def add(self, seconds: float) -> None:
        """Take in a round: mean and sum of squared deviations in one pass (Welford, 1962)."""
        self._rounds += 1
        deviation = seconds - self._mean
        self._mean += deviation / self._rounds
        self._squares += deviation * (seconds - self._mean)

    def finished(self) -> bool:
        """Whether there is nothing to be gained by another round."""
        return self._rounds >= self._most or self._now() > self._deadline or self._is_precise()

    def _is_precise(self) -> bool:
        if not self._margin or self._rounds < self._least or self._mean <= 0:
            return False
        variance_of_mean = self._squares / (self._rounds - 1) / self._rounds
        return self._quantile * math.sqrt(variance_of_mean) <= self._margin * self._mean
