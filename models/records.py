"""What is known of a training, at its end or on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from models.config import TrainingConfig
from models.metrics import Metrics

SCHEMA = 1


@dataclass(frozen=True)
class Loss:
    """Mean training loss over the batches since the previous entry; `batch` counts from 1."""

    epoch: int
    batch: int
    loss: float


@dataclass(frozen=True)
class Epoch:
    """What one epoch took and gave; the metrics are those of the test set."""

    epoch: int
    train_loss: float
    test_loss: float
    train_seconds: float
    test_seconds: float
    accuracy: float
    top5: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class TrainingRecord:
    """All that is known of one training, at its end or on the way.

    Attributes:
        config: what was asked for.
        dataset: facts of the data set, as the results folder has them.
        started: when the training began, ISO 8601 in UTC.
        seconds: time spent in it, over all its sessions.
        status: "measured" once it has ended well.
        reason: why it is not "measured".
        head_multiply_adds: counted work of the head's forward and backward, per image; of a tree
            head, along the path.
        losses: the training loss, every `loss_every` batches and at the end of every epoch.
        epochs: one entry per epoch.
        stopped_early: whether patience ended it.
        final: the metrics after the last epoch of a training that ended well.
        greedy_misses: then, for a head that searches a tree, how many test images a greedy descent
            answers otherwise than the exact search.
    """

    config: TrainingConfig
    dataset: Mapping[str, Any]
    started: str
    seconds: float = 0.0
    status: Literal["measured", "failed"] = "failed"
    reason: str = "not started"
    head_multiply_adds: float = 0.0
    losses: tuple[Loss, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    stopped_early: bool = False
    final: Metrics | None = None
    greedy_misses: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as the results folder has it: JSON's own types only."""
        config = {"model": "TinyVGG", "dtype": "float32", **asdict(self.config)}
        config["optimizer"] = {"sgd": "SGD", "adamw": "AdamW"}[self.config.optimizer]
        config["annealing"] = self.config.annealing and list(self.config.annealing)
        config["relearn"] = list(self.config.relearn)
        return {
            "schema": SCHEMA,
            "head": config.pop("head"),
            "variant": config.pop("variant") or self.config.head,
            "seed": config.pop("seed"),
            "status": self.status,
            "reason": self.reason,
            "started": self.started,
            "seconds": self.seconds,
            "dataset": dict(self.dataset),
            "config": config,
            "head_multiply_adds": self.head_multiply_adds,
            "losses": [asdict(entry) for entry in self.losses],
            "epochs": [asdict(entry) for entry in self.epochs],
            "stopped_early": self.stopped_early,
            "final": None if self.final is None else asdict(self.final),
            "greedy_misses": self.greedy_misses,
        }
