"""One training's record, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.results import fields

SHARES = ("accuracy", "top5", "precision", "recall", "f1")


@dataclass(frozen=True, eq=False)
class Final:
    """Metrics on the test set after the last epoch; shares in [0, 1], macro averages.

    Attributes:
        metrics: accuracy, top5, precision, recall, f1.
        per_class: one row per class: name, precision, recall, f1.
        confusion: (classes, classes); [i, j] counts images of class i predicted as j.
    """

    metrics: Mapping[str, float]
    per_class: pd.DataFrame
    confusion: np.ndarray


@dataclass(frozen=True, eq=False)
class Training:
    """One training of TinyVGG with one head from one seed.

    Attributes:
        variant: what the study calls this head under this recipe; the head's name in old records.
        head_multiply_adds: of the head in a training step, per image, counted; None in old records.
        greedy_misses: test images that a greedy descent answers otherwise than the exact search;
            None where the head has no such search, and in old records.
        losses: columns epoch, batch, loss.
        epochs: columns epoch, train_loss, test_loss, train_seconds, test_seconds and the shares.
        final: None where the training failed; `reason` then says why.
    """

    variant: str
    head: str
    seed: int
    status: str
    reason: str
    seconds: float
    dataset: Mapping[str, Any]
    config: Mapping[str, Any]
    losses: pd.DataFrame
    epochs: pd.DataFrame
    stopped_early: bool
    final: Final | None
    head_multiply_adds: float | None = None
    greedy_misses: int | None = None

    @property
    def superclass_of(self) -> tuple[int, ...] | None:
        """Of each class tested, the number of its superclass; None where there are none."""
        found = self.dataset.get("superclass_of")
        if (
            not isinstance(found, list)
            or self.final is None
            or len(found) != len(self.final.confusion)
            or not all(type(one) is int and 0 <= one < len(found) for one in found)
        ):
            return None
        return tuple(found) or None

    @property
    def stand_in(self) -> bool:
        """Whether the images were generated, so that its accuracy says nothing."""
        return bool(self.dataset.get("stand_in", False))

    @property
    def own_images(self) -> bool:
        """Whether the images are the user's, in class folders: CIFAR-100 brings its own split."""
        return bool(self.dataset.get("split"))


def parse(record: Mapping[str, Any]) -> Training:
    """One training from its record.

    Raises:
        ValueError: a field is not what the format says (the message names it).
    """
    status = fields.text(record, "status", ("measured", "failed"))
    dataset = fields.mapping(record, "dataset")
    losses = [
        {
            "epoch": fields.count(row, "epoch", 1),
            "batch": fields.count(row, "batch"),
            "loss": fields.loss(row, "loss"),
        }
        for row in fields.rows(record, "losses")
    ]
    epochs = [
        {
            "epoch": fields.count(row, "epoch", 1),
            **{field: fields.loss(row, field) for field in ("train_loss", "test_loss")},
            **{field: fields.number(row, field) for field in ("train_seconds", "test_seconds")},
            **{field: fields.number(row, field, 0, 1) for field in SHARES},
        }
        for row in fields.rows(record, "epochs")
    ]
    final = record.get("final")
    head, counted = fields.name(record, "head"), record.get("head_multiply_adds")
    missed = record.get("greedy_misses")
    return Training(
        variant=fields.name(record, "variant") if "variant" in record else head,
        head=head,
        seed=fields.count(record, "seed"),
        status=status,
        reason=fields.text(record, "reason"),
        seconds=fields.number(record, "seconds"),
        dataset=dataset,
        config=fields.mapping(record, "config"),
        losses=pd.DataFrame(losses, columns=["epoch", "batch", "loss"]),
        epochs=pd.DataFrame(
            epochs,
            columns=["epoch", "train_loss", "test_loss", "train_seconds", "test_seconds", *SHARES],
        ),
        stopped_early=record.get("stopped_early") is True,
        final=None if final is None else _final(fields.mapping(record, "final"), dataset),
        head_multiply_adds=None if counted is None else fields.number(record, "head_multiply_adds"),
        greedy_misses=None if missed is None else fields.count(record, "greedy_misses"),
    )


def _final(final: Mapping[str, Any], dataset: Mapping[str, Any]) -> Final:
    confusion = final.get("confusion")
    size = len(confusion) if isinstance(confusion, list) else 0
    if (
        not isinstance(confusion, list)
        or not all(isinstance(row, list) and len(row) == size for row in confusion)
        or not all(
            type(count) is int and 0 <= count <= fields.LARGEST
            for row in confusion
            for count in row
        )
    ):
        raise ValueError("final.confusion: expected a square table of counts")
    per_class = fields.mapping(final, "per_class")
    columns: dict[str, list[float]] = {}
    for field in ("precision", "recall", "f1"):
        values = per_class.get(field)
        if not isinstance(values, list) or len(values) != size:
            raise ValueError(f"final.per_class.{field}: expected one share per class ({size})")
        columns[field] = [fields.number({field: value}, field, 0, 1) for value in values]
    names = dataset.get("classes")
    if not isinstance(names, list) or len(names) != size:
        names = [str(index) for index in range(size)]
    return Final(
        metrics={field: fields.number(final, field, 0, 1) for field in SHARES},
        per_class=pd.DataFrame({"name": [str(name) for name in names], **columns}),
        confusion=np.array(confusion, dtype=np.int64).reshape(size, size),
    )
