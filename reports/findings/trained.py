"""What the trainings say about each variant: accuracy, F1, seconds per epoch, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from reports.results import Training
from reports.results.fields import SHORTEST
from reports.stats import estimates
from reports.stats.estimates import Interval


@dataclass(frozen=True)
class Trained:
    """One variant over all its seeds.

    Attributes:
        variant: what the study calls it: the head's name, or more where the recipe differs.
        head: what it is trained with.
        accuracy: mean over seeds. The interval holds what another draw of test images would change
            and, from two seeds on, what another seed would; from one seed it is too narrow by the
            latter.
        top5: share of images whose class is among the five most probable, likewise.
        f1: macro F1, likewise.
        epoch_seconds: training time of an epoch, without its test pass; None where the clock was
            too coarse to see it, or no seed was trained on the machine whose figures are read.
        total_seconds: training time of the whole, without test passes; mean over seeds; None
            likewise.
    """

    variant: str
    head: str
    seeds: int
    epochs: int
    accuracy: Interval
    top5: Interval
    f1: Interval
    epoch_seconds: Interval | None
    total_seconds: float | None


def trained(trainings: Sequence[Training], machine: str = "") -> tuple[Trained, ...]:
    """One entry per variant that finished a training, in the order of `trainings`.

    Args:
        trainings: of whatever machines.
        machine: whose seconds are read.
    """
    return tuple(_trained(seeds, machine) for seeds in by_variant(trainings).values())


def by_variant(trainings: Iterable[Training]) -> dict[str, list[Training]]:
    """Variant -> its finished trainings, a seed each."""
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        if training.final is not None and len(training.epochs):
            groups.setdefault(training.variant, []).append(training)
    return groups


def epoch_passes(trainings: Sequence[Training]) -> list[np.ndarray]:
    """Training seconds of every epoch, one array per seed: each seed is a pass."""
    return [np.array([one.train_seconds for one in t.epochs]) for t in trainings if len(t.epochs)]


def _trained(seeds: Sequence[Training], machine: str) -> Trained:
    finals = [t.final for t in seeds if t.final is not None]
    tables = [final.confusion for final in finals if final.confusion is not None]
    tested = [final.tested for final in finals]
    passes = epoch_passes([seed for seed in seeds if seed.machine == machine])
    seen = passes and min(map(np.median, passes)) > SHORTEST
    return Trained(
        variant=seeds[0].variant,
        head=seeds[0].head,
        seeds=len(seeds),
        epochs=max(len(t.epochs) for t in seeds),
        accuracy=share_over_seeds([reached(t) for t in seeds], tested),
        top5=share_over_seeds([f.top5 for f in finals], tested),
        # Without its table nothing is known of how the test words' scatter moves it.
        f1=f1_over_seeds(tables) if tables else _with_scatter([f.f1 for f in finals], [0.0]),
        epoch_seconds=estimates.median(passes) if seen else None,
        total_seconds=float(np.mean([taken.sum() for taken in passes])) if passes else None,
    )


def reached(training: Training) -> float:
    """The accuracy of a finished training: from its table of confusions, where it has one."""
    if training.final is None:
        return math.nan
    table = training.final.confusion
    return training.final.accuracy if table is None else accuracy(table)


def accuracy(confusion: np.ndarray) -> float:
    """Share of images on the diagonal."""
    return float(np.trace(confusion) / max(1, confusion.sum()))


def macro_f1(confusion: np.ndarray) -> float:
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that have test images; 0 without any."""
    hits, images = np.diag(confusion), confusion.sum(axis=1)
    tested = images > 0
    seen = (confusion.sum(axis=0) + images)[tested]
    return float(np.sum(2 * hits[tested] / seen) / max(1, tested.sum()))


def accuracy_over_seeds(tables: Sequence[np.ndarray]) -> Interval:
    """Mean accuracy over the confusion matrices of seeds, see `share_over_seeds`."""
    return share_over_seeds(
        [accuracy(table) for table in tables], [int(table.sum()) for table in tables]
    )


def f1_over_seeds(tables: Sequence[np.ndarray]) -> Interval:
    """Mean macro F1 over the confusion matrices of seeds.

    Test images: as the multinomial's counts vary, to first order. Seeds: Student's t.
    """
    return _with_scatter(
        [macro_f1(table) for table in tables], [_f1_deviation(table) for table in tables]
    )


def share_over_seeds(shares: Sequence[float], images: Sequence[int]) -> Interval:
    """Mean of a share of `images` over seeds, with the scatter of test images and of seeds.

    Test images: the binomial's. Seeds: Student's t.
    """
    deviations = [
        math.sqrt(share * (1 - share) / max(1, count))
        for share, count in zip(shares, images, strict=True)
    ]
    return _with_scatter(shares, deviations)


def _with_scatter(values: Sequence[float], deviations: Sequence[float]) -> Interval:
    centre, reach = float(np.mean(values)), 1.96 * float(np.mean(deviations))
    if len(values) > 1:
        # All seeds share the test images, so their scatter comes on top of that of the images.
        reach = math.hypot(reach, seeds_reach(values))
    return Interval(max(0.0, centre - reach), centre, min(1.0, centre + reach))


def seeds_reach(values: Sequence[float]) -> float:
    """Half the width of Student's 95 % interval of the mean of `values`, at least two of them."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(stats.t.ppf(0.975, len(values) - 1)) * error


def _f1_deviation(confusion: np.ndarray) -> float:
    """Standard deviation of macro F1 over draws of the test images, by the delta method."""
    hits, images = np.diag(confusion), confusion.sum(axis=1)
    seen, tested = confusion.sum(axis=0) + images, images > 0
    # One more image in a class's row or column changes its F1 = 2 hits / seen by this much.
    more = np.divide(-2 * hits, seen**2.0, out=np.zeros(len(hits)), where=tested)
    gain = np.divide(2.0, seen, out=np.zeros(len(hits)), where=tested)
    change = (more[:, None] + more[None, :] + np.diag(gain)) / max(1, tested.sum())
    return math.sqrt(float((confusion * change**2).sum()))
