"""Times a call: warm-up measured, rounds until precise or out of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from bench.machine.clock import Timer
from bench.measure.stopping import Enough
from bench.measure.stopwatch import Stopwatch

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


class Flush(NamedTuple):
    """Makes a call find an empty cache, where that matters.

    Attributes:
        call: empties the cache; runs before the clock does.
        below_seconds: it matters to calls shorter than this.
    """

    call: Callable[[], object]
    below_seconds: float


def measure(
    stopwatch: Stopwatch,
    call: Callable[[], object],
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
        stopwatch: the clock to time it with, and its bounds.
        call: what to time.
        known_seconds: what a call took in an earlier pass, 0 if there was none.
        flush: how to empty a cache, and before which calls.
        now: the host's clock, which ends what takes much longer than planned.
    """
    bounds, timer, budget = stopwatch.bounds, stopwatch.timer, stopwatch.bounds.max_time
    warmup = [] if known_seconds > LONG else warm_up(call, timer, budget)
    one_call = warmup[-1] if warmup else known_seconds
    deadline = now() + PATIENCE * budget
    calls, before = 1, None
    if flush is not None and one_call < flush.below_seconds:
        rounds = min(MOST_FLUSHED, max(FEW_ROUNDS, math.floor(budget / one_call)))
        enough, before = Enough(rounds, deadline=deadline, now=now), flush.call
    elif one_call * FEW_ROUNDS > budget:
        enough = Enough(max(1, math.floor(budget / one_call)))
    else:
        calls, round_seconds = calibrate(call, timer, stopwatch.least_round_seconds)
        enough = Enough(
            max(bounds.min_rounds, math.ceil(budget / round_seconds)),
            least=bounds.min_rounds,
            margin=bounds.precision,
            confidence=bounds.confidence,
            deadline=deadline,
            now=now,
        )
    seconds = stopwatch.time(call, enough, calls, before)
    if min(seconds) <= 0:
        raise ClockError(f"the clock went backwards: a round took {min(seconds):.3g} s")
    return Timing(seconds, calls, warmup)


def calibrate(call: Callable[[], object], timer: Timer, least_seconds: float) -> tuple[int, float]:
    """Calls of a round that lasts `least_seconds` or longer, and how long such a round lasted.

    As pytest-benchmark does it: tenfold, until half such a round tells how many are needed.
    """
    calls = 1
    while True:
        begin = timer()
        for _ in range(calls):
            call()
        seconds = timer() - begin
        if seconds >= least_seconds:
            return calls, seconds
        telling = seconds >= least_seconds / 2
        calls = math.ceil(calls * least_seconds / seconds) if telling else 10 * calls


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
