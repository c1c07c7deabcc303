"""What lies between the products of a softmax in slices of classes: compiled loops, on the CPU.

A slice's logits come from a matrix product and lie in a cache. One loop reads them for the running
log-sum-exp, another turns them into slopes where they lie, and sums the bias's gradient on the way.

Under noise, as `Gumbel` wants it, both make the same noise from a seed, `-log(-log U)` of a hash of
sample and class. Logarithms and exponentials are polynomials on the bits of a float32, as no
library's loop is there to call; written so, compilers make vectors of them. Their relative errors
are below 1.5e-7, that of `-log U` for U next to 1, where the tail of the noise decides the argmax,
included.

Sources: Cephes (`logf`, `expf`; S. L. Moshier) for the polynomials; Wellons, "Prospecting for hash
functions", 2018, for the constants of the hash.

Importing this module fails wherever numba cannot compile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from torch import Tensor

from heads.base import at_least_float32
from heads.loops import FAST, compiled, shared, threads_for
from heads.softmax_torch import Perturbation

if TYPE_CHECKING:
    Array = np.ndarray
    Number = Any  # of 32 bits, in a loop
    Keys = tuple[Number, Number]

ELEMENTS = 2**21
"""Logits of a slice: 8 MiB of float32, which stays in the cache of most machines."""

ELEMENTS_PER_THREAD = 2**14
"""Logits for which another thread pays."""


class Running:
    """The log-sum-exp of each sample's (perturbed) logits, and its target's, slice by slice.

    Args:
        target: (N,).
        noise: on top of the logits, if any.
    """

    def __init__(self, target: Tensor, noise: Perturbation | None) -> None:
        self._target, self._noise = target.contiguous(), noise
        self._most = torch.full((len(target),), -torch.inf)
        self._mass = torch.zeros(len(target), dtype=torch.float64)
        self._score = torch.zeros(len(target))

    def take(self, logits: Tensor, start: int) -> Tensor:
        """A slice of the logits, (N, C), the first of which is of class `start`.

        Returns:
            The same under the noise, which is put on them where they lie if they are float32.
        """
        logits = at_least_float32(logits)
        threads = threads_for(logits.numel(), ELEMENTS_PER_THREAD)
        _accumulate(
            logits.numpy(), self._target.numpy(), self._most.numpy(), self._mass.numpy(),
            self._score.numpy(), *_scalars(self._noise), start, threads,
        )  # fmt: skip
        return logits

    def result(self) -> tuple[Tensor, Tensor]:
        """Score of the target, 0 where it was in no slice, and log-sum-exp, both (N,)."""
        return self._score, (self._most + self._mass.log()).float()


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
    logits = at_least_float32(logits)
    factor = grad if noise is None else grad / noise.tau
    threads = threads_for(logits.numel(), ELEMENTS_PER_THREAD)
    _differentiate(
        logits.numpy(), log_sum.numpy(), target.contiguous().numpy(),
        factor.contiguous().numpy(), grad_bias.numpy(), *_scalars(noise), start, threads,
    )  # fmt: skip
    return logits


def drawn(noise: Perturbation, size: int, classes: int, start: int = 0) -> Tensor:
    """The noise itself, that of a slice of `classes` from `start` on: (size, classes)."""
    nobody = torch.full((size,), -1)
    alone = noise._replace(tau=torch.ones(1))
    return Running(nobody, alone).take(torch.zeros(size, classes), start)


def _scalars(noise: Perturbation | None) -> tuple[bool, int, float]:
    """Whether there is noise, its seed and its temperature."""
    return (False, 0, 1.0) if noise is None else (True, int(noise.seed), float(noise.tau))


# What follows is written for the vectors of a CPU. Numba widens what two 32-bit numbers make, so
# each result is narrowed again; a choice has both sides ready. Only sums may be reordered (`FAST`):
# the functions of one number take float32 apart, and mean their parentheses.

_F: Any = np.float32
_I: Any = np.int32
_U: Any = np.uint32

_PIECE = 1024
"""Logits of a sample that several loops in turn pass over, in the innermost cache."""

_SHARE = 64
"""Classes that stay together, so that each is at the same place of a vector, or of none, with any
number of threads: roundings may differ between the two."""

_HALF, _ONE = _F(0.5), _F(1)
_UNIT = _F(2.0**-31)
_ROOT_OF_HALF = _I(0x3F3504F3)
_LN2_HIGH, _LN2_LOW = _F(0.693359375), _F(-2.12194440e-4)
_LOG2_E = _F(1.44269504088896341)
_TO_INTEGER = _F(1.5 * 2**23)
"""Added to a number, it leaves no room for a fraction: what is in the low bits is an integer."""
_LEAST_EXPONENT = _F(-86)
_LARGEST = _I(0x7FFFFFFF)
_P0, _P1, _P2 = _F(7.0376836292e-2), _F(-1.1514610310e-1), _F(1.1676998740e-1)
_P3, _P4, _P5 = _F(-1.2420140846e-1), _F(1.4249322787e-1), _F(-1.6668057665e-1)
_P6, _P7, _P8 = _F(2.0000714765e-1), _F(-2.4999993993e-1), _F(3.3333331174e-1)
_E0, _E1, _E2 = _F(1.9875691500e-4), _F(1.3981999507e-3), _F(8.3334519073e-3)
_E3, _E4, _E5 = _F(4.1665795894e-2), _F(1.6666665459e-1), _F(5.0000001201e-1)


@compiled(fastmath={"contract"}, forceinline=True)
def _log_near_one(f: Number, exponent: Number) -> Number:
    """log((1 + f) 2^exponent), 1 + f between the roots of 1/2 and 2."""
    square = f * f
    p = _P0 * f + _P1
    p = p * f + _P2
    p = p * f + _P3
    p = p * f + _P4
    p = p * f + _P5
    p = p * f + _P6
    p = p * f + _P7
    p = p * f + _P8
    rest = exponent * _LN2_LOW + (f * square) * p
    return (f + (rest - _HALF * square)) + exponent * _LN2_HIGH


@compiled(fastmath={"contract"}, forceinline=True)
def _log(x: Number) -> Number:
    """Of a float32 above 0, and no smaller than a normal one."""
    bits = _F(x).view(_I)
    exponent = _I(_I(bits - _ROOT_OF_HALF) >> 23)
    near_one = _I(bits - _I(exponent << 23)).view(_F)
    return _log_near_one(near_one - _ONE, _F(exponent))


@compiled(fastmath={"contract"}, forceinline=True)
def _exp(x: Number) -> Number:
    """Of a float32 not above 80; 0 where little is left of it."""
    shifted = x * _LOG2_E + _TO_INTEGER
    power = shifted - _TO_INTEGER
    scale = _I(_I(_F(shifted).view(_I) << 23) + _I(0x3F800000)).view(_F)
    f = (x - power * _LN2_HIGH) - power * _LN2_LOW
    p = _E0 * f + _E1
    p = p * f + _E2
    p = p * f + _E3
    p = p * f + _E4
    p = p * f + _E5
    found = ((p * f) * f + (f + _ONE)) * scale
    return _F(0) if x < _LEAST_EXPONENT else found  # what is no number is not less


@compiled(fastmath={"contract"}, forceinline=True)
def _exponential(bits: Number) -> Number:
    """-log U of 31 random bits: U = (k + 1/2) / 2^31, which float32 has room for at one end only.

    So next to 1 it is made from 1 - U.
    """
    near_one = bits < _I(2**29)
    from_end = bits if near_one else _I(_LARGEST - bits)
    uniform = (_F(from_end) + _HALF) * _UNIT
    raw = _F(uniform).view(_I)
    exponent = _I(_I(raw - _ROOT_OF_HALF) >> 23)
    f = -uniform if near_one else _I(raw - _I(exponent << 23)).view(_F) - _ONE
    return -_log_near_one(f, _F(0) if near_one else _F(exponent))


@compiled(forceinline=True)
def _hash(x: Number, first: Number, second: Number) -> Number:
    """31 bits from a class and the two keys of a sample."""
    x = _U(x ^ first)
    x = _U(_U(x ^ _U(x >> _U(16))) * _U(0x7FEB352D))
    x = _U(_U(x ^ _U(x >> _U(15))) + second)
    x = _U(x * _U(0x846CA68B))
    x = _U(_U(x ^ _U(x >> _U(16))) * _U(0x9E3779B1))
    x = _U(x ^ _U(x >> _U(15)))
    return _I(_U(x >> _U(1)))


@compiled()
def _keys(seed: int, sample: int) -> Keys:
    """A sample's keys: SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(sample + 1)
    x *= np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return _U(x), _U(x >> np.uint64(32))


