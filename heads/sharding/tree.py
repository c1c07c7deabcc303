"""Hierarchical softmax on a heap whose rows are spread over ranks.

Seen from left to right, inner node j of a binary tree is the border between leaves j and j + 1. In
this order a range of the rows is a range of the leaves with whole subtrees above it: a rank that
holds it decides nearly everything on the ways to its leaves, and of the few nodes near the root,
which all ways pass, each rank has some. The log-probability of a class is a sum over the nodes on
its way, so each rank adds up those that it has, and the ranks' sums are summed; nothing has to be
held twice, and what a state dict holds does not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads.base import Head, at_least_float32
from heads.heap import CACHED_SCORES
from heads.hierarchical import Hierarchical
from heads.paths import path_loss
from heads.sharding.base import Sharded, full, joined, linear, local, merged
from heads.sharding.ranks import Communication
from heads.tree_tables import NO_CHILD, ZERO_SCORE
from heads.walk import Table

ACCELERATOR_SCORES = 2**26
"""Log-probabilities of leaves that an accelerator works on at a time: 256 MiB of float32."""


def border(node: Tensor, leaves: int) -> Tensor:
    """Which border between leaves each inner node of a heap is, counted from the left, from 0.

    On a heap's lowest level, places for 2^depth leaves are counted; a leaf one level higher has two
    of them.

    Args:
        node: of the heap, each in [1, leaves).
        leaves: how many there are.
    """
    depth = (leaves - 1).bit_length()
    # A float64 has the exponent of any node.
    level = torch.frexp(node.double()).exponent.long() - 1
    below = depth - level
    place = ((node << below) + (1 << (below - 1))) - (1 << depth)
    lowest = 2 * leaves - (1 << depth)
    return torch.where(place <= lowest, place, lowest + (place - lowest) // 2) - 1


def leaf_at(rank: Tensor, leaves: int) -> Tensor:
    """The heap's leaf that is so manieth from the left, both in [0, leaves)."""
    depth = (leaves - 1).bit_length()
    lowest = 2 * leaves - (1 << depth)
    return torch.where(rank < lowest, (1 << depth) + rank, leaves + rank - lowest) - leaves


