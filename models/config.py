"""What is trained, and how: the settings that a training's result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from heads.tree_softmax import FROM_EXAMPLES
from models.tinyvgg import On

OptimizerName = Literal["sgd", "adamw", "lazy-adam"]
ScheduleName = Literal["constant", "one-cycle"]
Autocast = Literal["float32", "bfloat16"]
Initialisation = Literal["torch", "kaiming"]

_CHOICES = {
    "optimizer": get_args(OptimizerName),
    "schedule": get_args(ScheduleName),
    "autocast": get_args(Autocast),
    "initialisation": get_args(Initialisation),
    "on": get_args(On),
}


@dataclass(frozen=True)
class TrainingConfig:
    """What is trained, and how: with the data set, all that a result depends on.

    Attributes:
        head: a name of `heads.names()`.
        model: what it sits on: a name of `models.cases.names()`.
        variant: what the study calls this head under this recipe; empty for the head's own name.
        head_options: options of that head; JSON's own types only.
        annealing: temperature of a Gumbel head at the start and at the end of the training; it
            changes geometrically in between. None leaves the head's own.
        relearn: after how many epochs the head's tree is learned, anew each time, from what the
            body makes of training examples; before the first, it is balanced. For heads whose
            option `tree` is "learned" or "clustered".
        initialisation: of the body. "torch" is the library's own; "kaiming" draws the convolutions'
            weights so that ReLUs keep the signal's variance, with biases of zero (He et al., ICCV
            2015).
        channels: width of TinyVGG's convolutions.
        padding: padding of TinyVGG's convolutions.
        on: whether TinyVGG's head sits on the body's features or on 100 logits of them.
        width: of the language model's layers.
        tied: whether the language model's embedding and head share their rows.
        optimizer: "sgd", "adamw", or "lazy-adam", which of a row-sparse gradient updates its rows
            alone, weights and moments, and is Adam otherwise.
        learning_rate: of the optimizer; with a schedule, the highest.
        momentum: of SGD, in [0, 1).
        weight_decay: of the optimizer: for SGD added to the gradient, for AdamW decoupled from it.
        schedule: of the learning rate. "constant"; or "one-cycle", which rises at first and falls
            to nearly nothing over the rest of the steps.
        warm_up: share of the steps over which "one-cycle" rises, in (0, 1).
        flips: whether to mirror half of the training images, drawn anew in every epoch.
        autocast: dtype of matrix products and convolutions; the weights are float32 in any case.
        graphs: whether to replay training steps as captured graphs, on CUDA and where the head
            allows it; elsewhere it changes nothing.
        batch_size: images, or windows of a text, of a training step.
        epochs: passes over the training images, or text, at most.
        rounds: parts that a pass is made in, as even as can be; after each one there is a test, and
            what is said of epochs here (patience, `relearn`, the record's epochs) holds for these.
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
    model: str = "tinyvgg"
    variant: str = ""
    head_options: Mapping[str, Any] = field(default_factory=dict)
    annealing: tuple[float, float] | None = None
    relearn: tuple[int, ...] = ()
    initialisation: Initialisation = "torch"
    channels: int = 10
    padding: int = 0
    on: On = "features"
    width: int = 128
    tied: bool = False
    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: ScheduleName = "constant"
    warm_up: float = 0.3
    flips: bool = False
    autocast: Autocast = "float32"
    graphs: bool = True
    batch_size: int = 32
    epochs: int = 10
    rounds: int = 1
    patience: int | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = field(default_factory=torch.get_num_threads)
    loss_every: int = 500

    def __post_init__(self) -> None:
        for name in (
            *("channels", "width", "batch_size", "epochs", "rounds", "threads", "loss_every"),
        ):
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
        if self.weight_decay and self.optimizer == "lazy-adam":
            raise ValueError("weight_decay would walk all rows; lazy-adam has none")
        if not 0 < self.warm_up < 1:
            raise ValueError(f"warm_up must be between 0 and 1, got {self.warm_up}")
        tree = self.head_options.get("tree")
        if bool(self.relearn) != (tree in FROM_EXAMPLES):
            raise ValueError(
                f"a tree that is learned and the epochs to relearn it after need each other, "
                f"got tree={tree!r} and relearn={self.relearn}"
            )
        if not all(epoch >= 0 for epoch in self.relearn):
            raise ValueError(f"relearn must be numbers of epochs from 0 on, got {self.relearn}")
        taus = (1.0, 1.0) if self.annealing is None else self.annealing
        if len(taus) != 2 or not all(tau > 0 for tau in taus):
            raise ValueError(f"annealing must be two temperatures above 0, got {self.annealing}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, got {self.patience}")
