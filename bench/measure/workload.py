"""Builds the subject of a cell and hands out its phases as calls without arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, cached_property, lru_cache, partial
from itertools import chain, cycle
from typing import Any

import torch
from torch import Tensor, nn

import heads
from bench import peers
from bench.measure import l2, labels, planting, timing
from bench.measure.stopwatch import Stopwatch
from heads import Cost, Head, Phase
from models import tinyvgg
from reports.results import Cell
from reports.results.cell import State

Call = Callable[[], object]

TARGET_BATCHES = 64
"""Drawn in advance. With one alone, a head that reads only its targets' rows would find them in the
cache at every step, as no training does."""

_PLANTED: dict[tuple[Cell, int], planting.Planted] = {}
"""Cell, with its state but without its batch, and seed -> what was planted; some 64 KiB each."""

FEW_CLASSES = 512
"""Of a small twin: enough for every head to go the way that it goes with many."""


class Workload:
    """A head, alone or on TinyVGG, with random batches and plain SGD.

    The input stays, the targets change from one forward to the next. They are drawn from the cell's
    labels, and heads that can make use of it are told how often each class occurs.

    Every phase leaves the parameters as they were built, so that each one measures the same head:
    the learning rate is 0, which costs the optimizer the same arithmetic as any other.

    Args:
        cell: what to build; its phase and its state do not matter.
        seed: of parameters, inputs and targets.
    """

    def __init__(self, cell: Cell, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.device, dtype = torch.device(cell.device), getattr(torch, cell.dtype)
        with self.device:
            peer = cell.head in peers.names()
            self.module: nn.Module = peers.build(cell) if peer else build_module(cell)
            self.module.to(dtype)
        shape = TARGET_BATCHES, cell.batch
        self.targets = labels.draw(cell.labels, cell.classes, shape, self.device).unbind()
        with self.device:
            if cell.scope == "in-model":
                side = tinyvgg.IMAGE_SIZE
                images = torch.randn(cell.batch, 3, side, side, dtype=dtype)
                self.input = images.contiguous(memory_format=torch.channels_last)
            else:
                # Inside a network, a head also passes a gradient on to the layer below.
                self.input = torch.randn(cell.batch, cell.features, dtype=dtype, requires_grad=True)
        if isinstance(self.head, heads.Head) and self.head.learning_rate is not None:
            self.head.learning_rate = 0.0  # the head makes the optimizer's step itself
        self.parameters = list(self.module.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0)
        self._next_target = cycle(self.targets)
        self._kept: Tensor | None = None
        self._cell, self._seed = cell, seed
        self.seen = self.input
        self.planted: planting.Planted | None = None

    @property
    def head(self) -> nn.Module:
        """The head, wherever it sits."""
        return self.module.head if isinstance(self.module, tinyvgg.Classifier) else self.module

    def loss(self) -> Tensor:
        """Forward: the loss with its graph."""
        loss: Tensor = self.module(self.input, next(self._next_target)).loss
        return loss

    def backward(self, loss: Tensor) -> None:
        """From the loss to fresh gradients of every parameter and of the input."""
        self.clear()
        loss.backward()

    def train(self) -> None:
        """One training step: forward, backward, update."""
        self._kept = None  # the update makes a graph built before it useless
        self.backward(self.loss())
        self.optimizer.step()

    @torch.no_grad()
    def predict(self, features: Tensor | None = None) -> None:
        """The most probable class of each sample; of the input, if no others are given."""
        predict: Any = self.module.predict
        predict(self.input if features is None else features)

    def enter(self, state: State) -> None:
        """Have the next call that is prepared predict in this state, if its work may depend on it.

        Calls that were prepared before keep theirs.
        """
        depends = depends_on_labels(self._cell, "predict")
        planted = state != "untrained" and depends
        self.planted = self._planted(state) if planted else None
        self.seen = self.planted.batch(self._cell.batch) if self.planted else self.input

    def _planted(self, state: State) -> planting.Planted:
        """The same for every batch and in every pass, which all have the same head."""
        cell = replace(self._cell.subject, phase="predict", state=state, batch=1, replica=0)
        if (key := (cell, self._seed)) not in _PLANTED:
            torch.manual_seed(self._seed)
            shape = planting.SAMPLES, cell.features
            start = torch.randn(shape, dtype=self.input.dtype, device=self.device)
            wanted = labels.draw(cell.labels, cell.classes, shape[:1], self.device)
            confidence = planting.CONFIDENCE[state]
            _PLANTED[key] = planting.plant(self.module, cell.classes, start, wanted, confidence)
        return _PLANTED[key]

    @cached_property
    def held_bytes(self) -> tuple[int, int, int]:
        """Bytes of parameters, their gradients and the optimizer's state, after a training step."""
        self.module.train()
        self.train()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        states = chain.from_iterable(state.values() for state in self.optimizer.state.values())
        return (
            sum(map(num_bytes, self.parameters)),
            sum(map(num_bytes, gradients)),
            sum(num_bytes(value) for value in states if isinstance(value, Tensor)),
        )

    def clear(self) -> None:
        """Forget all gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        self.input.grad = None

    def measure(
        self, stopwatch: Stopwatch, phase: Phase, known_seconds: float = 0.0
    ) -> timing.Timing:
        """Time `phase`; a call of an earlier pass, if any, took `known_seconds`."""
        cuda = self.device.type == "cuda"
        flush = l2.of_current_device().flush(self.working_set(phase)) if cuda else None
        return timing.measure(stopwatch, self.prepare(phase), known_seconds, flush)

    def working_set(self, phase: Phase) -> int:
        """Bytes that one call of `phase` may find in a cache because the call before used them."""
        parameters = sum(map(num_bytes, self.parameters))
        cost = self.cost(phase)
        return min(parameters, cost.bytes) if cost else parameters

    def cost(self, phase: Phase) -> Cost | None:
        """Counted work of `phase`, if the subject is one of our heads alone.

        It is what is expected under the cell's labels, which predictions of random features do not
        follow.
        """
        if not isinstance(self.module, Head):
            return None
        known = phase != "predict" or self.planted
        self.module.expect(self._counts if known else None)
        return self.module.cost(phase, len(self.input))

    @cached_property
    def _counts(self) -> Tensor:
        return labels.counts(self._cell.labels, self._cell.classes)

    def prepare(self, phase: Phase) -> Call:
        """What to call, again and again, to measure `phase`."""
        self.module.train(phase != "predict")
        self.clear()
        # A large head's graph is not built again when the next phase can use it up.
        kept, self._kept = self._kept, None
        match phase:
            case "forward":
                return self.loss
            case "backward":
                self._kept = loss = self.loss()
                wanted = [*self.parameters, *([self.input] if self.input.requires_grad else [])]
                return lambda: torch.autograd.grad(
                    loss, wanted, retain_graph=True, allow_unused=True
                )
            case "step":
                self.backward(self.loss() if kept is None else kept)
                return self.optimizer.step
            case "train":
                return self.train
            case "predict":
                return partial(self.predict, self.seen)


def acquaint(cell: Cell) -> None:
    """Train and predict with a small twin of `cell`, the first time its head comes up.

    A process compiles and loads what a head needs in its first calls, which can take seconds; a
    large cell gets few calls and would be timed by them.
    """
    # Under uniform labels: those of a file may be of fewer classes.
    twin = replace(cell.subject, classes=FEW_CLASSES, batch=2, replica=0, labels=labels.UNIFORM)
    # Options may want more classes than that.
    _acquaint(replace(twin, classes=cell.classes) if why_unsuitable(twin) else twin)


@cache
def _acquaint(twin: Cell) -> None:
    workload = Workload(twin)
    workload.train()
    if twin.head in heads.names():  # a peer may have nothing to predict with
        workload.predict()


def build_module(cell: Cell) -> Head | tinyvgg.Classifier:
    """The module of a cell, with freshly initialised parameters, on torch's default device.

    Raises:
        ValueError: the head's options do not suit its size.
    """
    _, options = heads.called(cell.name)
    counts = labels.counts(cell.labels, cell.classes)
    if cell.scope == "isolated":
        sizes = cell.features, cell.classes
        return heads.build(cell.head, *sizes, class_counts=counts, **options)
    return tinyvgg.build(cell.head, cell.classes, class_counts=counts, **options)


def why_unsuitable(cell: Cell) -> str:
    """A line that says why there is no such head at this size, or nothing if there is."""
    if cell.head not in heads.names() or not cell.options:
        return ""
    return _why_unsuitable(replace(cell.subject, batch=1, replica=0))


@lru_cache(maxsize=256)
def _why_unsuitable(cell: Cell) -> str:
    """Kept, since a tree of many classes takes seconds."""
    try:
        with torch.device("meta"):
            build_module(cell)
    except ValueError as error:
        return f"no {cell.name} of {cell.classes:,} classes: {error}"
    return ""


def depends_on_labels(cell: Cell, phase: Phase) -> bool:
    """Whether the work of a cell's head in `phase` may depend on labels or predicted classes."""
    return heads.depends_on_labels(peers.measured_as(cell).head, phase)


def num_bytes(tensor: Tensor) -> int:
    """Bytes that a tensor holds; a sparse one its values and indices, as they are."""
    if tensor.is_sparse:
        return num_bytes(tensor._values()) + num_bytes(tensor._indices())
    return tensor.numel() * tensor.element_size()
