"""Scores of chosen rows of a weight, with a gradient that holds those rows and no others.

Three products make up a training step on paths, and each of them is an embedding bag, which
gathers, multiplies and sums without ever building the gathered rows:

- the scores are dot products of a sample with its rows: the bag's gradient in its weights;
- the input's gradient is a weighted sum of a sample's rows: a bag of rows;
- a row's gradient is a weighted sum of the samples that use it: a bag of samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from heads.autograd import apply
from heads.base import at_least_float32


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
        Scores, (M,). Backward gives `weight` and `bias` coalesced `torch.sparse_coo` gradients of
        the distinct rows, so nothing of size R is ever made.
    """
    if torch.is_autocast_enabled(input.device.type):
        with torch.autocast(input.device.type, enabled=False):
            return pair_scores(input.to(weight.dtype), weight, bias, pairs)
    scores: Tensor = apply(_PairScores, input, weight, bias, *pairs)
    return scores


def pair_dots(input: Tensor, weight: Tensor, rows: Tensor, samples: Tensor) -> Tensor:
    """`weight[rows] . input[samples]`, nothing gathered: (N, d), (R, d), (M,), (M,) -> (M,)."""
    # Sum mode (0) has no use for the bags' starts.
    dots: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        input, weight, rows, rows[:0], samples, 0
    )
    return dots


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, *pairs: Tensor) -> Tensor:
        rows, samples, _, _ = pairs
        ctx.save_for_backward(input, weight, *pairs)
        return pair_dots(input, weight, rows, samples) + bias.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_scores: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, rows, samples, starts, order = ctx.saved_tensors
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = F.embedding_bag(
                rows, weight, starts, mode="sum", per_sample_weights=grad_scores
            )
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            distinct, group, counts = torch.unique_consecutive(
                rows.index_select(0, order), return_inverse=True, return_counts=True
            )
            slopes = grad_scores.index_select(0, order)
            values = F.embedding_bag(
                samples.index_select(0, order),
                features,
                counts.cumsum(0) - counts,
                mode="sum",
                per_sample_weights=slopes,
            )
            offsets = slopes.new_zeros(distinct.numel()).index_add_(0, group, slopes)
            grad_weight = _sparse_rows(distinct, values, weight.size(0))
            grad_bias = _sparse_rows(distinct, offsets, weight.size(0))
        return grad_input, grad_weight, grad_bias, None, None, None, None


def keep_coalesced(parameter: Tensor) -> None:
    """Let `parameter`'s sparse gradients stay marked as coalesced.

    Autograd drops the mark when it stores a gradient, and torch's update from an uncoalesced
    gradient takes three times as long. A sum of several gradients gets no mark it does not deserve.
    """

    def mark(parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is not None and gradient.is_sparse:
            rows = gradient._indices()[0]
            if bool((rows[1:] > rows[:-1]).all()):
                gradient._coalesced_(True)

    parameter.register_post_accumulate_grad_hook(mark)


def path_log_prob(scores: Tensor, signs: Tensor, offsets: Tensor) -> Tensor:
    """Log-probability of a path of logistic decisions: (N, L), (N, L), (N, L) -> (N,).

    Args:
        scores: the log-odds of each decision going one way.
        signs: +1 where it went that way, -1 where it went the other, 0 where there was none.
        offsets: infinity where there was no decision, so that it is certain; 0 elsewhere.
    """
    signed = torch.addcmul(offsets, at_least_float32(scores), signs.to(offsets.dtype))
    return F.logsigmoid(signed).sum(dim=1)


def _sparse_rows(rows: Tensor, values: Tensor, size: int) -> Tensor:
    """A (size, ...) tensor that is zero but for `rows`, which are ascending and distinct."""
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0),
        values,
        (size, *values.shape[1:]),
        check_invariants=False,
        is_coalesced=True,
    )
