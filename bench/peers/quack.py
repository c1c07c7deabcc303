"""Quack's linear cross-entropy: kernels for Hopper in bfloat16, written in the CUTLASS DSL."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor, nn

from bench.peers.losses import CHUNKS, FusedLoss
from reports.results import Cell

HOPPER = (9, 0)
"""Compute capability of the only GPUs that its fused kernels are for."""

AS_IT_COMES = 4_096
"""Samples of a chunk, unless told otherwise."""

ROWS = 128
"""Of a tile: they divide the classes and a chunk's samples, and a last chunk is padded to them."""

ALIGNED = 8
"""Features come to a tile in vectors of so many."""


def quack(in_features: int, num_classes: int) -> nn.Module:
    """Quack's chunked linear cross-entropy as it comes; fused, it knows no bias."""
    fused = import_module("quack.linear_cross_entropy").chunked_linear_cross_entropy

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        found: Tensor = fused(input, weight, target)
        return found

    return FusedLoss(in_features, num_classes, loss, bias=False)


def quack_chunked(in_features: int, num_classes: int) -> nn.Module:
    """Quack's chunked linear cross-entropy, about a quarter of the batch at a time."""
    fused = import_module("quack.linear_cross_entropy").chunked_linear_cross_entropy

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        found: Tensor = fused(input, weight, target, chunk_size=quarter(*input.shape))
        return found

    return FusedLoss(in_features, num_classes, loss, bias=False)


def refuses(cell: Cell) -> str:
    """A line that says why Quack's fused kernels do not compute `cell`, or nothing if they do.

    In other dtypes and on other GPUs it would make and keep all scores by a product, which is no
    peer. Where a chunk is as tall as it is wide, it stops: it tells a vector for the rows from one
    for the columns by their lengths.
    """
    if cell.dtype not in ("bfloat16", "autocast-bfloat16"):
        return f"{cell.head} computes in bfloat16 only"
    if cell.classes % ROWS or cell.features % ALIGNED:
        return f"{cell.head} takes multiples of {ROWS} classes and of {ALIGNED} features only"
    size = AS_IT_COMES if cell.head == "quack" else quarter(cell.batch, cell.features)
    if cell.features in rows(cell.batch, size):
        return f"{cell.head} takes no chunk of {cell.features:,} samples of as many features"
    if torch.cuda.is_available() and torch.cuda.get_device_capability(cell.device) != HOPPER:
        return f"{cell.head} runs on GPUs of compute capability 9.0 only"
    return ""


def rows(batch: int, size: int) -> set[int]:
    """Those that chunks of `size` samples have: all of one size, but for the last."""
    *whole, last = range(0, batch, size)
    return {ROWS * -(-(batch - last) // ROWS), *([size] if whole else [])}


def quarter(batch: int, features: int) -> int:
    """Samples of a chunk: about a quarter of the batch, that it can compute if there is such."""
    least = ROWS * -(-batch // (CHUNKS * ROWS))
    sizes = range(least, batch + ROWS, ROWS)
    return next((size for size in sizes if features not in rows(batch, size)), least)
