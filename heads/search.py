"""Finding the most probable leaves of a tree without scoring all of them.

A node is at least as probable as anything below it. So a beam descent first finds k good leaves;
then, level by level, every node that could still hold a better one than the k-th of them is
expanded, for all samples at once. What is left out cannot be among the k best: the answer is exact.

A sample's search is given up, and the sample scored in full, where it could not pay: where the beam
will end so low that the model cannot be sure of much, or where its budget of nodes is spent.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from itertools import count
from typing import ClassVar

import torch
from torch import Tensor

from heads.base import Head, Phase
from heads.kernels import RowSparse
from heads.trees import Tree

SEARCH_SHARE = 128
"""A search may expand this part of a tree's inner nodes for a sample. Gathering a node's row takes
as long as some tens of rows of a matrix product."""

SEARCH_FROM = 2**28
"""Multiply-adds of scoring everything below which that is done before a search has begun: a search
of whatever result is some tens of calls of torch."""

ALL_LEAVES_UP_TO = 2**17
"""Up to so many log-probabilities it is faster to have them all than to look for the best in
parts."""

# What a search must know of a tree:
# - expand: samples and inner nodes, each (M,), to the nodes' children and the log-probability of
#   each given its parent, both (M, b), -inf where there is no child;
# - is_leaf: which nodes are leaves;
# - classes: the classes that leaves stand for;
# - roots: the root, once per sample, (N,).
Descent = tuple[
    Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    Callable[[Tensor], Tensor],
    Callable[[Tensor], Tensor],
    Tensor,
]


class TreeHead(RowSparse):
    """A head on a tree, whose best classes can be searched for.

    `predict` and `topk` are exact, yet visit only the nodes that could lead to a better class than
    those already found. A search that turns out too wide is given up, so that what is spent in vain
    is bounded: for one sample, the beam and the search together expand at most one in
    `SEARCH_SHARE` (128) of the tree's inner nodes before the sample is scored in full.

    Attributes:
        depth: most decisions on the way to a class.
        inner_nodes: how many nodes a full scoring evaluates.
    """

    label_phases: ClassVar[frozenset[Phase]] = Head.label_phases
    depth: int
    inner_nodes: int

    @property
    @abstractmethod
    def tree(self) -> Tree:
        """The tree, for its depths and its picture."""

    @abstractmethod
    def descent(self, input: Tensor) -> Descent:
        """The tree and its scores for `input`, as a search wants them."""

    @abstractmethod
    def best_leaf(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and class of the best leaf, every node scored: (N, d) -> (N,), (N,)."""

    def best_on_device(self, input: Tensor) -> tuple[Tensor, Tensor] | None:
        """`topk` for k = 1, by an accelerator's own kernels: (N, d) -> (N, 1), (N, 1), if any."""
        return None

    def score_all(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """`topk` without a search."""
        if k != 1 or len(input) * self.num_classes <= ALL_LEAVES_UP_TO:
            return super().topk(input, k)
        value, best = self.best_leaf(input)
        return value.unsqueeze(1), best.unsqueeze(1)

    def predict(self, input: Tensor, search: str = "exact") -> Tensor:
        """The most probable class: (N, in_features) -> (N,).

        Args:
            input: (N, in_features).
            search: "exact", or "greedy" for the leaf that a single descent reaches: as few steps as
                the path is long, but no more than a guess.
        """
        if search not in ("exact", "greedy"):
            raise ValueError(f"search must be 'exact' or 'greedy', got {search!r}")
        features = self.checked_input(input)
        if search == "greedy":
            descent = self.descent(features)
            _, _, classes, _ = descent
            return classes(_beam(descent, 1, -math.inf)[1].squeeze(1))
        return self.topk(features, 1)[1].squeeze(1)

    @torch.no_grad()
    def topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most probable classes, exactly, best first: log-probabilities, classes, (N, k)."""
        features, k = self.checked_input(input), self.check_k(k)
        # An accelerator scores all while a search, or a climb from level to level, would still be
        # launching.
        if features.device.type != "cpu":
            best = self.best_on_device(features) if k == 1 else None
            return super().topk(features, k) if best is None else best
        budget = self.inner_nodes // SEARCH_SHARE
        # Few classes are scored, and many kept, faster than searched for.
        work = features.numel() * self.inner_nodes
        if work < SEARCH_FROM or k > budget // (2 * self.depth):
            return self.score_all(features, k)
        sure, values, classes = best_leaves(self.descent(features), k, budget, self._levels())
        if not sure.any():
            return self.score_all(features, k)
        if sure.all():
            return values, classes
        other_values, other_classes = self.score_all(features[~sure], k)
        where = sure.unsqueeze(1)
        all_values = other_values.new_empty(len(features), k)
        all_classes = other_classes.new_empty(len(features), k)
        all_values.masked_scatter_(where, values).masked_scatter_(~where, other_values)
        all_classes.masked_scatter_(where, classes).masked_scatter_(~where, other_classes)
        return all_values, all_classes

    def _levels(self) -> float:
        """How deep a balanced tree of as many nodes would be."""
        branching = (self.num_classes - 1) / self.inner_nodes + 1
        return math.log(self.num_classes, branching)


@torch.no_grad()
def best_leaves(
    descent: Descent, k: int, budget: float, levels: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The k most probable leaves, exactly, of each sample for which the search stays narrow.

    For no sample are more nodes expanded than its budget, or than its beam's if those are more.

    Args:
        descent: the tree and its scores.
        k: how many leaves, at most as many as there are.
        budget: most nodes to expand for one sample, its beam's included.
        levels: how deep the leaves are, more or less; by default, nothing is concluded from a
            search before it got there.

    Returns:
        Which samples were searched to the end, (N,); of these M, the log-probabilities, best first,
        and the classes, each (M, k).
    """
    expand, is_leaf, classes, roots = descent
    # Nodes of a level exclude each other, so up to 1/p of them can be as probable as a bound p.
    floor = -math.log(budget)
    beam, _, sure, spent = _beam(descent, k, floor, levels)
    bound = beam[:, -1]
    samples = sure.nonzero().squeeze(1)
    nodes, values = roots[samples], torch.zeros_like(bound[samples])
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    while True:
        leaf = is_leaf(nodes)
        found.append((samples[leaf], nodes[leaf], values[leaf]))
        spent += torch.bincount(samples[~leaf], minlength=len(roots))
        narrow = spent <= budget
        sure &= narrow
        on = ~leaf & narrow[samples]
        samples, nodes, values = samples[on], nodes[on], values[on]
        if not nodes.numel():
            break
        children, decisions = expand(samples, nodes)
        scores = values.unsqueeze(1) + decisions
        # Equal to the bound is kept: the beam's own leaves are found again here.
        kept = (scores >= bound[samples].unsqueeze(1)) & (decisions > -torch.inf)
        samples = samples.unsqueeze(1).expand_as(children)[kept]
        nodes, values = children[kept], scores[kept]
    samples, nodes, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = values.argsort(descending=True, stable=True)
    order = order[samples[order].argsort(stable=True)]
    counts = torch.bincount(samples, minlength=len(roots))
    first = (counts.cumsum(0) - counts)[sure]
    best = order[first.unsqueeze(1) + torch.arange(k, device=order.device)]
    return sure, values[best], classes(nodes[best])


@torch.no_grad()
def _beam(
    descent: Descent, k: int, floor: float, levels: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Descend from the root, keeping the k best nodes of each level.

    A sample whose best leaf will be below `floor`, if it goes on over all `levels` as it began,
    goes no further.

    Returns:
        Log-probabilities, best first, and k distinct nodes, each (N, k); which samples came to
        leaves, (N,); how many nodes were expanded for each, (N,).
    """
    expand, is_leaf, _, roots = descent
    nodes = roots.unsqueeze(1)
    samples = torch.arange(len(roots), device=roots.device).unsqueeze(1)
    arrives, spent = torch.ones_like(roots, dtype=torch.bool), torch.zeros_like(roots)
    values: Tensor | None = None
    for level in count():
        if values is not None:
            arrives &= values[:, 0] * max(1.0, levels / level) >= floor
        inner = ~is_leaf(nodes) & arrives.unsqueeze(1)
        if not inner.any():
            break
        spent += inner.sum(dim=1)
        children, decisions = expand(samples.expand_as(nodes)[inner], nodes[inner])
        if values is None:
            values = decisions.new_zeros(nodes.shape)
        # A leaf stays in the beam as its own first child.
        wide_nodes = nodes.unsqueeze(2).repeat(1, 1, children.size(1))
        wide_values = values.unsqueeze(2).repeat(1, 1, children.size(1))
        wide_values[:, :, 1:] = -torch.inf
        wide_nodes[inner] = children
        wide_values[inner] = values[inner].unsqueeze(1) + decisions
        exists = int((wide_values > -torch.inf).sum(dim=(1, 2)).min())
        values, best = wide_values.flatten(1).topk(min(k, exists), dim=1)
        nodes = wide_nodes.flatten(1).gather(1, best)
    if values is None:  # not one sample
        values = torch.zeros(nodes.shape, device=nodes.device)
    return values, nodes, arrives, spent
