"""The one place where measuring meets pytest-benchmark: its bounds, its table and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cache
from typing import Any, NamedTuple

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.timers import compute_timer_precision

from bench.machine.clock import Timer
from bench.measure.timing import Timing

_clock_step = cache(compute_timer_precision)


class Bounds(NamedTuple):
    """How long a call is measured: pytest-benchmark's options, by its own names.

    Attributes:
        max_time: seconds to spend on rounds.
        min_time: seconds that a round lasts at least.
        min_rounds: rounds at least.
        precision: relative margin of error that is small enough, or 0 for none.
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

    def shortened(self, share: float) -> Bounds:
        """The same with this share of the time."""
        return self._replace(max_time=share * self.max_time)

    def least_seconds(self, timer: Timer) -> float:
        """A shorter round could not be told from the clock's own steps, or from its neighbours."""
        steps: float = self.calibration_precision * _clock_step(timer)
        return max(self.min_time, steps)


class Stopwatch:
    """A clock with bounds; pytest-benchmark lists what was timed with it as if it had done so.

    Args:
        benchmark: pytest-benchmark's fixture.
        bounds: how long to measure.
        timer: the clock.
    """

    def __init__(self, benchmark: BenchmarkFixture, bounds: Bounds, timer: Timer) -> None:
        self._benchmark = benchmark
        self.bounds = bounds
        self.timer = timer
        benchmark._mode = "in turns"  # else it complains that it was not used

    def keep(self, params: Mapping[str, str | int], timing: Timing) -> None:
        """Add an entry of its own for what has these `params`, as they go into JSON."""
        entry: Any = copy(self._benchmark)
        entry.params, entry.param = dict(params), "-".join(map(str, params.values()))
        for name in ("name", "fullname"):
            test = getattr(self._benchmark, name).partition("[")[0]
            setattr(entry, name, f"{test}[{entry.param}]")
        entry.extra_info = {}
        stats = entry._make_stats(timing.iterations)
        for seconds in timing.seconds:
            stats.stats.update(seconds)
