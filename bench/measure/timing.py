"""Times a call with pytest-benchmark: warm-up measured, rounds until precise or out of time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from pytest_benchmark.fixture import BenchmarkFixture


class Instant(Protocol):
    """A moment: a number of seconds, or an event on a GPU."""

    def __sub__(self, earlier: Any, /) -> float:
        """Seconds since `earlier`."""


Timer = Callable[[], Instant]

WARM = 0.2
"""Warm-up ends when two successive calls differ by less than this share: caches, allocator and
frequency have settled, and what remains is noise for the rounds to average."""

FEW_ROUNDS = 10
"""A call that fits fewer times than this into its budget is not worth calibrating."""


LONG = 0.25
"""Seconds from which on a call known from an earlier pass is not warmed up again.

Warming up settles caches, allocator and frequency within milliseconds, which a call of this length
does not show; the first pass still records a warm-up of every cell, so that this can be checked.
"""


MOST_FLUSHED = 200
"""Rounds with a flush before each: it takes longer than many of the calls."""


PATIENCE = 4
"""Times its budget that a cell may take, calibration included, when the machine slows down."""


class _TimeIsUpError(Exception):
    """Ends a benchmark between two rounds."""


class ClockError(Exception):
    """Durations that cannot be."""


@dataclass(frozen=True)
class Timing:
    """Raw seconds of one visit.

    Attributes:
        seconds: one per round, each the mean of `iterations` back-to-back calls.
        iterations: calls per round.
        warmup_seconds: one per call before the clock counted.
    """

    seconds: list[float]
    iterations: int
    warmup_seconds: list[float]

    @property
    def inside_seconds(self) -> float:
        """Time spent inside the measured call, warm-up included."""
        return sum(self.warmup_seconds) + self.iterations * sum(self.seconds)


class CudaInstant:
    """The moment at which the current CUDA stream gets here, on the GPU's own clock.

    Nothing waits until two of them are subtracted. What is timed therefore holds neither the way of
    a signal back to the host nor the host's waking up, as with a clock that synchronises first.
    """

    def __init__(self) -> None:
        self._event = torch.cuda.Event(enable_timing=True)
        self._event.record()

    def __sub__(self, earlier: CudaInstant) -> float:
        self._event.synchronize()
        milliseconds: float = earlier._event.elapsed_time(self._event)
        return 1e-3 * milliseconds


def timer_of(device: str) -> Timer:
    """The clock to time `device` with."""
    return CudaInstant if device.startswith("cuda") else time.perf_counter


def harness_seconds(timer: Timer, rounds: int = 200) -> float:
    """What timing itself adds to a round: the median duration of a round that calls nothing."""
    durations = []
    for _ in range(rounds):
        begin = timer()
        durations.append(timer() - begin)
    return statistics.median(durations)


class Flush(NamedTuple):
    """Makes a call find an empty cache, where that matters.

    Attributes:
        call: empties the cache; runs before the clock does.
        below_seconds: it matters to calls shorter than this.
    """

    call: Callable[[], object]
    below_seconds: float


def measure(
    benchmark: BenchmarkFixture,
    call: Callable[[], object],
    timer: Timer,
    budget: float,
    known_seconds: float = 0.0,
    flush: Flush | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time `call` within pytest-benchmark's own bounds (`--benchmark-max-time`, `-precision`, ...).

    A short call is calibrated and repeated until the margin of error is small enough; one that
    fits only a few times into the budget is repeated as often as it fits, at least once, as
    calibrating it would cost more than measuring it. A call before which a cache has to be flushed
    is a round of its own.

    Args:
        benchmark: pytest-benchmark's fixture.
        call: what to time.
        timer: the clock to time it with.
        budget: seconds to spend (`--benchmark-max-time`).
        known_seconds: what a call took in an earlier pass, 0 if there was none.
        flush: how to empty a cache, and before which calls.
        now: the host's clock, which ends what takes much longer than planned.
    """
    warmup = [] if known_seconds > LONG else warm_up(call, timer, budget)
    one_call = warmup[-1] if warmup else known_seconds
    deadline = now() + PATIENCE * budget

    def discard_result() -> None:
        # pytest-benchmark keeps a round's result alive during the next one, and with it its memory.
        call()

    def in_time() -> None:
        # pytest-benchmark fixes the number of rounds from its calibration; when the machine becomes
        # busy afterwards, they can take a hundred times as long as planned.
        if now() > deadline and benchmark.stats is not None and benchmark.stats.stats.data:
            raise _TimeIsUpError
        call()

    try:
        if flush is not None and one_call < flush.below_seconds:
            rounds = min(MOST_FLUSHED, max(FEW_ROUNDS, math.floor(budget / one_call)))
            benchmark.pedantic(in_time, setup=_without_result(flush.call), rounds=rounds)
        elif one_call * FEW_ROUNDS > budget:
            rounds = max(1, math.floor(budget / one_call))
            benchmark.pedantic(discard_result, rounds=rounds)
        else:
            benchmark(in_time)
    except _TimeIsUpError:
        benchmark.has_error = False  # fewer rounds than planned are no error
    metadata: Any = benchmark.stats
    seconds = [float(duration) for duration in metadata.stats.data]
    if min(seconds) <= 0:
        raise ClockError(f"the clock went backwards: a round took {min(seconds):.3g} s")
    return Timing(seconds, metadata.iterations, warmup)


def _without_result(call: Callable[[], object]) -> Callable[[], None]:
    """`call` as pytest-benchmark wants a setup, whose result would be taken for arguments."""

    def setup() -> None:
        call()

    return setup


def warm_up(call: Callable[[], object], timer: Timer, budget: float) -> list[float]:
    """Call until two successive durations agree or the budget is spent: seconds of each call."""
    durations: list[float] = []
    while True:
        begin = timer()
        call()
        durations.append(timer() - begin)
        settled = len(durations) > 1 and math.isclose(*durations[-2:], rel_tol=WARM)
        if settled or sum(durations) > budget:
            return durations
