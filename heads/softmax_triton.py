"""What lies between the products of a full softmax taken in slices of classes: Triton's kernels.

A slice's logits come from a matrix product and lie in the device's cache. One kernel reads them
once for the running log-sum-exp; in the backward another turns them into slopes where they lie, and
sums the bias's gradient on the way. Under noise, as `Gumbel` wants it, both make the same noise
from a seed, so that none of it is ever kept: see `heads.noise_triton`.

Importing this module fails wherever Triton cannot compile.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from heads.launch_triton import blocks, launch
from heads.noise_triton import gumbel, sample_keys
from heads.softmax_torch import Perturbation

ELEMENTS = 2**23
"""Logits of a slice: 32 MiB of float32, which stay in an H100's cache of 50."""

ROWS, COLUMNS = 32, 64
"""Of a tile of logits that become slopes."""

PROGRAMS = 1024
"""That work on a slice, about."""


class Running:
    """The log-sum-exp of each sample's (perturbed) logits, and its target's, slice by slice.

    Args:
        target: (N,).
        noise: on top of the logits, if any.
    """

    def __init__(self, target: Tensor, noise: Perturbation | None) -> None:
        self._target, self._noise = target.contiguous(), noise
        size = len(target)
        self._most = torch.full((size,), -torch.inf, device=target.device)
        self._mass = torch.zeros(size, device=target.device)
        self._score = torch.zeros(size, device=target.device)

    def take(self, logits: Tensor, start: int) -> None:
        """A slice of the logits, (N, C), the first of which is of class `start`."""
        size, classes = logits.shape
        seed, tau = self._noise or (self._target, self._mass)
        columns = max(4, min(1024, 1 << (classes - 1).bit_length()))
        launch(
            _accumulate, (size,),
            logits, self._target, self._most, self._mass, self._score, seed, tau, start, classes,
            COLUMNS=columns, NOISE=self._noise is not None, num_warps=8,
        )  # fmt: skip

    def result(self) -> tuple[Tensor, Tensor]:
        """Score of the target, 0 where it was in no slice, and log-sum-exp, both (N,)."""
        log_sum = self._most + self._mass.log()
        return self._score, log_sum


def slopes(
    logits: Tensor,
    log_sum: Tensor,
    target: Tensor,
    grad: Tensor,
    start: int,
    grad_bias: Tensor,
    noise: Perturbation | None,
) -> Tensor:
    """The gradient in a slice of the logits, (N, C), made where they lie.

    Args:
        logits: as they were given to `Running`.
        log_sum: its result, (N,).
        target: (N,).
        grad: the gradient in the targets' log-probabilities, (N,).
        start: the first class.
        grad_bias: where the sum over the samples goes, (C,).
        noise: as it was given to `Running`.
    """
    size, classes = logits.shape
    seed, tau = noise or (target, log_sum)
    across = blocks(classes, COLUMNS)
    # Few columns of many samples would leave most of the device idle.
    rows = ROWS * max(1, blocks(size * across, ROWS * PROGRAMS))
    parts = max(1, blocks(size, rows))
    sums = log_sum.new_empty(parts, classes)
    launch(
        _differentiate, (across, parts),
        logits, log_sum, target.contiguous(), grad.contiguous(), sums, seed, tau, size, start,
        classes, rows, ROWS=ROWS, COLUMNS=COLUMNS, NOISE=noise is not None,
    )  # fmt: skip
    grad_bias.copy_(sums.sum(0) if parts > 1 else sums[0])
    return logits


def drawn(noise: Perturbation, size: int, classes: int, start: int = 0) -> Tensor:
    """The noise itself, that of a slice of `classes` from `start` on: (size, classes)."""
    result = torch.empty(size, classes, device=noise.seed.device)
    launch(_draw, (size, blocks(classes, 64)), result, noise.seed, start, classes, COLUMNS=64)
    return result


def perturbed(logits: Tensor, noise: Perturbation) -> Tensor:
    """The logits, (N, n), under noise, in float32: `(logits + drawn) / tau`."""
    size, classes = logits.shape
    result = torch.empty(size, classes, device=logits.device)
    if size:
        launch(
            _perturb, (size, blocks(classes, 1024)),
            logits.contiguous(), result, *noise, classes, COLUMNS=1024,
        )  # fmt: skip
    return result


