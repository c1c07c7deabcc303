"""What is trained, and how: the settings that a training's result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from models.tinyvgg import On

OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["constant", "one-cycle"]
Autocast = Literal["float32", "bfloat16"]

_CHOICES = {
    "optimizer": get_args(OptimizerName),
    "schedule": get_args(ScheduleName),
    "autocast": get_args(Autocast),
    "on": get_args(On),
}


@dataclass(frozen=True)
class TrainingConfig:
    """What is trained, and how: with the data set, all that a result depends on.

    Attributes:
        head: a name of `heads.names()`.
        variant: what the study calls this head under this recipe; empty for the head's own name.
        head_options: options of that head; JSON's own types only.
        annealing: temperature of a Gumbel head at the start and at the end of the training, falling
            geometrically; None leaves the head's own.
        channels: width of TinyVGG's convolutions.
        padding: padding of TinyVGG's convolutions.
        on: whether the head sits on the body's features or on 100 logits of them.
        optimizer: "sgd" or "adamw".
        learning_rate: of the optimizer; with a schedule, the highest.
        momentum: of SGD, in [0, 1).
        weight_decay: of the optimizer: for SGD added to the gradient, for AdamW decoupled from it.
        schedule: of the learning rate. "constant"; or "one-cycle", which rises over the first 30 %
            of the steps and falls to nearly nothing over the others.
        flips: whether to mirror half of the training images, drawn anew in every epoch.
        autocast: dtype of matrix products and convolutions; the weights are float32 in any case.
        graphs: whether to replay training steps as captured graphs, on CUDA and where the head
            allows it; elsewhere it changes nothing.
        batch_size: images of a training step.
        epochs: passes over the training images, at most.
        patience: stop after so many epochs in a row without a new lowest training loss; None never
            stops early. The training loss decides, because the test set must not.
        seed: of the weights, of the noise in a head, and of the order of the images and their
            flips, which are the same for every head.
        device: where to train, in torch's words.
        threads: CPU threads of one operator.
        loss_every: batches from one recorded loss to the next.

    Raises:
        ValueError: a value is out of its range; the message says which, and what was expected.
    """

    head: str
    variant: str = ""
    head_options: Mapping[str, Any] = field(default_factory=dict)
    annealing: tuple[float, float] | None = None
    channels: int = 10
    padding: int = 0
    on: On = "features"
    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: ScheduleName = "constant"
    flips: bool = False
    autocast: Autocast = "float32"
    graphs: bool = True
    batch_size: int = 32
    epochs: int = 10
    patience: int | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = field(default_factory=torch.get_num_threads)
    loss_every: int = 500

    def __post_init__(self) -> None:
        for name in ("channels", "batch_size", "epochs", "threads", "loss_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("padding", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum is an option of sgd; {self.optimizer} has its own")
        taus = (1.0, 1.0) if self.annealing is None else self.annealing
        if len(taus) != 2 or not all(tau > 0 for tau in taus):
            raise ValueError(f"annealing must be two temperatures above 0, got {self.annealing}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, got {self.patience}")
