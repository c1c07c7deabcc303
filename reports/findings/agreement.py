"""Do several runs name the same head as the fastest, square by square?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reports.findings.fastest import Fastest
from reports.findings.findings import Findings

CLOSE = 0.05
"""Runs may name different heads where these differ by less than this share in each of them."""

Reading = Literal["same", "close", "apart"]


@dataclass(frozen=True)
class Square:
    """One class count and batch size in several runs.

    Attributes:
        answers: of each run.
        reading: whether a head is the fastest, or equal to it, in all of them; else whether those
            that are named differ by no more than `CLOSE` in every run.
    """

    classes: int
    batch: int
    answers: tuple[Fastest, ...]
    reading: Reading


def squares(runs: Sequence[Findings], phase: str) -> tuple[Square, ...]:
    """The squares that all runs have in common."""
    maps = [{(one.classes, one.batch): one for one in run.fastest(phase)} for run in runs]
    shared = sorted(set.intersection(*map(set, maps))) if maps else []
    return tuple(
        Square(*place, answers=answers, reading=_reading(runs, phase, answers))
        for place in shared
        if (answers := tuple(one[place] for one in maps))
    )


def _reading(runs: Sequence[Findings], phase: str, answers: Sequence[Fastest]) -> Reading:
    if frozenset.intersection(*(one.heads for one in answers)):
        return "same"
    named = {one.head for one in answers}
    for run, answer in zip(runs, answers, strict=True):
        seconds = {
            cell.head: cell.seconds.estimate
            for cell in run.alone_at(phase, answer.batch, answer.classes)
            if cell.seconds
        }
        if not named <= seconds.keys():
            return "apart"
        if max(seconds[head] for head in named) > (1 + CLOSE) * seconds[answer.head]:
            return "apart"
    return "close"


def said(found: Sequence[Square], runs: int) -> str:
    """In a line."""
    counts = [sum(one.reading == reading for one in found) for reading in ("same", "close")]
    same, close = counts
    line = (
        f"in {runs} runs: of {len(found)} squares {same} have the same fastest head, {close} heads "
        f"within {CLOSE:.0%} of each other, {len(found) - same - close} differ by more"
    )
    apart = [
        f"{one.classes:,} classes, batch {one.batch}" for one in found if one.reading == "apart"
    ]
    return f"{line} ({'; '.join(apart)})" if apart else line
