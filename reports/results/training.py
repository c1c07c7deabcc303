"""What is known of one training, at its end or on the way: `training/<variant>-seed<k>.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np

from reports.results import fields, schema
from reports.results.fields import (
    LARGEST,
    Record,
    checked,
    choice,
    count,
    flag,
    loss,
    many,
    mapping,
    name,
    number,
    one,
    optional,
    text,
)

Status = Literal["measured", "failed"]
MOST_IMAGES = 2**40
"""In a confusion matrix; more overflow where they are weighed."""

PER_CLASS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Loss(Record):
    """Mean training loss over the batches since the previous entry; `batch` counts from 1."""

    epoch: int = field(metadata=checked(count, 1))
    batch: int = field(metadata=checked(count))
    loss: float = field(metadata=checked(loss))


@dataclass(frozen=True)
class Epoch(Record):
    """What one epoch took and gave; the metrics are those of the test set."""

    epoch: int = field(metadata=checked(count, 1))
    train_loss: float = field(metadata=checked(loss))
    test_loss: float = field(metadata=checked(loss))
    train_seconds: float = field(metadata=checked(fields.seconds))
    test_seconds: float = field(metadata=checked(fields.seconds))
    accuracy: float = field(metadata=checked(number, 0, 1))
    top5: float = field(metadata=checked(number, 0, 1))
    precision: float = field(metadata=checked(number, 0, 1))
    recall: float = field(metadata=checked(number, 0, 1))
    f1: float = field(metadata=checked(number, 0, 1))


def _table(record: Mapping[str, Any], name: str) -> np.ndarray:
    """A square table of counts."""
    rows = record.get(name)
    size = len(rows) if isinstance(rows, list) else 0
    if (
        not isinstance(rows, list)
        or not rows
        or not all(isinstance(row, list) and len(row) == size for row in rows)
        or not all(type(one) is int and 0 <= one <= LARGEST for row in rows for one in row)
    ):
        raise ValueError(f"{name}: expected a square table of counts, of one class or more")
    if sum(map(sum, rows)) > MOST_IMAGES:
        raise ValueError(f"{name}: expected no more than {MOST_IMAGES:,} images")
    return np.array(rows, dtype=np.int64).reshape(size, size)


def _per_class(record: Mapping[str, Any], name: str) -> Mapping[str, Sequence[float]]:
    """Each of `PER_CLASS` -> one share per class."""
    given = mapping(record, name)
    columns: dict[str, Sequence[float]] = {}
    for share in PER_CLASS:
        values = given.get(share)
        if not isinstance(values, list):
            raise ValueError(f"{name}.{share}: expected one share per class")
        columns[share] = [number({share: value}, share, 0, 1) for value in values]
    return columns


@dataclass(frozen=True, eq=False)
class Metrics(Record):
    """Figures of one test pass; shares are in [0, 1].

    Macro averages are over the classes that have test images. One of them that is never predicted
    has precision 0, and that counts: a head that ignores a class must not look better for it.

    Attributes:
        accuracy: share of images whose most probable class is right.
        top5: share of images whose class is among the five most probable.
        precision: mean over classes of the share of its predictions that are right.
        recall: mean over classes of the share of its images that are found.
        f1: mean over classes of the harmonic mean of the two.
        per_class: `precision`, `recall` and `f1` of each class.
        confusion: (classes, classes); [i, j] counts the images of class i predicted as j. Neither
            is kept where macro averages are over some classes alone, as there are too many.
        predictions: that were tested. None in old records.
        loss: mean over them; None where it is that of the last epoch.
        normaliser_bias: by how many nats training takes them to be too probable, on average, as it
            estimates the normaliser; None for a head that does not.

    Raises:
        ValueError: `per_class` and `confusion` are of different numbers of classes.
    """

    accuracy: float = field(metadata=checked(number, 0, 1))
    top5: float = field(metadata=checked(number, 0, 1))
    precision: float = field(metadata=checked(number, 0, 1))
    recall: float = field(metadata=checked(number, 0, 1))
    f1: float = field(metadata=checked(number, 0, 1))
    per_class: Mapping[str, Sequence[float]] | None = field(metadata=checked(optional, _per_class))
    confusion: np.ndarray | None = field(metadata=checked(optional, _table))
    predictions: int | None = field(default=None, metadata=checked(optional, count, later=True))
    loss: float | None = field(default=None, metadata=checked(optional, loss, later=True))
    normaliser_bias: float | None = field(
        default=None, metadata=checked(optional, number, -LARGEST, later=True)
    )

    @property
    def tested(self) -> int:
        """How many predictions were made; 0 where that is not known."""
        if self.confusion is not None:
            return int(self.confusion.sum())
        return self.predictions or 0

    def __post_init__(self) -> None:
        if self.per_class is None or self.confusion is None:
            return
        for share, values in self.per_class.items():
            if len(values) != len(self.confusion):
                raise ValueError(
                    f"per_class.{share}: expected one share per class ({len(self.confusion)})"
                )


@dataclass(frozen=True, eq=False)
class Training(Record):
    """One training of a model with one head from one seed.

    Attributes:
        head: what it is trained with.
        variant: what the study calls this head under this recipe; mostly the head's name.
        seed: of weights, noise and order.
        status: "measured" once it has ended well.
        reason: why it is not "measured".
        started: when the training began, ISO 8601 in UTC.
        seconds: time spent in it, over all its sessions.
        dataset: facts of the data set.
        config: what was asked for.
        head_multiply_adds: counted work of the head's forward and backward, per image; of a tree
            head, along the path. None in old records.
        losses: the training loss, every `loss_every` batches and at the end of every epoch.
        epochs: one entry per epoch.
        stopped_early: whether patience ended it.
        final: the metrics after the last epoch; None where it has not ended well.
        greedy_misses: then, for a head that searches a tree, how many test images a greedy descent
            answers otherwise than the exact search; else, and in old records, None.
        machine: of a run on a cluster, which of its machines trained it; else empty.
    """

    head: str = field(metadata=checked(name))
    variant: str = field(metadata=checked(name))
    seed: int = field(metadata=checked(count))
    status: Status = field(metadata=checked(choice, get_args(Status)))
    reason: str = field(metadata=checked(text))
    started: str = field(metadata=checked(text))
    seconds: float = field(metadata=checked(fields.seconds))
    dataset: Mapping[str, Any] = field(metadata=checked(mapping))
    config: Mapping[str, Any] = field(metadata=checked(mapping))
    head_multiply_adds: float | None = field(
        default=None, metadata=checked(optional, number, later=True)
    )
    losses: tuple[Loss, ...] = field(default=(), metadata=checked(many, Loss))
    epochs: tuple[Epoch, ...] = field(default=(), metadata=checked(many, Epoch))
    stopped_early: bool = field(default=False, metadata=checked(flag))
    final: Metrics | None = field(default=None, metadata=checked(optional, one, Metrics))
    greedy_misses: int | None = field(default=None, metadata=checked(optional, count, later=True))
    machine: str = field(default="", metadata=checked(fields.machine_name, 0, later=True))

    def dump(self) -> dict[str, Any]:
        """The record as JSON has it."""
        return {"schema": schema.TRAININGS[-1], **super().dump()}

    @classmethod
    def load(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `dump`.

        Raises:
            ValueError: a field is not what the format says; the message names it.
        """
        schema.require(record, schema.TRAININGS)
        return super().load(schema.training(record))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of each class tested; its number where the data set does not name as many."""
        size = self._confused
        names = self.dataset.get("classes")
        if not isinstance(names, list) or len(names) != size:
            names = range(size)
        return tuple(map(str, names))

    @property
    def superclass_of(self) -> tuple[int, ...] | None:
        """Of each class tested, the number of its superclass; None where there are none."""
        found = self.dataset.get("superclass_of")
        if (
            not isinstance(found, list)
            or not self._confused
            or len(found) != self._confused
            or not all(type(one) is int and 0 <= one < len(found) for one in found)
        ):
            return None
        return tuple(found) or None

    @property
    def _confused(self) -> int:
        """Classes of the confusion matrix; 0 without one."""
        table = self.final.confusion if self.final else None
        return 0 if table is None else len(table)

    @property
    def of_words(self) -> bool:
        """Whether it predicts words, and perplexity is what counts."""
        return self.dataset.get("predicts") == "words"

    @property
    def stand_in(self) -> bool:
        """Whether the images were generated, so that its accuracy says nothing."""
        return bool(self.dataset.get("stand_in", False))

    @property
    def own_images(self) -> bool:
        """Whether the images are the user's, in class folders: CIFAR-100 brings its own split."""
        return bool(self.dataset.get("split"))
