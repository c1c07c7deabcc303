"""Tree paths from torch's operators: on every device, in every dtype.

The three products of a training step on paths are embedding bags, which gather, multiply and sum
without ever building the gathered rows:

- the scores are dot products of a sample with its rows: the bag's gradient in its weights;
- the input's gradient is a weighted sum of a sample's rows: a bag of rows;
- a row's gradient is a weighted sum of the samples that use it: a bag of samples.
"""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import at_least_float32
from heads.heap import heap_path
from heads.kernels import score_pairs
from heads.tree_tables import softmax_over_children
from heads.walk import Gradient, Heap, RowSums, Table, differentiate


def walk(
    input: Tensor, weight: Tensor, bias: Tensor, paths: Heap | Table, wanted: bool
) -> TorchWalk:
    """See `heads.walk.BackEnd`; here the jacobian is made when it is first asked for."""
    if isinstance(paths, Heap):
        return _heap(input, weight, bias, paths)
    return _table(input, weight, bias, paths)


class TorchWalk:
    """See `heads.walk.Walk`. Of M pairs of a sample and a row that it scores, by sample.

    Args:
        input: (N, d).
        weight: (R, d).
        output: (N,).
        rows: of each pair, (M,).
        samples: of each pair, (M,), ascending.
        starts: where each sample's pairs begin, (N,).
        slopes: of its sample's output in each pair's score, (M,).
        order: the pairs that count, so that `rows` ascends.
    """

    def __init__(
        self,
        input: Tensor,
        weight: Tensor,
        output: Tensor,
        rows: Tensor,
        samples: Tensor,
        starts: Tensor,
        slopes: Tensor,
        order: Tensor,
    ) -> None:
        self.output = output
        self._input, self._weight = input, weight
        self._rows, self._samples, self._starts = rows, samples, starts
        self._slopes, self._order = slopes, order

    @cached_property
    def jacobian(self) -> Tensor:
        """(N, d), in the dtype of the weight."""
        return F.embedding_bag(
            self._rows,
            self._weight,
            self._starts,
            mode="sum",
            per_sample_weights=self._slopes.to(self._weight.dtype),
        )

    @property
    def loss(self) -> Tensor:
        """()."""
        return -self.output.mean()

    def sums(self, grad: Gradient, grad_input: Tensor | None = None) -> RowSums:
        """See `heads.walk.Walk`."""
        values = grad.product()
        if grad_input is not None:
            differentiate(values, self.jacobian, grad_input)
        return row_sums(self._input, self._rows, self._samples, self._slopes, self._order, values)

    def add(
        self,
        grad: Gradient,
        scale: float,
        weight: Tensor,
        bias: Tensor,
        grad_input: Tensor | None = None,
    ) -> None:
        """See `heads.walk.Walk`."""
        self.sums(grad, grad_input).add_to(weight, bias, scale)


def row_sums(
    input: Tensor, rows: Tensor, samples: Tensor, slopes: Tensor, order: Tensor, grad: Tensor
) -> RowSums:
    """The gradient in the rows: input (N, d), of M pairs (M,) each, order (K,), grad (N,)."""
    samples = samples.index_select(0, order)
    slopes = slopes.index_select(0, order) * grad.index_select(0, samples)
    distinct, group, counts = torch.unique_consecutive(
        rows.index_select(0, order), return_inverse=True, return_counts=True
    )
    sums = F.embedding_bag(
        samples,
        at_least_float32(input),
        counts.cumsum(0) - counts,
        mode="sum",
        per_sample_weights=slopes,
    )
    offsets = slopes.new_zeros(distinct.numel()).index_add_(0, group, slopes)
    return RowSums(distinct, sums, offsets, True)


def _heap(input: Tensor, weight: Tensor, bias: Tensor, paths: Heap) -> TorchWalk:
    path = heap_path(paths.leaf, paths.leaves)
    size, depth = path.rows.shape
    pairs = torch.arange(size * depth, device=input.device).view(size, depth)
    # From left to right, paths pass each level's nodes in ascending order: no need to sort.
    order = pairs.index_select(0, path.places.argsort()).t().flatten()
    if paths.leaves & (paths.leaves - 1):
        order = order[path.signs.flatten().index_select(0, order) != 0]
    rows, samples = path.rows.flatten(), pairs.flatten() // max(1, depth)
    scores = score_pairs(input, weight, bias, rows, samples).view(size, depth)
    signs = path.signs.to(scores.dtype)
    signed = torch.addcmul(path.offsets.to(scores.dtype), scores, signs)
    slopes = (signs * torch.sigmoid(-signed)).flatten()
    output = F.logsigmoid(signed).sum(dim=1)
    return TorchWalk(input, weight, output, rows, samples, pairs[:, 0], slopes, order)


def _table(input: Tensor, weight: Tensor, bias: Tensor, paths: Table) -> TorchWalk:
    rows = paths.rows[paths.nodes[paths.target]]
    real = rows >= 0
    chosen = rows[real]
    per_sample = real.flatten(1).sum(dim=1)
    samples = torch.arange(len(rows), device=rows.device).repeat_interleave(per_sample)
    scores = score_pairs(input, weight, bias, chosen, samples)
    scores = scores.new_zeros(rows.shape).masked_scatter(real, scores)
    children, decisions = softmax_over_children(scores, rows)
    taken = paths.slots[paths.target].unsqueeze(2)
    output = decisions.gather(2, taken).sum(dim=(1, 2))
    # Of the way's child 1 - p, of its siblings -p; a piece has its share of its child.
    slopes = decisions.exp_().neg_()
    slopes.scatter_add_(2, taken, torch.ones_like(slopes[:, :, :1]))
    slopes = slopes.unsqueeze(3) * (scores - children.unsqueeze(3)).exp()
    return TorchWalk(
        input,
        weight,
        output,
        chosen,
        samples,
        per_sample.cumsum(0) - per_sample,
        slopes[real],
        chosen.argsort(),
    )
