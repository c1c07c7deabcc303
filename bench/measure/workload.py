"""Builds the subject of a cell and hands out its phases as calls without arguments."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, cached_property, lru_cache
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

import heads
from bench import peers
from bench.measure import l2, labels, modes, optimizers, planting, precision
from bench.measure.duet import Rival
from bench.measure.timing import Call, Timed
from heads import Cost, Head, Phase
from models import cases
from models.classifier import Classifier
from models.config import TrainingConfig
from reports.results import Cell
from reports.results.cell import State

TARGET_BATCHES = 64
"""Drawn in advance. With one alone, a head that reads only its targets' rows would find them in the
cache at every step, as no training does."""

LAPS: tuple[Phase, ...] = ("forward", "backward", "step")
"""Phases that are timed within the training step that they are parts of: by itself, each of them
would find in the caches what it left there the last time, and a backward would need a graph."""

_PLANTED: dict[tuple[Cell, int], planting.Planted] = {}
"""Cell, with its state but without its batch, and seed -> what was planted; some 64 KiB each."""

_GRAPH_BREAKS: dict[Cell, int] = {}
"""Compiled cell, without its state -> graph breaks: all states run the same compiled code."""

WAYS = {"graph": "capture", "compile": "compile"}
"""What is done to a call in a mode other than eager."""

FEW_CLASSES = 512
"""Of a small twin: enough for every head to go the way that it goes with many."""


class Workload:
    """A head, alone or in a model, with random batches and an optimizer.

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
        self.device, self.precision = torch.device(cell.device), precision.PRECISIONS[cell.dtype]
        dtype, features = self.precision.parameters, self.precision.features
        self.module: nn.Module = self.build(cell)
        shape = TARGET_BATCHES, cell.batch
        self.targets = labels.draw(cell.labels, cell.classes, shape, self.device).unbind()
        with self.device:
            if cell.scope == "in-model":
                seen = cases.CASES[cell.model].inputs(cell.batch, cell.classes)
                self.input = seen.to(dtype) if seen.is_floating_point() else seen
            else:
                # Inside a network, a head also passes a gradient on to the layer below.
                shape = cell.batch, cell.features
                self.input = torch.randn(shape, dtype=features, requires_grad=True)
        if isinstance(self.head, heads.Head) and self.head.learning_rate is not None:
            self.head.learning_rate = 0.0  # the head makes the optimizer's step itself
        self.parameters = list(self.module.parameters())
        self.optimizer = optimizers.Optimizer(cell.optimizer, self.parameters)
        self._forward_of: Any = self.module
        self._predict_of: Any = getattr(self.module, "predict", None)  # a peer may have none
        self._next_target = cycle(self.targets)
        self._cell, self._seed = cell, seed
        self._losses: list[Tensor] = []

    def build(self, cell: Cell) -> nn.Module:
        """The module of `cell`, on its device."""
        with self.device:
            peer = cell.head in peers.names()
            module: nn.Module = peers.build(cell) if peer else build_module(cell)
            return module.to(self.precision.parameters)

    @property
    def head(self) -> nn.Module:
        """The head, wherever it sits."""
        return self.module.head if isinstance(self.module, Classifier) else self.module

    def loss(self) -> Tensor:
        """Forward: the loss with its graph."""
        with self.precision.products(self.device):
            loss: Tensor = self._forward_of(self.input, next(self._next_target)).loss
        return loss

    def backward(self, loss: Tensor) -> None:
        """From the loss to fresh gradients of every parameter and of the input."""
        self.clear()
        loss.backward()

    def train(self) -> None:
        """One training step: forward, backward, update."""
        self.backward(self.loss())
        self.optimizer.step()

    def _forward(self) -> None:
        """Forward, by itself."""
        self._losses.append(self.loss())

    def _backward(self) -> None:
        """From the last of the losses that are there."""
        self.backward(self._losses.pop())

    @torch.no_grad()
    def predict(self, seen: Tensor | None = None) -> None:
        """The most probable class of each sample, of those that were `planted` if there are any."""
        with self.precision.products(self.device):
            self._predict_of(self.input if seen is None else seen)

    def planted(self, state: State) -> planting.Planted | None:
        """What is predicted in this state; None if it is the input, or no work depends on it.

        The same for every batch and in every pass, which all have the same head.
        """
        if state == "untrained" or not depends_on_labels(self._cell, "predict"):
            return None
        cell = replace(
            self._cell.subject, phase="predict", state=state, batch=1, replica=0, mode="eager"
        )
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
        return (
            sum(map(num_bytes, self.parameters)),
            sum(map(num_bytes, gradients)),
            sum(map(num_bytes, self.optimizer.state())),
        )

    def clear(self) -> None:
        """Forget all gradients."""
        self.optimizer.zero_grad()
        self.input.grad = None

    def rival(self, phase: Phase, known_seconds: float = 0.0, state: State = "untrained") -> Rival:
        """What competes in `phase`; a call of an earlier pass, if any, took `known_seconds`.

        The laps of a training step are the phases `LAPS`.
        """
        cuda = self.device.type == "cuda"
        flush = l2.of_current_device().flush(self.working_set(phase)) if cuda else None
        return Rival(self.prepare(phase, state), flush, known_seconds)

    def working_set(self, phase: Phase) -> int:
        """Bytes that one call of `phase` may find in a cache because the call before used them."""
        parameters = sum(map(num_bytes, self.parameters))
        cost = self.cost(phase)
        return min(parameters, cost.bytes) if cost else parameters

    def cost(self, phase: Phase, state: State = "untrained") -> Cost | None:
        """Counted work of `phase`, if the subject is one of our heads alone.

        It is what is expected under the cell's labels, which predictions of random features do not
        follow.
        """
        if not isinstance(self.module, Head):
            return None
        known = phase != "predict" or self.planted(state)
        self.module.expect(self._counts if known else None)
        counted = self.module.cost(phase, len(self.input))
        if phase not in ("step", "train"):
            return counted
        plain = self.module.cost("step", len(self.input))
        sizes = sum(p.numel() for p in self.parameters), self.module.itemsize
        step = optimizers.step_cost(self._cell.optimizer, plain, *sizes)
        return Cost(
            *(of - less + more for of, less, more in zip(counted, plain, step, strict=True))
        )

    @cached_property
    def _counts(self) -> Tensor:
        return labels.counts(self._cell.labels, self._cell.classes)

    def prepare(self, phase: Phase, state: State = "untrained") -> Timed:
        """What to call, again and again, to measure `phase`; predictions in this state.

        In another mode than eager, all that is done once has been done.

        Raises:
            ModeError: it cannot be called in the cell's mode.
        """
        match self._cell.mode:
            case "graph":
                return Timed(modes.captured(lambda: self._eager(phase, state).call))
            case "compile":
                call = self._eager(phase, state).call
                if phase == "train":
                    self._forward_of = modes.compiled(self.module)
                else:
                    self._predict_of = modes.compiled(self.module.predict)
                # What is there already is not compiled again.
                _GRAPH_BREAKS.setdefault(self._named(phase), modes.settle(call))
                return Timed(call)
        return self._eager(phase, state)

    def graph_breaks(self, phase: Phase) -> int | None:
        """Those of the compiled call of `phase`; None where it was not compiled."""
        return _GRAPH_BREAKS.get(self._named(phase))

    def _named(self, phase: Phase) -> Cell:
        return replace(self._cell.subject, phase=phase, replica=0)

    def _eager(self, phase: Phase, state: State) -> Timed:
        self.precision.entered()
        if phase in ("step", "train") and not self.optimizer.ready:
            self.module.train()
            self.train()  # a training allocates its optimizer's state once
        self.module.train(phase != "predict")
        self._losses.clear()
        if phase != "step":
            self.clear()
        match phase:
            case "forward":
                return Timed(self.loss)
            case "backward":
                # A graph is used up, as in training: one that is kept is walked faster.
                return Timed(self._backward, before=self._forward)
            case "step":
                # A large head's gradients are not made again where they are there already.
                if all(p.grad is None for p in self.parameters):
                    self.backward(self.loss())
                return Timed(self.optimizer.step)
            case "train":
                return Timed(self.train, laps=(self._forward, self._backward, self.optimizer.step))
            case "predict":
                planted = self.planted(state)
                seen = planted.batch(self._cell.batch) if planted else None
                return Timed(lambda: self.predict(seen))

    def release(self) -> None:
        """Give back what a capture holds: gradients in its memory, and all that nobody uses."""
        self.clear()
        torch.cuda.empty_cache()

    def repeatable(self, phase: Phase, state: State = "untrained") -> Call:
        """What does `phase` again and again with nothing in between, as a captured graph has to.

        A backward keeps its graph; its kernels are those of one that does not.
        """
        if phase != "backward":
            return self.prepare(phase, state).call
        self.precision.entered()
        self.module.train()
        self.clear()
        loss = self.loss()
        wanted = [*self.parameters, *([self.input] if self.input.requires_grad else [])]
        return lambda: torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)