class ShardedHierarchical(Sharded, Hierarchical):
    """`Hierarchical`, a range of the leaves and the nodes between them on every rank.

    The rows are those of `Hierarchical` from left to right: see the module. Their gradients are
    row-sparse however few they are, unless dense ones were asked for.

    Communication for a batch of N: forward, N numbers summed; backward, the input's gradient, N d
    numbers, summed; predict, the scores of the nodes that are above some rank's leaves and not its
    own, at most 2 P log2 n for each sample, summed, and 2 N numbers gathered.
    """

    kind: ClassVar[type[Head]] = Hierarchical

    def take_share(self) -> None:
        """Keep a range of the nodes."""
        weight, bias = self.nodes.weight, self.nodes.bias
        self.part = self.ranks.share(self.leaves - 1)
        device = torch.device(self.ranks.mesh.device_type)
        order = None
        if weight.device.type != "meta":
            every = torch.arange(1, self.leaves, device=device)
            order = border(every, self.leaves).argsort()[self.part]
        self.in_order = self.shared_linear(weight, bias, order)
        del self._modules["nodes"]  # now those in order
        rows = torch.arange(self.part.stop - self.part.start + 1, device=device)
        table = torch.stack((torch.full_like(rows, ZERO_SCORE), rows), dim=1)
        table[-1, 1] = NO_CHILD  # where a way passes a node of another rank, all is certain
        self.child_rows: Tensor
        self.register_buffer("child_rows", table.unsqueeze(2), persistent=False)
        self.above: Tensor
        self.register_buffer("above", self._nodes_above().to(device), persistent=False)

    def whole(self) -> Head:
        """The head as one process has it, with a copy of all parameters, on every rank."""
        made = joined(Hierarchical, self)
        weight, bias = full(self.in_order.weight), full(self.in_order.bias)
        where = border(torch.arange(1, self.leaves, device=weight.device), self.leaves)
        for name in ("in_order", "child_rows", "above"):
            delattr(made, name)
        made.nodes = linear(weight[where], bias[where])
        made.keep_coalesced()
        return made

    @property
    def nodes(self) -> nn.Linear:  # type: ignore[override]
        """The rows in order, for who counts them."""
        return self.in_order

    @property
    def row_sparse(self) -> bool:
        """Unless dense gradients were asked for."""
        return not self.dense

    def rows(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of this rank's nodes."""
        return local(self.in_order.weight), local(self.in_order.bias)

    def log_prob_of(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probability of each target, on all ranks: (N, in_features), (N,) -> (N,)."""
        rows, slots = self._way(self.places(target))
        here = (rows >= self.part.start) & (rows < self.part.stop)
        nodes = torch.where(here, rows - self.part.start, len(self.child_rows) - 1)
        each = torch.arange(len(target), device=target.device)
        paths = Table(each, nodes, slots * here, self.child_rows)
        part, _ = path_loss(input, *self.rows(), paths, self.row_sparse)
        return self.ranks.total(part)

    def _way(self, leaf: Tensor) -> tuple[Tensor, Tensor]:
        """Rows on the way to each leaf, -1 where there is none, and the turns: (N, L), (N, L)."""
        node = leaf + self.leaves
        place = torch.where(node < 1 << self.depth, 2 * node, node)
        shifts = torch.arange(self.depth, -1, -1, device=leaf.device)
        ancestors = place.unsqueeze(1) >> shifts
        inner = ancestors[:, :-1]
        rows = border(inner.clamp(max=self.leaves - 1), self.leaves)
        return rows.masked_fill(inner >= self.leaves, -1), ancestors[:, 1:] & 1

    def _range(self, rank: int) -> tuple[int, int]:
        """The leaves of a rank, from the left; the last border has one on its right as well."""
        part = self.ranks.share_of(rank, self.leaves - 1)
        last = part.stop == self.leaves - 1 and part.start < part.stop
        return part.start, part.stop + last

    def _nodes_above(self) -> Tensor:
        """Rows that are on the way to leaves of a rank that does not have them: (U,), ascending.

        All that are on the way to its first or its last leaf, as others lie between its leaves.
        """
        found = []
        for rank in range(self.ranks.size):
            first, stop = self._range(rank)
            if first < stop:
                ends = torch.tensor([first, stop - 1], device="cpu")
                way = self._way(leaf_at(ends, self.leaves))[0]
                part = self.ranks.share_of(rank, self.leaves - 1)
                found.append(way[(way >= 0) & ((way < part.start) | (way >= part.stop))])
        rows: Tensor = torch.cat(found).unique()
        return rows

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of every class, without a gradient: (N, in_features) -> (N, n)."""
        self.check_surroundings()
        with torch.no_grad():
            features = self.checked_input(input)
            none = at_least_float32(features.new_empty(len(features), 0))
            own = torch.cat([none, *(values for _, values in self._leaves_of(features))], dim=1)
            # Leaves are dealt out as borders are, and there is one more of them.
            most = self.ranks.share_of(0, self.leaves - 1).stop + 1
            every = self.ranks.gathered(F.pad(own, (0, most - own.size(1))))
            ranges = map(self._range, range(self.ranks.size))
            from_left = torch.cat(
                [
                    values[:, : stop - first]
                    for values, (first, stop) in zip(every, ranges, strict=True)
                ],
                dim=1,
            )
            leaf = leaf_at(torch.arange(self.leaves, device=own.device), self.leaves)
            by_leaf = torch.empty_like(from_left)
            by_leaf[:, leaf] = from_left
            by_class: Tensor = self.by_class(by_leaf)
            return by_class

    def predict(self, input: Tensor, search: str = "exact") -> Tensor:
        """The most probable class, exactly, of samples that all ranks have: (N, d) -> (N,)."""
        if search != "exact":
            raise ValueError(f"a sharded head's search is 'exact', got {search!r}")
        return Sharded.predict(self, input)

    def best(self, input: Tensor, k: int, normalised: bool) -> tuple[Tensor, Tensor]:
        """`topk`: -> (N, k), (N, k)."""
        none = at_least_float32(input.new_empty(len(input), 0))
        value, leaf = none, none.long()
        for first, values in self._leaves_of(input):
            better, where = values.topk(min(k, values.size(1)), dim=1)
            value, leaf = torch.cat((value, better), 1), torch.cat((leaf, where + first), 1)
            value, chosen = value.topk(min(k, value.size(1)), dim=1)
            leaf = leaf.gather(1, chosen)
        return merged(self.ranks, k, value, self.classes(leaf_at(leaf, self.leaves)), None)

    def _leaves_of(self, input: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Log-probabilities of this rank's leaves, from the left, and which is the first: (N, m).

        So many at a time as a cache, or an accelerator, takes well.
        """
        above = self._scores_above(input)
        first, stop = self._range(self.ranks.rank)
        scores = CACHED_SCORES if input.device.type == "cpu" else ACCELERATOR_SCORES
        at_once = max(1, scores // max(1, len(input)))
        for low in range(first, stop, at_once):
            yield low, self._between(input, above, low, min(low + at_once, stop))

    def _scores_above(self, input: Tensor) -> Tensor:
        """The scores of the nodes `above`, on all ranks: (N, U)."""
        weight, bias = (tensor.detach() for tensor in self.rows())
        rows = self.above - self.part.start
        here = ((rows >= 0) & (rows < len(weight))).nonzero().squeeze(1)
        scores = at_least_float32(input.new_zeros(len(input), len(rows)))
        own = F.linear(input, weight[rows[here]], bias[rows[here]])
        return self.ranks.summed(scores.index_copy(1, here, own.to(scores.dtype)))

    def _between(self, input: Tensor, above: Tensor, low: int, high: int) -> Tensor:
        """Log-probabilities of leaves low to high - 1, from the left: -> (N, high - low).

        Level by level, of the nodes on the way to any of them.
        """
        ends = leaf_at(torch.tensor([low, high - 1], device="cpu"), self.leaves) + self.leaves
        first, last = torch.where(ends < 1 << self.depth, 2 * ends, ends).tolist()
        values, left = at_least_float32(input.new_zeros(len(input), 1)), 1
        for below in reversed(range(self.depth)):
            nodes = torch.arange(left, left + values.size(1), device=input.device)
            rows = border(nodes.clamp(max=self.leaves - 1), self.leaves)
            scores = self._scores_of(input, above, rows)
            # A leaf one level higher counts as its own left child.
            decides = nodes < self.leaves
            right = F.logsigmoid(scores)
            turns = (right - scores).where(decides, 0), right.where(decides, -torch.inf)
            values = (values.unsqueeze(2) + torch.stack(turns, dim=2)).flatten(1)
            begin = (first >> below) - 2 * left
            left = first >> below
            values = values[:, begin : begin + (last >> below) - left + 1]
        places = torch.arange(first, last + 1, device=input.device)
        twice = (places % 2 == 1) & (places >> 1 >= self.leaves)
        return values[:, ~twice]

    def _scores_of(self, input: Tensor, above: Tensor, rows: Tensor) -> Tensor:
        """Scores of rows that are this rank's or `above`: (N, d), (N, U), (M,) -> (N, M)."""
        weight, bias = (tensor.detach() for tensor in self.rows())
        own = (rows - self.part.start).clamp(0, len(weight) - 1)
        scores = at_least_float32(F.linear(input, weight[own], bias[own]))
        if not len(self.above):
            return scores
        here = (rows >= self.part.start) & (rows < self.part.stop)
        where = torch.searchsorted(self.above, rows).clamp(max=len(self.above) - 1)
        return torch.where(here, scores, above[:, where])

    def told_in_forward(self, samples: int) -> Communication:
        """A number of each sample."""
        return self.ranks.cost_of_sum(samples * max(4, self.itemsize))

    def told_in_predict(self, samples: int) -> Communication:
        """The scores above, and the best class."""
        above = self.ranks.cost_of_sum(samples * len(self.above) * max(4, self.itemsize))
        return above + super().told_in_predict(samples)
