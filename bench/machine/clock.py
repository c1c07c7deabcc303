"""The clocks: the host's, and a GPU's own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch


class Instant(Protocol):
    """A moment: a number of seconds, or an event on a GPU."""

    def __sub__(self, earlier: Any, /) -> float:
        """Seconds since `earlier`."""


Timer = Callable[[], Instant]


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
