"""Which head to take for a size that was not measured: predicted cost, and a recommendation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from reports import units
from reports.findings.findings import Findings
from reports.findings.joined import Cell
from reports.stats import cost_model
from reports.stats.cost_model import Law, Sample
from reports.stats.estimates import Interval

PHASES = ("train", "predict")

CONSTANTS = ("knots", "reaches", "ranges", "farthest")
"""Of `cost_model`, that the page computes with."""

Fits = Literal["yes", "perhaps", "no"]

FASTEST = 1e-9
"""Seconds; a cell below was not measured, whatever its results folder says."""


@dataclass(frozen=True)
class Question:
    """What a reader is about to build; `memory` is a limit in bytes, None without one."""

    classes: int
    batch: int
    features: int
    phase: str = "train"
    memory: int | None = None


@dataclass(frozen=True)
class Costs:
    """The laws of one head in one phase; `memory` is None where it was not measured."""

    time: Law
    memory: Law | None


@dataclass(frozen=True)
class Adviser:
    """What a run knows about sizes that it did not measure.

    Attributes:
        phases: phase -> head -> its laws.
        left_out: head -> why it has none.
        accuracy: head -> its test accuracy, a share, where the run trained it on real images.
    """

    phases: Mapping[str, Mapping[str, Costs]]
    left_out: Mapping[str, str]
    accuracy: Mapping[str, float]

    def json(self) -> str:
        """Everything that the page needs to answer as `advise` does."""
        scales = {"seconds": units.SECONDS, "bytes": units.BYTES}
        laws = {name: getattr(cost_model, name.upper()) for name in CONSTANTS}
        return json.dumps(laws | {"units": scales} | asdict(self))


@dataclass(frozen=True)
class Row:
    """One head's answer.

    Attributes:
        seconds: of one batch, with its 95 % interval.
        memory: bytes in all (parameters, optimizer state and the phase's peak), likewise.
        extrapolated: which of classes, batch and features lie outside what was measured.
        fits: into the memory limit, for sure or perhaps.
    """

    head: str
    seconds: Interval
    memory: Interval | None
    extrapolated: tuple[str, ...]
    fits: Fits

    @property
    def seconds_shown(self) -> tuple[str, str]:
        """The time as a reader wants it, and its interval in the same unit."""
        return _shown(self.seconds, units.SECONDS)

    @property
    def memory_shown(self) -> tuple[str, str]:
        """The memory likewise."""
        return _shown(self.memory, units.BYTES)


def adviser(findings: Findings) -> Adviser:
    """Fit a law to every head that the run measured alone, at all of its widths."""
    alone = findings.alone
    left_out: dict[str, str] = {}
    phases: dict[str, dict[str, Costs]] = {}
    for phase in PHASES:
        cells: dict[str, list[Cell]] = {}
        for cell in findings.cells:
            if cell.phase == phase and alone is not None and alone.holds_at_any_width(cell):
                cells.setdefault(cell.head, []).append(cell)
        cells = {head: _one_algorithm(findings, head, many) for head, many in cells.items()}
        own = {h: many for h, many in cells.items() if any(c.multiply_adds for c in many)}
        time = cost_model.fit({head: _timed(many) for head, many in own.items()})
        memory = cost_model.fit({head: _sized(many) for head, many in own.items()}, exact=True)
        phases[phase] = {head: Costs(law, memory.get(head)) for head, law in time.items()}
        for head, many in cells.items():
            if head not in own:
                left_out[head] = "a peer" if any(cell.seconds for cell in many) else "not timed"
            elif head not in time:
                left_out[head] = f"fewer than {cost_model.LEAST_CLASSES} class counts"
    known = {head for costs in phases.values() for head in costs}
    accuracy = {} if findings.run.stand_in else _accuracy(findings)
    return Adviser(
        phases={phase: costs for phase, costs in phases.items() if costs},
        left_out={head: why for head, why in left_out.items() if head not in known},
        accuracy={head: share for head, share in accuracy.items() if head in known},
    )


def _one_algorithm(findings: Findings, head: str, cells: list[Cell]) -> list[Cell]:
    """The cells from the size on at which a head changes its algorithm, where enough are left."""
    since = max((growth.since for growth in findings.growths if growth.head == head), default=0)
    after = [cell for cell in cells if cell.classes >= since]
    enough = len({cell.classes for cell in after}) >= cost_model.LEAST_CLASSES
    return after if enough else cells


def _timed(cells: Sequence[Cell]) -> list[Sample]:
    return [
        Sample(
            *(c.classes, c.batch, c.features, c.seconds.estimate),
            error=math.log(c.seconds.high / c.seconds.estimate) / cost_model.NORMAL_97_5,
        )
        for c in cells
        if c.seconds and c.seconds.estimate > FASTEST
    ]


def _sized(cells: Sequence[Cell]) -> list[Sample]:
    return [
        Sample(c.classes, c.batch, c.features, c.memory.total)
        for c in cells
        if c.memory and c.memory.total
    ]


def _accuracy(findings: Findings) -> dict[str, float]:
    if any(training.of_words for training in findings.run.trainings):
        return {}  # shares of words that are guessed right say nothing of other classes
    return {
        row.head: row.trained.accuracy.estimate for row in findings.heads if row.trained is not None
    }


def advise(known: Adviser, asked: Question) -> list[Row]:
    """Every head's predicted cost, the fastest first; without those whose law refuses."""
    rows = []
    size = (asked.classes, asked.batch, asked.features)
    for head, costs in known.phases.get(asked.phase, {}).items():
        if costs.time.refuses(*size):
            continue
        memory = costs.memory.at(*size) if costs.memory else None
        rows.append(
            Row(
                head,
                costs.time.at(*size),
                memory,
                costs.time.extrapolates(*size),
                _fits(memory, asked.memory),
            )
        )
    return sorted(rows, key=lambda row: row.seconds.estimate)


def _fits(memory: Interval | None, limit: int | None) -> Fits:
    if limit is None:
        return "yes"
    if memory is None or memory.low <= limit < memory.high:
        return "perhaps"
    return "yes" if memory.high <= limit else "no"


def recommend(known: Adviser, asked: Question, rows: Sequence[Row]) -> list[str]:
    """What to take and why, a sentence each."""
    candidates = [row for row in rows if row.fits == "yes"]
    candidates = candidates or [row for row in rows if row.fits == "perhaps"]
    refused = _refused(known, asked)
    if not rows and not refused:
        return ["This run measured no head alone in this phase at enough class counts."]
    if not rows:
        return refused
    if not candidates:
        leanest = min(rows, key=_least_memory)
        need = units.num_bytes(leanest.memory.estimate) if leanest.memory else "more"
        limit = units.num_bytes(asked.memory or 0)
        leaner = f"the leanest, {leanest.head}, needs about {need}"
        return [f"No head fits into {limit}: {leaner}.", *refused]
    best, *others = candidates
    rivals = [row.head for row in others if _too_close(best.seconds, row.seconds)]
    taken = f"{best.head}: predicted to be the fastest"
    if asked.memory is not None:
        taken += f" that {'fits' if best.fits == 'yes' else 'may fit'} into "
        taken += units.num_bytes(asked.memory)
    said = [f"{taken}."]
    if rivals:
        said.append(f"Too close to tell apart from it: {', '.join(rivals)}.")
    if best.extrapolated:
        said.append(f"Extrapolated: {' and '.join(best.extrapolated)} outside what was measured.")
    return [*said, _caveat(known, best.head), *refused]


def _refused(known: Adviser, asked: Question) -> list[str]:
    """Which heads are not predicted, a sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for head, costs in known.phases.get(asked.phase, {}).items():
        if why := costs.time.refuses(asked.classes, asked.batch, asked.features):
            reasons.setdefault(why, []).append(head)
    return [f"Not predicted: {', '.join(heads)} ({why})." for why, heads in reasons.items()]


def _least_memory(row: Row) -> float:
    return row.memory.estimate if row.memory else math.inf


def _too_close(best: Interval, other: Interval) -> bool:
    """Whether the ratio of two predictions may be 1, their errors taken as independent."""
    below, above = math.log(best.high / best.estimate), math.log(other.estimate / other.low)
    return math.log(other.estimate / best.estimate) <= math.hypot(below, above)


def _caveat(known: Adviser, head: str) -> str:
    """What is known about the price in accuracy."""
    if head not in known.accuracy:
        return f"This run did not train {head}: what it does to accuracy is left open."
    said = f"Test accuracy of {head} in this run: {units.share(known.accuracy[head])}"
    if head != "softmax" and "softmax" in known.accuracy:
        said += f"; of softmax: {units.share(known.accuracy['softmax'])}"
    return f"{said}."


def _shown(value: Interval | None, scale: units.Units) -> tuple[str, str]:
    """An estimate with its unit, and its interval in brackets in the same unit."""
    if value is None:
        return "—", ""
    step, _unit = units.fitting(value.estimate, scale)
    low, high = (units.digits(end / step) for end in (value.low, value.high))
    return units.scaled(value.estimate, scale), f"[{low}, {high}]"
