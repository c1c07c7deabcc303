"""What the back ends of `heads.paths` are given, and what they give."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Heap(NamedTuple):
    """Paths in a binary heap, by bit shifts; see `heads.heap`.

    Attributes:
        leaf: where each sample ends, (N,), in [0, leaves).
        leaves: of the heap; its rows are one fewer.
    """

    leaf: Tensor
    leaves: int


class Table(NamedTuple):
    """Paths in any tree, by tables over its C classes and I inner nodes.

    Attributes:
        target: each sample's class, (N,).
        nodes: the inner nodes on the way to each class, (C, L).
        slots: which of a node's children the way takes, (C, L).
        rows: the rows that score each child with its m pieces, (I, b, m); see `heads.tree_softmax`
            for what stands where there is none.
    """

    target: Tensor
    nodes: Tensor
    slots: Tensor
    rows: Tensor


class RowSums(NamedTuple):
    """A gradient of T rows.

    Attributes:
        rows: which they are, (T,), ascending and distinct where `distinct`; else a row may stand
            there more than once, all but one time with zeros.
        weight: (T, d), float32 at least.
        bias: (T,), likewise.
        distinct: see `rows`.
    """

    rows: Tensor
    weight: Tensor
    bias: Tensor
    distinct: bool

    def add_to(self, weight: Tensor, bias: Tensor, scale: float) -> None:
        """Add it, times `scale`, to the rows of (R, d) and (R,), in place.

        Each row once, or with zeros: the same bits, in whatever order it is done.
        """
        weight.index_add_(0, self.rows, self.weight, alpha=scale)
        bias.index_add_(0, self.rows, self.bias, alpha=scale)


class Gradient(NamedTuple):
    """What comes back to the outputs of a walk, in parts that a kernel puts together by itself.

    Attributes:
        values: (N,), in the dtype of the output; perhaps one number, expanded.
        factor: to be multiplied with.
        most: beyond this a value is a mistake, with which no row may move; finite on an accelerator
            only, where asking takes time.
    """

    values: Tensor
    factor: float = 1.0
    most: float = math.inf

    def product(self) -> Tensor:
        """The gradient, (N,), contiguous, checked by the device."""
        if self.most < math.inf:
            torch._assert_async(~(self.values.abs() > self.most).any(), MULTIPLIED)
        return self.values.contiguous() if self.factor == 1 else self.values * self.factor


MULTIPLIED = "the loss came back multiplied"


def differentiate(grad: Tensor, jacobian: Tensor, grad_input: Tensor) -> None:
    """Write the gradient in the input, (N, d), from that in the outputs, (N,), and (N, d)."""
    torch.mul(grad.unsqueeze(1), jacobian, out=grad_input)


class Walk(Protocol):
    """What a back end knows of a batch once it has walked its paths.

    Attributes:
        output: log-probability of each sample's class, (N,), float32 at least.
        loss: minus their mean, ().
        jacobian: of each output in its sample's input, (N, d).
    """

    @property
    def output(self) -> Tensor:
        """(N,)."""

    @property
    def loss(self) -> Tensor:
        """()."""

    @property
    def jacobian(self) -> Tensor:
        """(N, d); only if the walk was told that it is wanted."""

    def sums(self, grad: Gradient, grad_input: Tensor | None = None) -> RowSums:
        """The gradient in the rows, from that in the outputs: row-sparse.

        Args:
            grad: in the outputs.
            grad_input: where to write the gradient in the input as well, (N, d), contiguous.
        """

    def add(
        self,
        grad: Gradient,
        scale: float,
        weight: Tensor,
        bias: Tensor,
        grad_input: Tensor | None = None,
    ) -> None:
        """Add the same gradient, times `scale`, to the rows of (R, d) and (R,), in place.

        That in the input, if it is to be written, stays as it is.
        """


class BackEnd(Protocol):
    """A module that can walk."""

    def walk(
        self, input: Tensor, weight: Tensor, bias: Tensor, paths: Heap | Table, wanted: bool
    ) -> Walk:
        """Walk the paths of a batch.

        Args:
            input: (N, d).
            weight: (R, d).
            bias: (R,).
            paths: from the root to each sample's class.
            wanted: whether the jacobian will be.
        """
