"""Peers that are torch modules: torch's own, and kernels that fuse the last layer with its loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor, nn

from heads.adaptive import DIV_VALUE, default_cutoffs

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Mean cross-entropy of (input, weight, bias, target): (N, d), (n, d), (n,), (N,) -> ()."""

CHUNKS = 4
"""Each chunk walks the weight and its gradient once more, so few, large ones are fast; four leave
a quarter of the logits."""


class LossOutput(NamedTuple):
    """What a fused loss returns: no log-probabilities, as it exists to avoid them."""

    loss: Tensor


class FusedLoss(nn.Module):
    """A linear layer whose product with the features is left to the loss.

    Shape:
        - input: (N, in_features), target: (N,); loss: ()
        - parameters: weight (num_classes, in_features), bias (num_classes,)
    """

    def __init__(self, in_features: int, num_classes: int, loss: Loss, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, num_classes, bias=bias)
        self._loss = loss

    def forward(self, input: Tensor, target: Tensor) -> LossOutput:
        """The mean loss: (N, in_features), (N,) -> ()."""
        return LossOutput(self._loss(input, self.linear.weight, self.linear.bias, target))


def adaptive(in_features: int, num_classes: int) -> nn.Module:
    """`torch.nn.AdaptiveLogSoftmaxWithLoss` itself, with the clusters that our `adaptive` has."""
    return nn.AdaptiveLogSoftmaxWithLoss(
        in_features,
        num_classes,
        default_cutoffs(in_features, num_classes),
        div_value=DIV_VALUE if in_features >= DIV_VALUE else 1.0,
        head_bias=True,
    )


def linear_cross_entropy(in_features: int, num_classes: int) -> nn.Module:
    """`torch.nn.functional.linear_cross_entropy` as it comes: a product, then a cross-entropy."""
    fused = import_module("torch.nn.functional").linear_cross_entropy  # from torch 2.13 on

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        found: Tensor = fused(input, weight, target, linear_bias=bias)
        return found

    return FusedLoss(in_features, num_classes, loss)


def linear_cross_entropy_chunked(in_features: int, num_classes: int) -> nn.Module:
    """`torch.nn.functional.linear_cross_entropy`, a quarter of the batch at a time."""
    fused = import_module("torch.nn.functional").linear_cross_entropy  # from torch 2.13 on
    chunked = partial(import_module("torch.nn").LinearCrossEntropyOptions, chunking_method=None)

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        options = chunked(batch_chunk_size=-(-len(input) // CHUNKS))
        found: Tensor = fused(input, weight, target, linear_bias=bias, options=options)
        return found

    return FusedLoss(in_features, num_classes, loss)


def linear_cross_entropy_auto(in_features: int, num_classes: int) -> nn.Module:
    """`torch.nn.functional.linear_cross_entropy`, with the chunks it chooses.

    At many more classes than features these are of one sample each.
    """
    fused = import_module("torch.nn.functional").linear_cross_entropy  # from torch 2.13 on
    automatic = import_module("torch.nn").LinearCrossEntropyOptions()

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        found: Tensor = fused(input, weight, target, linear_bias=bias, options=automatic)
        return found

    return FusedLoss(in_features, num_classes, loss)


def liger(in_features: int, num_classes: int) -> nn.Module:
    """Liger's fused linear cross-entropy, with the chunks it chooses.

    At many more classes than features these are of one sample each.
    """
    fused = import_module("liger_kernel.transformers.functional").liger_fused_linear_cross_entropy

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        found: Tensor = fused(input, weight, target, bias=bias)
        return found

    return FusedLoss(in_features, num_classes, loss)


def liger_chunked(in_features: int, num_classes: int) -> nn.Module:
    """Liger's fused linear cross-entropy, about a quarter of the batch at a time."""
    fused = import_module("liger_kernel.transformers.functional").liger_fused_linear_cross_entropy
    # It takes as many chunks as the classes hold this many times the features.
    budget = -(-num_classes // (CHUNKS * in_features))

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        found: Tensor = fused(input, weight, target, bias=bias, chunk_mem_const=budget)
        return found

    return FusedLoss(in_features, num_classes, loss)


def cut_cross_entropy(in_features: int, num_classes: int) -> nn.Module:
    """Cut cross-entropy, without a bias, which it does not know.

    Its backward takes features in half precision only, so they are cast, as autocast would. By
    default it leaves out gradients that are small for their dtype, which on an untrained head is
    nearly all of them; here it computes every one, as the others do.
    """
    cut = import_module("cut_cross_entropy").linear_cross_entropy

    def loss(input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        found: Tensor = cut(input.to(torch.bfloat16), weight, target, filter_eps=None)
        return found

    return FusedLoss(in_features, num_classes, loss, bias=False)
