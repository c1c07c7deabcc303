"""The best leaf of a heap, exactly, in Triton's kernels.

A leaf with more than half of the probability is the best one: a single descent finds it, and says
so. For the samples where it does not, all nodes are scored, from the bottom up, some levels in each
launch: a program scores the nodes of a subtree by one matrix product and folds them, in registers,
to the best leaf below the subtree's root, so that no score is ever written. Only the device knows
which samples those are, and nothing here waits for it.

Float32 is multiplied on tensor cores, as the sum of two TF32 numbers, whose products err by little
more than float32's; where torch may use TF32, as one.

Importing this module fails wherever Triton cannot compile.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from heads.autograd import untraced
from heads.heap import LARGEST_SCORE
from heads.launch_triton import blocks, has_tensor_cores, launch, power, processors

SURE = math.log(0.5) + 1e-3
"""More than half, whatever the roundings."""

SAMPLES = 64
"""Of a program's tile."""

FEWEST = 16
"""Of those, where there are no more."""

NODES = 128
"""Of a program's tile: its subtrees."""

HEIGHT = 7
"""Most levels of a subtree."""

BYTES = 128
"""Of a row that are loaded at a time."""

ELEMENTS = 2**25
"""Best leaves below nodes of a level that are kept at a time, over all samples."""

PROGRAMS = 4
"""For each multiprocessor."""

SHARED = 82_000
"""Bytes of shared memory that a program takes."""


class Unsure(NamedTuple):
    """Samples that no descent could answer, in the first places of (N,); and how many, (1,)."""

    samples: Tensor
    number: Tensor


def works(device: torch.device) -> bool:
    """Whether a device has what the kernels need."""
    return has_tensor_cores(device, SHARED)


