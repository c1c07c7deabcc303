"""Tree paths in Triton's kernels, on CUDA; in Triton's interpreter also on the CPU.

Importing this module fails wherever Triton cannot compile. All sums are float32, whatever the
dtype of the weight. A row-sparse gradient is summed in a fixed order, for the rows near a heap's
root, which many samples share, as a matrix product. Of what is added in place, each sample adds its
terms by atomics, in no order of its own, unless the rows are few or
`torch.use_deterministic_algorithms(True)` asks for one.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from heads import paths_torch
from heads.walk import Heap, RowSums, Table, Walk

WIDEST = 4096
"""Most scores of a node that a program holds at once."""

FEW_ROWS = 256
"""Up to so many rows the whole gradient is one product, without atomics."""

CROWD = 16
"""Samples to a row, on average, from which on their fixed-order sum is a product."""

MOST_LEVELS = 8
"""Of which it may be one, so that the chunks' sums are no more numbers than the input."""

CHUNK = 256
"""Samples of a product, whose sum is then added to the others'."""

ROWS, SAMPLES, TILE_COLUMNS = 32, 32, 64
"""Tiles of that product."""


def walk(input: Tensor, weight: Tensor, bias: Tensor, paths: Heap | Table, wanted: bool) -> Walk:
    """See `heads.walk.BackEnd`."""
    if isinstance(paths, Heap):
        return HeapWalk(input.contiguous(), weight, bias, paths, wanted)
    if paths.rows[0].numel() > WIDEST:
        return paths_torch.walk(input, weight, bias, paths, wanted)
    return TableWalk(input.contiguous(), weight, bias, paths, wanted)


