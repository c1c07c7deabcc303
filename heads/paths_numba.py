"""Tree paths in compiled loops, on the CPU.

The optional extra `fast` (numba) compiles them. Importing this module fails wherever numba cannot
compile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

from heads.loops import FAST, compiled, shared, threads_for
from heads.tree_tables import ZERO_SCORE
from heads.walk import Gradient, Heap, RowSums, Table, differentiate

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray
    Pairs = tuple[Array, Array, Array, Array]

WORK_PER_THREAD = 2**17
"""Multiply-adds of a pass over the paths for which another thread pays."""

CACHED = 2**18
"""Numbers of a weight that the cache next to a core has room for: rows of a larger one are asked
for before they are wanted."""

SAMPLES_AHEAD, RUNS_AHEAD = 2, 4
"""How long before: about what a row takes to come from memory."""

CACHE_LINE = 16
"""Numbers that come at once."""


def walk(
    input: Tensor, weight: Tensor, bias: Tensor, paths: Heap | Table, wanted: bool
) -> NumbaWalk:
    """See `heads.walk.BackEnd`."""
    return NumbaWalk(input.contiguous(), weight, bias, paths, wanted)


class NumbaWalk:
    """See `heads.walk.Walk`.

    What lasts longer than a kernel is torch's, whose allocator knows of it.
    """

    def __init__(
        self, input: Tensor, weight: Tensor, bias: Tensor, paths: Heap | Table, wanted: bool
    ) -> None:
        size, width = input.shape
        self.output, self._input = input.new_empty(size), input.numpy()
        self.jacobian = input.new_zeros(size, width if wanted else 0)
        rows, offsets = weight.numpy(), bias.numpy()
        results = (self.output.numpy(), self.jacobian.numpy())
        if isinstance(paths, Heap):
            depth, inner = (paths.leaves - 1).bit_length(), paths.leaves - 1
            order, places = torch.empty((2, size), dtype=torch.int64).numpy()
            slopes = input.new_empty(size, depth).numpy()
            self._threads = threads_for(slopes.size * width, WORK_PER_THREAD)
            _from_left_to_right(paths.leaf.contiguous().numpy(), depth, inner, order, places)
            _score_heap(self._input, rows, offsets, order, places, slopes, *results, self._threads)
            self._paths: tuple[Any, ...] = (order, places, inner)
            self._runs_of: Callable[..., int] = _runs_of_heap
        else:
            target, nodes, slots, tables = (
                table.contiguous().numpy() for table in (paths.target, *paths[1:])
            )
            slopes = input.new_empty(size, nodes.shape[1], *tables.shape[1:]).numpy()
            self._threads = threads_for(slopes.size * width, WORK_PER_THREAD)
            _score_table(
                self._input, rows, offsets, target, nodes, slots, tables, slopes, *results,
                self._threads,
            )  # fmt: skip
            self._paths = (target, nodes, tables)
            self._runs_of = _runs_of_table
        self._slopes = slopes

    @property
    def loss(self) -> Tensor:
        """()."""
        return -self.output.mean()

    def sums(self, grad: Gradient, grad_input: Tensor | None = None) -> RowSums:
        """See `heads.walk.Walk`."""
        values = self._values(grad, grad_input)
        rows = torch.empty(self._slopes.size, dtype=torch.int64)
        runs, pairs = self._runs(values, 1.0, rows.numpy())
        weight, bias = values.new_empty(runs, self._input.shape[1]), values.new_empty(runs)
        self._add(pairs, weight, bias, fresh=True)
        return RowSums(rows[:runs], weight, bias, True)

    def add(
        self,
        grad: Gradient,
        scale: float,
        weight: Tensor,
        bias: Tensor,
        grad_input: Tensor | None = None,
    ) -> None:
        """See `heads.walk.Walk`."""
        rows = np.empty(self._slopes.size, np.int64)
        values = self._values(grad, grad_input)
        self._add(self._runs(values, scale, rows)[1], weight, bias, fresh=False)

    def _values(self, grad: Gradient, grad_input: Tensor | None) -> Tensor:
        values = grad.product()
        if grad_input is not None:
            differentiate(values, self.jacobian, grad_input)
        return values

    def _runs(self, grad: Tensor, scale: float, rows: Array) -> tuple[int, Pairs]:
        """How many rows there are; and pairs of a sample and a row, sorted by row.

        Those are samples, changes, and of each row its first pair and its number.
        """
        size = self._slopes.size
        samples, starts = torch.empty((2, size + 1), dtype=torch.int64).numpy()
        changes = grad.new_empty(size).numpy()
        runs = self._runs_of(
            *self._paths, self._slopes, grad.numpy(), scale, samples, changes, rows, starts
        )
        return runs, (samples[:size], changes, starts[: runs + 1], rows[:runs])

    def _add(self, pairs: Pairs, weight: Tensor, bias: Tensor, fresh: bool) -> None:
        _add_runs(self._input, *pairs, weight.numpy(), bias.numpy(), fresh, self._threads)


def _prefetching(context: Any, array: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of a number, without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = signature.args[0]
        struct = context.make_array(kind)(context, builder, values[0])
        place = cgutils.get_item_pointer(context, builder, kind, struct, values[1:])
        number = ir.IntType(32)
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [place.type],
            ir.FunctionType(ir.VoidType(), [place.type, number, number, number]),
        )
        # To read, to be kept in every cache, of data.
        builder.call(function, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate


_prefetch: Callable[[Any, int, int], None] = intrinsic(_prefetching)


@compiled(forceinline=True)
def _prefetch_row(matrix: Array, row: int) -> None:
    """Ask for a row, but for what it may have in one further cache line."""
    for column in range(0, matrix.shape[1], CACHE_LINE):
        _prefetch(matrix, row, column)


_prefetch_row(np.zeros((1, 1), np.float32), 0)  # a numba that cannot is to be found out now


# Rows are named by matrix and index: a view of one, whose owner is counted atomically, would cost
# more than what is done with it.


@compiled(fastmath=FAST, forceinline=True)
def _dot(x: Array, i: int, w: Array, row: int) -> float:
    total: float = numba.float32(0)
    for k in range(x.shape[1]):
        total += x[i, k] * w[row, k]
    return total


@compiled(fastmath=FAST, forceinline=True)
def _dots(x: Array, i: int, w: Array, rows: Array, count: int, results: Array) -> None:
    """Dot products of row i of `x` with the first `count` of `rows` of `w`.

    Four at a time, as each alone would read `x`.
    """
    fours = count // 4 * 4
    for n in range(0, fours, 4):
        a, b, c, d = rows[n], rows[n + 1], rows[n + 2], rows[n + 3]
        p = q = r = s = numba.float32(0)
        for k in range(x.shape[1]):
            of_input = x[i, k]
            p += of_input * w[a, k]
            q += of_input * w[b, k]
            r += of_input * w[c, k]
            s += of_input * w[d, k]
        results[n], results[n + 1], results[n + 2], results[n + 3] = p, q, r, s
    for n in range(fours, count):
        results[n] = _dot(x, i, w, rows[n])


@compiled(fastmath=FAST, forceinline=True)
def _add_rows_scaled(
    y: Array,
    row: int,
    low: int,
    high: int,
    of: Array,
    rows: Array,
    scales: Array,
    begin: int,
    end: int,
) -> None:
    """Add to columns `low` to `high` of a row of `y` the rows `of` a matrix, each times its scale.

    Which rows and scales, `begin` to `end` of their arrays say. Four at a time, as each addition
    alone would read and write `y`. Columns are unsigned: numba asks of every other index whether
    it is negative, and a loop that asks is not vectorised.
    """
    first, last = np.uint64(low), np.uint64(high)
    fours = begin + (end - begin) // 4 * 4
    for n in range(begin, fours, 4):
        a, b, c, d = rows[n], rows[n + 1], rows[n + 2], rows[n + 3]
        p, q, r, s = scales[n], scales[n + 1], scales[n + 2], scales[n + 3]
        for k in range(first, last):
            y[row, k] += p * of[a, k] + q * of[b, k] + r * of[c, k] + s * of[d, k]
    for n in range(fours, end):
        a, p = rows[n], scales[n]
        for k in range(first, last):
            y[row, k] += p * of[a, k]


@compiled()
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


@shared()
def _score_heap(
    x: Array,
    w: Array,
    b: Array,
    order: Array,
    places: Array,
    slopes: Array,
    output: Array,
    jacobian: Array,
    blocks: int,
) -> None:
    """Log-probabilities, their slopes in each score on the path, and in the input.

    Samples are taken from left to right in the tree, each block its own part of it. So a row stays
    with one core, here and in the update; and there the samples of a row follow on each other.
    """
    size, depth = slopes.shape
    width, far = jacobian.shape[1], w.size > CACHED
    for block in numba.prange(blocks):
        row, slope = np.empty(depth, np.int64), np.empty(depth, np.float32)
        end = (block + 1) * size // blocks
        for s in range(block * size // blocks, end):
            i, place = order[s], places[s]
            steps = depth if place >> 1 <= len(w) else depth - 1
            if far and s + SAMPLES_AHEAD < end:
                for step in range(depth):
                    ahead = (places[s + SAMPLES_AHEAD] >> (depth - step)) - 1
                    if ahead < len(w) and ahead != (place >> (depth - step)) - 1:
                        _prefetch_row(w, ahead)
            for step in range(steps):
                row[step] = (place >> (depth - step)) - 1
            # All products before the first logarithm, so that the rows' cache misses overlap.
            _dots(x, i, w, row, steps, slope)
            total, product = numba.float32(0), 1.0
            for step in range(steps):
                sign = numba.float32(((place >> (depth - step - 1)) & 1) * 2 - 1)
                signed = sign * (slope[step] + b[row[step]])
                small = math.exp(-abs(signed))
                total += min(signed, numba.float32(0))
                product *= 1.0 + small
                slope[step] = sign * (small if signed >= 0 else numba.float32(1)) / (1 + small)
                slopes[s, step] = slope[step]
            # One logarithm for all decisions: the product is at most 2^depth.
            output[i] = total - math.log(product)
            _add_rows_scaled(jacobian, i, 0, width, w, row, slope, 0, steps)


@shared()
def _score_table(
    x: Array,
    w: Array,
    b: Array,
    target: Array,
    nodes: Array,
    slots: Array,
    rows: Array,
    slopes: Array,
    output: Array,
    jacobian: Array,
    blocks: int,
) -> None:
    """The same on any tree: of each child, the log-sum-exp of its pieces; of these, a softmax."""
    size, width = len(target), jacobian.shape[1]
    _, children, pieces = rows.shape
    for block in numba.prange(blocks):
        child, share = np.empty(children, np.float32), np.empty(children, np.float32)
        used = np.empty(children * pieces, np.int64)
        score, scale = np.empty((2, children * pieces), np.float32)
        for i in range(block * size // blocks, (block + 1) * size // blocks):
            total = numba.float32(0)
            for step in range(nodes.shape[1]):
                node, slot = nodes[target[i], step], slots[target[i], step]
                count = 0
                for c in range(children):
                    for m in range(pieces):
                        if rows[node, c, m] >= 0:
                            used[count] = rows[node, c, m]
                            count += 1
                _dots(x, i, w, used, count, score)
                most, k = numba.float32(-np.inf), 0
                for c in range(children):
                    first = k
                    for m in range(pieces):
                        if rows[node, c, m] >= 0:
                            score[k] += b[used[k]]
                            k += 1
                    if k > first:
                        child[c] = _log_sum_exp(score, first, k)
                    else:
                        child[c] = 0 if rows[node, c, 0] == ZERO_SCORE else -np.inf
                    most = max(most, child[c])
                mass = 0.0
                for c in range(children):
                    share[c] = math.exp(child[c] - most)
                    mass += share[c]
                total += child[slot] - most - numba.float32(math.log(mass))
                k = 0
                for c in range(children):
                    of_child = (1 if c == slot else 0) - share[c] / mass
                    for m in range(pieces):
                        if rows[node, c, m] >= 0:
                            of_piece = 1.0 if pieces == 1 else math.exp(score[k] - child[c])
                            slopes[i, step, c, m] = scale[k] = of_child * of_piece
                            k += 1
                _add_rows_scaled(jacobian, i, 0, width, w, used, scale, 0, count)
            output[i] = total


@compiled()
def _log_sum_exp(x: Array, begin: int, end: int) -> float:
    """Of some numbers, one at least."""
    high: float = x[begin]
    for k in range(begin + 1, end):
        high = max(high, x[k])
    if end - begin == 1 or abs(high) == np.inf:
        return high
    total: float = numba.float32(0)
    for k in range(begin, end):
        total += math.exp(x[k] - high)
    return high + math.log(total)


@compiled()
def _runs_of_heap(
    order: Array,
    places: Array,
    inner_nodes: int,
    slopes: Array,
    grad: Array,
    scale: float,
    samples: Array,
    changes: Array,
    rows: Array,
    starts: Array,
) -> int:
    """The pairs by row. From left to right, paths pass each level's nodes in ascending order."""
    size, depth = slopes.shape
    pair, run = 0, 0
    for step in range(depth):
        last = -1
        for s in range(size):
            row = (places[s] >> (depth - step)) - 1
            if row >= inner_nodes:  # a leaf already
                continue
            if row != last:
                rows[run], starts[run] = row, pair
                last, run = row, run + 1
            samples[pair] = order[s]
            changes[pair] = scale * grad[order[s]] * slopes[s, step]
            pair += 1
    starts[run] = pair
    return run