@triton.jit
def _perturb(logits, result, seed, tau, classes, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first, second = sample_keys(tl.load(seed), row)
    at = row * classes + column
    value = tl.load(logits + at, mask=column < classes, other=0).to(tl.float32)
    value = (value + gumbel(first, second, column)) / tl.load(tau)
    tl.store(result + at, value, mask=column < classes)


@triton.jit
def _draw(result, seed, start, classes, COLUMNS: tl.constexpr):
    row = tl.program_id(0) + tl.arange(0, 1)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first, second = sample_keys(tl.load(seed), row)
    noise = gumbel(first[:, None], second[:, None], start + column[None, :])
    at = result + row[:, None] * classes + column[None, :]
    tl.store(at, noise, mask=(column < classes)[None, :])


@triton.jit
def _accumulate(
    logits, target, most, mass, score, seed, tau, start, classes,
    COLUMNS: tl.constexpr, NOISE: tl.constexpr,
):  # fmt: skip
    """Per sample: a slice's part of the log-sum-exp."""
    i = tl.program_id(0)
    row = i + tl.arange(0, 1)
    wanted = tl.load(target + i) - start
    if NOISE:
        sharpness = 1 / tl.load(tau)
        one, two = sample_keys(tl.load(seed), row)
    highs = tl.full((1, COLUMNS), -float("inf"), dtype=tl.float32)
    sums = tl.zeros((1, COLUMNS), dtype=tl.float32)
    found = tl.zeros((1, COLUMNS), dtype=tl.float32)
    for first in range(0, classes, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        at = logits + i.to(tl.int64) * classes + column[None, :]
        value = tl.load(at, mask=(column < classes)[None, :], other=-float("inf")).to(tl.float32)
        if NOISE:
            noise = gumbel(one[:, None], two[:, None], start + column[None, :])
            value = (value + noise) * sharpness
        found += tl.where((column == wanted)[None, :], value, 0.0)
        higher = tl.maximum(highs, value)
        # Both may still be minus infinity, where nothing was there.
        safe = tl.where(higher == -float("inf"), 0.0, higher)
        sums = sums * tl.exp(highs - safe) + tl.exp(value - safe)
        highs = higher
    old, old_mass = tl.load(most + i), tl.load(mass + i)
    high = tl.maximum(tl.max(tl.max(highs, axis=1), axis=0), old)
    safe_high = tl.where(high == -float("inf"), 0.0, high)
    here = tl.sum(tl.sum(sums * tl.exp(highs - safe_high), axis=1), axis=0)
    tl.store(mass + i, old_mass * tl.exp(old - safe_high) + here)
    tl.store(most + i, high)
    if (wanted >= 0) & (wanted < classes):
        tl.store(score + i, tl.sum(tl.sum(found, axis=1), axis=0))


@triton.jit
def _differentiate(
    logits, log_sum, target, grad, sums, seed, tau, size, start, classes, rows,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, NOISE: tl.constexpr,
):  # fmt: skip
    """Per some columns and `rows` samples: their slopes, and the columns' sums."""
    first = tl.program_id(0) * COLUMNS
    column = first + tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), dtype=tl.float32)
    if NOISE:
        sharpness = 1 / tl.load(tau)
    begin = tl.program_id(1) * rows
    for low in range(begin, tl.minimum(begin + rows, size), ROWS):
        row = low + tl.arange(0, ROWS)
        there = row < size
        mask = there[:, None] & (column < classes)[None, :]
        at = logits + row[:, None].to(tl.int64) * classes + column[None, :]
        value = tl.load(at, mask=mask, other=-float("inf")).to(tl.float32)
        factor = tl.load(grad + row, mask=there, other=0).to(tl.float32)
        if NOISE:
            one, two = sample_keys(tl.load(seed), row)
            noise = gumbel(one[:, None], two[:, None], start + column[None, :])
            value = (value + noise) * sharpness
            factor *= sharpness
        taken = tl.load(target + row, mask=there, other=-1) - start
        share = tl.exp(value - tl.load(log_sum + row, mask=there, other=0)[:, None])
        slope = tl.where(taken[:, None] == column[None, :], 1.0, 0.0) - share
        slope = tl.where(mask, slope * factor[:, None], 0.0)
        total += tl.sum(slope, axis=0)
        tl.store(at, slope.to(logits.dtype.element_ty), mask=mask)
    tl.store(sums + tl.program_id(1) * classes + column, total, mask=column < classes)