def why_not(cell: Cell) -> str:
    """A line that says why `cell` cannot be measured, or nothing if it can."""
    reason = precision.why_not(cell.dtype, cell.device) or modes.why_not(cell.mode, cell.device)
    if reason:
        return reason
    if cell.optimizer not in optimizers.RECIPES:
        known = ", ".join(optimizers.RECIPES)
        return f"no optimizer called {cell.optimizer!r}; there are: {known}"
    if cell.mode != "eager" and peers.trainer(cell.head):
        return f"{cell.head} trains by itself: there is nothing of torch to {WAYS[cell.mode]}"
    if cell.ranks > 1:
        from bench.measure import sharded  # what it takes of torch is slow to import

        if reason := sharded.why_not(cell):
            return reason
    if cell.optimizer == "sgd":
        return ""
    if peers.trainer(cell.head):
        return f"{cell.head} trains by itself, by plain SGD"
    if cell.head in heads.names():
        with torch.device("meta"):
            module = build_module(cell)
        head = module if isinstance(module, Head) else module.head
        if head.learning_rate is not None:
            return f"{cell.head} makes the step itself, in its backward, and that of plain SGD"
    return ""


def acquaint(cell: Cell) -> None:
    """Train and predict with a small twin of `cell`, the first time its head comes up.

    A process compiles and loads what a head needs in its first calls, which can take seconds; a
    large cell gets few calls and would be timed by them.
    """
    # Under uniform labels: those of a file may be of fewer classes.
    twin = replace(
        *(cell.subject,), classes=FEW_CLASSES, batch=2, replica=0,
        labels=labels.UNIFORM, mode="eager", ranks=1,
    )  # fmt: skip
    if peers.why_not(twin):  # of so small a batch
        twin = replace(twin, batch=cell.batch)
    # Options may want more classes than that.
    _acquaint(replace(twin, classes=cell.classes) if why_unsuitable(twin) else twin)


