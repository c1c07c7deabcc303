"""Confusion by superclass: which errors stay among classes that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.findings.trained import share_over_seeds
from reports.results import Training
from reports.stats.estimates import Interval


@dataclass(frozen=True)
class Within:
    """How many of a variant's errors stay within the true class's superclass.

    Attributes:
        share: of the errors, over seeds.
        chance: the same share where errors fall on all other classes alike.
    """

    variant: str
    share: Interval
    chance: float


def within(variant: str, seeds: Sequence[Training]) -> Within | None:
    """The errors of a variant's trainings together; None where the data set has no superclasses."""
    groups = seeds[0].superclass_of
    if groups is None or len(set(groups)) < 2:
        return None
    tables = [
        training.final.confusion
        for training in seeds
        if training.final is not None
        and training.final.confusion is not None
        and training.superclass_of == groups
    ]
    return Within(
        variant=variant,
        share=share_over_seeds(
            [share_within(table, groups) for table in tables],
            [int(table.sum() - np.trace(table)) for table in tables],
        ),
        chance=chance_within(np.sum(tables, axis=0), groups),
    )


def share_within(table: np.ndarray, superclass_of: Sequence[int]) -> float:
    """Share of the errors in `table` whose predicted class has the true class's superclass."""
    groups = np.asarray(superclass_of)
    errors = table - np.diag(np.diag(table))
    same = groups[:, None] == groups[None, :]
    return float(errors[same].sum() / max(1, errors.sum()))


def chance_within(table: np.ndarray, superclass_of: Sequence[int]) -> float:
    """The same share where every error falls on any other class alike: 4/99 on CIFAR-100."""
    groups = np.asarray(superclass_of)
    mates = (groups[:, None] == groups[None, :]).sum(axis=1) - 1
    errors = table.sum(axis=1) - np.diag(table)
    return float((errors * mates).sum() / max(1, errors.sum()) / max(1, len(groups) - 1))


def grouping(superclass_of: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """The classes in the order of their superclasses, and where each of these begins but the first.

    Args:
        superclass_of: number of each class's superclass, (C,).
    """
    groups = np.asarray(superclass_of)
    order = np.argsort(groups, kind="stable")
    return order, tuple(int(place) + 1 for place in np.flatnonzero(np.diff(groups[order])))
