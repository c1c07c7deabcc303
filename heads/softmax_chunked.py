"""The full softmax without the N x n logits: the same loss, a slice of the classes at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from heads import softmax_torch
from heads.autograd import apply, opaque_apply
from heads.base import INT64_BYTES, Cost, HeadOutput, at_least_float32
from heads.extras import optional
from heads.kernels import on_device
from heads.softmax import Softmax
from heads.transforms import in_func

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from heads.softmax_torch import Perturbation

ACCELERATOR_CHUNKS = 8
"""Of torch's operators, an accelerator wants few and large launches: slices may be this part of all
logits."""


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
        if fits_one_slice(len(features), self.linear.weight) or in_func():
            return super().forward(features, target)
        self.check_target(features, target)
        output = chunked_log_prob(features, self.linear.weight, self.linear.bias, target)
        return HeadOutput(output, -output.mean())

    def predict(self, input: Tensor) -> Tensor:
        """The class with the largest score, slice by slice: -> (N,)."""
        features = self.checked_input(input)
        if fits_one_slice(len(features), self.linear.weight):
            return super().predict(features)
        best = torch.full((len(features),), -torch.inf, device=features.device)
        classes = torch.zeros(len(features), dtype=torch.int64, device=features.device)
        for part in _slices(features, self.linear.weight):
            logits = F.linear(features, self.linear.weight[part], self.linear.bias[part])
            values, places = logits.max(dim=1)
            better = values > best
            classes = torch.where(better, places + part.start, classes)
            best = torch.where(better, values, best)
        return classes

    def forward_cost(self, batch_size: int) -> Cost:
        """As the full softmax, but no logits are kept."""
        if fits_one_slice(batch_size, self.linear.weight):
            return super().forward_cost(batch_size)
        return sliced_forward_cost(self, batch_size)

    def backward_cost(self, batch_size: int) -> Cost:
        """Three products: the logits again, and the gradients of the weight and of the input."""
        if fits_one_slice(batch_size, self.linear.weight):
            return super().backward_cost(batch_size)
        return sliced_backward_cost(self, batch_size)


def sliced_forward_cost(head: Softmax, samples: int) -> Cost:
    """One product with the weight, slice by slice: nothing of size N x n is written."""
    n, d = head.num_classes, head.in_features
    elements = n * (d + 1) + samples * d + 2 * samples
    return Cost(samples * n * d, elements * head.itemsize + samples * INT64_BYTES)


def sliced_backward_cost(head: Softmax, samples: int) -> Cost:
    """Three products: the logits again, and the gradients of the weight and of the input."""
    n, d = head.num_classes, head.in_features
    elements = 2 * n * (d + 1) + 2 * samples * d + samples
    return Cost(3 * samples * n * d, elements * head.itemsize + samples * INT64_BYTES)


def kernels(weight: Tensor) -> ModuleType:
    """What works on a slice's logits, on the weight's device."""
    if weight.is_cuda and weight.dtype != torch.float64:
        return cast("ModuleType", optional("heads.softmax_triton") or softmax_torch)
    return softmax_torch


def _slice_size(batch_size: int, weight: Tensor) -> int:
    """Most classes of a slice."""
    chosen = kernels(weight)
    size = max(1, int(chosen.ELEMENTS) // max(1, batch_size))
    if chosen is not softmax_torch:
        return max(64, size // 64 * 64)  # kernels make noise for several classes at a time
    return size if weight.is_cpu else max(size, -(-len(weight) // ACCELERATOR_CHUNKS))


def _slices(input: Tensor, weight: Tensor) -> Iterator[slice]:
    step = _slice_size(len(input), weight)
    for start in range(0, len(weight), step):
        yield slice(start, min(start + step, len(weight)))


def chunked_log_prob(
    input: Tensor, weight: Tensor, bias: Tensor, target: Tensor, noise: Perturbation | None = None
) -> Tensor:
    """Log-probability of each target, (N,), a slice of the classes at a time.

    Args:
        input: (N, d).
        weight: (n, d).
        bias: (n,).
        target: (N,).
        noise: on top of the logits, made again in the backward.
    """
    record = apply if kernels(weight) is softmax_torch else opaque_apply
    output: Tensor = record(_ChunkedLogProb, input, weight, bias, target, noise)
    return output


def fits_one_slice(batch_size: int, weight: Tensor) -> bool:
    """Whether so few logits are best made at once."""
    return len(weight) <= _slice_size(batch_size, weight)


class _ChunkedLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        noise: Perturbation | None,
    ) -> Tensor:
        running = kernels(weight).Running(target, noise)
        with on_device(weight):
            for part in _slices(input, weight):
                running.take(F.linear(input, weight[part], bias[part]), part.start)
        output: Tensor
        output, log_sum = running.result()
        ctx.save_for_backward(input, weight, bias, target, log_sum)
        ctx.autocast, ctx.noise = torch.is_autocast_enabled(input.device.type), noise
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, target, log_sum = ctx.saved_tensors
        slopes_of = kernels(weight).slopes
        grad_input = at_least_float32(torch.zeros_like(features))
        grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
        with torch.autocast(features.device.type, enabled=ctx.autocast):
            for part in _slices(features, weight):
                logits = F.linear(features, weight[part], bias[part])
                slopes = slopes_of(
                    logits, log_sum, target, grad_output, part.start, grad_bias[part], ctx.noise
                ).to(weight.dtype)
                if ctx.autocast or weight.dtype != grad_input.dtype:
                    grad_weight[part] = slopes.t() @ features
                    grad_input += slopes @ weight[part]
                else:
                    torch.mm(slopes.t(), features, out=grad_weight[part])
                    grad_input.addmm_(slopes, weight[part])
        return grad_input.to(features.dtype), grad_weight, grad_bias, None, None