@compiled(forceinline=True)
def _in_order(bits: Number) -> Number:
    """Bits of a float32 -> an integer; as the one grows so does the other. Its own inverse.

    The largest of integers is found in vectors, that of numbers, for what is none, is not.
    """
    return _I(bits ^ _I(_I(bits >> 31) & _LARGEST))


@compiled(fastmath=FAST)
def _hashed(bits: Array, first: int, keys: Keys) -> None:
    for k in range(len(bits)):
        bits[k] = _hash(_U(first + k), keys[0], keys[1])


@compiled(fastmath=FAST)
def _exponentials(result: Array, bits: Array) -> None:
    for k in range(len(result)):
        result[k] = _exponential(bits[k])


@compiled(fastmath=FAST)
def _add_noise(x: Array, exponentials: Array, sharpness: Number) -> None:
    for k in range(len(x)):
        x[k] = (x[k] - _log(exponentials[k])) * sharpness


@compiled()
def _perturb(
    x: Array, first: int, keys: Keys, sharpness: Number, bits: Array, spare: Array
) -> None:
    """Noise and temperature, on some logits of a sample.

    In three loops: at once, there are too many numbers for a CPU's registers.
    """
    bits, spare = bits[: len(x)], spare[: len(x)]
    _hashed(bits, first, keys)
    _exponentials(spare, bits)
    _add_noise(x, spare, sharpness)


