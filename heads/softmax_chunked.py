"""The full softmax without the N x n logits: the same loss, a slice of the classes at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from heads import softmax_torch
from heads.autograd import apply, graph_is_kept, opaque_apply
from heads.base import INT64_BYTES, Cost, HeadOutput, at_least_float32
from heads.extras import optional
from heads.kernels import on_device
from heads.softmax import Softmax
from heads.transforms import in_func

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from heads.softmax_torch import Perturbation

    Combine = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

ACCELERATOR_CHUNKS = 8
"""Of torch's operators, an accelerator wants few and large launches: slices may be this part of all
logits."""

WORTH_LOOPS = 2**18
"""From so many logits on the CPU's loops are faster than torch's operators, though Python calls
them."""


WORTH_FUSING = 2**23
"""Above so many logits an accelerator's kernels that write none are faster than a softmax's."""


class SoftmaxChunked(Softmax):
    """Full softmax whose loss holds no more than a slice of the N x n logits.

    The forward walks over slices of the classes, keeps each slice's log-sum-exp and forgets its
    logits; the backward computes them again, slice by slice, and writes each slice of the weight's
    gradient once. That is one product more than `Softmax` (four to three), for a memory of O(N + n)
    above the parameters and their gradients; and as a slice fits in cache, it need not be slower.
    `log_prob` returns N x n numbers and so makes them.

    Where one slice holds all classes, its logits are kept, and become slopes where they lie, by the
    CPU's compiled loops if these are worth their start; else `Softmax` does all of it.

    Source: the chunking of Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models",
    ICLR 2025, over classes; the running log-sum-exp of Milakov and Gimelshein, 2018.

    Args, shape, errors: as `Softmax`.

    On NVIDIA's GPUs with the shared memory of a Hopper's, for inputs of up to 128 features, or 256
    in bfloat16, kernels make the logits where they are used, three times, and write none of them:
    see `heads.softmax_fused_triton`.

    Cost, in multiply-adds: forward N n d, backward 3 N n d, by those kernels 4 N n d, step
    n (d + 1), predict N n d; with one slice, that of `Softmax`.
    """

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        features, weight = self.checked_input(input), self.linear.weight
        whole = made_at_once(len(features), weight, self.linear.bias)
        if (whole and not _loops_pay(len(features), weight)) or in_func():
            return super().forward(features, target)
        self.check_target(features, target)
        output = chunked_log_prob(features, weight, self.linear.bias, target, keep=whole)
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
        if made_at_once(batch_size, self.linear.weight, self.linear.bias):
            return super().forward_cost(batch_size)
        return sliced_forward_cost(self, batch_size)

    def backward_cost(self, batch_size: int) -> Cost:
        """The logits again, for both gradients at once or for each, and the gradients' products."""
        if made_at_once(batch_size, self.linear.weight, self.linear.bias):
            return super().backward_cost(batch_size)
        return sliced_backward_cost(self, batch_size)


def sliced_forward_cost(head: Softmax, samples: int) -> Cost:
    """One product with the weight, slice by slice: nothing of size N x n is written."""
    n, d = head.num_classes, head.in_features
    elements = n * (d + 1) + samples * d + 2 * samples
    return Cost(samples * n * d, elements * head.itemsize + samples * INT64_BYTES)


def sliced_backward_cost(head: Softmax, samples: int) -> Cost:
    """The logits again, for both gradients at once or for each, and the gradients' products."""
    n, d = head.num_classes, head.in_features
    elements = 2 * n * (d + 1) + 2 * samples * d + samples
    weight, bias = head.linear.weight, head.linear.bias
    products = 3 if fused_kernels(weight, bias) is None else 4
    return Cost(products * samples * n * d, elements * head.itemsize + samples * INT64_BYTES)


def kernels(weight: Tensor) -> ModuleType:
    """What works on a slice's logits, on the weight's device and in its dtype."""
    found = None
    if weight.is_cpu and weight.dtype == torch.float32:
        found = optional("heads.softmax_numba")
    if weight.is_cuda and weight.dtype != torch.float64:
        found = optional("heads.softmax_triton")
    return cast("ModuleType", found or softmax_torch)


def fused_kernels(weight: Tensor, bias: Tensor) -> ModuleType | None:
    """What never writes a logit, if there is such a thing for products as they are made here."""
    if not weight.is_cuda or weight.dtype == torch.float64 or not len(weight):
        return None
    found = cast("ModuleType | None", optional("heads.softmax_fused_triton"))
    if found is None or not (weight.is_contiguous() and bias.is_contiguous()):
        return None
    return found if found.works(weight.device, weight.size(1), _products(weight)) else None


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
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    noise: Perturbation | None = None,
    *,
    combine: Combine | None = None,
    keep: bool = False,
) -> Tensor:
    """Log-probability of each target, (N,), a slice of the classes at a time.

    Args:
        input: (N, d).
        weight: (n, d).
        bias: (n,).
        target: (N,); one that is not in [0, n) is somebody else's.
        noise: on top of the logits, made again in the backward.
        combine: from the targets' scores, 0 where one is somebody else's, and the log-sum-exp of
            these n classes, both (N,), to those of all classes there are; None where these are all.
        keep: whether to make all logits at once, and keep them for the backward; those under noise
            on the CPU alone, where that is kept with them.
    """
    record = apply if kernels(weight) is softmax_torch else opaque_apply
    output: Tensor = record(_ChunkedLogProb, input, weight, bias, target, noise, combine, keep)
    return output