class HeapWalk:
    """See `heads.walk.Walk`."""

    def __init__(
        self, input: Tensor, weight: Tensor, bias: Tensor, paths: Heap, wanted: bool
    ) -> None:
        size, width = input.shape
        self._leaves, self._depth = paths.leaves, (paths.leaves - 1).bit_length()
        self._input = input
        self.output = input.new_empty(size, dtype=torch.float32)
        self.jacobian = input.new_empty(size, width if wanted else 0, dtype=torch.float32)
        self._slopes = self.output.new_empty(size, self._depth)
        self._places = paths.leaf.new_empty(size)
        if size:
            _score_heap[(size,)](
                input, weight, bias, paths.leaf.contiguous(),
                self.output, self._slopes, self.jacobian, self._places,
                self._leaves, self._depth, width, LEVELS=_power(self._depth),
                COLUMNS=_power(width, 128), WANTED=wanted,
            )  # fmt: skip

    def add(self, grad: Tensor, scale: float, weight: Tensor, bias: Tensor) -> None:
        """Add the gradient of grad, (N,), times `scale`, to (R, d) and (R,), in place."""
        size, width = self._input.shape
        if self._leaves <= FEW_ROWS:
            sums, offsets, _ = self._near_root(grad, self._depth)
            weight.add_(sums, alpha=scale)
            bias.add_(offsets, alpha=scale)
        elif torch.are_deterministic_algorithms_enabled():
            found = self.sums(grad)
            weight.index_add_(0, found.rows, found.weight, alpha=scale)
            bias.index_add_(0, found.rows, found.bias, alpha=scale)
        elif size:
            _add_heap[(size,)](
                self._input, self._places, self._slopes, grad, grad.stride(0), weight, bias,
                scale, self._leaves, self._depth, width, LEVELS=_power(self._depth),
                COLUMNS=_power(width, 128),
            )  # fmt: skip

    def sums(self, grad: Tensor) -> RowSums:
        """The gradient in the rows, from that in the outputs, (N,).

        A row per sample and level, but for those near the root, so that the host need not know how
        many are distinct; where a sample shares its row with one further left, zeros for its
        deepest one.
        """
        size, width = self._input.shape
        top = self._top()
        top_rows = (1 << top) - 1
        pairs = top_rows + size * (self._depth - top)
        rows = self._places.new_zeros(pairs)
        weight = self.output.new_zeros(pairs, width)
        bias = self.output.new_zeros(pairs)
        if size:
            if top_rows:
                weight[:top_rows], bias[:top_rows], passed = self._near_root(grad, top)
                # A row that no sample passes stands for the root, with zeros.
                rows[:top_rows] = torch.arange(top_rows, device=rows.device) * (passed > 0)
            places, order = torch.sort(self._places, stable=True)
            _sum_runs[(size, self._depth - top)](
                self._input, places, order, self._slopes, grad, grad.stride(0),
                weight[top_rows:], bias[top_rows:], rows[top_rows:],
                size, self._leaves, self._depth, top, width,
                SAMPLES=16, COLUMNS=_power(width, 256),
            )  # fmt: skip
        return RowSums(rows, weight, bias, False)

    def _near_root(self, grad: Tensor, levels: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of the first levels' rows: gradients, and how many samples pass. In a fixed order."""
        size, width = self._input.shape
        count = min(1 << levels, self._leaves) - 1
        chunks, columns = max(1, _blocks(size, CHUNK)), _power(width, TILE_COLUMNS, 16)
        weight = self.output.new_zeros(chunks, count, width)
        bias = self.output.new_zeros(chunks, count)
        passed = self.output.new_zeros(chunks, count, dtype=torch.int32)
        if size:
            _sum_top[(_blocks(count, ROWS) * _blocks(width, columns) * chunks,)](
                self._input, self._places, self._slopes, grad, grad.stride(0), weight, bias,
                passed, size, self._depth, count, width, ROWS=ROWS, SAMPLES=SAMPLES, TILE=columns,
                CHUNK=CHUNK,
            )  # fmt: skip
        return weight.sum(0), bias.sum(0), passed.sum(0)

    def _top(self) -> int:
        """How many levels have few rows for the samples there are; never all of them.

        Each chunk of samples has a partial sum of its own of each of their rows.
        """
        crowded = (len(self._input) // CROWD).bit_length()
        return max(0, min(crowded, MOST_LEVELS, self._depth - 1))


class TableWalk:
    """See `heads.walk.Walk`."""

    def __init__(
        self, input: Tensor, weight: Tensor, bias: Tensor, paths: Table, wanted: bool
    ) -> None:
        (size, width), (_, children, pieces) = input.shape, paths.rows.shape
        self._input, self._levels, self._scores = input, paths.nodes.size(1), children * pieces
        self._paths = Table(*(table.contiguous() for table in paths))
        self._slopes = input.new_empty(size, self._levels, children, pieces, dtype=torch.float32)
        self.jacobian = input.new_empty(size, width if wanted else 0, dtype=torch.float32)
        decisions = input.new_empty(size, self._levels, dtype=torch.float32)
        target, nodes, slots, rows = self._paths
        if size:
            columns, at_once = _power(width, 128), _power(self._scores, 32)
            _score_table[(size, self._levels)](
                input, weight, bias, target, nodes, rows, self._slopes, self._levels,
                self._scores, width, SCORES=at_once, COLUMNS=columns,
            )  # fmt: skip
            _decide_table[(size, self._levels)](
                target, nodes, slots, rows, self._slopes, decisions, self._levels, children,
                pieces, CHILDREN=_power(children), PIECES=_power(pieces),
            )  # fmt: skip
            if wanted:
                _differentiate_table[(size,)](
                    weight, target, nodes, rows, self._slopes, self.jacobian, self._levels,
                    self._scores, width, SCORES=at_once, COLUMNS=columns,
                )  # fmt: skip
        self.output = decisions.sum(dim=1)

    def add(self, grad: Tensor, scale: float, weight: Tensor, bias: Tensor) -> None:
        """Add the gradient of grad, (N,), times `scale`, to (R, d) and (R,), in place."""
        size, width = self._input.shape
        if torch.are_deterministic_algorithms_enabled():
            found = self.sums(grad)
            weight.index_add_(0, found.rows, found.weight, alpha=scale)
            bias.index_add_(0, found.rows, found.bias, alpha=scale)
        elif size:
            at_once = _power(self._scores, 32)
            _add_table[(size, self._levels)](
                self._input, self._paths.target, self._paths.nodes, self._paths.rows,
                self._slopes, grad, grad.stride(0), weight, bias, scale, self._levels,
                self._scores, width, SCORES=at_once, COLUMNS=_power(width, 128),
            )  # fmt: skip

    def sums(self, grad: Tensor) -> RowSums:
        """The gradient in the rows, from that in the outputs, (N,): sorted by row, by torch."""
        rows = self._paths.rows[self._paths.nodes[self._paths.target]]
        real = rows >= 0
        samples = (
            torch.arange(len(rows), device=rows.device).view(-1, 1, 1, 1).expand_as(rows)[real]
        )
        rows = rows[real]
        return paths_torch.row_sums(
            self._input, rows, samples, self._slopes[real], rows.argsort(stable=True), grad
        )


def _power(size: int, most: int = 2**20, least: int = 1) -> int:
    """The power of two that a tile for so many needs, between these bounds."""
    return max(least, min(most, 1 << (max(1, size) - 1).bit_length()))


def _blocks(size: int, block: int) -> int:
    return -(-size // block)


@triton.jit
def _score_heap(
    x, w, b, leaf, output, slopes, jacobian, places, leaves, depth, width,
    LEVELS: tl.constexpr, COLUMNS: tl.constexpr, WANTED: tl.constexpr,
):  # fmt: skip
    """Per sample: its rows, all at once; log-probability, slopes, gradient in the input."""
    i = tl.program_id(0).to(tl.int64)
    place = tl.load(leaf + i) + leaves
    # A leaf on the upper level stands for the first of two below it.
    place = tl.where((place >> depth) == 0, 2 * place, place)
    tl.store(places + i, place)
    step = tl.arange(0, LEVELS)
    node = place >> tl.maximum(depth - step, 0)
    on = (step < depth) & (node < leaves)
    row = tl.where(on, node - 1, 0)
    score = tl.load(b + row, mask=on, other=0).to(tl.float32)
    for k in range(0, width, COLUMNS):
        column = k + tl.arange(0, COLUMNS)
        xs = tl.load(x + i * width + column, mask=column < width, other=0).to(tl.float32)
        mask = on[:, None] & (column < width)[None, :]
        ws = tl.load(w + row[:, None] * width + column[None, :], mask=mask, other=0)
        score += tl.sum(ws.to(tl.float32) * xs[None, :], axis=1)
    right = (place >> tl.maximum(depth - step - 1, 0)) & 1
    sign = (right * 2 - 1).to(tl.float32)
    signed = sign * score
    small = tl.exp(-tl.abs(signed))
    decision = tl.minimum(signed, 0.0) - tl.log(1 + small)
    tl.store(output + i, tl.sum(tl.where(on, decision, 0.0), axis=0))
    slope = tl.where(on, sign * tl.where(signed >= 0, small, 1.0) / (1 + small), 0.0)
    tl.store(slopes + i * depth + step, slope, mask=step < depth)
    if WANTED:
        for k in range(0, width, COLUMNS):
            column = k + tl.arange(0, COLUMNS)
            mask = on[:, None] & (column < width)[None, :]
            ws = tl.load(w + row[:, None] * width + column[None, :], mask=mask, other=0)
            total = tl.sum(ws.to(tl.float32) * slope[:, None], axis=0)
            tl.store(jacobian + i * width + column, total, mask=column < width)


@triton.jit
def _top_tile(
    x, places, slopes, grad, grad_stride, tile, size, depth, top_rows, width,
    ROWS: tl.constexpr, SAMPLES: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """A tile of the gradient of the first rows, over a chunk of the samples, as a product.

    Returns the rows, the columns, the tile, and for the first columns' tile the bias and how many
    samples pass each row.
    """
    row_blocks = tl.cdiv(top_rows, ROWS)
    column_blocks = tl.cdiv(width, TILE)
    row = tile % row_blocks * ROWS + tl.arange(0, ROWS)
    column = tile // row_blocks % column_blocks * TILE + tl.arange(0, TILE)
    first = tile // row_blocks // column_blocks * CHUNK
    node = row + 1
    level = tl.zeros_like(node)
    for k in tl.static_range(1, 21):
        level += ((node >> k) > 0).to(tl.int32)
    total = tl.zeros((ROWS, TILE), dtype=tl.float32)
    offset = tl.zeros((ROWS,), dtype=tl.float32)
    passed = tl.zeros((ROWS,), dtype=tl.int32)
    for s in range(first, tl.minimum(first + CHUNK, size), SAMPLES):
        i = s + tl.arange(0, SAMPLES)
        there = i < size
        place = tl.load(places + i, mask=there, other=0)
        ancestor = place[None, :] >> tl.maximum(depth - level, 0)[:, None]
        hit = (ancestor == node[:, None]) & (row < top_rows)[:, None] & there[None, :]
        slope = tl.load(slopes + i[None, :] * depth + level[:, None], mask=hit, other=0)
        slope *= tl.load(grad + i * grad_stride, mask=there, other=0).to(tl.float32)[None, :]
        mask = there[:, None] & (column < width)[None, :]
        xs = tl.load(x + i[:, None] * width + column[None, :], mask=mask, other=0)
        total = tl.dot(slope, xs.to(tl.float32), total, input_precision="ieee")
        offset += tl.sum(slope, axis=1)
        passed += tl.sum(hit.to(tl.int32), axis=1)
    return row, column, total, offset, passed


@triton.jit
def _add_heap(
    x, places, slopes, grad, grad_stride, w, b, scale, leaves, depth, width,
    LEVELS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Per sample: its terms, by atomics."""
    i = tl.program_id(0).to(tl.int64)
    place = tl.load(places + i)
    step = tl.arange(0, LEVELS)
    node = place >> tl.maximum(depth - step, 0)
    on = (step < depth) & (node < leaves)
    row = tl.where(on, node - 1, 0)
    slope = tl.load(slopes + i * depth + step, mask=on, other=0)
    slope *= scale * tl.load(grad + i * grad_stride).to(tl.float32)
    tl.atomic_add(b + row, slope, mask=on, sem="relaxed")
    for k in range(0, width, COLUMNS):
        column = k + tl.arange(0, COLUMNS)
        xs = tl.load(x + i * width + column, mask=column < width, other=0).to(tl.float32)
        tl.atomic_add(
            w + row[:, None] * width + column[None, :], slope[:, None] * xs[None, :],
            mask=on[:, None] & (column < width)[None, :], sem="relaxed",
        )  # fmt: skip


@triton.jit
def _sum_top(
    x, places, slopes, grad, grad_stride, weight, bias, passed, size, depth, top_rows, width,
    ROWS: tl.constexpr, SAMPLES: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """A chunk of the samples' part of the gradient of the rows near the root."""
    tile = tl.program_id(0)
    row, column, total, offset, hits = _top_tile(
        x, places, slopes, grad, grad_stride, tile, size, depth, top_rows, width,
        ROWS, SAMPLES, TILE, CHUNK,
    )  # fmt: skip
    chunk = tile // tl.cdiv(top_rows, ROWS) // tl.cdiv(width, TILE)
    at = chunk * top_rows + row
    mask = (row < top_rows)[:, None] & (column < width)[None, :]
    tl.store(weight + at[:, None] * width + column[None, :], total, mask=mask)
    first = row < tl.where(tl.min(column, axis=0) == 0, top_rows, 0)
    tl.store(bias + at, offset, mask=first)
    tl.store(passed + at, hits, mask=first)


@triton.jit
def _sum_runs(
    x, places, order, slopes, grad, grad_stride, weight, bias, rows, size, leaves, depth, top,
    width, SAMPLES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Per sample, from left to right, and level: if it is its row's first, the row's gradient."""
    s = tl.program_id(0)
    step = top + tl.program_id(1)
    shift = depth - step
    pair = s.to(tl.int64) * (depth - top) + tl.program_id(1)
    place = tl.load(places + s)
    node = place >> shift
    before = tl.load(places + tl.maximum(s - 1, 0)) >> shift
    if (node < leaves) & ((s == 0) | (before != node)):
        tl.store(rows + pair, node - 1)
        for k in range(0, width, COLUMNS):
            column = k + tl.arange(0, COLUMNS)
            total = tl.zeros((COLUMNS,), dtype=tl.float32)
            offset = 0.0
            t = s
            going = 1
            while going > 0:
                at = t + tl.arange(0, SAMPLES)
                same = (tl.load(places + at, mask=at < size, other=0) >> shift) == node
                i = tl.load(order + at, mask=same, other=0)
                slope = tl.load(slopes + i * depth + step, mask=same, other=0)
                slope *= tl.load(grad + i * grad_stride, mask=same, other=0).to(tl.float32)
                mask = same[:, None] & (column < width)[None, :]
                xs = tl.load(x + i[:, None] * width + column[None, :], mask=mask, other=0)
                total += tl.sum(slope[:, None] * xs.to(tl.float32), axis=0)
                offset += tl.sum(slope, axis=0)
                t += SAMPLES
                going = tl.min(same.to(tl.int32), axis=0)
            tl.store(weight + pair * width + column, total, mask=column < width)
            tl.store(bias + pair, offset)
    else:
        deepest = tl.where((place >> 1) < leaves, place >> 1, place >> 2)
        tl.store(rows + pair, deepest - 1)


@triton.jit
def _score_table(
    x, w, b, target, nodes, rows, scores, levels, count, width,
    SCORES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Per sample and level: the scores of the node's rows."""
    i = tl.program_id(0).to(tl.int64)
    step = tl.program_id(1)
    node = tl.load(nodes + tl.load(target + i) * levels + step)
    for first in range(0, count, SCORES):
        slot = first + tl.arange(0, SCORES)
        row = tl.load(rows + node * count + slot, mask=slot < count, other=-1)
        on = row >= 0
        score = tl.load(b + row, mask=on, other=0).to(tl.float32)
        for k in range(0, width, COLUMNS):
            column = k + tl.arange(0, COLUMNS)
            xs = tl.load(x + i * width + column, mask=column < width, other=0).to(tl.float32)
            mask = on[:, None] & (column < width)[None, :]
            ws = tl.load(w + row[:, None] * width + column[None, :], mask=mask, other=0)
            score += tl.sum(ws.to(tl.float32) * xs[None, :], axis=1)
        tl.store(scores + (i * levels + step) * count + slot, score, mask=slot < count)


@triton.jit
def _decide_table(
    target, nodes, slots, rows, slopes, decisions, levels, children, pieces,
    CHILDREN: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    """Per sample and level: the way's log-probability, and from scores, in place, its slopes."""
    i = tl.program_id(0).to(tl.int64)
    step = tl.program_id(1)
    at = tl.load(target + i) * levels + step
    node, taken = tl.load(nodes + at), tl.load(slots + at)
    child = tl.arange(0, CHILDREN)
    piece = tl.arange(0, PIECES)
    place = child[:, None] * pieces + piece[None, :]
    exists = (child < children)[:, None] & (piece < pieces)[None, :]
    row = tl.load(rows + node * children * pieces + place, mask=exists, other=-2)
    scores = slopes + (i * levels + step) * children * pieces + place
    score = tl.load(scores, mask=row >= 0, other=0)
    # -1 scores 0; what is below is not there. See `heads.tree_tables`.
    score = tl.where(row >= -1, score, -float("inf"))
    most = tl.max(score, axis=1)
    least = tl.where(most == -float("inf"), 0.0, most)
    of_child = least + tl.log(tl.sum(tl.exp(score - least[:, None]), axis=1))
    highest = tl.max(of_child, axis=0)
    mass = highest + tl.log(tl.sum(tl.exp(of_child - highest), axis=0))
    decision = tl.sum(tl.where(child == taken, of_child, 0.0), axis=0) - mass
    tl.store(decisions + i * levels + step, decision)
    slope = tl.where(child == taken, 1.0, 0.0) - tl.exp(of_child - mass)
    share = tl.exp(score - tl.where(most == -float("inf"), 0.0, of_child)[:, None])
    tl.store(scores, tl.where(row >= 0, slope[:, None] * share, 0.0), mask=exists)


@triton.jit
def _differentiate_table(
    w, target, nodes, rows, slopes, jacobian, levels, count, width,
    SCORES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Per sample: the gradient in its input."""
    i = tl.program_id(0).to(tl.int64)
    path = tl.load(target + i) * levels
    for k in range(0, width, COLUMNS):
        column = k + tl.arange(0, COLUMNS)
        total = tl.zeros((COLUMNS,), dtype=tl.float32)
        for first in range(0, levels * count, SCORES):
            flat = first + tl.arange(0, SCORES)
            there = flat < levels * count
            node = tl.load(nodes + path + flat // count, mask=there, other=0)
            row = tl.load(rows + node * count + flat % count, mask=there, other=-1)
            slope = tl.load(slopes + i * levels * count + flat, mask=there, other=0)
            mask = (row >= 0)[:, None] & (column < width)[None, :]
            ws = tl.load(w + row[:, None] * width + column[None, :], mask=mask, other=0)
            total += tl.sum(ws.to(tl.float32) * slope[:, None], axis=0)
        tl.store(jacobian + i * width + column, total, mask=column < width)


@triton.jit
def _add_table(
    x, target, nodes, rows, slopes, grad, grad_stride, w, b, scale, levels, count, width,
    SCORES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Per sample and level: its terms, by atomics."""
    i = tl.program_id(0).to(tl.int64)
    step = tl.program_id(1)
    node = tl.load(nodes + tl.load(target + i) * levels + step)
    factor = scale * tl.load(grad + i * grad_stride).to(tl.float32)
    for first in range(0, count, SCORES):
        slot = first + tl.arange(0, SCORES)
        row = tl.load(rows + node * count + slot, mask=slot < count, other=-1)
        on = row >= 0
        slope = factor * tl.load(slopes + (i * levels + step) * count + slot, mask=on, other=0)
        tl.atomic_add(b + row, slope, mask=on, sem="relaxed")
        for k in range(0, width, COLUMNS):
            column = k + tl.arange(0, COLUMNS)
            xs = tl.load(x + i * width + column, mask=column < width, other=0).to(tl.float32)
            tl.atomic_add(
                w + row[:, None] * width + column[None, :], slope[:, None] * xs[None, :],
                mask=on[:, None] & (column < width)[None, :], sem="relaxed",
            )  # fmt: skip


@triton.jit
def _nothing(x):
    tl.store(x, 0.0)


if torch.cuda.is_available():
    _nothing[(1,)](torch.empty(1, device="cuda"))  # raises where nothing can be compiled
