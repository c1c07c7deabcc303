"""What a confusion matrix holds: which classes are taken for which, and how well each is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.results import Training

MOST_CONFUSED = 5


@dataclass(frozen=True)
class PerClass:
    """Metrics of every class.

    Attributes:
        variants: in the order in which they were trained, a table of the first seed each.
        rows: class -> F1, precision and recall of each variant, one variant after the other.
    """

    variants: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]


def row_shares(table: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; rows without images stay 0."""
    sums = table.sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(table, sums, out=np.zeros(table.shape), where=sums > 0)
    return shares


def most_confused(training: Training) -> list[tuple[str, str, float]]:
    """The pairs (true class, predicted class) that took most of the true class's images."""
    if training.final is None or training.final.confusion is None:
        return []
    shares = row_shares(training.final.confusion)
    np.fill_diagonal(shares, 0)
    names = training.class_names
    top = np.argsort(-shares, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(index), len(names)) for index in top]
    return [(names[i], names[j], float(shares[i, j])) for i, j in pairs if shares[i, j] > 0]


def first_seeds(trainings: Sequence[Training]) -> list[Training]:
    """The first training of each variant, in the order in which the variants occur."""
    first: dict[str, Training] = {}
    for training in trainings:
        first.setdefault(training.variant, training)
    return list(first.values())


def per_class(finished: Sequence[Training]) -> PerClass:
    """Metrics of the variants that know the same classes as the first one.

    Args:
        finished: trainings that have a final test.
    """
    shown = [t for t in first_seeds(finished) if t.final is not None and t.final.per_class]
    names = shown[0].class_names if shown else ()
    same = [t for t in shown if t.class_names == names]
    columns = [
        t.final.per_class[share]
        for t in same
        if t.final and t.final.per_class
        for share in ("f1", "precision", "recall")
    ]
    return PerClass(
        variants=tuple(t.variant for t in same),
        rows=tuple(zip(names, zip(*columns, strict=True), strict=True)),
    )
