"""Where the time of a training step goes: its parts, the head's share, and the input pipelines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from reports.findings import joined
from reports.findings.joined import Cell
from reports.findings.roofs import roofs
from reports.results import PARTS, Run
from reports.stats import estimates
from reports.stats.crossover import Crossover, crossover
from reports.stats.estimates import Interval, Scatter

PUBLISHED_PIPELINE = "published-style"
KIND = ["head", "classes", "batch"]
"""What steps of one kind share; passes are repetitions of it."""


@dataclass(frozen=True, eq=False)
class StepTime:
    """Where the time of TinyVGG's training step goes with one head.

    Attributes:
        samples: part -> seconds, one array of steps per pass.
        limit: seconds that the counted arithmetic takes at the machine's measured peak; None where
            either is unknown.
        scatter: of the run between passes.
    """

    head: str
    classes: int
    batch: int
    samples: Mapping[str, Sequence[np.ndarray]]
    limit: float | None
    scatter: Scatter

    @cached_property
    def parts(self) -> Mapping[str, Interval]:
        """Part -> seconds per step."""
        return {part: _typical(passes, self.scatter) for part, passes in self.samples.items()}

    @cached_property
    def step(self) -> Interval:
        """Seconds of all parts together."""
        return _typical(self._together(*self.samples), self.scatter)

    @cached_property
    def head_share(self) -> Interval:
        """The head's share of the step."""
        steps = self._together(*self.samples)
        pairs = zip(self.samples["head"], steps, strict=True)
        share = _typical([head / step for head, step in pairs], self.scatter)
        return Interval(share.low, share.estimate, min(1.0, share.high))

    @property
    def rest(self) -> list[np.ndarray]:
        """Seconds of all parts but the head, passes of steps."""
        return self._together(*(part for part in self.samples if part != "head"))

    def _together(self, *parts: str) -> list[np.ndarray]:
        passes = zip(*(self.samples[part] for part in parts), strict=True)
        return [np.sum(taken, axis=0) for taken in passes]


@dataclass(frozen=True, eq=False)
class Growing:
    """The head's share of the training step against the class count.

    Attributes:
        steps: of one head at one batch size, by class count; at least two.
        half: from which class count on the head takes half of the step.
    """

    head: str
    batch: int
    steps: tuple[StepTime, ...]
    half: Crossover


@dataclass(frozen=True)
class Pipeline:
    """Training steps on one input pipeline.

    Attributes:
        speedup: how many times as long the published-style pipeline takes; None for itself.
    """

    name: str
    seconds: Interval
    speedup: Interval | None


def step_times(run: Run, scatter: Scatter) -> tuple[StepTime, ...]:
    """Where the time of a step goes: by head, class count and batch size."""
    machine = run.facts.get("machine")
    limits = roofs(machine) if isinstance(machine, dict) else None
    found = []
    splits = joined.alike(run.splits)
    groups: Iterable[tuple[Any, pd.DataFrame]] = splits.groupby(KIND, sort=False)
    for (head, classes, batch), passes in groups:
        flops = float(passes["flops_per_image"].iloc[-1])
        found.append(
            StepTime(
                head=head,
                classes=int(classes),
                batch=int(batch),
                samples={part: [taken[part] for taken in passes["parts"]] for part in PARTS},
                # Two operations to a multiply-add.
                limit=int(batch) * flops / 2 / limits.peak.estimate
                if limits and math.isfinite(flops)
                else None,
                scatter=scatter,
            )
        )
    return tuple(sorted(found, key=lambda one: (run.heads.index(one.head), one.classes, one.batch)))


def growing(steps: Iterable[StepTime], scatter: Scatter) -> tuple[Growing, ...]:
    """The head's share against the class count, for heads taken apart at two class counts or more.

    Args:
        steps: by class count.
        scatter: of the run between passes.
    """
    groups: dict[tuple[str, int], list[StepTime]] = {}
    for step in steps:
        if step.parts["head"].estimate > 0:
            groups.setdefault((step.head, step.batch), []).append(step)
    return tuple(
        Growing(
            head=head,
            batch=batch,
            steps=tuple(sizes),
            # The head takes half from where all the rest takes less than it.
            half=crossover(
                [one.classes for one in sizes],
                [one.samples["head"] for one in sizes],
                [one.rest for one in sizes],
                scatter,
            ),
        )
        for (head, batch), sizes in groups.items()
        if len(sizes) > 1
    )


def pipelines(cells: Iterable[Cell], scatter: Scatter) -> tuple[Pipeline, ...]:
    """Training steps of the same model on each input pipeline, measured side by side."""
    cells = [c for c in cells if c.scope == "pipeline" and c.samples and c.replica == 0]
    base = next((cell for cell in cells if cell.pipeline == PUBLISHED_PIPELINE), None)
    return tuple(
        Pipeline(
            cell.pipeline,
            cell.seconds,
            estimates.ratio(base.samples, cell.samples, scatter)
            if base and base is not cell
            else None,
        )
        for cell in cells
        if cell.seconds and (base is None or _place(cell) == _place(base))
    )


def _place(cell: Cell) -> tuple[object, ...]:
    return cell.phase, cell.classes, cell.batch, cell.features, cell.device, cell.threads


def _typical(passes: Sequence[np.ndarray], scatter: Scatter) -> Interval:
    """As `estimates.median`, for what may also be zero."""
    medians = [float(np.median(taken)) for taken in passes]
    if min(medians) > 0:
        return estimates.median(passes, scatter)
    return Interval(0.0, float(np.mean(medians)), max(medians))
