"""Hierarchical softmax whose backward is also its update, compiled.

The optional extra `fast` (numba) compiles it; the rest of the package does without. Importing this
module fails wherever numba cannot compile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from heads.autograd import apply, apply_uncompiled
from heads.base import INT64_BYTES, Cost, HeadOutput
from heads.hierarchical import Hierarchical
from heads.options import number
from heads.transforms import in_ddp, in_func

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Array = np.ndarray

WORK_PER_THREAD = 2**17
"""Multiply-adds of a pass over the paths for which another thread pays."""

LARGEST_FACTOR = 1.001
"""Most that a loss may be multiplied with on the way to its backward: 1, and room for roundings."""


class HierarchicalFused(Hierarchical):
    """Hierarchical softmax that makes its own SGD step in the backward, as word2vec does.

    In training, the forward reads the rows on each path and also finds the input's gradient; the
    backward adds to the rows in place what plain SGD would, and leaves no gradient of the weight
    behind, so that a `torch.optim.SGD` beside it finds nothing to do. The batch's gradient is taken
    before any row moves: the result is that of `Hierarchical` with `SGD` at `learning_rate`, and
    does not depend on the number of threads.

    This holds for float32 on the CPU. In evaluation, without gradients, with a frozen weight, on
    another device or in another dtype it is `Hierarchical`, and the optimizer makes the step.
    Every backward is a step: gradients do not accumulate over several of them, no one clips or
    averages them, and a factor of the loss is one of the step. So where somebody else would have
    to see the gradient first, the head refuses before a row moves: a loss multiplied by more than
    1, as a `GradScaler` does (float32 needs none; a weight belongs in `learning_rate`), under
    `DistributedDataParallel`, whose ranks would drift apart, and inside `torch.func`'s transforms.
    `Hierarchical` does all of these.

    Source: the update of Mikolov et al., "Distributed Representations of Words and Phrases and
    their Compositionality", NeurIPS 2013, here with the whole batch's gradient taken first.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.
        order: the classes in the order of the heap's leaves, (n,); by default 0..n-1.
        learning_rate: of the step, at least 0; an attribute, which a schedule may change.

    Shape: as `Hierarchical`.

    Raises:
        ValueError: as `Hierarchical`; `learning_rate` not a finite number of at least 0.
        RuntimeError: in training, where the step cannot be made as described above.

    Cost, with L = ceil(log2 n), in multiply-adds: forward 2 N L d, backward N L (d + 1), step none,
    predict at worst N (n - 1) d.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        order: Sequence[int] | Tensor | None = None,
        learning_rate: float = 0.01,
    ) -> None:
        super().__init__(in_features, num_classes, order)
        self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> float:
        """Of the step that the backward makes."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._learning_rate = number("learning_rate", rate, 0)

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        weight = self.nodes.weight
        fusible = weight.dtype == torch.float32 and weight.device.type == "cpu"
        if not (fusible and self.training and torch.is_grad_enabled() and weight.requires_grad):
            return super().forward(input, target)
        if in_ddp() or in_func():
            raise RuntimeError(
                "hierarchical-fused makes its own step in the backward, which does not go with "
                f"{'DistributedDataParallel' if in_ddp() else 'torch.func'}; use 'hierarchical'"
            )
        features = self.checked_input(input)
        self.check_target(features, target)
        leaf = self.places(target)
        run = apply_uncompiled if torch.compiler.is_compiling() else apply
        return HeadOutput(
            *run(_FusedLoss, features, weight, self.nodes.bias, leaf, self.learning_rate)
        )

    def forward_cost(self, batch_size: int) -> Cost:
        """The scores on a path, and from the same rows the input's gradient."""
        d, path = self.in_features, batch_size * self.depth
        elements = self.rows_touched(batch_size) * (d + 1) + batch_size * (2 * d + 1) + path
        return Cost(2 * path * d, elements * self.itemsize + batch_size * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """The rows' update: each is read and written."""
        d, path = self.in_features, batch_size * self.depth
        elements = 2 * self.rows_touched(batch_size) * (d + 1) + 3 * batch_size * d + path
        return Cost(path * (d + 1), elements * self.itemsize + batch_size * INT64_BYTES)

    def step_cost(self, batch_size: int) -> Cost:
        """Nothing is left to do."""
        return Cost(0, 0)


class _FusedLoss(torch.autograd.Function):
    """Log-probabilities and their loss as one node: at this speed each further one would show.

    What lasts longer than a kernel is torch's, whose allocator knows of it.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, leaf: Tensor, learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        features, w, b = (t.detach().numpy() for t in (input.contiguous(), weight, bias))
        size, depth = len(features), len(w).bit_length()
        order, places = (torch.empty_like(leaf).numpy() for _ in range(2))
        _from_left_to_right(leaf.numpy(), depth, len(w), order, places)
        output = torch.empty(size)
        slopes = torch.empty(size, depth).numpy()
        wanted = features.shape[1] if ctx.needs_input_grad[0] else 0
        jacobian = torch.zeros(size, wanted).numpy()
        threads = _use_threads_for(slopes.size * features.shape[1])
        _score(features, w, b, order, places, output.numpy(), slopes, jacobian, threads)
        # Saved for autograd's checks alone. The rows are meant to change, so they are not.
        ctx.save_for_backward(input)
        ctx.set_materialize_grads(False)
        ctx.arrays = (features, w, b, order, places, slopes, jacobian)
        ctx.learning_rate = learning_rate
        return output, -output.mean()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_output: Tensor | None, grad_loss: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors  # raises where the graph is used up or the input has changed
        features, w, b, order, places, slopes, jacobian = ctx.arrays
        grad = _sample_gradients(grad_output, grad_loss, len(features))
        threads = _use_threads_for(slopes.size * features.shape[1])
        grad_input = torch.empty(jacobian.shape)
        change, rate = grad_input.numpy(), np.float32(-ctx.learning_rate)
        _update(features, w, b, order, places, slopes, jacobian, grad, change, rate, threads)
        return grad_input if ctx.needs_input_grad[0] else None, None, None, None, None


def _sample_gradients(grad_output: Tensor | None, grad_loss: Tensor | None, size: int) -> Array:
    """The gradient in each log-probability, of which the loss is the negative mean: -> (size,).

    Args:
        grad_output: the gradient in the log-probabilities apart from the loss, (size,), if any.
        grad_loss: the gradient in the loss, (), if any.
        size: number of samples.

    Raises:
        RuntimeError: these are not the gradients of a loss, but of a multiple of it.
    """
    grad = torch.zeros(size).numpy()
    if not size:
        return grad
    factor = 0.0
    if grad_loss is not None:
        grad -= grad_loss.item() / size
        factor = abs(grad_loss.item())
    if grad_output is not None:
        grad += grad_output.numpy()
        # A sum over the samples is as good a loss as their mean.
        factor = max(factor, float(grad_output.abs().mean()))
    if factor > LARGEST_FACTOR:
        raise RuntimeError(
            f"the loss of hierarchical-fused came back multiplied by {factor:g}, which would go "
            "into its weights; leave out the GradScaler or the factor, or use 'hierarchical'"
        )
    return grad


def _use_threads_for(work: int) -> int:
    """Set and return how many of torch's threads share `work` multiply-adds."""
    most = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    threads = max(1, min(most, work // WORK_PER_THREAD))
    numba.set_num_threads(threads)
    return int(threads)


_FAST = {"reassoc", "contract"}
"""Sums may be taken in another order, but what is not finite stays so."""

Loops = TypeVar("Loops", bound="Callable[..., Any]")


def _next(i: int) -> int:
    """Something to compile."""
    return i + 1


def _can_be_kept() -> bool:
    """Whether compiled code can be kept on disk; raises where nothing can be compiled at all."""
    try:
        numba.njit(cache=True)(_next)(0)
    except Exception:  # nowhere to write, a full disk: numba has no common type for them
        numba.njit(_next)(0)
        return False
    return True


_KEPT = _can_be_kept()


def _compiled(**options: Any) -> Callable[[Loops], Loops]:
    """Numba's decorator, with the types that it keeps and does not declare."""
    decorate: Callable[[Loops], Loops] = numba.njit(cache=_KEPT, **options)
    return decorate


@_compiled(fastmath=_FAST)
def _dot(x: Array, y: Array) -> float:
    total: float = numba.float32(0)
    for k in range(len(x)):
        total += x[k] * y[k]
    return total


@_compiled(fastmath=_FAST)
def _add_scaled(y: Array, scale: float, x: Array) -> None:
    for k in range(len(y)):
        y[k] += scale * x[k]


@_compiled(fastmath=_FAST)
def _add_four_scaled(y: Array, scales: Array, a: Array, b: Array, c: Array, d: Array) -> None:
    """Four at a time, as each addition alone would read and write all of `y`."""
    p, q, r, s = scales[0], scales[1], scales[2], scales[3]
    for k in range(len(y)):
        y[k] += p * a[k] + q * b[k] + r * c[k] + s * d[k]


@_compiled()
def _from_left_to_right(
    leaf: Array, depth: int, inner_nodes: int, order: Array, places: Array
) -> None:
    """The samples from left to right in the tree, and where each one's leaf is on `depth`.

    A leaf that is one level higher stands for the first of the two that it would have below it.
    """
    unordered = leaf + (inner_nodes + 1)
    for i in range(len(unordered)):
        if not unordered[i] >> depth:
            unordered[i] *= 2
    order[:] = np.argsort(unordered)
    places[:] = unordered[order]


@_compiled(parallel=True, fastmath=_FAST)
def _score(
    x: Array,
    w: Array,
    b: Array,
    order: Array,
    places: Array,
    output: Array,
    slopes: Array,
    jacobian: Array,
    blocks: int,
) -> None:
    """Log-probabilities, their slopes in each score on the path, and in the input.

    Samples are taken from left to right in the tree, each block its own part of it. So a row stays
    with one core, here and in the update; and there the samples of a row follow on each other.
    """
    size, depth = slopes.shape
    wanted = jacobian.shape[1]
    for block in numba.prange(blocks):
        row = np.empty(depth, np.int64)
        for s in range(block * size // blocks, (block + 1) * size // blocks):
            i, place = order[s], places[s]
            steps = depth if place >> 1 <= len(w) else depth - 1
            # All products before the first logarithm, so that the rows' cache misses overlap.
            for step in range(steps):
                row[step] = (place >> (depth - step)) - 1
                slopes[s, step] = _dot(x[i], w[row[step]]) + b[row[step]]
            total, product = numba.float32(0), 1.0
            for step in range(steps):
                sign = numba.float32(((place >> (depth - step - 1)) & 1) * 2 - 1)
                signed = sign * slopes[s, step]
                small = math.exp(-abs(signed))
                total += min(signed, numba.float32(0))
                product *= 1.0 + small
                slopes[s, step] = sign * (small if signed >= 0 else numba.float32(1)) / (1 + small)
            # One logarithm for all decisions: the product is at most 2^depth.
            output[i] = total - math.log(product)
            fours = steps // 4 * 4
            for step in range(0, fours, 4):
                _add_four_scaled(
                    jacobian[i],
                    slopes[s, step:],
                    w[row[step], :wanted],
                    w[row[step + 1], :wanted],
                    w[row[step + 2], :wanted],
                    w[row[step + 3], :wanted],
                )
            for step in range(fours, steps):
                _add_scaled(jacobian[i], slopes[s, step], w[row[step], :wanted])


@_compiled(fastmath=_FAST)
def _first_of_node(places: Array, shift: int, s: int) -> int:
    """The first sample from the s-th on whose ancestor, `shift` levels up, is not its neighbour's.

    Told of where a block begins and ends, this gives each block the nodes that begin in it.
    """
    while 0 < s < len(places) and places[s] >> shift == places[s - 1] >> shift:
        s += 1
    return s


@_compiled(parallel=True, fastmath=_FAST)
def _update(
    x: Array,
    w: Array,
    b: Array,
    order: Array,
    places: Array,
    slopes: Array,
    jacobian: Array,
    grad: Array,
    grad_input: Array,
    rate: np.float32,
    blocks: int,
) -> None:
    """Each sample moves the rows on its path, and each row has one block that moves it."""
    size, depth = slopes.shape
    width = w.shape[1]
    for block in numba.prange(blocks):
        first, last = block * size // blocks, (block + 1) * size // blocks
        for s in range(first, last):
            i = order[s]
            grad_input[i] = grad[i] * jacobian[i]
        for step in range(depth):
            shift = depth - step
            shared = 1 << step <= blocks
            if shared:
                # So few nodes cannot be shared out: here a block owns columns.
                begin, end = 0, size
                low, high = block * width // blocks, (block + 1) * width // blocks
            else:
                begin = _first_of_node(places, shift, first)
                end = _first_of_node(places, shift, last)
                low, high = 0, width
            for s in range(begin, end):
                row = (places[s] >> shift) - 1
                if row < len(w):
                    i = order[s]
                    change = rate * grad[i] * slopes[s, step]
                    _add_scaled(w[row, low:high], change, x[i, low:high])
                    if block == 0 or not shared:
                        b[row] += change
