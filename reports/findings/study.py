"""The training study: variants side by side, what each defect costs, and what a cheap head costs.

A *variant* is a head under a recipe. Two variants trained from the same seed saw the same images in
the same order and are tested on the same images, so they are compared in pairs, seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reports.findings.findings import Findings
from reports.findings.published import PUBLISHED, Published
from reports.findings.step_time import (
    Growing,
    Pipeline,
    StepTime,
    growing,
    pipelines,
    step_times,
)
from reports.findings.superclasses import Within, within
from reports.findings.trained import Trained, by_variant, reached, seeds_reach
from reports.results import Training
from reports.stats.estimates import Interval
from reports.stats.pareto import front

BASELINE, TUNED = "softmax", "-tuned"


@dataclass(frozen=True)
class Step:
    """One change that leads from a variant to another, and why it should matter."""

    before: str
    after: str
    change: str
    why: str


LADDERS: Mapping[str, tuple[Step, ...]] = {
    "Gumbel-softmax": (
        Step(
            "gumbel-normal",
            "gumbel-normal-log",
            "loss in log space",
            "Without the log, the gradient carries the target's probability as a factor: among "
            "100 classes it starts at a hundredth.",
        ),
        Step(
            "gumbel-normal-log",
            "gumbel",
            "Gumbel noise instead of normal",
            "Only with Gumbel noise is the largest score distributed as the softmax says.",
        ),
        Step(
            "gumbel-normal",
            "gumbel-probabilities",
            "Gumbel noise, still no log",
            "The noise repaired alone: what is then left to gain is what the missing log costs.",
        ),
        Step(
            "gumbel-normal",
            "gumbel-double-softmax",
            "probabilities into the cross-entropy",
            "A second softmax over numbers between 0 and 1 is nearly flat, whatever they are.",
        ),
    ),
    "Hierarchical softmax": (
        Step(
            "hierarchical-padded",
            "hierarchical-on-logits",
            "exactly n leaves",
            "A tree padded to a power of two gives probability to leaves that belong to no class.",
        ),
        Step(
            "hierarchical-on-logits",
            "hierarchical",
            "on the features instead of logits",
            "Logits below the tree are one more linear layer: more to learn, nothing to gain.",
        ),
        Step(
            "hierarchical-padded",
            "hierarchical-padded-on-features",
            "on the features, still padded",
            "The layer removed alone: what is then left to gain is what the leak costs.",
        ),
        Step(
            "hierarchical",
            "hierarchical-superclass",
            "leaves in the order of superclasses",
            "A node near the root has an easier question where alike classes share a branch.",
        ),
        Step(
            "hierarchical-superclass",
            "hierarchical-learned",
            "tree learned from the training images",
            "Classes that look alike to the model share a branch, whatever they are called.",
        ),
    ),
}
"""The steps between the published heads and the same heads done right."""


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, a share.

    Attributes:
        value: the interval is Student's t over seeds. All seeds share the test images, so that it
            speaks of these images; infinite from a single seed.
        seeds: number of pairs.
    """

    value: Interval
    seeds: int


@dataclass(frozen=True)
class StudyRow:
    """A line of the study's table.

    Attributes:
        against: accuracy minus that of softmax under the same recipe; None for softmax itself.
        head_share: share of the training step spent in the head; None where it was not measured.
        published: None where nothing was published.
    """

    trained: Trained
    against: Difference | None
    head_share: Interval | None
    published: Published | None


@dataclass(frozen=True)
class Rung:
    """A step whose two variants were trained: the mean accuracies and their paired difference."""

    step: Step
    before: float
    after: float
    difference: Difference


@dataclass(frozen=True)
class FrontierPoint:
    """What a variant's head costs and what it reaches.

    Attributes:
        multiply_adds: of the head's forward and backward, per image, counted along the path;
            None in old records.
        step_seconds: of the whole model's training step; None where the record does not tell how
            many an epoch has.
        ahead: no other point costs no more multiply-adds and reaches more.
    """

    variant: str
    accuracy: Interval
    multiply_adds: float | None
    step_seconds: Interval | None
    ahead: bool


