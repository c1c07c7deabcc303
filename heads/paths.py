"""The loss on tree paths, its gradients and its SGD step: one interface, three back ends.

A back end walks from the root to each sample's class and leaves a `Walk` behind, which knows how
the log-probability changes with the input and with every score on the way. What becomes of that, a
row-sparse gradient for any optimizer, a dense one, or the step itself, is the same for all of them:

| back end | where | kernels |
|---|---|---|
| `paths_numba` | CPU, float32, with the extra `fast` | compiled loops |
| `paths_triton` | CUDA, but float64, with Triton | two launches for a heap's step |
| `paths_torch` | anywhere, any dtype | torch's embedding bags |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from heads import paths_torch
from heads.autograd import graph_is_kept, opaque_apply, untraced
from heads.base import at_least_float32
from heads.extras import optional
from heads.kernels import on_device, row_sparse_gradient
from heads.transforms import in_ddp
from heads.walk import MULTIPLIED, Gradient, differentiate

if TYPE_CHECKING:
    from heads.walk import BackEnd, Heap, Table, Walk

LARGEST_FACTOR = 1.001
"""Most that a loss may be multiplied with on the way to a backward that makes its own step: 1, and
room for roundings."""


def back_end(weight: Tensor, *others: Tensor) -> BackEnd:
    """The fastest back end for a weight of this dtype, there where it is.

    Kernels want it, and the `others` that they read and write as they are, contiguous.
    """
    if not all(tensor.is_contiguous() for tensor in (weight, *others)):
        return cast("BackEnd", paths_torch)
    found = None
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        found = optional("heads.paths_numba")
    if weight.is_cuda and weight.dtype != torch.float64:
        found = optional("heads.paths_triton")
    return cast("BackEnd", found or paths_torch)


def gathers(weight: Tensor, *others: Tensor) -> bool:
    """Whether walking a path means torch's gathers, which few rows are not worth."""
    return back_end(weight, *others) is cast("BackEnd", paths_torch)


def path_loss(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    paths: Heap | Table,
    sparse: bool,
    rate: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each sample's class, (N,), and the loss, minus their mean, ().

    Args:
        input: (N, d).
        weight: (R, d).
        bias: (R,).
        paths: from the root to each sample's class.
        sparse: whether backward gives the parameters `torch.sparse_coo` gradients, of the rows on
            the paths alone, or dense ones, which are all that `DistributedDataParallel` averages.
        rate: of plain SGD's step, if the backward makes that, in place, instead of gradients.

    Raises:
        RuntimeError: in the backward of a step, before a row has moved, where the loss came back
            multiplied by more than 1 (on an accelerator, the device's own assertion, later).
    """
    if torch.is_autocast_enabled(input.device.type):
        with torch.autocast(input.device.type, enabled=False):
            return path_loss(input, weight, bias, paths, sparse, rate)
    output, loss = opaque_apply(
        _PathLoss, input, weight, bias, paths, sparse and not in_ddp(), rate
    )
    return output, loss


class _PathLoss(torch.autograd.Function):
    """Log-probabilities and their loss as one node: at this speed each further one would show."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        paths: Heap | Table,
        sparse: bool,
        rate: float | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.weight, ctx.bias, ctx.sparse, ctx.rate = weight.detach(), bias.detach(), sparse, rate
        with on_device(weight):
            ctx.walk = back_end(weight, bias).walk(
                input.detach(), ctx.weight, ctx.bias, paths, ctx.needs_input_grad[0]
            )
        if rate is not None and ctx.needs_input_grad[0]:
            _ = ctx.walk.jacobian  # made now: before the backward another step may move the rows
        # For autograd's checks. The rows of a step of our own are meant to change.
        ctx.save_for_backward(input, *(() if rate is not None else (weight,)))
        ctx.set_materialize_grads(False)
        # Not the tensor itself, whose graph would then hold it: nothing would be freed in time.
        return ctx.walk.output.detach(), ctx.walk.loss.detach()

    @staticmethod
    @once_differentiable
    @untraced
    def backward(
        ctx: Any, grad_output: Tensor | None, grad_loss: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        features, *_ = ctx.saved_tensors  # raises where the graph is used up or this has changed
        walk: Walk = ctx.walk
        weight, bias = ctx.weight, ctx.bias
        grad = _gradient(grad_output, grad_loss, walk.output, ctx.rate is not None)
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = torch.empty_like(features, memory_format=torch.contiguous_format)
        if ctx.rate is not None:
            walk.add(grad, -ctx.rate, weight, bias, grad_input)
        elif not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            if grad_input is not None:
                differentiate(grad.product(), walk.jacobian, grad_input)
        elif ctx.sparse:
            found = walk.sums(grad, grad_input)
            grad_weight = row_sparse_gradient(found.rows, found.weight, weight, found.distinct)
            grad_bias = row_sparse_gradient(found.rows, found.bias, bias, found.distinct)
        else:
            sums, offsets = (at_least_float32(torch.zeros_like(p)) for p in (weight, bias))
            walk.add(grad, 1.0, sums, offsets, grad_input)
            grad_weight, grad_bias = sums.to(weight.dtype), offsets.to(bias.dtype)
        if not graph_is_kept():
            del ctx.walk  # as autograd frees what it saved; the loss may live on
        return grad_input, grad_weight, grad_bias, None, None, None


def _gradient(
    grad_output: Tensor | None, grad_loss: Tensor | None, output: Tensor, step: bool
) -> Gradient:
    """The gradient in each log-probability, of which the loss is the negative mean.

    Whoever makes a step of it wants to know that it is a loss's, and not that of a multiple.
    """
    share = -1 / max(1, len(output))
    if grad_loss is None:
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        if step and len(output):
            # A sum over the samples is as good a loss as their mean.
            _check_factor(grad_output.abs().mean())
        return Gradient(grad_output)
    if grad_output is None:
        if grad_loss.is_cpu:
            if step:
                _check_factor(grad_loss.abs())
            return Gradient(torch.full_like(output, grad_loss.item() * share))
        most = LARGEST_FACTOR if step else math.inf
        return Gradient(grad_loss.expand(output.shape), share, most)
    if step:
        _check_factor(grad_loss.abs())
        if len(output):
            _check_factor(grad_output.abs().mean())
    return Gradient(grad_output + grad_loss * share)


def _check_factor(factor: Tensor) -> None:
    """Raise unless this is the gradient of a loss, and not of a multiple of it."""
    if factor.device.type != "cpu":
        torch._assert_async(~(factor > LARGEST_FACTOR), MULTIPLIED)
    elif factor.item() > LARGEST_FACTOR:
        raise RuntimeError(
            f"the loss of hierarchical-fused came back multiplied by {factor.item():g}, which "
            "would go into its weights; leave out the GradScaler or the factor, or use "
            "'hierarchical'"
        )
