"""The optimizer and the learning-rate schedule of a training."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from heads import Head
from models.config import TrainingConfig
from models.tinyvgg import Classifier


def build_optimizer(
    model: Classifier, config: TrainingConfig, *, capturable: bool = False
) -> torch.optim.Optimizer:
    """The optimizer of `config` over all parameters of `model`.

    Args:
        model: what to train.
        config: how.
        capturable: whether a step must fit into a CUDA graph: its learning rate is then a tensor on
            the model's device, where a schedule can change it between replays.

    Raises:
        ValueError: the head's gradients are not what this optimizer can use.
    """
    _check(model.head, config)
    if model.head.learning_rate is not None:  # the head makes the optimizer's step itself
        model.head.learning_rate = config.learning_rate
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if capturable:
        options["lr"] = torch.tensor(config.learning_rate, device=config.device)
    if config.optimizer == "adamw":
        # One kernel for all parameters, in place of a dozen small ones for each.
        return torch.optim.AdamW(model.parameters(), fused=True, capturable=capturable, **options)
    # Fused SGD would refuse the row-sparse gradients that some heads give; only it can be captured.
    return torch.optim.SGD(
        model.parameters(), momentum=config.momentum, fused=capturable or None, **options
    )


def build_schedule(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, steps: int
) -> LRScheduler | None:
    """What changes the learning rate after each of so many `steps`; None for a constant one."""
    if config.schedule == "constant":
        return None
    return OneCycleLR(
        optimizer,
        max_lr=config.learning_rate,
        total_steps=steps,
        pct_start=config.warm_up,
        cycle_momentum=False,
    )


def _check(head: Head, config: TrainingConfig) -> None:
    """Raise unless the optimizer can use the gradients that `head` gives."""
    sgd = config.optimizer == "sgd"
    settings = {
        "adamw": not sgd,
        "weight_decay": sgd and config.weight_decay > 0,
        "momentum": config.momentum > 0,
        "a schedule": config.schedule != "constant",
    }
    wanted = [name for name, wants in settings.items() if wants]
    if not wanted:
        return
    given = gradient_of(head)
    refused = {"dense": set(), "row-sparse": {"adamw", "weight_decay"}, "no": set(wanted)}[given]
    if refused.intersection(wanted):
        raise ValueError(
            f"head {config.head!r} gives {given} gradients at {head.num_classes} classes, "
            f"which does not go with {' and '.join(n for n in wanted if n in refused)}; "
            "use plain sgd, or a head with a dense gradient such as 'hierarchical-dense'"
        )


def gradient_of(head: Head) -> Literal["dense", "row-sparse", "no"]:
    """What gradient of its parameters `head` leaves to an optimizer.

    Only a backward tells; a copy of the head makes one, away from torch's global generators.
    """
    twin = copy.deepcopy(head).train()
    device = next(twin.parameters()).device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        features = torch.zeros(1, head.in_features, device=device, requires_grad=True)
        twin(features, torch.zeros(1, dtype=torch.int64, device=device)).loss.backward()
    gradients = [p.grad for p in twin.parameters() if p.grad is not None]
    if not gradients:
        return "no"
    return "row-sparse" if any(gradient.is_sparse for gradient in gradients) else "dense"
