"""Chosen rows of a weight: their scores, and gradients that hold those rows and no others."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from heads.autograd import apply
from heads.base import Head, at_least_float32
from heads.transforms import in_ddp, in_func


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """Make the tensor's device the current one, where Triton launches whatever it is given.

    A backward needs no such thing: autograd runs each on its device.
    """
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def score_pairs(
    input: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, samples: Tensor
) -> Tensor:
    """`weight[rows] . input[samples] + bias[rows]`, without a gradient.

    Args:
        input: (N, d).
        weight: (R, d).
        bias: (R,).
        rows: of M pairs, each in [0, R), (M,).
        samples: of the pairs, ascending, each in [0, N), (M,).

    Returns:
        Scores, (M,), float32 at least.
    """
    # Nothing is gathered. Sum mode (0) has no use for the bags' starts.
    dots: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        input, weight, rows, rows[:0], samples, 0
    )
    return at_least_float32(dots) + bias.index_select(0, rows)


def gathered(weight: Tensor, rows: Tensor) -> Tensor:
    """`weight[rows]`, its dense gradient summed in float32 at least: (R, ...), (...) -> (..., ...).

    Autograd's own sums in the dtype of the weight, and bfloat16 stops growing after 256 equal
    terms.
    """
    if at_least_float32(weight[:0]).dtype == weight.dtype or in_func():
        return weight[rows]
    result: Tensor = apply(_Gathered, weight, rows)
    return result


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return weight[rows]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        terms = at_least_float32(grad_output).flatten(0, rows.dim() - 1)
        sums = terms.new_zeros(ctx.shape).index_add_(0, rows.flatten(), terms)
        return sums.to(grad_output.dtype), None


def sparsely_gathered(
    weight: Tensor, bias: Tensor, rows: Tensor, dense: bool = False
) -> tuple[Tensor, Tensor]:
    """`weight[rows]` and `bias[rows]`, with row-sparse gradients of the rows.

    Args:
        weight: (R, d).
        bias: (R,).
        rows: (M,), each in [0, R).
        dense: whether the gradients are dense nevertheless.

    Returns:
        (M, d) and (M,).
    """
    if in_func():
        return weight[rows], bias[rows]
    chosen: tuple[Tensor, Tensor] = apply(_SparselyGathered, weight, bias, rows, dense or in_ddp())
    return chosen


class _SparselyGathered(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, rows: Tensor, dense: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(weight, rows)
        ctx.dense = dense
        return weight.index_select(0, rows), bias.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_weight: Tensor, grad_bias: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        weight, rows = ctx.saved_tensors
        order = rows.argsort()
        distinct, counts = torch.unique_consecutive(rows.index_select(0, order), return_counts=True)
        starts = counts.cumsum(0) - counts
        values, offsets = (
            F.embedding_bag(order, at_least_float32(terms), starts, mode="sum")
            for terms in (grad_weight, grad_bias.unsqueeze(1))
        )
        return (
            _only_rows(distinct, values, weight, ctx.dense),
            _only_rows(distinct, offsets.squeeze(1), weight[:, 0], ctx.dense),
            None,
            None,
        )


class RowSparse(Head):
    """A head whose parameters get row-sparse gradients, at least from a certain size on."""

    @property
    @abstractmethod
    def row_sparse(self) -> bool:
        """Whether the gradients are row-sparse, and not dense."""

    def own_step(self, weight: Tensor, bias: Tensor) -> float | None:
        """Learning rate of the step that the backward of this forward makes by itself, if any."""
        return None

    def keep_coalesced(self) -> None:
        """Let sparse gradients of the parameters stay marked as coalesced.

        Autograd drops the mark when it stores a gradient, and torch's update from an uncoalesced
        gradient takes three times as long.
        """
        for parameter in self.parameters() if self.row_sparse else ():
            parameter.register_post_accumulate_grad_hook(_mark_coalesced)

    def __setstate__(self, state: dict[str, Any]) -> None:
        nn.Module.__setstate__(self, state)
        self.keep_coalesced()  # neither a pickle nor a deep copy of a parameter has its hooks


def _mark_coalesced(parameter: Tensor) -> None:
    """Mark the gradient, unless it is a sum of several and does not deserve it."""
    gradient = parameter.grad
    if gradient is not None and gradient.is_sparse and gradient.is_cpu:
        array = gradient._indices()[0].numpy()  # several times as fast for so few
        gradient._coalesced_(bool((array[1:] > array[:-1]).all()))


def path_log_prob(scores: Tensor, signs: Tensor, offsets: Tensor) -> Tensor:
    """Log-probability of a path of logistic decisions: (N, L), (N, L), (N, L) -> (N,).

    Args:
        scores: the log-odds of each decision going one way.
        signs: +1 where it went that way, -1 where it went the other, 0 where there was none.
        offsets: infinity where there was no decision, so that it is certain; 0 elsewhere.
    """
    scores = at_least_float32(scores)
    signed = torch.addcmul(offsets.to(scores.dtype), scores, signs.to(scores.dtype))
    return F.logsigmoid(signed).sum(dim=1)


def row_sparse_gradient(rows: Tensor, values: Tensor, like: Tensor, distinct: bool) -> Tensor:
    """A sparse tensor like another, with these rows, which ascend if they are distinct."""
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0),
        values.to(like.dtype),
        like.shape,
        check_invariants=False,
        is_coalesced=distinct,
    )


def _only_rows(rows: Tensor, values: Tensor, like: Tensor, dense: bool) -> Tensor:
    """A tensor like another, zero but for `rows`, which are ascending and distinct."""
    if dense:
        return torch.zeros_like(like).index_copy_(0, rows, values.to(like.dtype))
    return row_sparse_gradient(rows, values, like, True)
