"""Quack's linear cross-entropy: kernels for Hopper in bfloat16, written in the CUTLASS DSL."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor, nn

from bench.peers.losses import CHUNKS, FusedLoss
from reports.results import Cell

HOPPER = (9, 0)
"""Compute capability of the only GPUs that its fused kernels are for."""

ROWS = 128
"""A tile of its products: it divides the classes, and a chunk of samples."""

ALIGNED = 8
"""Features come to a tile in vectors of so many."""


def quack(in_features: int, num_classes: int) -> nn.Module:
    """Quack's chunked linear cross-entropy as it comes, 4,096 samples at a time.

    It has no bias where it is fused.
    """
    fused = import_module("quack.linear_cross_entropy").chunked_linear_cross_entropy

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        found: Tensor = fused(input, weight, target)
        return found

    return FusedLoss(in_features, num_classes, loss, bias=False)


def quack_chunked(in_features: int, num_classes: int) -> nn.Module:
    """Quack's chunked linear cross-entropy, about a quarter of the batch at a time."""
    fused = import_module("quack.linear_cross_entropy").chunked_linear_cross_entropy

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        chunk = ROWS * -(-len(input) // (CHUNKS * ROWS))
        found: Tensor = fused(input, weight, target, chunk_size=chunk)
        return found

    return FusedLoss(in_features, num_classes, loss, bias=False)


def refuses(cell: Cell) -> str:
    """A line that says why Quack's fused kernels do not compute `cell`, or nothing if they do.

    What they do not, it would compute by a product with all scores kept, which is no peer.
    """
    if cell.dtype not in ("bfloat16", "autocast-bfloat16"):
        return f"{cell.head} computes in bfloat16 only"
    if cell.classes % ROWS or cell.features % ALIGNED:
        return f"{cell.head} takes multiples of {ROWS} classes and of {ALIGNED} features only"
    if torch.cuda.is_available() and torch.cuda.get_device_capability(cell.device) != HOPPER:
        return f"{cell.head} runs on GPUs of compute capability 9.0 only"
    return ""
