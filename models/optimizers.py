"""The optimizer and the learning-rate schedule of a training."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from heads import Head
from models.classifier import Classifier
from models.config import TrainingConfig


class LazyAdam(torch.optim.Adam):
    """Adam that of a row-sparse gradient updates its rows alone: their weights and their moments.

    A row that is not in the gradient stays as it is, where Adam would move it on by its momentum:
    the update of a head that touches O(log n) rows remains O(log n). Both count their steps alike,
    so that where every row has a gradient they do the same.

    Source: as `torch.optim.SparseAdam`, which takes no dense gradients and makes each update by a
    dozen sparse operators.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter that has a gradient, which stays as it is."""
        held = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    held.append((parameter, parameter.grad))
                    self._update_rows(parameter, parameter.grad.coalesce(), group)
                    parameter.grad = None
        loss = super().step(closure)
        for parameter, gradient in held:
            parameter.grad = gradient
        return loss

    def _update_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        rows, values = gradient.indices()[0], gradient.values()
        first, second = group["betas"]
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["taken"] = 0
        state["taken"] += 1
        state["step"] += 1
        mean = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - first)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(second)
        square.addcmul_(values, values, value=1 - second)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        scale = group["lr"] / (1 - first ** state["taken"])
        root = square.div_(1 - second ** state["taken"]).sqrt_().add_(group["eps"])
        parameter.index_add_(0, rows, mean.div_(root).mul_(-scale))


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
    if config.optimizer == "lazy-adam":
        options.pop("weight_decay")
        return LazyAdam(model.parameters(), fused=True, capturable=capturable, **options)
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
        config.optimizer: not sgd,
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
