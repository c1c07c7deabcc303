"""Whether the phases add up to the training step that they are parts of."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reports import units
from reports.findings.findings import Findings
from reports.findings.joined import Cell
from reports.stats import estimates
from reports.stats.estimates import Interval

PARTS = ("forward", "backward", "step")

MARGIN = 0.10
"""Parts that add up within this share of the whole are taken for it. Laps of the step do; on a
GPU's device clock each phase is captured by itself, and in runs of older versions each was timed in
a loop of its own, and found in the caches what the whole step does not."""

Reading = Literal["adds up", "does not add up", "undecided"]


@dataclass(frozen=True)
class Sum:
    """Forward, backward and step together over the training step, at one size.

    Attributes:
        share: 1 where they add up; below where the step takes longer than its parts.
    """

    head: str
    classes: int
    batch: int
    share: Interval

    @property
    def reading(self) -> Reading:
        """Whether the interval lies within `MARGIN` of 1, outside, or across it."""
        low, high = 1 - MARGIN, 1 + MARGIN
        if low <= self.share.low and self.share.high <= high:
            return "adds up"
        if self.share.high < low or self.share.low > high:
            return "does not add up"
        return "undecided"


def sums(findings: Findings) -> tuple[Sum, ...]:
    """Of every head and size at which all four phases were timed alone."""
    places: dict[tuple[str, int, int], dict[str, Cell]] = defaultdict(dict)
    for phase in (*PARTS, "train"):
        for cell in findings.alone_at(phase):
            if cell.samples:
                places[cell.head, cell.classes, cell.batch][phase] = cell
    return tuple(
        Sum(*place, share=_share([phases[p] for p in PARTS], phases["train"], findings))
        for place, phases in sorted(places.items(), key=lambda one: (one[0][0], one[0][2], one[0]))
        if len(phases) == len(PARTS) + 1
    )


def _share(parts: Sequence[Cell], whole: Cell, findings: Findings) -> Interval:
    """The ratio of the sum to the whole, by pass; of laps of it, its range over turns."""
    turns = whole.blocks, whole.turns
    if any(whole.blocks) and all((part.blocks, part.turns) == turns for part in parts):
        laps = sum(np.concatenate(part.samples) for part in parts)
        shares = laps / np.concatenate(whole.samples)
        return Interval(float(shares.min()), float(np.median(shares)), float(shares.max()))
    together = [
        np.array([sum(float(np.median(taken)) for taken in passes)])
        for passes in zip(*(part.samples for part in parts), strict=False)
    ]
    return estimates.ratio(together, whole.samples, findings.scatter)


def said(found: Sequence[Sum]) -> str:
    """What a reader has to know of the phases; empty where they add up or were not all timed."""
    apart = [one for one in found if one.reading == "does not add up"]
    if not apart:
        return ""
    worst = max(apart, key=lambda one: abs(np.log(one.share.estimate)))
    return (
        "forward, backward and step add up to "
        f"{units.times_interval(worst.share)} times the training step of {worst.head} at "
        f"{worst.classes:,} classes, batch {worst.batch}, and are off by more than {MARGIN:.0%} "
        f"in {len(apart)} of {len(found)} cells: believe the training "
        "step there, and the phases for how they grow."
    )


def summary(found: Sequence[Sum]) -> str:
    """How far the sum is from the whole, in a line; empty where not all phases were timed."""
    if not found:
        return ""
    if all(math.isclose(end, 1) for one in found for end in (one.share.low, one.share.high)):
        return "forward, backward and step are laps of train: they add up to it by construction"
    shares = np.array([one.share.estimate for one in found])
    within = sum(one.reading == "adds up" for one in found)
    return (
        f"forward + backward + step over train: {units.digits(float(np.median(shares)))} in the "
        f"median, {units.digits(float(shares.min()))} to {units.digits(float(shares.max()))}; "
        f"within {MARGIN:.0%} in {within} of {len(found)} cells"
    )
