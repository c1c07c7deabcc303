"""A binary heap over classes: the path to a leaf, every leaf's log-probability, the best leaf.

A heap numbers the root 1 and the children of i as 2i and 2i + 1. With n leaves, inner nodes are
1..n-1 and leaf j is node j + n; the leaves span at most two levels. Row i of a weight belongs to
node i + 1; its score is the log-odds of going right there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import at_least_float32

CACHED_SCORES = 2**18
"""Scores worked on at a time, so that what passes over them finds them in its cache."""

LARGEST_SCORE = 60.0
"""Beyond these odds either way, no difference between the subtrees of a node can outweigh them."""


class Path(NamedTuple):
    """The decisions on the way from the root of a heap to a leaf.

    Attributes:
        rows: rows of the weight, (N, depth).
        signs: +1 where the path goes right, -1 left, 0 where it has no decision, (N, depth).
        offsets: infinity where the path has no decision, 0 elsewhere, (N, depth).
        places: order of the leaves from left to right, (N,).
    """

    rows: Tensor
    signs: Tensor
    offsets: Tensor
    places: Tensor


def heap_path(leaf: Tensor, leaves: int) -> Path:
    """The path to each leaf of a heap with `leaves` leaves: (N,), each in [0, leaves).

    Ancestors are right shifts, and the low bit of a child says which way its parent decided. A leaf
    on the upper of the two leaf levels counts as its own left child, which gives all paths one
    length; the one decision too many, in the last slot, has sign 0 and a row nobody else needs to
    tell apart: the last.
    """
    depth = (leaves - 1).bit_length()
    node = leaf + leaves
    place = torch.where(node < 1 << depth, 2 * node, node)
    ancestors = place.unsqueeze(1) >> torch.arange(depth, -1, -1, device=leaf.device)
    rows = ancestors[:, :-1] - 1
    signs = (ancestors[:, 1:] & 1) * 2 - 1
    offsets = torch.zeros(rows.shape, device=leaf.device)
    if leaves & (leaves - 1):
        none = rows >= leaves - 1
        # Not in place: `torch.func.vmap` knows of a batch in `none` and of none in `offsets`.
        signs = signs.masked_fill(none, 0)
        offsets = offsets.masked_fill(none, torch.inf)
        rows = rows.clamp_(max=leaves - 2)
    return Path(rows, signs, offsets, place)


def leaf_log_prob(scores: Tensor) -> Tensor:
    """Log-probability of every leaf: (N, n - 1), each node's score, -> (N, n)."""
    samples = len(scores) if scores.is_cuda else CACHED_SCORES // scores.size(1)
    parts = [_leaf_log_prob(part) for part in scores.split(max(1, samples))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _leaf_log_prob(scores: Tensor) -> Tensor:
    """Level by level, a child's log-probability is its parent's plus that of the decision."""
    leaves = scores.size(1) + 1
    right = F.logsigmoid(scores)
    # The subtraction rounds by no more than the sum along the path does.
    decisions = torch.stack((right - scores, right), dim=2)
    level, above = torch.zeros_like(scores[:, :1]), scores[:, :0]
    first = 1
    while first < leaves:
        inner = min(2 * first, leaves) - first
        chosen = decisions[:, first - 1 : first - 1 + inner]
        above = level[:, inner:]
        level = (level[:, :inner].unsqueeze(2) + chosen).flatten(1)
        first *= 2
    return torch.cat((above, level), dim=1) if above.size(1) else level


@torch.no_grad()
def best_leaf(weight: Tensor, bias: Tensor, input: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable leaf, every node scored: (n - 1, d), (n - 1,), (N, d) -> (N,), (N,).

    From the bottom up, each node learns how probable the best leaf below it is, given the node,
    and on which side it lies, a cache's worth of nodes at a time; then one walk down the sides
    finds it. Below a node h levels high some leaf has at least 2^-h, so nothing underflows, and no
    logarithm is needed on the way.

    Returns:
        Log-probability and leaf.
    """
    leaves, samples = len(weight) + 1, len(input)
    features = input.t()
    chunk = max(1, CACHED_SCORES // max(1, samples))
    depth = (leaves - 1).bit_length()
    goes_right = torch.empty(leaves - 1, samples, dtype=torch.bool, device=input.device)
    # Whoever stands on a level and is no inner node is a leaf: the best below itself, for certain.
    certain = at_least_float32(weight.new_ones(1, 1))
    below = certain.expand(1 << depth, samples)
    for first in (1 << level for level in reversed(range(depth))):
        end = min(2 * first, leaves)
        best = certain.repeat(first, samples)
        for low in range(first, end, chunk):
            high = min(low + chunk, end)
            rows = slice(low - 1, high - 1)
            scores = torch.addmm(bias[rows].unsqueeze(1), weight[rows], features)
            odds = at_least_float32(scores).clamp_(-LARGEST_SCORE, LARGEST_SCORE).exp_()
            children = below[2 * (low - first) : 2 * (high - first)]
            left, weighed = children[0::2], odds * children[1::2]
            torch.gt(weighed, left, out=goes_right[rows])
            torch.maximum(weighed, left, out=weighed)
            torch.div(weighed, odds.add_(1), out=best[low - first : high - first])
        below = best
    node = torch.ones(samples, dtype=torch.int64, device=input.device)
    sample = torch.arange(samples, device=input.device)
    for _ in range(depth):
        step = 2 * node + goes_right[(node - 1).clamp(max=leaves - 2), sample]
        node = torch.where(node < leaves, step, node)
    return below[0].log(), node - leaves
