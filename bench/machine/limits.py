"""The machine's two roofs: how fast it moves bytes, and how fast it multiplies and adds.

No call is faster than its arithmetic at the one rate, or its compulsory traffic at the other
(Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52, 2009). Both rates are measured through torch, on the
device and with the threads of the run, in about a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import median

import torch

from bench.machine import clock
from bench.machine.identity import Description
from bench.measure.precision import AUTOCAST, PRECISIONS, Precision

BEYOND_CACHE = 4
"""STREAM's rule: an array of so many times the last cache has to come from memory."""

SMALLEST_ARRAY, LARGEST_ARRAY = 2**26, 2**30
"""Bytes of an array beyond the caches, whatever the machine says of them."""

SMALLEST_PRODUCT, LARGEST_PRODUCT = 512, 8_192
"""Rows of the square matrices: the first product of `LONG_ENOUGH` seconds is the one measured."""

LONG_ENOUGH = 5e-3
"""A matrix product of so many seconds no longer shows its start and its edges."""

ROUNDS, ROUND_SECONDS = 10, 0.02
"""Of each rate, which are a fifth of a second together: their median and extremes are kept."""


def measure(device: str, machine: Description, dtypes: Iterable[str] = ("float32",)) -> Description:
    """Rates per second: the median of `ROUNDS`, and under `_low` and `_high` the extremes.

    `copy_bytes_per_second` counts bytes read and bytes written, as STREAM does, in arrays well
    beyond the caches; `cache_copy_bytes_per_second` is of arrays inside the L2, to be read beside
    it; `peak_multiply_adds_per_second` is of a square float32 product, and that of another dtype
    is `peak_bfloat16_multiply_adds_per_second`.

    Args:
        device: where to measure.
        machine: its description; that of its caches says how large an array has to be.
        dtypes: of the cells that will be held against the peaks. Under autocast a product is made
            in a dtype that has a name of its own.
    """
    known = {name: size for name, size in machine.items() if isinstance(size, int)}
    if device.startswith("cuda"):
        l2 = last = known.get("gpu_l2_cache_bytes", 0)
    else:
        l2 = known.get("l2_cache_bytes", 0)
        last = max(l2, known.get("l3_cache_bytes", 0))
    beyond = min(max(SMALLEST_ARRAY, BEYOND_CACHE * last), LARGEST_ARRAY)
    rates = {"copy_bytes_per_second": copy_rates(device, beyond)}
    if l2:
        # Both arrays together take half of it and leave the rest to whatever else is in use.
        rates["cache_copy_bytes_per_second"] = copy_rates(device, l2 // 4)
    rates["peak_multiply_adds_per_second"] = multiply_rates(device)
    for dtype in sorted({one.removeprefix(AUTOCAST) for one in dtypes} - {"float32"}):
        rates[f"peak_{dtype}_multiply_adds_per_second"] = multiply_rates(device, PRECISIONS[dtype])
    PRECISIONS["float32"].entered()  # what every cell sets anew, and a training does not
    return {
        name + end: round(value)
        for name, rounds in rates.items()
        for end, value in (("", median(rounds)), ("_low", min(rounds)), ("_high", max(rounds)))
    }


def copy_rates(device: str, num_bytes: int) -> list[float]:
    """Bytes read and written per second while an array of `num_bytes` is copied, per round."""
    source = torch.ones(math.ceil(num_bytes / 4), device=device)
    target = torch.zeros_like(source)
    moved = 2 * 4 * source.numel()
    return [moved / seconds for seconds in _rounds(lambda: target.copy_(source), device)]


def multiply_rates(device: str, precision: Precision = PRECISIONS["float32"]) -> list[float]:
    """Multiply-adds per second of a square product, per round."""
    precision.entered()
    rows = SMALLEST_PRODUCT
    while True:
        multiply = _product(rows, device, precision.parameters)
        if rows == LARGEST_PRODUCT or _once(multiply, device) >= LONG_ENOUGH:
            return [rows**3 / seconds for seconds in _rounds(multiply, device)]
        rows *= 2


def _product(rows: int, device: str, dtype: torch.dtype) -> Callable[[], object]:
    # Numbers of full length: on a GPU, zeros and ones take less power and so a higher clock.
    left, right = torch.rand(2, rows, rows, device=device).to(dtype)
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)


def _once(call: Callable[[], object], device: str) -> float:
    """Seconds of the second call: the first one sets things up."""
    timer = clock.timer_of(device)
    call()
    begin = timer()
    call()
    return timer() - begin


def _rounds(call: Callable[[], object], device: str) -> list[float]:
    """Seconds of a call in each of `ROUNDS`, which hold as many calls as `ROUND_SECONDS` do."""
    timer = clock.timer_of(device)
    calls = max(1, round(ROUND_SECONDS / _once(call, device)))
    seconds = []
    for _ in range(ROUNDS):
        begin = timer()
        for _ in range(calls):
            call()
        seconds.append((timer() - begin) / calls)
    return seconds
