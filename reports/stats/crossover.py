"""The crossover: from which class count on one head costs less than another, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.stats.estimates import Interval, Passes, Scatter, ratio


@dataclass(frozen=True)
class Crossover:
    """Where one head overtakes another.

    Attributes:
        at: the class count from which on the challenger costs less at every size measured; None
            where it does so at all sizes, or not at the largest. `low` is 0 where the challenger
            may be ahead from the smallest size, `high` is infinite where it may not be at the
            largest.
        reason: one phrase that says the same.
    """

    at: Interval | None
    reason: str


def crossover(
    sizes: ArrayLike,
    incumbent: Sequence[Passes],
    challenger: Sequence[Passes],
    known: Scatter | None = None,
    confidence: float = 0.95,
) -> Crossover:
    """Find the class count from which on the challenger costs less than the incumbent.

    The ratio of their costs is interpolated between sizes, both on logarithmic scales. The interval
    holds the sizes at which the ratio's own interval holds 1 (Fieller's argument: at the true
    crossover the ratio is 1, and its interval says so as often as it claims).

    Args:
        sizes: the class counts at which both were measured, shape (N,), at least one.
        incumbent: for each size the passes of the head in place.
        challenger: for each size the passes of the head that may overtake it.
        known: the run's scatter between passes, as for `ratio`.
        confidence: share of such intervals that cover the truth.

    Raises:
        ValueError: not one cell of each head per size.
    """
    n = np.asarray(sizes, dtype=float)
    if n.ndim != 1 or not n.size or {len(incumbent), len(challenger)} != {n.size}:
        raise ValueError(
            f"one cell of each head per size: got {n.size} sizes, "
            f"{len(incumbent)} and {len(challenger)} cells"
        )
    order = np.argsort(n)
    changes = [ratio(challenger[i], incumbent[i], known, confidence) for i in order]
    low, estimate, high = (
        _last_descent(n[order], np.array([getattr(change, end) for change in changes]))
        for end in ("low", "estimate", "high")
    )
    if estimate == 0:
        doubt = "" if high == 0 else ", though not surely at all of them"
        return Crossover(None, f"none in range: ahead at every size{doubt}")
    if math.isinf(estimate):
        doubt = "" if math.isinf(low) else ", though not surely"
        return Crossover(None, f"none in range: behind at {n.max():g}, the largest size{doubt}")
    rounded = float(f"{estimate:.2g}")
    return Crossover(Interval(low, estimate, high), f"ahead from about {rounded:,.0f} on")


def _last_descent(n: NDArray[np.float64], ratios: NDArray[np.float64]) -> float:
    """Where `ratios` last falls through 1: 0 where never above it, infinite where it ends above."""
    above = np.flatnonzero(ratios > 1)
    if not above.size:
        return 0.0
    last = above[-1]
    if last == n.size - 1:
        return math.inf
    with np.errstate(divide="ignore"):
        before, after = np.clip(np.log(ratios[last : last + 2]), -700, 700)
    share = before / (before - after)
    return float(n[last] * (n[last + 1] / n[last]) ** share)
