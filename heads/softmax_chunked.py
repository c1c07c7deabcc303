"""The full softmax without the N x n logits: the same loss, a slice of the classes at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from heads.autograd import apply
from heads.base import INT64_BYTES, Cost, HeadOutput, at_least_float32
from heads.softmax import Softmax
from heads.transforms import in_func

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_ELEMENTS = 2**21
"""Logits alive at once: 8 MiB of float32, which stays in the cache of most machines. An accelerator
wants fewer and larger launches than that; there it may be this part of all logits."""

ACCELERATOR_CHUNKS = 8


class SoftmaxChunked(Softmax):
    """Full softmax whose loss never holds the N x n logits.

    The forward walks over slices of the classes, keeps each slice's log-sum-exp and forgets its
    logits; the backward computes them again, slice by slice, and writes each slice of the weight's
    gradient once. That is one product more than `Softmax` (four to three), for a memory of O(N + n)
    above the parameters and their gradients; and as a slice fits in cache, it need not be slower.
    `log_prob` returns N x n numbers and so makes them. So few classes that one slice holds them are
    left to `Softmax`.

    Source: the chunking of Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models",
    ICLR 2025, over classes; the running log-sum-exp of Milakov and Gimelshein, 2018.

    Args, shape, errors: as `Softmax`.

    Cost, in multiply-adds: forward N n d, backward 3 N n d, step n (d + 1), predict N n d; with one
    slice, that of `Softmax`.
    """

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        features = self.checked_input(input)
        if self._fits_one_slice(len(features)) or in_func():
            return super().forward(features, target)
        self.check_target(features, target)
        output: Tensor = apply(
            _ChunkedLogProb, features, self.linear.weight, self.linear.bias, target
        )
        return HeadOutput(output, -output.mean())

    def predict(self, input: Tensor) -> Tensor:
        """The class with the largest score, slice by slice: -> (N,)."""
        features = self.checked_input(input)
        if self._fits_one_slice(len(features)):
            return super().predict(features)
        best = torch.full((len(features),), -torch.inf, device=features.device)
        classes = torch.zeros(len(features), dtype=torch.int64, device=features.device)
        for part in _slices(features, self.num_classes):
            logits = F.linear(features, self.linear.weight[part], self.linear.bias[part])
            values, places = logits.max(dim=1)
            better = values > best
            classes = torch.where(better, places + part.start, classes)
            best = torch.where(better, values, best)
        return classes

    def _fits_one_slice(self, batch_size: int) -> bool:
        device = self.linear.weight.device
        return self.num_classes <= _slice_size(batch_size, self.num_classes, device)

    def forward_cost(self, batch_size: int) -> Cost:
        """As the full softmax, but no logits are kept."""
        if self._fits_one_slice(batch_size):
            return super().forward_cost(batch_size)
        n, d = self.num_classes, self.in_features
        elements = n * (d + 1) + batch_size * d + 2 * batch_size
        return Cost(batch_size * n * d, elements * self.itemsize + batch_size * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """Three products: the logits again, and the gradients of the weight and of the input."""
        if self._fits_one_slice(batch_size):
            return super().backward_cost(batch_size)
        n, d = self.num_classes, self.in_features
        elements = 2 * n * (d + 1) + 2 * batch_size * d + batch_size
        return Cost(3 * batch_size * n * d, elements * self.itemsize + batch_size * INT64_BYTES)


def _slice_size(batch_size: int, num_classes: int, device: torch.device) -> int:
    """Most classes of a slice."""
    size = max(1, CHUNK_ELEMENTS // max(1, batch_size))
    return size if device.type == "cpu" else max(size, -(-num_classes // ACCELERATOR_CHUNKS))


def _slices(input: Tensor, num_classes: int) -> Iterator[slice]:
    step = _slice_size(len(input), num_classes, input.device)
    for start in range(0, num_classes, step):
        yield slice(start, min(start + step, num_classes))


def _place(target: Tensor, part: slice) -> tuple[Tensor, Tensor]:
    """Where in a slice each target would be, (N, 1), and whether it is there at all, (N, 1)."""
    place = (target - part.start).unsqueeze(1)
    inside = (place >= 0) & (place < part.stop - part.start)
    return place.clamp_(0, part.stop - part.start - 1), inside


class _ChunkedLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        sums, score = [], torch.zeros((), device=input.device)
        for part in _slices(input, len(weight)):
            logits = at_least_float32(F.linear(input, weight[part], bias[part]))
            sums.append(logits.logsumexp(dim=1))
            place, inside = _place(target, part)
            score = torch.where(inside, logits.gather(1, place), score)
        log_sum = torch.stack(sums).logsumexp(dim=0)
        ctx.save_for_backward(input, weight, bias, target, log_sum)
        ctx.autocast = torch.is_autocast_enabled(input.device.type)
        return score.squeeze(1) - log_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        features, weight, bias, target, log_sum = ctx.saved_tensors
        grad_input = at_least_float32(torch.zeros_like(features))
        grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
        with torch.autocast(features.device.type, enabled=ctx.autocast):
            for part in _slices(features, len(weight)):
                logits = at_least_float32(F.linear(features, weight[part], bias[part]))
                # d log p(target) / d logits = one-hot(target) - p. The one-hot part belongs in the
                # products: added to half a gradient afterwards, equal targets would stop counting.
                slopes = logits.sub_(log_sum.unsqueeze(1)).exp_().neg_()
                place, inside = _place(target, part)
                slopes.scatter_add_(1, place, inside.to(slopes.dtype))
                slopes *= grad_output.unsqueeze(1)
                grad_bias[part] = slopes.sum(dim=0)
                slopes = slopes.to(weight.dtype)
                grad_weight[part] = slopes.t() @ features
                grad_input += slopes @ weight[part]
        return grad_input.to(features.dtype), grad_weight, grad_bias, None
