"""The crossover: from which class count on one head costs less than another, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.stats.estimates import Interval, Passes, Scatter, median, ratio

Array = NDArray[np.float64]

BETWEEN = 31
"""Places in every gap between two sizes at which a ratio is looked at."""

ROUNDING = 1e-12
"""Logarithms of ratios below this are 1."""


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
    changes: Sequence[Interval] | None = None,
) -> Crossover:
    """Find the class count from which on the challenger costs less than the incumbent.

    The ratio of their costs is interpolated between sizes, both on logarithmic scales. The interval
    holds the sizes at which the ratio's own interval holds 1 (Fieller's argument: at the true
    crossover the ratio is 1, and its interval says so as often as it claims), where the ratio may
    lie anywhere between the straight line and what each head's neighbouring sizes point to.

    Args:
        sizes: the class counts at which both were measured, shape (N,), at least one.
        incumbent: for each size the passes of the head in place.
        challenger: for each size the passes of the head that may overtake it.
        known: the run's scatter between passes, as for `ratio`.
        confidence: share of such intervals that cover the truth.
        changes: for each size the challenger's cost over the incumbent's, where more is known of
            it than those samples tell.

    Raises:
        ValueError: not one cell of each head, or not one change, per size.
    """
    n = np.asarray(sizes, dtype=float)
    if changes is None:
        changes = [
            ratio(above, below, known, confidence)
            for above, below in zip(challenger, incumbent, strict=False)
        ]
    if n.ndim != 1 or not n.size or {len(incumbent), len(challenger), len(changes)} != {n.size}:
        raise ValueError(
            f"one cell of each head per size: got {n.size} sizes, "
            f"{len(incumbent)} and {len(challenger)} cells"
        )
    order = [int(place) for place in np.argsort(n)]
    n = n[order]
    logs = {
        end: np.clip([_log(getattr(changes[i], end)) for i in order], -700, 700)
        for end in ("low", "estimate", "high")
    }
    x, fine = np.log(n), _refined(np.log(n))
    above, below = (
        _bends(x, np.array([_log(median(cells[i], known).estimate) for i in order]), fine)
        for cells in (challenger, incumbent)
    )
    bent = {"low": above[0] - below[1], "estimate": 0.0, "high": above[1] - below[0]}
    low, estimate, high = (
        _last_descent(np.exp(fine), np.interp(fine, x, logs[end]) + bent[end]) for end in logs
    )
    if estimate == 0:
        doubt = "" if high == 0 else ", though not surely at all of them"
        return Crossover(None, f"none in range: ahead at every size{doubt}")
    if math.isinf(estimate):
        doubt = "" if math.isinf(low) else ", though not surely"
        return Crossover(None, f"none in range: behind at {n.max():,.0f}, the largest size{doubt}")
    rounded = float(f"{estimate:.2g}")
    return Crossover(Interval(low, estimate, high), f"ahead from about {rounded:,.0f} on")


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _refined(x: Array) -> Array:
    """The sizes, and BETWEEN more in every gap; logarithms."""
    gaps = [np.linspace(a, b, BETWEEN + 1, endpoint=False) for a, b in pairwise(x)]
    return np.concatenate([*gaps, x[-1:]])


def _bends(x: Array, y: Array, fine: Array) -> tuple[Array, Array]:
    """How far below and above the straight lines from size to size a head's cost may lie at `fine`.

    A cost that bends one way lies between the line and the continuations of the lines beside it.
    Before the smallest size it may have been constant, after the largest it may be linear.
    """
    slopes = np.diff(y) / np.diff(x)
    before, after = np.concatenate([[0.0], slopes[:-1]]), np.concatenate([slopes[1:], [1.0]])
    gap = np.clip(np.searchsorted(x, fine, side="right") - 1, 0, x.size - 2)
    line = np.interp(fine, x, y)
    ends = np.array(
        [
            y[gap] + before[gap] * (fine - x[gap]) - line,
            y[gap + 1] - after[gap] * (x[gap + 1] - fine) - line,
        ]
    )
    nearer = np.abs(ends).min(axis=0)
    return np.where((ends < 0).any(axis=0), -nearer, 0.0), np.where(
        (ends > 0).any(axis=0), nearer, 0.0
    )


def _last_descent(n: Array, logs: Array) -> float:
    """Where ratios last fall through 1: 0 where never above it, infinite where they end above."""
    above = np.flatnonzero(logs > ROUNDING)
    if not above.size:
        return 0.0
    last = above[-1]
    if last == n.size - 1:
        return math.inf
    before, after = logs[last : last + 2]
    share = before / (before - after)
    return float(n[last] * (n[last + 1] / n[last]) ** share)
