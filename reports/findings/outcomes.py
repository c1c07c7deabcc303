"""What the trainings came to: the accuracy of each, what that took, and which ones are best.

A variant is on the front of a cost where no other is both at least as accurate and cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.findings.findings import Findings
from reports.findings.trained import by_variant, epoch_passes, reached
from reports.stats.estimates import Interval
from reports.stats.pareto import front

COSTS = {
    "training": "training time in all",
    "step": "training step of the model",
}
"""What accuracy can cost, and its name on an axis; test passes are left out of both."""


@dataclass(frozen=True)
class Outcome:
    """One variant's accuracy and costs.

    Attributes:
        accuracy: over seeds, with its 95 % interval.
        each_seed: (seconds of training in all, accuracy) of every seed trained on this machine.
        costs: key of `COSTS` -> seconds, as far as measured. That of the training is its mean over
            seeds, between the shortest and the longest; that of a step a 95 % interval.
        front: the costs on whose front it is.
    """

    variant: str
    head: str
    seeds: int
    epochs: int
    accuracy: Interval
    each_seed: tuple[tuple[float, float], ...]
    costs: Mapping[str, Interval]
    front: tuple[str, ...]


def outcomes(findings: Findings) -> tuple[Outcome, ...]:
    """One entry per variant that finished a training."""
    trainings = by_variant(findings.run.trainings)
    timed = by_variant(findings.run.timed)
    batches = {
        variant: batch
        for variant, seeds in trainings.items()
        if isinstance(batch := seeds[0].config.get("batch_size"), int)
    }
    steps = {
        batch: {cell.head: cell.seconds for cell in findings.in_model_at(batch)}
        for batch in set(batches.values())
    }
    rows = []
    for row in findings.trained:
        each = tuple(
            (float(taken.sum()), reached(seed))
            for seeds in (timed.get(row.variant, []),)
            for seed, taken in zip(seeds, epoch_passes(seeds), strict=True)
            if seed.final is not None
        )
        taken_in_all = [seconds for seconds, _ in each]
        costs = {}
        if row.total_seconds is not None:
            costs["training"] = Interval(min(taken_in_all), row.total_seconds, max(taken_in_all))
        step = steps.get(batches.get(row.variant, 0), {}).get(row.head)
        if step is not None:
            costs["step"] = step
        rows.append((row, each, costs))
    fronts = {
        cost: front([(c[cost].estimate, r.accuracy.estimate) for r, _, c in rows if cost in c])
        for cost in COSTS
    }
    return tuple(
        Outcome(
            variant=row.variant,
            head=row.head,
            seeds=row.seeds,
            epochs=row.epochs,
            accuracy=row.accuracy,
            each_seed=each,
            costs=costs,
            front=tuple(
                cost
                for cost, seconds in costs.items()
                if (seconds.estimate, row.accuracy.estimate) in fronts[cost]
            ),
        )
        for row, each, costs in rows
    )
