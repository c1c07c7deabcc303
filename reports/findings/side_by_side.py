"""Several runs side by side: what tells them apart, and how many times as long each cell takes.

Runs are never mixed: each keeps its own statistics, and a ratio always says of what over what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from reports.findings.findings import Findings
from reports.findings.joined import Cell
from reports.stats import estimates
from reports.stats.estimates import Change, Interval

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""A run's mark throughout the page; more runs than letters do not fit beside each other."""


@dataclass(frozen=True, eq=False)
class LetteredRun:
    """A run among others: the letter that stands for it, and the address of its own page."""

    letter: str
    address: str
    findings: Findings


@dataclass(frozen=True)
class Ratio:
    """One cell in two runs.

    Attributes:
        times: seconds in the second run over seconds in the first, with its 95 % interval.
        change: of the second; differences within the larger noise floor of the two are none.
    """

    head: str
    phase: str
    classes: int
    batch: int
    times: Interval
    change: Change


@dataclass(frozen=True)
class Fact:
    """One fact about every run, in the order of the runs; empty where a run does not tell."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether it tells the runs apart."""
        return len(set(self.values)) > 1


def facts(mappings: Sequence[Mapping[str, str]]) -> tuple[Fact, ...]:
    """What each run says of itself, in the order in which the facts first occur."""
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    return tuple(Fact(name, tuple(one.get(name, "") for one in mappings)) for name in names)


def ratios(first: Findings, second: Findings) -> tuple[Ratio, ...]:
    """Every cell of the heads alone that both runs timed at the same width and precision.

    Device and threads may differ: they are what is compared.
    """
    ours, theirs = _timed(first), _timed(second)
    scatter = max(first.scatter, second.scatter, key=lambda one: one.variance)
    margin = max(first.margin, second.margin)
    compared = []
    for place, cell in ours.items():
        if place in theirs:
            times = estimates.ratio(theirs[place].samples, cell.samples, scatter)
            change = estimates.judge(times, margin)
            compared.append(Ratio(cell.head, cell.phase, cell.classes, cell.batch, times, change))
    return tuple(compared)


def common_batch(ratios: Sequence[Ratio], usual: int) -> int | None:
    """`usual` if both runs have it, else the one with most cells in both; None without any."""
    batches = [ratio.batch for ratio in ratios]
    if usual in batches:
        return usual
    return max(dict.fromkeys(batches), key=batches.count, default=None)


def _timed(findings: Findings) -> dict[tuple[object, ...], Cell]:
    workload = attrgetter("features", "dtype", "labels", "state", "optimizer", "mode", "ranks")
    return {
        (c.head, c.phase, c.classes, c.batch, *workload(c)): c
        for c in findings.cells
        if c.samples and findings.alone and findings.alone.holds(c)
    }
