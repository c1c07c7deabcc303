"""Scores of chosen rows of a weight, with a gradient that holds those rows and no others.

Three products make up a training step on paths, and each of them is an embedding bag, which
gathers, multiplies and sums without ever building the gathered rows:

- the scores are dot products of a sample with its rows: the bag's gradient in its weights;
- the input's gradient is a weighted sum of a sample's rows: a bag of rows;
- a row's gradient is a weighted sum of the samples that use it: a bag of samples.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from heads.autograd import apply
from heads.base import Head, at_least_float32
from heads.transforms import in_ddp, in_func


class Pairs(NamedTuple):
    """M pairs of a sample and a row it scores, grouped by sample.

    Attributes:
        rows: the row of each pair, (M,).
        samples: the sample of each pair, ascending, (M,).
        starts: where each sample's pairs begin, (N,).
        order: a permutation of the pairs that puts `rows` in ascending order, (M,).
    """

    rows: Tensor
    samples: Tensor
    starts: Tensor
    order: Tensor


def pair_scores(input: Tensor, weight: Tensor, bias: Tensor, pairs: Pairs) -> Tensor:
    """`weight[rows] . input[samples] + bias[rows]`, its parameter gradients row-sparse.

    Args:
        input: (N, d).
        weight: (R, d).
        bias: (R,).
        pairs: M pairs of a sample in [0, N) and a row in [0, R).

    Returns:
        Scores, (M,), float32 at least. Backward gives `weight` and `bias` coalesced
        `torch.sparse_coo` gradients of the distinct rows, so nothing of size R is ever made, but
        under `DistributedDataParallel`, which can average dense gradients alone.
    """
    if torch.is_autocast_enabled(input.device.type):
        with torch.autocast(input.device.type, enabled=False):
            return pair_scores(input, weight, bias, pairs)
    scores: Tensor = apply(_PairScores, input, weight, bias, *pairs, in_ddp())
    return scores


def score_pairs(
    input: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, samples: Tensor
) -> Tensor:
    """`pair_scores` without a gradient: (N, d), (R, d), (R,), (M,), (M,) -> (M,)."""
    # Nothing is gathered. Sum mode (0) has no use for the bags' starts.
    dots: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        input, weight, rows, rows[:0], samples, 0
    )
    return at_least_float32(dots) + bias.index_select(0, rows)


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        rows: Tensor,
        samples: Tensor,
        starts: Tensor,
        order: Tensor,
        dense: bool,
    ) -> Tensor:
        ctx.save_for_backward(input, weight, rows, samples, starts, order)
        ctx.dense = dense
        return score_pairs(input, weight, bias, rows, samples)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_scores: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, rows, samples, starts, order = ctx.saved_tensors
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = F.embedding_bag(
                rows, weight, starts, mode="sum", per_sample_weights=grad_scores.to(weight.dtype)
            )
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            distinct, group, counts = torch.unique_consecutive(
                rows.index_select(0, order), return_inverse=True, return_counts=True
            )
            slopes = grad_scores.index_select(0, order)
            values = F.embedding_bag(
                samples.index_select(0, order),
                at_least_float32(features),
                counts.cumsum(0) - counts,
                mode="sum",
                per_sample_weights=slopes,
            )
            offsets = slopes.new_zeros(distinct.numel()).index_add_(0, group, slopes)
            grad_weight = _only_rows(distinct, values, weight, ctx.dense)
            grad_bias = _only_rows(distinct, offsets, weight[:, 0], ctx.dense)
        return grad_input, grad_weight, grad_bias, None, None, None, None, None


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


def sparsely_gathered(weight: Tensor, bias: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """`weight[rows]` and `bias[rows]`, with gradients as those of `pair_scores`.

    Args:
        weight: (R, d).
        bias: (R,).
        rows: (M,), each in [0, R).

    Returns:
        (M, d) and (M,).
    """
    if in_func():
        return weight[rows], bias[rows]
    chosen: tuple[Tensor, Tensor] = apply(_SparselyGathered, weight, bias, rows, in_ddp())
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
            F.embedding_bag(order, at_least_float32(terms).view(len(order), -1), starts, mode="sum")
            for terms in (grad_weight, grad_bias)
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
    if gradient is not None and gradient.is_sparse:
        rows = gradient._indices()[0]
        if bool((rows[1:] > rows[:-1]).all()):
            gradient._coalesced_(True)


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


def _only_rows(rows: Tensor, values: Tensor, like: Tensor, dense: bool) -> Tensor:
    """A tensor like another, zero but for `rows`, which are ascending and distinct."""
    values = values.to(like.dtype)
    if dense:
        return torch.zeros_like(like).index_copy_(0, rows, values)
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0),
        values,
        like.shape,
        check_invariants=False,
        is_coalesced=True,
    )
