"""What every output head is: the interface, the checks at its door, the counts of its work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from heads.options import integer
from heads.transforms import values_are_hidden
from heads.trees import checked_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

INT64_BYTES = 8
"""Bytes of an index: a target, or a row of a sparse gradient."""

Phase = Literal["forward", "backward", "step", "train", "predict"]


class HeadOutput(NamedTuple):
    """What `Head.forward` returns, as `torch.nn.AdaptiveLogSoftmaxWithLoss` does.

    Attributes:
        output: log-probability of each target, shape (N,).
        loss: `-output.mean()`, a scalar.
    """

    output: Tensor
    loss: Tensor


class Cost(NamedTuple):
    """Work counted from a head's formulas, for one batch: exact, free of noise.

    Attributes:
        multiply_adds: multiply-add pairs of the head's linear algebra.
            An optimizer's update counts one per parameter it changes.
        bytes: compulsory memory traffic. Every parameter, gradient, input, target and saved
            activation counts once in each phase that reads it and once in each phase that writes
            it; what a phase both makes and forgets counts nothing, as a cache could hold it.
    """

    multiply_adds: int
    bytes: int


class Head(nn.Module, ABC):
    """An output head: maps features to log-probabilities over classes, and knows its own loss.

    The interface is that of `torch.nn.AdaptiveLogSoftmaxWithLoss`, so that a head drops in for it.

    Args:
        in_features: width of the input, at least 1.
        num_classes: number of classes, at least 2.

    Shape:
        - input: (N, in_features), floating point; N may be 0, and then `loss` is NaN, as the mean
          of nothing is, and every gradient 0
        - target: (N,), `torch.int64`, each in [0, num_classes)

    Dtype: an input of any floating point dtype is taken and converted to that of the parameters
    (under autocast, products are then made in its dtype). Log-probabilities and losses, of every
    method, are float64 where the parameters are, and float32 otherwise: half precision is good for
    products, but neither for a normaliser nor for a sum over a batch, which is float32 at least in
    the backward, too. A gradient has the dtype of what it belongs to.

    State: after `load_state_dict`, a head computes what the saved one did, the order of its classes
    or its tree included, or loading raises before anything has changed.

    Attributes:
        learning_rate: of the step that the head makes by itself in its backward; None for a head
            whose gradients are an optimizer's to use.
        label_phases: those of forward, backward, step and predict in which the head's work, down to
            the rows that it reads, may depend on which classes occur among the targets, or are
            predicted. All of them, unless a head knows better.
        predicts_as: the head whose `predict` is this one's, by the same code on the same weights;
            empty for one that has its own.
        shares: of the classes among the targets, (num_classes,), float64 on the CPU, for `cost`;
            None where nobody has said: see `expect`.

    Raises:
        ValueError: `in_features` < 1 or `num_classes` < 2; in use, an input or target of another
            shape or dtype, or a target out of range (on an accelerator, where asking for the range
            would make the host wait, the device's own assertion: a `RuntimeError`, later; not asked
            for inside `torch.func.vmap`).
    """

    learning_rate: float | None = None
    label_phases: ClassVar[frozenset[Phase]] = frozenset({"forward", "backward", "step", "predict"})
    predicts_as: ClassVar[str] = ""
    shares: Tensor | None = None

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features, self.num_classes = check_sizes(in_features, num_classes)

    @abstractmethod
    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""

    @abstractmethod
    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of every class: (N, in_features) -> (N, num_classes)."""

    def cost(self, phase: Phase, batch_size: int) -> Cost:
        """Counted work of one `phase` on a batch, from this head's formulas.

        Phases: the loss with its graph (`forward`), its gradients (`backward`), one plain SGD
        update (`step`), all three (`train`), and the most probable class (`predict`). Where work
        depends on the labels, it is the expected work under those of `expect`, else the most that
        it can be; where it depends on the scores, the most that it can be.
        """
        if phase not in get_args(Phase):
            raise ValueError(f"phase must be one of {', '.join(get_args(Phase))}, got {phase!r}")
        if phase == "forward":
            return self.forward_cost(batch_size)
        if phase == "backward":
            return self.backward_cost(batch_size)
        if phase == "step":
            return self.step_cost(batch_size)
        if phase == "predict":
            return self.predict_cost(batch_size)
        parts = (
            self.forward_cost(batch_size),
            self.backward_cost(batch_size),
            self.step_cost(batch_size),
        )
        return Cost(sum(p.multiply_adds for p in parts), sum(p.bytes for p in parts))

    def expect(self, counts: Sequence[float] | Tensor | None) -> None:
        """Have `cost` count the expected work of independent labels that occur so often.

        Args:
            counts: how often each class occurs, (num_classes,); None for labels unknown.

        Raises:
            ValueError: not so many finite numbers of at least 0, or all are 0.
        """
        if counts is None:
            self.shares = None
            return
        weights = checked_counts(counts, self.num_classes)
        if not weights.any():
            raise ValueError("counts must not all be 0")
        self.shares = weights / weights.sum()

    @abstractmethod
    def forward_cost(self, batch_size: int) -> Cost:
        """Work of the loss in training mode, its saved activations written."""

    @abstractmethod
    def backward_cost(self, batch_size: int) -> Cost:
        """Work of the gradients with respect to the parameters and the input."""

    @abstractmethod
    def step_cost(self, batch_size: int) -> Cost:
        """Work of one plain SGD update (no momentum, no weight decay)."""

    @abstractmethod
    def predict_cost(self, batch_size: int) -> Cost:
        """Work of `predict`, in the worst case over inputs."""

    @property
    def itemsize(self) -> int:
        """Bytes of one parameter element."""
        return next(self.parameters()).element_size()

    @property
    def dtype(self) -> torch.dtype:
        """That of the parameters."""
        return next(self.parameters()).dtype

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class, exactly: (N, in_features) -> (N,)."""
        return self.log_prob(input).argmax(dim=1)

    @torch.no_grad()
    def topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most probable classes, exactly, best first: log-probabilities, classes, (N, k).

        No gradient flows through it, as in some heads it is a search.
        """
        values, indices = self.log_prob(input).topk(self.check_k(k), dim=1)
        return values, indices

    def check_k(self, k: int) -> int:
        """`k`; a `ValueError` unless it is in 1..num_classes."""
        return integer("k", k, 1, self.num_classes, "num_classes")

    def checked_input(self, input: Tensor) -> Tensor:
        """`input` in the parameters' dtype; a `ValueError` unless it is (N, in_features), float."""
        if input.dim() != 2 or input.size(1) != self.in_features:
            raise ValueError(
                f"input must have shape (N, {self.in_features}), got {tuple(input.shape)}"
            )
        if not input.is_floating_point():
            raise ValueError(f"input must be floating point, got {input.dtype}")
        return input.to(self.dtype)

    def check_target(self, input: Tensor, target: Tensor, range_too: bool = True) -> None:
        """Raise a `ValueError` unless `target` is (N,) int64 in [0, num_classes).

        The latter is a caller's to leave to a kernel that asserts it anyway.
        """
        if target.dtype != torch.int64:
            raise ValueError(f"target must be torch.int64, got {target.dtype}")
        if target.shape != input.shape[:1]:
            raise ValueError(
                f"target must have shape ({input.size(0)},) like the input's batch, "
                f"got {tuple(target.shape)}"
            )
        if not range_too:
            return
        expected = f"target must be in [0, {self.num_classes}) (num_classes)"
        if target.is_cuda:
            # The device asserts that an index is in range: one launch, where comparisons take five.
            target.new_empty(()).expand(self.num_classes).index_select(0, target)
        elif target.device.type != "cpu":
            in_range = ((target >= 0) & (target < self.num_classes)).all()
            torch._assert_async(in_range, expected)
        elif target.numel() and not values_are_hidden(target):
            low, high = (int(bound) for bound in target.aminmax())
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"{expected}, got values from {low} to {high}")

    def extra_repr(self) -> str:
        """Shape of the head, for `print(model)`."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}"


def check_sizes(in_features: int, num_classes: int) -> tuple[int, int]:
    """Both as ints; a `ValueError` unless the one is at least 1, the other at least 2."""
    return integer("in_features", in_features, 1), integer("num_classes", num_classes, 2)


def distinct(probabilities: Tensor, draws: int) -> float:
    """How many different things turn up among independent draws, expected: (M,) -> a number.

    Args:
        probabilities: of each thing in one draw; they need not exclude each other.
        draws: how many there are.
    """
    return float(-torch.expm1(draws * torch.log1p(-probabilities.clamp(max=1))).sum())


def at_least_float32(scores: Tensor) -> Tensor:
    """`scores` in a dtype fit for a normaliser: half precision widened to float32."""
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
