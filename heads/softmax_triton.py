"""What lies between the products of a full softmax taken in slices of classes: Triton's kernels.

A slice's logits come from a matrix product and lie in the device's cache. One kernel reads them
once for the running log-sum-exp; in the backward another turns them into slopes where they lie, and
sums the bias's gradient on the way. Under noise, as `Gumbel` wants it, both make the same noise
from a seed, so that none of it is ever kept: `-log(-log U)` of the same hash of class, sample and
seed as in `heads.softmax_numba`, where its sources are.

Importing this module fails wherever Triton cannot compile.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

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
        _accumulate[(size,)](
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
    blocks = -(-classes // COLUMNS)
    # Few columns of many samples would leave most of the device idle.
    rows = ROWS * max(1, -(-size * blocks // (ROWS * PROGRAMS)))
    parts = max(1, -(-size // rows))
    sums = log_sum.new_empty(parts, classes)
    _differentiate[(blocks, parts)](
        logits, log_sum, target.contiguous(), grad.contiguous(), sums, seed, tau, size, start,
        classes, rows, ROWS=ROWS, COLUMNS=COLUMNS, NOISE=noise is not None,
    )  # fmt: skip
    grad_bias.copy_(sums.sum(0) if parts > 1 else sums[0])
    return logits


def drawn(noise: Perturbation, size: int, classes: int, start: int = 0) -> Tensor:
    """The noise itself, that of a slice of `classes` from `start` on: (size, classes)."""
    result = torch.empty(size, classes, device=noise.seed.device)
    grid = (size, -(-classes // 64))
    _draw[grid](result, noise.seed, start, classes, COLUMNS=64)
    return result


_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def _draw(result, seed, start, classes, COLUMNS: tl.constexpr):
    row = tl.program_id(0) + tl.arange(0, 1)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first, second = _keys(tl.load(seed), row)
    noise = _gumbel(first[:, None], second[:, None], start + column[None, :])
    at = result + row[:, None] * classes + column[None, :]
    tl.store(at, noise, mask=(column < classes)[None, :])


@triton.jit
def _keys(seed, row):
    """A sample's keys: see `heads.softmax_numba`."""
    x = seed.to(tl.uint64) * 0xD1342543DE82EF95 + (row + 1).to(tl.uint64)
    x *= 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    x ^= x >> 31
    return x.to(tl.uint32), (x >> 32).to(tl.uint32)


@triton.jit
def _gumbel(first, second, column):
    """Noise of classes, of samples with these keys; of their shapes broadcast together."""
    x = column.to(tl.uint32) ^ first
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) + second
    x *= 0x846CA68B
    x = (x ^ (x >> 16)) * 0x9E3779B1
    x ^= x >> 15
    bits = (x >> 1).to(tl.int32, bitcast=True)
    # U = (k + 1/2) / 2^31, or 1 - U so: each end is exact, and the tails decide the argmax.
    low = (bits.to(tl.float32) + 0.5) * 4.656612873e-10
    high = ((0x7FFFFFFF - bits).to(tl.float32) + 0.5) * 4.656612873e-10
    small = low * (1 + low * (0.5 + low * 0.33333334))
    return -_log(tl.where(low < 1e-2, small, -_log(high)))


@triton.jit
def _log(x):
    """To 22 bits, by the one instruction that there is for it: noise needs no more."""
    if _INTERPRETED:
        return tl.log(x)
    return 0.6931471806 * tl.inline_asm_elementwise(
        "lg2.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
    )


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
        one, two = _keys(tl.load(seed), row)
    highs = tl.full((1, COLUMNS), -float("inf"), dtype=tl.float32)
    sums = tl.zeros((1, COLUMNS), dtype=tl.float32)
    found = tl.zeros((1, COLUMNS), dtype=tl.float32)
    for first in range(0, classes, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        at = logits + i.to(tl.int64) * classes + column[None, :]
        value = tl.load(at, mask=(column < classes)[None, :], other=-float("inf")).to(tl.float32)
        if NOISE:
            noise = _gumbel(one[:, None], two[:, None], start + column[None, :])
            value = (value + noise) * sharpness
        found += tl.where((column == wanted)[None, :], value, 0.0)
        higher = tl.maximum(highs, value)
        # Both may still be minus infinity, where nothing was there.
        safe = tl.where(higher == -float("inf"), 0.0, higher)
        sums = sums * tl.exp(highs - safe) + tl.exp(value - safe)
        highs = higher
    old, old_mass = tl.load(most + i), tl.load(mass + i)
    high = tl.maximum(tl.max(tl.max(highs, axis=1), axis=0), old)
    here = tl.sum(tl.sum(sums * tl.exp(highs - high), axis=1), axis=0)
    tl.store(mass + i, old_mass * tl.exp(old - high) + here)
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
            one, two = _keys(tl.load(seed), row)
            noise = _gumbel(one[:, None], two[:, None], start + column[None, :])
            value = (value + noise) * sharpness
            factor *= sharpness
        taken = tl.load(target + row, mask=there, other=-1) - start
        share = tl.exp(value - tl.load(log_sum + row, mask=there, other=0)[:, None])
        slope = tl.where(taken[:, None] == column[None, :], 1.0, 0.0) - share
        slope = tl.where(mask, slope * factor[:, None], 0.0)
        total += tl.sum(slope, axis=0)
        tl.store(at, slope.to(logits.dtype.element_ty), mask=mask)
    tl.store(sums + tl.program_id(1) * classes + column, total, mask=column < classes)


if torch.cuda.is_available():
    from heads import paths_triton as _probed  # noqa: F401  raises where nothing can be compiled