def _loops_pay(batch_size: int, weight: Tensor) -> bool:
    """Whether there are loops for the CPU, and logits enough for them."""
    enough = weight.is_cpu and batch_size * len(weight) >= WORTH_LOOPS
    return enough and kernels(weight) is not softmax_torch


def fits_one_slice(batch_size: int, weight: Tensor) -> bool:
    """Whether so few logits are best made at once."""
    return len(weight) <= _slice_size(batch_size, weight)


def made_at_once(batch_size: int, weight: Tensor, bias: Tensor) -> bool:
    """Whether the logits of a loss are, and kept, instead of made again."""
    if fused_kernels(weight, bias) is not None:
        return batch_size * len(weight) <= WORTH_FUSING
    return fits_one_slice(batch_size, weight)


class _ChunkedLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        noise: Perturbation | None,
        combine: Combine | None,
        keep: bool,
    ) -> Tensor:
        kept: list[Tensor] = []
        ctx.products = _products(weight)
        fused = None if keep else fused_kernels(weight, bias)
        with on_device(weight):
            if fused is not None:
                given = (input.contiguous(), weight, bias, target.contiguous())
                score, log_sum = fused.log_sums(*given, noise, ctx.products)
            else:
                score, log_sum = _sliced_log_sums(input, weight, bias, target, noise, kept, keep)
        if combine is not None:
            score, log_sum = combine(score, log_sum)
        ctx.save_for_backward(input, weight, bias, target, log_sum, *kept)
        ctx.autocast, ctx.noise = torch.is_autocast_enabled(input.device.type), noise
        ctx.keep, ctx.fused = keep, fused
        output: Tensor = score - log_sum
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.fused is not None:
            return *_fused_gradients(ctx, grad_output), *[None] * 4
        features, weight, bias, target, log_sum, *kept = ctx.saved_tensors
        slopes_of, noise = kernels(weight).slopes, ctx.noise
        of_input, of_weight, *_ = ctx.needs_input_grad
        if ctx.keep and noise is not None:  # that is on what was kept
            grad_output, noise = grad_output / noise.tau, None
        grad_input = at_least_float32(torch.zeros_like(features)) if of_input else None
        grad_weight = torch.empty_like(weight) if of_weight else None
        grad_bias = torch.empty_like(bias)
        # A product into its place, unless its dtype is another one there.
        in_place = not ctx.autocast and at_least_float32(weight[:0]).dtype == weight.dtype
        dtype = ctx.products if ctx.autocast else None  # not that of whoever calls
        with torch.autocast(features.device.type, dtype, enabled=ctx.autocast):
            for index, part in enumerate(class_slices(features, weight, ctx.keep)):
                if not ctx.keep:
                    logits = F.linear(features, weight[part], bias[part])
                else:  # slopes are made where they lie
                    logits = kept[index].clone() if graph_is_kept() else kept[index]
                slopes = slopes_of(
                    logits, log_sum, target, grad_output, part.start, grad_bias[part], noise
                ).to(weight.dtype)
                if grad_weight is not None and in_place:
                    torch.mm(slopes.t(), features, out=grad_weight[part])
                elif grad_weight is not None:
                    grad_weight[part] = slopes.t() @ features
                if grad_input is not None and in_place:
                    grad_input.addmm_(slopes, weight[part])
                elif grad_input is not None:
                    grad_input += slopes @ weight[part]
        if grad_input is not None:
            grad_input = grad_input.to(features.dtype)
        return grad_input, grad_weight, grad_bias, *[None] * 4


def _sliced_log_sums(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    noise: Perturbation | None,
    kept: list[Tensor],
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Scores of the targets and log-sum-exp, (N,) each; the logits go to `kept`, if wanted."""
    running = kernels(weight).Running(target, noise)
    for part in class_slices(input, weight, keep):
        logits = F.linear(input, weight[part], bias[part])
        taken = running.take(logits, part.start)
        if keep:
            kept.append(logits if noise is None else taken)
    if len(weight):
        found: tuple[Tensor, Tensor] = running.result()
        return found
    score = at_least_float32(input.new_zeros(len(input)))  # of all classes, others have these
    return score, torch.full_like(score, -torch.inf)


def _fused_gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """Those of the input, the weight and the bias."""
    features, weight, bias, target, log_sum = ctx.saved_tensors
    grad = grad_output.contiguous()
    given = (features.contiguous(), weight, bias, target.contiguous(), log_sum, grad)
    of_input, *of_parameters = ctx.needs_input_grad[:3]
    grad_input = grad_weight = grad_bias = None
    if of_input:
        grad_input = ctx.fused.input_gradient(*given, ctx.noise, ctx.products).to(features.dtype)
    if any(of_parameters):
        grad_weight, grad_bias = ctx.fused.weight_gradient(*given, ctx.noise, ctx.products)
    return grad_input, grad_weight, grad_bias


def _products(weight: Tensor) -> torch.dtype:
    """The dtype of the factors of a product with the weight, here and now."""
    device = weight.device.type
    autocast = torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if autocast else weight.dtype


def class_slices(input: Tensor, weight: Tensor, whole: bool) -> Iterator[slice]:
    """Slices of the classes; one of all, if `whole`."""
    return iter([slice(0, len(weight))][: len(weight)]) if whole else _slices(input, weight)
