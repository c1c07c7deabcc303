"""Training steps: which images each sees, and how it is made, eagerly or as a captured graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.classifier import Classifier
from models.config import Autocast, TrainingConfig
from models.dataset import Split
from models.optimizers import gradient_of

WARM_UP_STEPS = 3
"""Steps made before one is captured: libraries choose and load their kernels in the first ones."""


@dataclass(frozen=True)
class Draw:
    """The lot of one epoch, on the CPU.

    Attributes:
        index: the training images in the order in which they are seen, (N,).
        flipped: which of them, in that order, are mirrored, (N,) bool; None for none.
    """

    index: Tensor
    flipped: Tensor | None

    def to(self, device: torch.device) -> Draw:
        """The same draw on `device`."""
        flipped = None if self.flipped is None else self.flipped.to(device)
        return Draw(self.index.to(device), flipped)

    def part(self, start: int, stop: int) -> Draw:
        """What of it is seen from one place to another."""
        flipped = None if self.flipped is None else self.flipped[start:stop]
        return Draw(self.index[start:stop], flipped)


def draw_epoch(images: int, config: TrainingConfig, order: torch.Generator) -> Draw:
    """The lot of the next epoch over so many images.

    All is drawn at once from a generator on the CPU, so that it depends neither on the device nor
    on what a head draws in between.
    """
    index = torch.randperm(images, generator=order)
    flipped = torch.rand(images, generator=order) < 0.5 if config.flips else None
    return Draw(index, flipped)


def epoch_batches(split: Split, draw: Draw, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and targets of one epoch's steps."""
    draw = draw.to(split.targets.device)
    flips = [None] if draw.flipped is None else draw.flipped.split(batch_size)
    for number, index in enumerate(draw.index.split(batch_size)):
        yield split.batch(index, flips[number % len(flips)])


def training_step(
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    autocast: Autocast = "float32",
) -> Tensor:
    """One step on one batch: the loss before it, (), detached."""
    optimizer.zero_grad()
    with casting(autocast, images.device):
        loss: Tensor = model(images, targets).loss
    loss.backward()
    optimizer.step()
    return loss.detach()


def casting(autocast: Autocast, device: torch.device) -> torch.autocast:
    """A block in which matrix products and convolutions are computed in that dtype."""
    # Each weight is cast once a step; to keep the result for a second use would only cost.
    enabled = autocast != "float32"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


class Steps(Protocol):
    """Who makes the training steps of an epoch."""

    def epoch(self, draw: Draw) -> Iterator[Tensor]:
        """Make the epoch's steps, one each time the next loss, (), is asked for."""


@dataclass(frozen=True)
class Eager:
    """Training steps, one operator at a time."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    split: Split
    config: TrainingConfig

    def epoch(self, draw: Draw) -> Iterator[Tensor]:
        """Make the epoch's steps, one each time the next loss, (), is asked for."""
        for images, targets in epoch_batches(self.split, draw, self.config.batch_size):
            yield training_step(self.model, self.optimizer, images, targets, self.config.autocast)


class Captured:
    """Training steps on CUDA, each one the replay of one captured graph.

    A step of TinyVGG is a hundred small kernels, which a GPU runs faster than the host launches
    them. The graph holds the whole step: it reads its place in the epoch's draw from the device and
    moves it on, gathers the images, and goes through forward, backward and update. The first steps
    of a training and the last, smaller batch of an epoch are made eagerly.

    Needs an optimizer whose learning rate is on the device, and a head that never makes the host
    wait: see `capturable`.
    """

    def __init__(
        self,
        model: Classifier,
        optimizer: torch.optim.Optimizer,
        split: Split,
        config: TrainingConfig,
    ) -> None:
        device = split.targets.device
        self._model, self._optimizer, self._split, self._config = model, optimizer, split, config
        self._draw = Draw(
            torch.zeros(len(split), dtype=torch.int64, device=device),
            torch.zeros(len(split), dtype=torch.bool, device=device) if config.flips else None,
        )
        self._places = torch.arange(config.batch_size, device=device)
        self._start = torch.zeros((), dtype=torch.int64, device=device)
        self._loss = torch.zeros((), device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm_up_left = WARM_UP_STEPS

    def epoch(self, draw: Draw) -> Iterator[Tensor]:
        """Make the epoch's steps; each loss, (), holds until the next one is asked for."""
        length = len(draw.index)
        self._draw.index[:length].copy_(draw.index)
        if self._draw.flipped is not None and draw.flipped is not None:
            self._draw.flipped[:length].copy_(draw.flipped)
        self._start.zero_()
        whole, rest = divmod(length, self._config.batch_size)
        for _ in range(whole):
            if self._graph is not None:
                self._graph.replay()
            elif self._warm_up_left:
                self._warm_up_left -= 1
                self._aside(self._step)
            else:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph):
                    self._step()
                self._graph.replay()
            yield self._loss
        if rest:
            last = self._draw.part(length - rest, length)
            batch = next(epoch_batches(self._split, last, rest))
            yield training_step(self._model, self._optimizer, *batch, self._config.autocast)

    def _step(self) -> None:
        """One step, at the place in the draw that the device holds."""
        places = self._places + self._start
        flipped = None if self._draw.flipped is None else self._draw.flipped[places]
        images, targets = self._split.batch(self._draw.index[places], flipped)
        self._loss.copy_(
            training_step(self._model, self._optimizer, images, targets, self._config.autocast)
        )
        self._start += self._config.batch_size

    def _aside(self, step: Callable[[], None]) -> None:
        """Run `step` on a stream of its own, where capture wants its warm-up."""
        device = self._split.targets.device
        stream, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            step()
        here.wait_stream(stream)


def capturable(model: Classifier) -> bool:
    """Whether a training step of `model` can be captured: on CUDA, with a head that allows it.

    The head must give a dense gradient, and must never make the host wait for the device.
    """
    if next(model.parameters()).device.type != "cuda":
        return False
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        return gradient_of(model.head) == "dense"
    except RuntimeError:  # it did make the host wait
        return False
    finally:
        torch.cuda.set_sync_debug_mode(before)