# A compiler that sees the tensors between the kernels would lay them out as it likes.
@untraced
def best_leaf(weight: Tensor, bias: Tensor, input: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable leaf: (n - 1, d), (n - 1,), (N, d) -> log-probability and leaf, (N,)."""
    features = input.contiguous()
    value, leaf, unsure = descend(weight, bias, features)
    heights = _heights(len(weight).bit_length())
    kept = max(FEWEST, ELEMENTS >> sum(heights[1:]))
    for start in range(0, len(input), kept):
        size = min(kept, len(input) - start)
        _climb(weight, bias, features, value, leaf, unsure, heights, start, size)
    return value, leaf


def descend(weight: Tensor, bias: Tensor, input: Tensor) -> tuple[Tensor, Tensor, Unsure]:
    """The leaf that the likelier child at every node leads to, its log-probability; the unsure."""
    size, width = input.shape
    value = input.new_empty(size, dtype=torch.float32)
    leaf = torch.empty(size, dtype=torch.int64, device=input.device)
    unsure = Unsure(
        torch.empty(size, dtype=torch.int32, device=input.device),
        torch.zeros(1, dtype=torch.int32, device=input.device),
    )
    if size:
        launch(
            _descend, (size,),
            input, weight, bias, value, leaf, *unsure, len(weight) + 1, width, SURE,
            COLUMNS=power(width, 1024),
        )  # fmt: skip
    return value, leaf, unsure


def _climb(
    weight: Tensor,
    bias: Tensor,
    input: Tensor,
    value: Tensor,
    leaf: Tensor,
    unsure: Unsure,
    heights: list[int],
    start: int,
    size: int,
) -> None:
    """Into `value` and `leaf` the best leaf of each of the unsure in places from `start` on."""
    below, leaf_below = value, leaf  # nothing is below the lowest level
    samples, levels = power(size, SAMPLES, FEWEST), sum(heights)
    programs, precision = PROGRAMS * processors(input.device), _precision(weight)
    for height in heights:
        lowest = levels == sum(heights)
        levels -= height
        roots = 1 << levels
        subtrees = NODES >> height
        if roots == 1:
            above, leaf_above = value, leaf
        else:
            above = value.new_empty(roots, size)
            leaf_above = leaf.new_empty(roots, size, dtype=torch.int32)
        tiles = blocks(size, samples) * blocks(roots, subtrees)
        launch(
            _fold, (min(tiles, programs),),
            input, weight, bias, *unsure, below, leaf_below, above, leaf_above,
            start, size, len(weight) + 1, input.size(1), roots,
            SAMPLES=samples, ROOTS=subtrees, HEIGHT=height, COLUMNS=BYTES // weight.itemsize,
            LOWEST=lowest, HIGHEST=roots == 1, PRECISION=precision,
            LIMIT=LARGEST_SCORE, num_warps=4, num_stages=3,
        )  # fmt: skip
        below, leaf_below = above, leaf_above


def _heights(depth: int) -> list[int]:
    """Levels of each launch, the lowest first, which has no more than the others.

    It is nearly all of the work, and a tile's last columns, in different threads, are dear to fold.
    """
    launches = blocks(depth, HEIGHT)
    ends = [depth * i // launches for i in range(launches + 1)]
    return [end - start for start, end in pairwise(ends)]


def _precision(weight: Tensor) -> str:
    """Of float32 factors; that of narrower ones is their own."""
    if not weight.is_cuda:
        return "ieee"  # all that Triton's interpreter knows
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


@triton.jit
def _descend(
    x, w, b, value, leaf, unsure, count, leaves, width, sure,
    COLUMNS: tl.constexpr,
):  # fmt: skip
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
    if (total > sure) == 0:  # or is no number
        tl.store(unsure + tl.atomic_add(count, 1), i.to(tl.int32))


@triton.jit(do_not_specialize=["start", "size", "leaves", "roots"])
def _fold(
    x, w, b, unsure, count, below, leaf_below, best, leaf, start, size, leaves, width, roots,
    SAMPLES: tl.constexpr, ROOTS: tl.constexpr, HEIGHT: tl.constexpr, COLUMNS: tl.constexpr,
    LOWEST: tl.constexpr, HIGHEST: tl.constexpr, PRECISION: tl.constexpr, LIMIT: tl.constexpr,
):  # fmt: skip
    """Per some samples and ROOTS subtrees HEIGHT levels high: how probable each one's best leaf is.

    The roots are all nodes of a level, `roots` to 2 `roots` - 1. Of the first ROOTS columns of
    scores nothing is used; then come the roots' own, then those of their left children, those of
    their right children, and so on: each level is the right half of what lies above and of itself,
    with its left children in its left half. So halving, which moves no number between threads,
    finds levels, and a node's children.
    """
    some = tl.minimum(tl.load(count) - start, size)
    across = tl.cdiv(some, SAMPLES)
    # Programs next to each other share the weight's rows.
    for tile in range(tl.program_id(0), across * tl.cdiv(roots, ROOTS), tl.num_programs(0)):
        place = tile % across * SAMPLES + tl.arange(0, SAMPLES)
        there = place < some
        sample = tl.load(unsure + start + place, mask=there, other=0).to(tl.int64)
        first = roots + tile // across * ROOTS
        column = tl.arange(0, ROOTS << HEIGHT)
        node = _node(column, first, ROOTS, HEIGHT)
        inner = (column >= ROOTS) & (first + column % ROOTS < 2 * roots) & (node < leaves)
        row = (node - 1).to(tl.int64)
        score = tl.zeros((SAMPLES, ROOTS << HEIGHT), dtype=tl.float32)
        for passed in range(0, width, COLUMNS):
            k = passed + tl.arange(0, COLUMNS)
            xs = tl.load(
                x + sample[:, None] * width + k[None, :],
                mask=there[:, None] & (k < width)[None, :], other=0,
            )  # fmt: skip
            ws = tl.load(
                w + row[:, None] * width + k[None, :],
                mask=inner[:, None] & (k < width)[None, :], other=0,
            )  # fmt: skip
            score = tl.dot(xs, tl.trans(ws), score, input_precision=PRECISION)
        score += tl.load(b + row, mask=inner, other=0).to(tl.float32)[None, :]
        odds = tl.exp(tl.minimum(tl.maximum(score, -LIMIT), LIMIT))
        odds, now = _halves(odds)
        column = (ROOTS << HEIGHT) // 2 + tl.arange(0, (ROOTS << HEIGHT) // 2)
        node = _node(column, first, ROOTS, HEIGHT)[None, :]
        if LOWEST:
            # A child is a leaf, the best below itself, for certain, as is a node that is one.
            goes_right = now > 1
            best_below = tl.where(node < leaves, tl.maximum(now, 1) / (now + 1), 1)
            leaf_of = tl.where(node < leaves, 2 * node + goes_right, node) - leaves
        else:
            children = roots << HEIGHT
            at = (2 * node - children).to(tl.int64) * size + place[:, None]
            mask = there[:, None] & (node < children)
            left = tl.load(below + at, mask=mask, other=1)
            right = now * tl.load(below + at + size, mask=mask, other=1)
            best_below = tl.maximum(left, right) / (now + 1)
            at += tl.where(right > left, size, 0)
            leaf_of = tl.load(leaf_below + at, mask=mask, other=0)
        for _ in tl.static_range(HEIGHT - 1):
            odds, now = _halves(odds)
            left, right = _halves(best_below)
            left_leaf, right_leaf = _halves(leaf_of)
            right *= now
            best_below = tl.maximum(left, right) / (now + 1)
            leaf_of = tl.where(right > left, right_leaf, left_leaf)
        root = first - roots + tl.arange(0, ROOTS)
        mask = there[:, None] & (root < roots)[None, :]
        if HIGHEST:
            at = sample[:, None] + root[None, :]
            best_below = tl.log(best_below)
        else:
            at = root.to(tl.int64)[None, :] * size + place[:, None]
        tl.store(best + at, best_below, mask=mask)
        tl.store(leaf + at, leaf_of, mask=mask)


@triton.jit
def _node(column, first, ROOTS: tl.constexpr, HEIGHT: tl.constexpr):
    """The node that a column of a tile stands for, the subtrees' roots being `first` and next."""
    node, side = first + column % ROOTS, column // ROOTS
    for _ in tl.static_range(HEIGHT - 1):
        # Sums, as Triton 3.6 fails to compile some of the choices that these are.
        deeper = (side > 1).to(tl.int32)
        node += deeper * (node + side % 2)
        side >>= deeper
    return node


@triton.jit
def _halves(a):
    """The left and the right half of each row."""
    pairs = tl.permute(tl.reshape(a, (a.shape[0], 2, a.shape[1] // 2)), (0, 2, 1))
    return tl.split(pairs)
