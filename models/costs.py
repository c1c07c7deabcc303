"""What a training step costs: where its time goes, part by part, and its counted operations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from heads import Head, Phase
from heads.hierarchical import Hierarchical
from heads.tree_softmax import TreeSoftmax
from models.classifier import Classifier
from models.config import Autocast
from models.dataset import Split
from models.steps import WARM_UP_STEPS, casting
from models.tinyvgg import IMAGE_SIZE


class Updates(Protocol):
    """What of an optimizer a training step needs."""

    def step(self) -> object:
        """Change the parameters."""
        ...

    def zero_grad(self) -> object:
        """Forget the gradients."""
        ...


@dataclass(frozen=True)
class TimeSplit:
    """Seconds of the parts of a training step, one entry per step in each.

    Attributes:
        data: gathering the batch.
        forward: the body's forward.
        head: the head's forward and backward.
        backward: the body's backward.
        optimizer: clearing the gradients, and the update.
    """

    data: tuple[float, ...]
    forward: tuple[float, ...]
    head: tuple[float, ...]
    backward: tuple[float, ...]
    optimizer: tuple[float, ...]


def time_split(
    model: Classifier,
    optimizer: Updates,
    split: Split,
    *,
    batch_size: int,
    steps: int,
    autocast: Autocast = "float32",
    seed: int = 0,
    timer: Callable[[], float] = time.perf_counter,
) -> TimeSplit:
    """Make training steps and time each part of them.

    A step is taken apart where the body meets the head, so that it is the same step. On an
    accelerator the host waits after each part; together they take longer than a step in one piece.

    Args:
        model: what is trained; its parameters change.
        optimizer: what changes them.
        split: images to draw the batches from, on the model's device.
        batch_size: images of a step, at most those of `split`.
        steps: how many to time, at least 1; a few more before them are not timed.
        autocast: dtype of matrix products and convolutions.
        seed: of the order of the images.
        timer: seconds, from any origin.
    """
    device = split.targets.device
    generator = torch.Generator().manual_seed(seed)

    def clock() -> float:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return timer()

    def step() -> tuple[float, ...]:
        index = torch.randperm(len(split), generator=generator)[:batch_size].to(device)
        marks = [clock()]
        images, targets = split.batch(index)
        marks.append(clock())
        with casting(autocast, device):
            embedded = model.embed(images)
            marks.append(clock())
            features = embedded.detach().requires_grad_()
            loss = model.head(features, targets).loss
        loss.backward()
        marks.append(clock())
        embedded.backward(features.grad)
        marks.append(clock())
        optimizer.step()
        optimizer.zero_grad()
        marks.append(clock())
        return tuple(end - start for start, end in pairwise(marks))

    model.train()
    optimizer.zero_grad()
    rows = [step() for _ in range(WARM_UP_STEPS + steps)][WARM_UP_STEPS:]
    return TimeSplit(*zip(*rows, strict=True))


def path_multiply_adds(head: Head, counts: Tensor | None = None) -> float:
    """Multiply-adds of the head's forward and backward for one image, or word.

    Of a tree head only the rows on the way to a class count, its mean over classes (weighted, where
    it is known how often each occurs), whether or not
    scoring all rows at once is faster at this size: what its accuracy is bought with where classes
    are many.
    """
    if isinstance(head, TreeSoftmax):
        scored = head.scored.double().cpu()
        rows = float(scored.mean() if counts is None else (scored @ counts.double()) / counts.sum())
    elif isinstance(head, Hierarchical):
        rows = head.tree.expected_depth(counts)
    else:
        head.expect(counts)
        return float(head.forward_cost(1).multiply_adds + head.backward_cost(1).multiply_adds)
    return 3 * rows * head.in_features


def flops_per_image(model: Classifier, batch_size: int = 32) -> float:
    """Floating-point operations of a training step per image, without the update.

    Those of the body's convolutions and products, counted as they run, and those of the head, from
    its formulas; a multiply-add is two.

    Args:
        model: what is trained; nothing of it changes but its gradients, which are cleared.
        batch_size: images of a step.
    """
    parameter = next(model.parameters())
    images = torch.zeros(batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, device=parameter.device)
    with FlopCounterMode(display=False) as counter:
        model.embed(images).sum().backward()
    model.zero_grad()
    body: int = counter.get_total_flops()
    phases: tuple[Phase, ...] = ("forward", "backward")
    head = sum(model.head.cost(phase, batch_size).multiply_adds for phase in phases)
    return (body + 2 * head) / batch_size
