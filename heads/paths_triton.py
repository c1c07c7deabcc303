"""Tree paths in Triton's kernels, on CUDA; in Triton's interpreter also on the CPU.

Importing this module fails wherever Triton cannot compile. Those of a heap are in
`heads.heap_triton`, those of any other tree here. All sums are float32, whatever the dtype of the
weight. A row-sparse gradient is summed in a fixed order. Of what is added in place, samples add
their terms by atomics, in no order of their own, unless a heap's rows are few or
`torch.use_deterministic_algorithms(True)` asks for one.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from heads import paths_torch
from heads.heap_triton import HeapWalk
from heads.launch_triton import launch, power
from heads.walk import Gradient, Heap, RowSums, Table, Walk, differentiate

WIDEST = 4096
"""Most scores of a node that a program holds at once."""


def walk(input: Tensor, weight: Tensor, bias: Tensor, paths: Heap | Table, wanted: bool) -> Walk:
    """See `heads.walk.BackEnd`."""
    if isinstance(paths, Heap):
        return HeapWalk(input.contiguous(), weight, bias, paths, wanted)
    if paths.rows[0].numel() > WIDEST:
        return paths_torch.walk(input, weight, bias, paths, wanted)
    return TableWalk(input.contiguous(), weight, bias, paths, wanted)


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
            columns, at_once = power(width, 128), power(self._scores, 32)
            launch(
                _score_table, (size, self._levels),
                input, weight, bias, target, nodes, rows, self._slopes, self._levels,
                self._scores, width, SCORES=at_once, COLUMNS=columns,
            )  # fmt: skip
            launch(
                _decide_table, (size, self._levels),
                target, nodes, slots, rows, self._slopes, decisions, self._levels, children,
                pieces, CHILDREN=power(children), PIECES=power(pieces),
            )  # fmt: skip
            if wanted:
                launch(
                    _differentiate_table, (size,),
                    weight, target, nodes, rows, self._slopes, self.jacobian, self._levels,
                    self._scores, width, SCORES=at_once, COLUMNS=columns,
                )  # fmt: skip
        self.output = decisions.sum(dim=1)

    @property
    def loss(self) -> Tensor:
        """()."""
        return -self.output.mean()

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
        if torch.are_deterministic_algorithms_enabled():
            self.sums(grad, grad_input).add_to(weight, bias, scale)
        elif size:
            values = grad.product()
            if grad_input is not None:
                differentiate(values, self.jacobian, grad_input)
            launch(
                _add_table, (size, self._levels),
                self._input, self._paths.target, self._paths.nodes, self._paths.rows,
                self._slopes, values, weight, bias, scale, self._levels, self._scores, width,
                SCORES=power(self._scores, 32), COLUMNS=power(width, 128),
            )  # fmt: skip

    def sums(self, grad: Gradient, grad_input: Tensor | None = None) -> RowSums:
        """See `heads.walk.Walk`; sorted by row, by torch."""
        values = grad.product()
        if grad_input is not None:
            differentiate(values, self.jacobian, grad_input)
        rows = self._paths.rows[self._paths.nodes[self._paths.target]]
        real = rows >= 0
        samples = (
            torch.arange(len(rows), device=rows.device).view(-1, 1, 1, 1).expand_as(rows)[real]
        )
        rows = rows[real]
        return paths_torch.row_sums(
            self._input, rows, samples, self._slopes[real], rows.argsort(stable=True), values
        )


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
    x, target, nodes, rows, slopes, grad, w, b, scale, levels, count, width,
    SCORES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Per sample and level: its terms, by atomics."""
    i = tl.program_id(0).to(tl.int64)
    step = tl.program_id(1)
    node = tl.load(nodes + tl.load(target + i) * levels + step)
    factor = scale * tl.load(grad + i)
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