@compiled()
def _runs_of_table(
    target: Array,
    nodes: Array,
    tables: Array,
    slopes: Array,
    grad: Array,
    scale: float,
    samples: Array,
    changes: Array,
    rows: Array,
    starts: Array,
) -> int:
    """The pairs by row. Rows ascend as their nodes do, so nodes are all that has to be sorted."""
    _, depth, children, pieces = slopes.shape
    passed = nodes[target].ravel()
    order = np.argsort(passed, kind="mergesort")
    pair, run, first = 0, 0, 0
    while first < len(order):
        node, end = passed[order[first]], first + 1
        while end < len(order) and passed[order[end]] == node:
            end += 1
        for c in range(children):
            for m in range(pieces):
                if tables[node, c, m] < 0:
                    continue
                rows[run], starts[run] = tables[node, c, m], pair
                run += 1
                for k in range(first, end):
                    i, step = order[k] // depth, order[k] % depth
                    samples[pair] = i
                    changes[pair] = scale * grad[i] * slopes[i, step, c, m]
                    pair += 1
        first = end
    starts[run] = pair
    return run


@shared()
def _add_runs(
    x: Array,
    samples: Array,
    changes: Array,
    starts: Array,
    targets: Array,
    w: Array,
    b: Array,
    fresh: bool,
    blocks: int,
) -> None:
    """Add to each run's row what its pairs sum up to; each number has one block that moves it.

    Args:
        x: (N, d).
        samples: of M pairs, (M,).
        changes: of the pairs, (M,).
        starts: of T runs of pairs, and the end, (T + 1,).
        targets: the row of each run, (T,), unless `fresh`.
        w: (R, d); (T, d) where `fresh`.
        b: (R,) or (T,).
        fresh: whether the rows are those of the runs, and hold nothing yet.
        blocks: how many there are.
    """
    pairs, width, far = len(samples), w.shape[1], w.size > CACHED
    for block in numba.prange(blocks):
        for run in range(len(starts) - 1):
            begin, end = starts[run], starts[run + 1]
            split = (end - begin) * blocks > pairs
            low, high = 0, width
            if split:
                # So long a run cannot be one block's: here each owns columns.
                low, high = block * width // blocks, (block + 1) * width // blocks
            elif begin * blocks // pairs != block:
                continue
            row = run if fresh else targets[run]
            if fresh:
                w[row, low:high] = 0
            elif far and run + RUNS_AHEAD < len(targets):
                _prefetch_row(w, targets[run + RUNS_AHEAD])
            _add_rows_scaled(w, row, low, high, x, samples, changes, begin, end)
            if block == 0 or not split:
                total = numba.float32(0 if fresh else b[row])
                for pair in range(begin, end):
                    total += changes[pair]
                b[row] = total
