"""A full softmax's loss and gradients in Triton's kernels that never write a logit.

Each of three kernels makes the logits of a tile by a matrix product and uses them where they lie,
in registers: for the log-sum-exp, for the gradient of the input, for that of the weight. That is
five products in all to the three of a softmax that keeps its logits, but nothing of size N x n ever
goes through the device's memory. Each sum has its own order, the same in every run.

Products of float32 are made on tensor cores, of factors that are sums of bfloat16s: of three, which
hold all 24 bits, in six products; where torch may use TF32, of two, which hold 16, in three.

Source: the log-sum-exp and the gradients without logits of Wijmans et al., "Cut Your Losses in
Large-Vocabulary Language Models", ICLR 2025; sums of bfloat16s, Henry, Tang and Heinecke,
"Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations",
ARITH 2019.

Importing this module fails wherever Triton cannot compile.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from heads.launch_triton import blocks, has_tensor_cores, launch, power, processors
from heads.noise_triton import gumbel, sample_keys
from heads.softmax_torch import Perturbation

PROGRAMS = 2
"""For each multiprocessor, where a sum over the classes is made in parts."""


class Tiles(NamedTuple):
    """Sizes of a program's tile of logits, of which it holds one side and walks over the other."""

    held: int
    passed: int
    warps: int
    stages: int


SEVERAL = Tiles(128, 64, 8, 2)
"""Where a factor is several bfloat16s."""

ONE, ONE_WIDE = Tiles(128, 64, 8, 3), Tiles(64, 64, 4, 2)
"""Where it is one number of 16 bits, of up to 128 features and of more."""


SHARED = 185_000
"""Bytes of shared memory that a program may take: a Hopper's."""


def works(device: torch.device, width: int, products: torch.dtype) -> bool:
    """Whether there are kernels for so many features and factors of this dtype.

    A program has to hold the gradient of some rows. Slopes are too small for float16 as they are.
    """
    widest = {torch.float32: 128, torch.bfloat16: 256}.get(products, 0)
    return width <= widest and has_tensor_cores(device, SHARED)


