"""Do several runs name the same head as the fastest, square by square?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reports.findings.fastest import Fastest
from reports.findings.findings import Findings

CLOSE = 0.05
"""Runs may name different heads where these differ by less than this share in each of them."""

Reading = Literal["same", "close", "apart"]

Seconds = dict[tuple[int, int, str], float]
"""Class count, batch size and head -> seconds."""


@dataclass(frozen=True)
class Square:
    """One class count and batch size in several runs.

    Attributes:
        answers: of each run, among the heads that all of them measured there.
        reading: whether a head is the fastest, or equal to it, in all of them; else whether those
            that are named differ by no more than `CLOSE` in every run.
    """

    classes: int
    batch: int
    answers: tuple[Fastest, ...]
    reading: Reading

    @property
    def decided(self) -> bool:
        """Whether it is in all runs."""
        return all(answer.decided for answer in self.answers)


def why_not(runs: Sequence[Findings]) -> str:
    """A line that says why the maps cannot be compared, or nothing if they can."""
    differing = [
        what
        for what, values in (
            ("settings", {run.alone for run in runs}),
            ("clocks", {run.clock for run in runs}),
        )
        if len(values) > 1
    ]
    if not differing:
        return ""
    return f"maps are not compared: the usual {' and '.join(differing)} of the runs differ"


def squares(runs: Sequence[Findings], phase: str) -> tuple[Square, ...]:
    """The squares in which all runs have measured a head."""
    measured = [_seconds(run, phase) for run in runs]
    groups: dict[tuple[int, int], set[str]] = defaultdict(set)
    for classes, batch, head in set.intersection(*map(set, measured)) if measured else ():
        groups[classes, batch].add(head)
    # Few sets of heads, many squares: each run is asked once for each set.
    maps = {
        heads: [
            {(one.classes, one.batch): one for one in run.fastest_of(phase, heads)} for run in runs
        ]
        for heads in map(frozenset, groups.values())
    }
    return tuple(
        Square(*place, answers=answers, reading=_reading(measured, answers))
        for place, heads in sorted(groups.items())
        if (answers := tuple(one[place] for one in maps[frozenset(heads)]))
    )


def _seconds(run: Findings, phase: str) -> Seconds:
    return {
        (cell.classes, cell.batch, cell.head): cell.seconds.estimate
        for cell in run.alone_at(phase)
        if cell.samples and cell.seconds
    }


def _reading(measured: Sequence[Seconds], answers: Sequence[Fastest]) -> Reading:
    if frozenset.intersection(*(one.heads for one in answers)):
        return "same"
    named = {one.head for one in answers}
    for seconds, answer in zip(measured, answers, strict=True):
        place = answer.classes, answer.batch
        slowest = max(seconds[*place, head] for head in named)
        if slowest > (1 + CLOSE) * seconds[*place, answer.head]:
            return "apart"
    return "close"


def said(found: Sequence[Square], runs: int) -> str:
    """In a line."""
    same, close, apart = (
        [one for one in found if one.reading == reading] for reading in ("same", "close", "apart")
    )
    line = (
        f"in {runs} runs: of {len(found)} squares {len(same)} have the same fastest head "
        f"({sum(one.decided for one in same)} decided in all), {len(close)} heads "
        f"within {CLOSE:.0%} of each other, {len(apart)} differ by more"
    )
    places = "; ".join(f"{one.classes:,} classes, batch {one.batch}" for one in apart)
    return f"{line} ({places})" if places else line