@compiled()
def _highest(x: Array) -> Number:
    """The largest; if any is no number, none."""
    most = _I(-(2**31))
    for k in range(len(x)):
        most = max(most, _in_order(_F(x[k]).view(_I)))
    return _I(_in_order(most)).view(_F)


@compiled(fastmath=FAST)
def _mass(x: Array, high: Number) -> Number:
    total = _F(0)
    for k in range(len(x)):
        total += _exp(x[k] - high)
    return total


@compiled(fastmath=FAST)
def _to_slopes(x: Array, total: Array, log_sum: Number, factor: Number) -> None:
    for k in range(len(x)):
        slope = -factor * _exp(x[k] - log_sum)
        x[k] = slope
        total[k] += slope


@shared()
def _accumulate(
    logits: Array,
    target: Array,
    most: Array,
    mass: Array,
    score: Array,
    noisy: bool,
    seed: int,
    tau: Number,
    start: int,
    blocks: int,
) -> None:
    """Per sample: a slice's part of the log-sum-exp; under noise, which stays on the logits."""
    size, classes = logits.shape
    sharpness = _F(1 / tau)
    for block in numba.prange(blocks):
        bits, spare = np.empty(_PIECE, np.int32), np.empty(_PIECE, np.float32)
        for i in range(block * size // blocks, (block + 1) * size // blocks):
            keys = _keys(seed, i)
            high, sum_of = most[i], mass[i]
            for low in range(0, classes, _PIECE):
                x = logits[i, low : low + _PIECE]
                if noisy:
                    _perturb(x, start + low, keys, sharpness, bits, spare)
                here = _highest(x)
                if here == -np.inf:
                    continue
                if here > high:
                    sum_of *= _exp(high - here)
                    high = here
                sum_of += _mass(x, high)
            most[i], mass[i] = high, sum_of
            if 0 <= target[i] - start < classes:
                score[i] = logits[i, target[i] - start]


@shared()
def _differentiate(
    logits: Array,
    log_sum: Array,
    target: Array,
    factor: Array,
    grad_bias: Array,
    noisy: bool,
    seed: int,
    tau: Number,
    start: int,
    blocks: int,
) -> None:
    """Per some classes: the slopes of all samples, and their sums, which one block alone makes."""
    size, classes = logits.shape
    sharpness, shares = _F(1 / tau), -(-classes // _SHARE)
    for block in numba.prange(blocks):
        bits, spare = np.empty(_PIECE, np.int32), np.empty(_PIECE, np.float32)
        end = min(classes, (block + 1) * shares // blocks * _SHARE)
        for low in range(block * shares // blocks * _SHARE, end, _PIECE):
            high = min(low + _PIECE, end)
            total = grad_bias[low:high]
            total[:] = 0
            for i in range(size):
                x = logits[i, low:high]
                if noisy:
                    _perturb(x, start + low, _keys(seed, i), sharpness, bits, spare)
                _to_slopes(x, total, log_sum[i], factor[i])
                # The one-hot part belongs in the products: added to half a gradient afterwards,
                # equal targets would stop counting.
                place = target[i] - start - low
                if 0 <= place < high - low:
                    x[place] += factor[i]
                    total[place] += factor[i]
