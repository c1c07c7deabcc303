"""Gumbel noise in Triton's kernels, made wherever it is used: a function of class, sample and seed.

`-log(-log U)` of the same hash as in `heads.softmax_numba`, where its sources are.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl

_PLAIN = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1" or torch.version.hip is not None)
"""Where the instructions of NVIDIA's devices are not there."""


@triton.jit
def sample_keys(seed, row):
    """A sample's keys: see `heads.softmax_numba`."""
    x = seed.to(tl.uint64) * 0xD1342543DE82EF95 + (row + 1).to(tl.uint64)
    x *= 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    x ^= x >> 31
    return x.to(tl.uint32), (x >> 32).to(tl.uint32)


@triton.jit
def gumbel(first, second, column):
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
    if _PLAIN:
        return tl.log(x)
    return 0.6931471806 * tl.inline_asm_elementwise(
        "lg2.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
    )
