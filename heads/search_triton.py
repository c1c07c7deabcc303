"""The best leaf of a heap, exactly, in Triton's kernels.

A leaf with more than half of the probability is the best one: a single descent finds it, and says
so. For the samples where it does not, all nodes are scored, a slice of a level at a time, from the
bottom up; see `heads.heap.best_leaf`.

Importing this module fails wherever Triton cannot compile.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from heads.autograd import untraced
from heads.heap import LARGEST_SCORE
from heads.launch_triton import power as _power

SURE = math.log(0.5) + 1e-3
"""More than half, whatever the roundings."""

ELEMENTS = 2**25
"""Scores of a slice."""


# A compiler that sees the tensors between the kernels would lay them out as it likes.
@untraced
def best_leaf(weight: Tensor, bias: Tensor, input: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable leaf: (n - 1, d), (n - 1,), (N, d) -> log-probability and leaf, (N,)."""
    value, leaf = descend(weight, bias, input)
    unsure = (value <= SURE).nonzero().squeeze(1)
    if len(unsure) == len(input):
        return best_of_all(weight, bias, input)
    if len(unsure):
        value[unsure], leaf[unsure] = best_of_all(weight, bias, input[unsure])
    return value, leaf


def descend(weight: Tensor, bias: Tensor, input: Tensor) -> tuple[Tensor, Tensor]:
    """The leaf that the likelier child at every node leads to, and its log-probability."""
    size, width = input.shape
    value = input.new_empty(size, dtype=torch.float32)
    leaf = torch.empty(size, dtype=torch.int64, device=input.device)
    if size:
        _descend[(size,)](
            input.contiguous(), weight, bias, value, leaf, len(weight) + 1, width,
            COLUMNS=_power(width, 1024),
        )  # fmt: skip
    return value, leaf


def best_of_all(weight: Tensor, bias: Tensor, input: Tensor) -> tuple[Tensor, Tensor]:
    """As `best_leaf`, every node scored."""
    inner, samples = len(weight), len(input)
    depth = inner.bit_length()
    features, slice_rows = input.t(), max(1, ELEMENTS // max(1, samples))
    right = torch.empty(inner, samples, dtype=torch.int8, device=input.device)
    # Of leaves, none is ever looked at: each is the best below itself, for certain.
    below = input.new_empty(0, samples, dtype=torch.float32)
    for first in (1 << level for level in reversed(range(depth))):
        end = min(2 * first, inner + 1)
        best = input.new_empty(end - first, samples, dtype=torch.float32)
        for low in range(first, end, slice_rows):
            high = min(low + slice_rows, end)
            rows = slice(low - 1, high - 1)
            scores = torch.addmm(bias[rows].unsqueeze(1), weight[rows], features)
            if scores.numel():
                _best_of_children[(-(-scores.numel() // 1024),)](
                    scores, below, best[low - first :], right[rows], 2 * (low - first),
                    len(below), samples, scores.numel(), LIMIT=LARGEST_SCORE, ELEMENTS=1024,
                )  # fmt: skip
        below = best
    leaf = torch.empty(samples, dtype=torch.int64, device=input.device)
    if samples:
        _follow[(samples,)](right, leaf, inner + 1, samples)
    return below[0].log(), leaf


@triton.jit
def _descend(x, w, b, value, leaf, leaves, width, COLUMNS: tl.constexpr):
    """Per sample: down to a leaf."""
    i = tl.program_id(0).to(tl.int64)
    node = i * 0 + 1
    total = 0.0
    while node < leaves:
        score = tl.load(b + node - 1).to(tl.float32)
        for k in range(0, width, COLUMNS):
            column = k + tl.arange(0, COLUMNS)
            xs = tl.load(x + i * width + column, mask=column < width, other=0).to(tl.float32)
            ws = tl.load(w + (node - 1) * width + column, mask=column < width, other=0)
            score += tl.sum(ws.to(tl.float32) * xs, axis=0)
        total -= tl.log(1 + tl.exp(-tl.abs(score)))
        node = 2 * node + (score > 0).to(tl.int64)
    tl.store(value + i, total)
    tl.store(leaf + i, node - leaves)


@triton.jit
def _best_of_children(
    scores, below, best, right, first, there, samples, count,
    LIMIT: tl.constexpr, ELEMENTS: tl.constexpr,
):  # fmt: skip
    """Per node and sample: how probable the best leaf below it is, and on which side it lies."""
    at = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    row, sample = at // samples, at % samples
    score = tl.load(scores + at, mask=at < count, other=0).to(tl.float32)
    odds = tl.exp(tl.minimum(tl.maximum(score, -LIMIT), LIMIT))
    child = first + 2 * row
    left = tl.load(below + child * samples + sample, mask=(at < count) & (child < there), other=1)
    other = tl.load(
        below + (child + 1) * samples + sample, mask=(at < count) & (child + 1 < there), other=1
    )
    weighed = odds * other
    tl.store(right + at, (weighed > left).to(tl.int8), mask=at < count)
    tl.store(best + at, tl.maximum(weighed, left) / (odds + 1), mask=at < count)


@triton.jit
def _follow(right, leaf, leaves, samples):
    """Per sample: down the sides that were found."""
    i = tl.program_id(0).to(tl.int64)
    node = i * 0 + 1
    while node < leaves:
        node = 2 * node + tl.load(right + (node - 1) * samples + i).to(tl.int64)
    tl.store(leaf + i, node - leaves)