@dataclass(frozen=True, eq=False)
class Study:
    """What a run says about the study; each part is empty where the run has no data for it."""

    findings: Findings

    @cached_property
    def seeds(self) -> Mapping[str, Sequence[Training]]:
        """Variant -> its finished trainings."""
        return by_variant(self.findings.run.trainings)

    @cached_property
    def rows(self) -> tuple[StudyRow, ...]:
        """The study's table, in the order of the run."""
        return tuple(
            StudyRow(
                trained,
                self._difference(_baseline(trained.variant), trained.variant),
                self._head_share(trained),
                PUBLISHED.get(trained.variant) if self._as_published(trained.variant) else None,
            )
            for trained in self.findings.trained
            # Words are judged by perplexity, in a table of their own.
            if not self.seeds[trained.variant][0].of_words
        )

    @cached_property
    def ladders(self) -> Mapping[str, tuple[Rung, ...]]:
        """The steps of each ladder whose ends were both trained from a common seed."""
        found = {name: tuple(self._rungs(steps)) for name, steps in LADDERS.items()}
        return {name: rungs for name, rungs in found.items() if rungs}

    @cached_property
    def frontier(self) -> tuple[FrontierPoint, ...]:
        """The tuned variants, the cheapest head first."""
        tuned = [t for t in self.findings.trained if t.variant.endswith(TUNED)]
        counted = {t.variant: self.seeds[t.variant][0].head_multiply_adds for t in tuned}

        best = front(
            [(work, t.accuracy.estimate) for t in tuned if (work := counted[t.variant]) is not None]
        )
        points = [
            FrontierPoint(
                one.variant,
                one.accuracy,
                counted[one.variant],
                _per_step(one.epoch_seconds, self.seeds[one.variant][0]),
                (counted[one.variant], one.accuracy.estimate) in best,
            )
            for one in tuned
        ]
        return tuple(sorted(points, key=lambda p: (p.multiply_adds or math.inf, p.variant)))

    @cached_property
    def within(self) -> tuple[Within, ...]:
        """The errors within superclasses, of variants whose data set has them."""
        found = (within(variant, seeds) for variant, seeds in self.seeds.items())
        return tuple(one for one in found if one)

    @cached_property
    def step_times(self) -> tuple[StepTime, ...]:
        """Where the time of a step goes, by head, class count and batch size."""
        return step_times(self.findings.run, self.findings.scatter)

    @cached_property
    def growing(self) -> tuple[Growing, ...]:
        """The head's share of a step against the class count."""
        return growing(self.step_times, self.findings.scatter)

    @cached_property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """Training steps of the same model on each input pipeline."""
        return pipelines(self.findings.cells, self.findings.scatter)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.rows or self.step_times or self.pipelines)

    def _as_published(self, variant: str) -> bool:
        """Whether its accuracy may stand beside a published one."""
        return not any(one.stand_in or one.own_images for one in self.seeds[variant])

    def _difference(self, before: str, after: str) -> Difference | None:
        if before == after or before not in self.seeds or after not in self.seeds:
            return None
        return difference(self.seeds[before], self.seeds[after])

    def _rungs(self, steps: Iterable[Step]) -> Iterable[Rung]:
        reached = {one.variant: one.accuracy.estimate for one in self.findings.trained}
        for step in steps:
            found = self._difference(step.before, step.after)
            if found is not None:
                yield Rung(step, reached[step.before], reached[step.after], found)

    def _head_share(self, trained: Trained) -> Interval | None:
        """Of the variant's own steps, else of its head's, at the batch and classes it met.

        A tuned variant has another body, so that its head's steps do not speak for it.
        """
        training = self.seeds[trained.variant][0]
        named = {
            step.head: step.head_share
            for step in self.step_times
            if step.batch == training.config.get("batch_size")
            and training.final is not None
            and training.final.confusion is not None
            and step.classes == len(training.final.confusion)
        }
        tuned = trained.variant.endswith(TUNED)
        return named.get(trained.variant) or (None if tuned else named.get(trained.head))


def difference(before: Sequence[Training], after: Sequence[Training]) -> Difference | None:
    """Accuracy of `after` minus that of `before`, paired by seed; None without a common seed."""
    first, second = ({_pair(t): _accuracy(t) for t in seeds} for seeds in (before, after))
    changes = [second[pair] - first[pair] for pair in sorted(first.keys() & second.keys())]
    if not changes:
        return None
    centre = float(np.mean(changes))
    reach = seeds_reach(changes) if len(changes) > 1 else math.inf
    return Difference(Interval(centre - reach, centre, centre + reach), len(changes))


def _pair(training: Training) -> tuple[int, str, str, int]:
    """What two trainings must have in common to be compared."""
    images = training.dataset.get("train_images")
    return training.seed, str(training.dataset.get("name")), str(images), len(training.epochs)


def _accuracy(training: Training) -> float:
    return reached(training)


def _baseline(variant: str) -> str:
    return BASELINE + TUNED if variant.endswith(TUNED) else BASELINE


def _per_step(epoch: Interval | None, training: Training) -> Interval | None:
    images, batch = training.dataset.get("train_images"), training.config.get("batch_size")
    if epoch is None or not (isinstance(images, int) and isinstance(batch, int)):
        return None
    if not (images > 0 and batch > 0):
        return None
    steps = math.ceil(images / batch)
    return Interval(epoch.low / steps, epoch.estimate / steps, epoch.high / steps)
