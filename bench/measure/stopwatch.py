"""The one place where measuring meets pytest-benchmark: its bounds, its rounds, its samples."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.timers import compute_timer_precision

from bench.machine.clock import Timer
from bench.measure.stopping import Enough

_clock_step = cache(compute_timer_precision)


class _EnoughError(Exception):
    """Ends a benchmark between two rounds."""


class Bounds(NamedTuple):
    """How long a call is measured: pytest-benchmark's options, by its own names.

    Attributes:
        max_time: seconds to spend on rounds.
        min_time: seconds that a round lasts at least.
        min_rounds: rounds at least.
        precision: relative margin of error of the mean that is small enough, or 0 for none.
        confidence: at which that margin is taken.
        calibration_precision: a round lasts at least so many times what the clock can tell apart.
    """

    max_time: float
    min_time: float
    min_rounds: float = 5
    precision: float = 0.0
    confidence: float = 0.95
    calibration_precision: float = 10

    @classmethod
    def of(cls, config: pytest.Config) -> Bounds:
        """Those that were asked for on the command line, or in pyproject.toml."""
        return cls(*(float(config.getoption(f"benchmark_{name}") or 0) for name in cls._fields))


class Stopwatch:
    """Times rounds of a call; pytest-benchmark keeps them too, for its own table and JSON.

    Args:
        benchmark: pytest-benchmark's fixture, which serves once.
        bounds: how long to measure.
        timer: the clock that the fixture measures with.
    """

    def __init__(self, benchmark: BenchmarkFixture, bounds: Bounds, timer: Timer) -> None:
        self._benchmark = benchmark
        self.bounds = bounds
        self.timer = timer

    @property
    def least_round_seconds(self) -> float:
        """A shorter round could not be told from the clock's own steps, or from its neighbours."""
        steps: float = self.bounds.calibration_precision * _clock_step(self.timer)
        return max(self.bounds.min_time, steps)

    def time(
        self,
        call: Callable[[], object],
        enough: Enough,
        calls: int = 1,
        before: Callable[[], object] | None = None,
    ) -> list[float]:
        """Seconds of a call in each round, until there are `enough`.

        Args:
            call: what to time.
            enough: asked after every round.
            calls: back-to-back calls of a round; 1 if there is something to do `before` it.
            before: runs before a round's clock does.
        """

        def end_if_enough() -> None:
            enough.add(self._samples[-1])
            if enough.finished():
                raise _EnoughError

        enough.start()
        try:
            self._benchmark.pedantic(
                _without_result(call),
                setup=before and _without_result(before),
                teardown=end_if_enough,
                rounds=sys.maxsize,
                iterations=calls,
            )
        except _EnoughError:
            self._benchmark.has_error = False
        return [float(seconds) for seconds in self._samples]

    @property
    def _samples(self) -> list[float]:
        stats: Any = self._benchmark.stats
        samples: list[float] = stats["data"]
        return samples

    def set_aside(self) -> None:
        """Tell pytest-benchmark that somebody else's clock is used."""
        self._benchmark.skipped = True


def _without_result(call: Callable[[], object]) -> Callable[[], None]:
    """`call` for pytest-benchmark, which keeps a result and its memory alive for another round.

    What is done before a round would even be asked for arguments.
    """

    def quiet() -> None:
        call()

    return quiet
