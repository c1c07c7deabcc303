"""What the duets say: which head became slower or faster in which phase, and by how much.

The unit of a claim is a phase of a head, pooled over its sizes: a regression seldom hits one size
alone, and what all sizes say together is several times as certain. A pair of processes is worth one
number there, the mean over the sizes of the blocks' midmeans; the interval is one over pairs, as
blocks of one pair share where its processes lie in memory. A few pairs are far off, so the tenth at
either end only counts as far as the next ones (trimmed means; without any to spare, Student's t).
All intervals together hold at 95 % (Bonferroni), so that between identical revisions nothing is
claimed in 95 % of the runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.versus.duet import Cell
from reports.stats.estimates import Change, Interval, judge

Logs = NDArray[np.float64]

CONFIDENCE = 0.95
"""Of all intervals of a run together."""

TRIMMED, TRIMMED_PAIRS = 0.25, 0.1
"""Of the blocks, and of the pairs, at either end: those during which something else happened."""


@dataclass(frozen=True)
class Verdict:
    """One phase of one head.

    Attributes:
        head: its name.
        phase: its name.
        ratio: new over old, over all sizes; the interval is one of all that hold together.
        change: that ratio beside the threshold.
        cells: new over old of each size; these intervals are 95 % each.
    """

    head: str
    phase: str
    ratio: Interval
    change: Change
    cells: Mapping[Cell, Interval]


def midmeans(blocks: Mapping[Cell, Sequence[Sequence[float]]]) -> dict[Cell, Logs]:
    """For each cell and pair of processes the mean of the middle half of its blocks, (pairs,)."""
    return {
        cell: np.array([stats.trim_mean(pair, TRIMMED) for pair in pairs])
        for cell, pairs in blocks.items()
    }


def verdicts(pairs: Mapping[Cell, Logs], threshold: float) -> list[Verdict]:
    """Judge every phase of every head, those first that slowed most.

    Args:
        pairs: cell -> what each pair of processes saw, the logarithm of new over old, (pairs,).
        threshold: relative differences within it do not count.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in pairs:
        groups.setdefault((cell.head, cell.phase), []).append(cell)
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(groups))
    found = []
    for (head, phase), cells in groups.items():
        ratio = interval(np.mean([pairs[cell] for cell in cells], axis=0), confidence)
        alone = {cell: interval(pairs[cell], CONFIDENCE) for cell in cells}
        found.append(Verdict(head, phase, ratio, judge(ratio, threshold), alone))
    return sorted(found, key=lambda one: -one.ratio.estimate)


def interval(logs: Logs, confidence: float) -> Interval:
    """The ratio whose logarithm each pair of processes saw once; one pair alone bounds nothing.

    The mean of the middle pairs, its error from all of them, those at the ends moved to the next
    ones (Tukey and McLaughlin, "Less vulnerable confidence and significance procedures for location
    based on a single sample", Sankhya A 25, 1963). Below ten pairs there are no ends.
    """
    ends = int(TRIMMED_PAIRS * logs.size)
    middle = np.sort(logs)[ends : logs.size - ends]
    centre = float(middle.mean())
    if logs.size < 2:
        return Interval(0.0, math.exp(centre), math.inf)
    moved = np.clip(logs, middle[0], middle[-1])
    error = float(moved.std(ddof=1)) * math.sqrt(logs.size) / middle.size
    reach = error * _quantile(confidence, middle.size - 1)
    return Interval(math.exp(centre - reach), math.exp(centre), math.exp(centre + reach))


@cache
def _quantile(confidence: float, degrees: int) -> float:
    """How many standard errors an interval reaches to either side."""
    return float(stats.t.ppf((1 + confidence) / 2, degrees))