def log_sums(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    noise: Perturbation | None,
    products: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Score of each target, 0 where it is none of these classes, and log-sum-exp of all: (N,) each.

    Args:
        input: (N, d), contiguous as all of these.
        weight: (n, d).
        bias: (n,).
        target: (N,).
        noise: on top of the logits, if any.
        products: dtype to which the factors of products are rounded.
    """
    size, classes = len(input), len(weight)
    tiles, keys, tau = _tiles(input, products), *_perturbing(noise, target)
    per_part, parts = _parts(input, classes, tiles)
    sums = input.new_empty(parts, size, dtype=torch.float32)
    score = input.new_zeros(size, dtype=torch.float32)
    if size:
        launch(
            _log_sums, (blocks(size, tiles.held), parts),
            input, weight, bias, target, sums, score, keys, tau, size, classes, input.size(1),
            per_part, ROWS=tiles.held, COLUMNS=tiles.passed, **_how(input, noise, products, tiles),
        )  # fmt: skip
    return score, sums.logsumexp(0)


def input_gradient(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    log_sum: Tensor,
    grad: Tensor,
    noise: Perturbation | None,
    products: torch.dtype,
) -> Tensor:
    """The gradient in the input, (N, d), float32, from that in the targets' outputs, (N,).

    Args:
        input: this, and what is not told here, as for `log_sums`.
        weight: (n, d).
        bias: (n,).
        target: (N,).
        log_sum: of all classes that there are, (N,).
        grad: (N,), float32.
        noise: as it was.
        products: as they were.
    """
    (size, width), classes = input.shape, len(weight)
    tiles, keys, tau = _tiles(input, products), *_perturbing(noise, target)
    per_part, parts = _parts(input, classes, tiles)
    sums = input.new_empty(parts, size, width, dtype=torch.float32)
    if size:
        launch(
            _input_gradient, (blocks(size, tiles.held), parts),
            input, weight, bias, target, log_sum, grad, sums, keys, tau, size, classes, width,
            per_part, ROWS=tiles.held, COLUMNS=tiles.passed, **_how(input, noise, products, tiles),
        )  # fmt: skip
    return sums.sum(0)


def weight_gradient(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    log_sum: Tensor,
    grad: Tensor,
    noise: Perturbation | None,
    products: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Those in the weight and the bias, in their dtype, (n, d) and (n,): see `input_gradient`."""
    (size, width), classes = input.shape, len(weight)
    tiles, keys, tau = _tiles(input, products), *_perturbing(noise, target)
    per_part, parts = _parts(weight, size, tiles)
    if parts == 1:
        grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
    else:
        grad_weight = weight.new_empty(parts, classes, width, dtype=torch.float32)
        grad_bias = bias.new_empty(parts, classes, dtype=torch.float32)
    if parts:
        launch(
            _weight_gradient, (blocks(classes, tiles.held), parts),
            input, weight, bias, target, log_sum, grad, grad_weight, grad_bias, keys, tau, size,
            classes, width, per_part, ROWS=tiles.passed, COLUMNS=tiles.held,
            **_how(input, noise, products, tiles),
        )  # fmt: skip
    if parts == 1:
        return grad_weight, grad_bias
    return grad_weight.sum(0).to(weight.dtype), grad_bias.sum(0).to(bias.dtype)


def _perturbing(noise: Perturbation | None, target: Tensor) -> tuple[Tensor, Tensor]:
    """The two keys of each sample, (2, N), and the temperature, (1,); without noise, anything."""
    if noise is None:
        return target, target
    keys = target.new_empty(2, len(target), dtype=torch.int32)
    if len(target):
        launch(_write_keys, (blocks(len(target), 256),), keys, noise.seed, len(target), ROWS=256)
    return keys, noise.tau


def _tiles(input: Tensor, products: torch.dtype) -> Tiles:
    if products == torch.float32:
        return SEVERAL
    return ONE if input.size(1) <= 128 else ONE_WIDE


def _parts(held: Tensor, passed: int, tiles: Tiles) -> tuple[int, int]:
    """Of a sum for each of the rows held over all that are passed: a part's, and how many parts."""
    along = blocks(max(1, len(held)), tiles.held)
    together = blocks(PROGRAMS * processors(held.device), along)
    per_part = blocks(max(1, blocks(passed, tiles.passed)), together) * tiles.passed
    return per_part, blocks(passed, per_part)


def _how(
    input: Tensor, noise: Perturbation | None, products: torch.dtype, tiles: Tiles
) -> dict[str, object]:
    """What all three kernels are compiled for."""
    precision = "ieee"  # Triton's interpreter knows no other; means nothing to 16 bits
    if input.is_cuda and products == torch.float32:
        rounded = torch.backends.cuda.matmul.fp32_precision == "tf32"
        precision = "bf16x3" if rounded else "bf16x6"
    return {
        "WIDTH": power(input.size(1), least=16),
        "NOISE": noise is not None,
        "PRECISION": precision,
        "DTYPE": getattr(tl, str(products).removeprefix("torch.")),
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
    }


@triton.jit
def _write_keys(keys, seed, size, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first, second = sample_keys(tl.load(seed), row)
    tl.store(keys + row, first.to(tl.int32, bitcast=True), mask=row < size)
    tl.store(keys + size + row, second.to(tl.int32, bitcast=True), mask=row < size)


@triton.jit
def _load_keys(keys, row, there, size):
    first = tl.load(keys + row, mask=there, other=0).to(tl.uint32, bitcast=True)
    second = tl.load(keys + size + row, mask=there, other=0).to(tl.uint32, bitcast=True)
    return first, second


@triton.jit
def _log_sums(
    x, w, b, target, sums, score, keys, tau, size, classes, width, per_part,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, NOISE: tl.constexpr,
    PRECISION: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Per some samples and a part of the classes: their log-sum-exp, and the targets' scores."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * per_part
    last = tl.minimum(first + per_part, classes)
    there = row < size
    xs = _rows(x, row, there, width, WIDTH, DTYPE)
    wanted = tl.load(target + row, mask=there, other=-1)
    if NOISE:
        sharpness = 1 / tl.load(tau)
        one, two = _load_keys(keys, row, there, size)
    most = tl.full((ROWS,), -float("inf"), dtype=tl.float32)
    mass = tl.zeros((ROWS,), dtype=tl.float32)
    found = tl.zeros((ROWS,), dtype=tl.float32)
    for c in range(first, last, COLUMNS):
        column = c + tl.arange(0, COLUMNS)
        inside = column < last
        ws = _rows(w, column, inside, width, WIDTH, DTYPE)
        value = tl.dot(xs, tl.trans(ws), input_precision=PRECISION)
        value += tl.load(b + column, mask=inside, other=0).to(tl.float32)[None, :]
        if NOISE:
            noise = gumbel(one[:, None], two[:, None], column[None, :])
            value = (value + noise) * sharpness
        value = tl.where(inside[None, :], value, -float("inf"))
        found += tl.sum(tl.where(column[None, :] == wanted[:, None], value, 0.0), axis=1)
        higher = tl.maximum(most, tl.max(value, axis=1))
        # Both may still be minus infinity, where all scores are.
        safe = tl.where(higher == -float("inf"), 0.0, higher)
        mass = mass * tl.exp(most - safe) + tl.sum(tl.exp(value - safe[:, None]), axis=1)
        most = higher
    at = tl.program_id(1).to(tl.int64) * size + row
    tl.store(sums + at, most + tl.log(mass), mask=there)
    tl.store(score + row, found, mask=there & (wanted >= first) & (wanted < last))


@triton.jit
def _input_gradient(
    x, w, b, target, log_sum, grad, sums, keys, tau, size, classes, width, per_part,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, NOISE: tl.constexpr,
    PRECISION: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Per some samples and a part of the classes: these classes' part of the gradient."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * per_part
    last = tl.minimum(first + per_part, classes)
    there = row < size
    xs = _rows(x, row, there, width, WIDTH, DTYPE)
    wanted = tl.load(target + row, mask=there, other=-1)
    all_of_it = tl.load(log_sum + row, mask=there, other=0)
    factor = tl.load(grad + row, mask=there, other=0)
    if NOISE:
        sharpness = 1 / tl.load(tau)
        factor *= sharpness
        one, two = _load_keys(keys, row, there, size)
    total = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for c in range(first, last, COLUMNS):
        column = c + tl.arange(0, COLUMNS)
        inside = column < last
        ws = _rows(w, column, inside, width, WIDTH, DTYPE)
        value = tl.dot(xs, tl.trans(ws), input_precision=PRECISION)
        value += tl.load(b + column, mask=inside, other=0).to(tl.float32)[None, :]
        if NOISE:
            noise = gumbel(one[:, None], two[:, None], column[None, :])
            value = (value + noise) * sharpness
        share = tl.where(inside[None, :], tl.exp(value - all_of_it[:, None]), 0.0)
        slope = tl.where(column[None, :] == wanted[:, None], 1.0, 0.0) - share
        total = tl.dot(slope.to(DTYPE), ws, total, input_precision=PRECISION)
    k = tl.arange(0, WIDTH)
    at = (tl.program_id(1).to(tl.int64) * size + row)[:, None] * width + k[None, :]
    tl.store(sums + at, total * factor[:, None], mask=there[:, None] & (k < width)[None, :])


@triton.jit
def _weight_gradient(
    x, w, b, target, log_sum, grad, grad_weight, grad_bias, keys, tau, size, classes, width,
    per_part, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, NOISE: tl.constexpr,
    PRECISION: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Per some classes and a part of the samples: these samples' part of the gradient."""
    first = tl.program_id(0) * COLUMNS
    column = first + tl.arange(0, COLUMNS)
    inside = column < classes
    ws = _rows(w, column, inside, width, WIDTH, DTYPE)
    bias = tl.load(b + column, mask=inside, other=0).to(tl.float32)
    total = tl.zeros((COLUMNS, WIDTH), dtype=tl.float32)
    offset = tl.zeros((COLUMNS,), dtype=tl.float32)
    if NOISE:
        sharpness = 1 / tl.load(tau)
    begin = tl.program_id(1) * per_part
    end = tl.minimum(begin + per_part, size)
    for s in range(begin, end, ROWS):
        row = s + tl.arange(0, ROWS)
        there = row < end
        xs = _rows(x, row, there, width, WIDTH, DTYPE)
        wanted = tl.load(target + row, mask=there, other=-1)
        factor = tl.load(grad + row, mask=there, other=0)
        value = tl.dot(ws, tl.trans(xs), input_precision=PRECISION) + bias[:, None]
        if NOISE:
            one, two = _load_keys(keys, row, there, size)
            noise = gumbel(one[None, :], two[None, :], column[:, None])
            value = (value + noise) * sharpness
            factor *= sharpness
        share = tl.exp(value - tl.load(log_sum + row, mask=there, other=0)[None, :])
        slope = tl.where(column[:, None] == wanted[None, :], 1.0, 0.0) - share
        slope = tl.where(there[None, :], slope * factor[None, :], 0.0)
        offset += tl.sum(slope, axis=1)
        total = tl.dot(slope.to(DTYPE), xs, total, input_precision=PRECISION)
    k = tl.arange(0, WIDTH)
    place = tl.program_id(1).to(tl.int64) * classes + column
    at = place[:, None] * width + k[None, :]
    mask = inside[:, None] & (k < width)[None, :]
    tl.store(grad_weight + at, total.to(grad_weight.dtype.element_ty), mask=mask)
    tl.store(grad_bias + place, offset.to(grad_bias.dtype.element_ty), mask=inside)


@triton.jit
def _rows(matrix, row, there, width, WIDTH: tl.constexpr, DTYPE: tl.constexpr):
    """These rows of a matrix, zeros where they are not there: (R,), (R,) -> (R, WIDTH)."""
    k = tl.arange(0, WIDTH)
    at = matrix + row[:, None].to(tl.int64) * width + k[None, :]
    return tl.load(at, mask=there[:, None] & (k < width)[None, :], other=0).to(DTYPE)
