"""Paths in a heap in Triton's kernels: see `heads.paths_triton`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from heads.launch_triton import CHECKED, blocks, launch, power
from heads.walk import Gradient, Heap, RowSums

FEW_ROWS = 256
"""Up to so many each has its place in a row-sparse gradient, and a step goes without atomics."""

CROWD = 16
"""Samples to a row, on average, from which on it has one place in a row-sparse gradient."""

MOST_LEVELS = 8
"""Of which the rows may have one; as many as `FEW_ROWS` make."""

_MOST_LEVELS = tl.constexpr(MOST_LEVELS)

SHARED = 64
"""Samples to a row, on average, from which on a step sums up chunks of them before it adds to it by
atomics."""

MOST_SHARED_LEVELS = 6
"""Of which it may do so."""

WHOLE = 256
"""Widest rows that a program holds whole, so that it reads them once."""

A_WARPS = 4096
"""Numbers of a sample's rows that the registers of one warp have room for."""

MOST_RANKED = 8192
"""Samples up to which comparing each with all of them is the fastest sort."""


class HeapWalk:
    """See `heads.walk.Walk`."""

    def __init__(
        self, input: Tensor, weight: Tensor, bias: Tensor, paths: Heap, wanted: bool
    ) -> None:
        size, width = input.shape
        self._input, self._leaf, self._leaves = input, paths.leaf.contiguous(), paths.leaves
        self._depth = (paths.leaves - 1).bit_length()
        self.output = input.new_empty(size, dtype=torch.float32)
        losses = torch.empty_like(self.output)
        self._slopes = self.output.new_empty(size, self._depth)
        self.jacobian = self.output.new_empty(size, width if wanted else 0)
        if size:
            levels, columns = power(self._depth), power(width, WHOLE)
            launch(
                _walk, (size,), input, weight, bias, self._leaf, self.output, losses,
                self._slopes, self.jacobian, self._leaves, self._depth, width, LEVELS=levels,
                COLUMNS=columns, WHOLE=width <= columns, WANTED=wanted,
                num_warps=1 if levels * columns <= A_WARPS else 4, **CHECKED,
            )  # fmt: skip
        self.loss = losses.mean()

    def add(
        self,
        grad: Gradient,
        scale: float,
        weight: Tensor,
        bias: Tensor,
        grad_input: Tensor | None = None,
    ) -> None:
        """See `heads.walk.Walk`."""
        size, width = self._input.shape
        if self._leaves <= FEW_ROWS or torch.are_deterministic_algorithms_enabled():
            self.sums(grad, grad_input).add_to(weight, bias, scale)
        elif size:
            top = min((size // SHARED).bit_length(), MOST_SHARED_LEVELS)
            chunk = 32 if size < 2048 else 128  # few are to wait for each other, or to add
            rows, tile = power(1 << top, 32, 16), power(width, chunk, 16)
            tiles = blocks((1 << top) - 1, rows) * blocks(width, tile) * blocks(size, chunk)
            launch(
                _add, (tiles + size,), self._input, self._leaf, self._slopes, grad.values,
                self.jacobian, self.jacobian if grad_input is None else grad_input, weight, bias,
                grad.factor, scale, grad.most, size, self._leaves, self._depth, top, width,
                grad.values.stride(0), ROWS=rows, SAMPLES=32, TILE=tile, CHUNK=chunk,
                LEVELS=power(self._depth - top), COLUMNS=power(width, 128),
                WANTED=grad_input is not None, **CHECKED,
            )  # fmt: skip

    def sums(self, grad: Gradient, grad_input: Tensor | None = None) -> RowSums:
        """See `heads.walk.Walk`.

        A row per sample and level, but for those near the root, so that the host need not know how
        many are distinct; where a sample shares its row with one further left, zeros for its
        deepest one.
        """
        size, width = self._input.shape
        top = self._top()
        top_rows = min(1 << top, self._leaves) - 1
        pairs = top_rows + size * (self._depth - top)
        rows = self._leaf.new_empty(pairs)
        weight = self._slopes.new_empty(pairs, width)
        bias = self._slopes.new_empty(pairs)
        if not size:
            return RowSums(rows.zero_(), weight.zero_(), bias.zero_(), False)
        samples = power(size, 128, 16)
        tile = power(width, 2048 // samples)
        tiles = top_rows * blocks(width, tile)
        programs = tiles + size * (self._depth - top) + (0 if grad_input is None else size)
        launch(
            _sum, (programs,), self._input, self._sorted(), self._slopes, grad.values,
            self.jacobian, self.jacobian if grad_input is None else grad_input, weight, bias, rows,
            grad.factor, grad.most, size, self._leaves, self._depth, top, top_rows, width,
            grad.values.stride(0), SAMPLES=samples, TILE=tile, RUN=8, COLUMNS=power(width, 128),
            num_warps=2, **CHECKED,
        )  # fmt: skip
        return RowSums(rows, weight, bias, False)

    def _top(self) -> int:
        """How many levels have few rows for the samples there are."""
        if self._leaves <= FEW_ROWS:
            return self._depth
        return min((len(self._input) // CROWD).bit_length(), MOST_LEVELS)

    def _sorted(self) -> Tensor:
        """Places on the lowest level, from left to right, and whose they are: (2, N)."""
        size = len(self._leaf)
        if size > MOST_RANKED:
            node = self._leaf + self._leaves
            places = torch.where(node >> self._depth == 0, 2 * node, node)
            return torch.stack(places.sort(stable=True))
        ranked = self._leaf.new_empty(2, size)
        launch(
            _rank, (blocks(size, 16),), self._leaf, ranked, size, self._leaves, self._depth,
            SAMPLES=16, OTHERS=128,
        )  # fmt: skip
        return ranked


@triton.jit
def _place(leaf, leaves, depth):
    """Its place on the lowest level; a leaf above it stands for the first of two below."""
    node = leaf + leaves
    return tl.where((node >> depth) == 0, 2 * node, node)


@triton.jit
def _tile(x, row, on, first, width, COLUMNS: tl.constexpr):
    """Columns of some rows, as float32."""
    column = first + tl.arange(0, COLUMNS)
    mask = on[:, None] & (column < width)[None, :]
    values = tl.load(x + row[:, None] * width + column[None, :], mask=mask, other=0)
    return values.to(tl.float32)


@triton.jit(do_not_specialize=["leaves", "depth"])
def _walk(
    x, w, b, leaf, output, losses, slopes, jacobian, leaves, depth, width,
    LEVELS: tl.constexpr, COLUMNS: tl.constexpr, WHOLE: tl.constexpr, WANTED: tl.constexpr,
):  # fmt: skip
    """Per sample: its rows, all at once; log-probability, slopes, gradient in the input."""
    i = tl.program_id(0).to(tl.int64)
    end = tl.load(leaf + i)
    good = (end >= 0) & (end < leaves)
    place = _place(tl.where(good, end, 0), leaves, depth)
    step = tl.arange(0, LEVELS)
    node = place >> tl.maximum(depth - step, 0)
    on = (step < depth) & (node < leaves)
    row = tl.where(on, node - 1, 0)
    column = tl.arange(0, COLUMNS)
    x += i * width
    if WHOLE:
        ws = _tile(w, row, on, 0, width, COLUMNS)
        xs = tl.load(x + column, mask=column < width, other=0).to(tl.float32)
        score = tl.sum(ws * xs[None, :], axis=1)
    else:
        score = tl.zeros((LEVELS,), dtype=tl.float32)
        for k in range(0, width, COLUMNS):
            xs = tl.load(x + k + column, mask=k + column < width, other=0).to(tl.float32)
            score += tl.sum(_tile(w, row, on, k, width, COLUMNS) * xs[None, :], axis=1)
    score += tl.load(b + row, mask=on, other=0).to(tl.float32)
    right = (place >> tl.maximum(depth - step - 1, 0)) & 1
    sign = (right * 2 - 1).to(tl.float32)
    signed = sign * score
    small = tl.exp(-tl.abs(signed))
    decision = tl.minimum(signed, 0.0) - tl.log(1 + small)
    total = tl.sum(tl.where(on, decision, 0.0), axis=0)
    tl.store(output + i, total)
    tl.store(losses + i, -total)
    slope = tl.where(on, sign * tl.where(signed >= 0, small, 1.0) / (1 + small), 0.0)
    if WANTED:
        jacobian += i * width
        if WHOLE:
            tl.store(jacobian + column, tl.sum(ws * slope[:, None], axis=0), mask=column < width)
        else:
            for k in range(0, width, COLUMNS):
                part = tl.sum(_tile(w, row, on, k, width, COLUMNS) * slope[:, None], axis=0)
                tl.store(jacobian + k + column, part, mask=k + column < width)
    tl.store(slopes + i * depth + step, slope, mask=step < depth)
    tl.device_assert(good, "a target is not in [0, num_classes)")


@triton.jit
def _differentiate(jacobian, grad_input, i, factor, width, COLUMNS: tl.constexpr):
    """A sample's gradient in the input."""
    for k in range(0, width, COLUMNS):
        column = k + tl.arange(0, COLUMNS)
        change = factor * tl.load(jacobian + i * width + column, mask=column < width, other=0)
        tl.store(grad_input + i * width + column, change, mask=column < width)


@triton.jit
def _level(node):
    """How far below the root nodes near it are."""
    level = tl.zeros_like(node)
    for k in tl.static_range(1, _MOST_LEVELS + 1):
        level += ((node >> k) > 0).to(tl.int32)
    return level


@triton.jit
def _factors(grad, i, there, stride, most):
    """The gradient in some samples' outputs, which in a step's must not be more than `most`."""
    value = tl.load(grad + i * stride, mask=there, other=0)
    tl.device_assert((tl.abs(value) > most) == 0, "the loss came back multiplied")
    return value


@triton.jit
def _add_samples(
    total, offset, x, slopes, i, there, place, factor, node, level, exists, depth, first, width,
    TILE: tl.constexpr,
):  # fmt: skip
    """Add some samples' terms to columns of the gradient of the rows of some nodes."""
    passed = (place[None, :] >> tl.maximum(depth - level, 0)[:, None]) == node[:, None]
    passed &= exists[:, None] & there[None, :]
    slope = tl.load(slopes + i[None, :] * depth + level[:, None], mask=passed, other=0)
    slope *= factor[None, :]
    total = tl.dot(slope, _tile(x, i, there, first, width, TILE), total, input_precision="ieee")
    return total, offset + tl.sum(slope, axis=1)


@triton.jit(do_not_specialize=["size", "leaves", "depth", "top", "stride"])
def _add(
    x, leaf, slopes, grad, jacobian, grad_input, w, b, share, scale, most, size, leaves, depth, top,
    width, stride, ROWS: tl.constexpr, SAMPLES: tl.constexpr, TILE: tl.constexpr,
    CHUNK: tl.constexpr, LEVELS: tl.constexpr, COLUMNS: tl.constexpr, WANTED: tl.constexpr,
):  # fmt: skip
    """By atomics: the first levels' terms of a chunk of the samples, all others sample by sample.

    Every sample adds to the root: without the sums before, each would wait for all others.
    """
    pid = tl.program_id(0)
    top_rows = (1 << top) - 1
    row_blocks = tl.cdiv(top_rows, ROWS)
    column_blocks = tl.cdiv(width, TILE)
    tiles = row_blocks * column_blocks * tl.cdiv(size, CHUNK)
    if pid < tiles:
        top_row = pid % row_blocks * ROWS + tl.arange(0, ROWS)
        exists = top_row < top_rows
        level = _level(top_row + 1)
        first = pid // row_blocks % column_blocks * TILE
        start = pid // row_blocks // column_blocks * CHUNK
        total = tl.zeros((ROWS, TILE), dtype=tl.float32)
        offset = tl.zeros((ROWS,), dtype=tl.float32)
        for s in range(start, tl.minimum(start + CHUNK, size), SAMPLES):
            some = (s + tl.arange(0, SAMPLES)).to(tl.int64)
            there = some < size
            ends = _place(tl.load(leaf + some, mask=there, other=0), leaves, depth)
            factor = share * scale * _factors(grad, some, there, stride, most)
            total, offset = _add_samples(
                total, offset, x, slopes, some, there, ends, factor, top_row + 1, level,
                exists, depth, first, width, TILE,
            )  # fmt: skip
        columns = first + tl.arange(0, TILE)
        at = w + top_row[:, None] * width + columns[None, :]
        mask = exists[:, None] & (columns < width)[None, :]
        tl.atomic_add(at, total, mask=mask, sem="relaxed")
        tl.atomic_add(
            b + top_row, offset, mask=top_row < tl.where(first == 0, top_rows, 0), sem="relaxed"
        )
    else:
        i = (pid - tiles).to(tl.int64)
        step = top + tl.arange(0, LEVELS)
        node = _place(tl.load(leaf + i), leaves, depth) >> tl.maximum(depth - step, 0)
        on = (step < depth) & (node < leaves)
        row = tl.where(on, node - 1, 0)
        change = share * _factors(grad, i, i < size, stride, most)
        slope = scale * change * tl.load(slopes + i * depth + step, mask=on, other=0)
        tl.atomic_add(b + row, slope, mask=on, sem="relaxed")
        for k in range(0, width, COLUMNS):
            column = k + tl.arange(0, COLUMNS)
            xs = tl.load(x + i * width + column, mask=column < width, other=0).to(tl.float32)
            tl.atomic_add(
                w + row[:, None] * width + column[None, :], slope[:, None] * xs[None, :],
                mask=on[:, None] & (column < width)[None, :], sem="relaxed",
            )  # fmt: skip
        if WANTED:
            _differentiate(jacobian, grad_input, i, change, width, COLUMNS)


@triton.jit(do_not_specialize=["size", "leaves", "depth"])
def _rank(
    leaf, ranked, size, leaves, depth, SAMPLES: tl.constexpr, OTHERS: tl.constexpr
):  # fmt: skip
    """Sort some samples by their places: as many of all come before each."""
    i = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    place = _place(tl.load(leaf + i, mask=i < size, other=0), leaves, depth)
    ours = place.to(tl.int32)[:, None]
    before = tl.zeros((SAMPLES, OTHERS), dtype=tl.int32)
    for first in range(0, size, OTHERS):
        j = first + tl.arange(0, OTHERS)
        other = _place(tl.load(leaf + j, mask=j < size, other=0), leaves, depth)
        theirs = tl.where(j < size, other, 2**31 - 1).to(tl.int32)[None, :]
        tie = (theirs == ours) & (j[None, :] < i[:, None])
        before += ((theirs < ours) | tie).to(tl.int32)
    rank = tl.sum(before, axis=1)
    tl.store(ranked + rank, place, mask=i < size)
    tl.store(ranked + size + rank, i.to(tl.int64), mask=i < size)


@triton.jit
def _add_run(
    total, offset, x, order, slopes, grad, at, same, share, stride, most, depth, step, first, width,
    TILE: tl.constexpr,
):  # fmt: skip
    """Add some samples' terms to columns of the gradient of a row that all pass at this step."""
    i = tl.load(order + at, mask=same, other=0)
    slope = tl.load(slopes + i * depth + step, mask=same, other=0)
    slope *= share * _factors(grad, i, same, stride, most)
    total += tl.sum(slope[:, None] * _tile(x, i, same, first, width, TILE), axis=0)
    return total, offset + tl.sum(slope, axis=0)


@triton.jit(do_not_specialize=["size", "leaves", "depth", "top", "top_rows", "stride"])
def _sum(
    x, places, slopes, grad, jacobian, grad_input, weight, bias, rows, share, most, size, leaves,
    depth, top, top_rows, width, stride, SAMPLES: tl.constexpr, TILE: tl.constexpr,
    RUN: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """In a fixed order: the gradient of rows near the root, of the others, and of the input.

    From left to right, the samples that pass a node follow each other. Near the root a program sums
    up some columns of a row; elsewhere, per sample and level, a whole row, if the sample is its
    first.
    """
    pid = tl.program_id(0)
    order = places + size
    column_blocks = tl.cdiv(width, TILE)
    tiles = top_rows * column_blocks
    levels = depth - top
    if pid < tiles:
        top_row = pid // column_blocks
        left = pid % column_blocks * TILE
        level = tl.sum(((top_row + 1) >> tl.arange(1, 9) > 0).to(tl.int32), axis=0)
        lowered = depth - level
        start, end = 0, 0
        for t in range(0, size, 8 * SAMPLES):
            some = t + tl.arange(0, 8 * SAMPLES)
            ancestor = tl.load(places + some, mask=some < size, other=0) >> lowered
            start += tl.sum(((ancestor <= top_row) & (some < size)).to(tl.int32), axis=0)
            end += tl.sum(((ancestor <= top_row + 1) & (some < size)).to(tl.int32), axis=0)
        top_total = tl.zeros((TILE,), dtype=tl.float32)
        top_offset = 0.0
        for t in range(start, end, SAMPLES):
            among = t + tl.arange(0, SAMPLES)
            top_total, top_offset = _add_run(
                top_total, top_offset, x, order, slopes, grad, among, among < end, share, stride,
                most, depth, level, left, width, TILE,
            )  # fmt: skip
        some_columns = left + tl.arange(0, TILE)
        tl.store(weight + top_row * width + some_columns, top_total, mask=some_columns < width)
        if left == 0:
            tl.store(bias + top_row, top_offset)
            # A row that no sample passes stands for the root, with zeros.
            tl.store(rows + top_row, tl.where(end > start, top_row, 0).to(tl.int64))
    elif pid < tiles + size * levels:
        s = (pid - tiles) // levels
        step = top + (pid - tiles) % levels
        pair = top_rows + (pid - tiles).to(tl.int64)
        shift = depth - step
        place = tl.load(places + s)
        node = place >> shift
        before = tl.load(places + tl.maximum(s - 1, 0)) >> shift
        own = (node < leaves) & ((s == 0) | (before != node))
        # Who has no row of its own repeats its deepest one, with zeros.
        deepest = tl.where((place >> 1) < leaves, place >> 1, place >> 2)
        tl.store(rows + pair, tl.where(own, node, deepest) - 1)
        for first in range(0, width, COLUMNS):
            total = tl.zeros((COLUMNS,), dtype=tl.float32)
            offset = 0.0
            at = s
            going = own.to(tl.int32)
            while going > 0:
                run = at + tl.arange(0, RUN)
                same = (tl.load(places + run, mask=run < size, other=0) >> shift) == node
                total, offset = _add_run(
                    total, offset, x, order, slopes, grad, run, same, share, stride, most, depth,
                    step, first, width, COLUMNS,
                )  # fmt: skip
                at += RUN
                going = tl.min(same.to(tl.int32), axis=0)
            columns = first + tl.arange(0, COLUMNS)
            tl.store(weight + pair * width + columns, total, mask=columns < width)
            tl.store(bias + pair, offset)
    else:
        one = (pid - tiles - size * levels).to(tl.int64)
        change = share * _factors(grad, one, one < size, stride, most)
        _differentiate(jacobian, grad_input, one, change, width, COLUMNS)