@cache
def _acquaint(twin: Cell) -> None:
    workload = Workload(twin)
    workload.train()
    if twin.head in heads.names():  # a peer may have nothing to predict with
        workload.predict()


def build_module(cell: Cell) -> Head | Classifier:
    """The module of a cell, with freshly initialised parameters, on torch's default device.

    Raises:
        ValueError: the head's options do not suit its size.
    """
    _, options = heads.called(cell.name)
    counts = labels.counts(cell.labels, cell.classes)
    if cell.scope == "isolated":
        sizes = cell.features, cell.classes
        return heads.build(cell.head, *sizes, class_counts=counts, **options)
    config = TrainingConfig(cell.head, cell.model, width=cell.features, device=cell.device)
    return cases.build(config, cell.classes, counts, options)


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
    if phase == "predict" and cell.ranks > 1:
        return False  # every rank scores all of its classes
    return heads.depends_on_labels(peers.measured_as(cell).head, phase)


def num_bytes(tensor: Tensor) -> int:
    """Bytes that a tensor holds; a sparse one its values and indices, as they are."""
    tensor = getattr(tensor, "_local_tensor", tensor)  # of a shared one, what this process has
    if tensor.is_sparse:
        return num_bytes(tensor._values()) + num_bytes(tensor._indices())
    return tensor.numel() * tensor.element_size()
