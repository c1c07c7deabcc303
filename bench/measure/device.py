"""A GPU's two clocks: how long a call's kernels occupy it, and what issuing them costs the host.

A loop of eager calls shows the slower of the two, for small heads nearly always the host. Inside a
large model the host runs ahead and its part is hidden; in a captured graph it is gone. So each is
measured by itself. Device time is that of a captured graph's replay, whose kernels follow each
other without the host; where a call cannot be captured, as it has to wait for the device, it is the
sum of its kernels' own durations.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.machine.clock import CudaInstant
from bench.measure import capture
from bench.measure.l2 import L2
from bench.measure.timing import Call, ClockError

ROUNDS = (5, 50)
"""Replays at least and at most."""

PROFILED = 5
"""Calls whose kernels are looked at."""

BUDGET = 0.06
"""Seconds for either clock."""


@dataclass(frozen=True)
class Clocks:
    """What a call costs on either side; the fields are those of `journal.Device`."""

    device_seconds: list[float]
    host_seconds: list[float]
    kernel_seconds: float
    launches: int
    captured: bool
    why_not: str

    @property
    def inside_seconds(self) -> float:
        """Time spent inside the measured call."""
        return sum(self.device_seconds) + sum(self.host_seconds)


def measure(
    prepare: Callable[[], Call], cache: L2, budget: float = BUDGET, *, replays: bool = False
) -> Clocks:
    """Time a call on both clocks.

    Args:
        prepare: gives the call. It can be made again and again with nothing in between; what it
            works on was made on the stream that is current when it is prepared.
        cache: of the GPU; emptied before every call, as a network would between two.
        budget: seconds for either clock.
        replays: whether the call is a graph's replay, which need not be captured, nor can be.
    """
    # All of it on one stream: what autograd has seen on another one breaks a capture.
    stream = capture.side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call = capture.on_side_stream(prepare)
        kernels = _kernels(call, cache)
        host = list(_host_seconds(call, budget))
        why_not = capture.why_not(call)
    per_call = [sum(seconds) for seconds in kernels]
    seconds: list[float] = []
    if not why_not:
        try:
            graphs = [call] if replays else [graph.replay for graph in capture.graphs(call)]
            seconds = _replayed(graphs, cache, budget)
        except RuntimeError as error:
            why_not = capture.one_line(error)
    torch.cuda.synchronize()
    return Clocks(
        device_seconds=seconds or per_call,
        host_seconds=host,
        kernel_seconds=statistics.median(per_call),
        launches=round(statistics.median(map(len, kernels))),
        captured=bool(seconds),
        why_not=why_not,
    )


def _replayed(replays: Sequence[Call], cache: L2, budget: float) -> list[float]:
    """Seconds of each replay, the graphs in turns."""

    def once(replay: Call) -> float:
        cache.spoil()
        begin = CudaInstant()
        replay()
        return CudaInstant() - begin

    known = min(once(replay) for replay in replays)
    least, most = ROUNDS
    rounds = min(most, max(least, math.floor(budget / known)))
    return [once(replays[index % len(replays)]) for index in range(rounds)]


def _host_seconds(call: Call, budget: float) -> Iterator[float]:
    """Seconds until a call returns to a host that finds the device idle."""
    least, most = ROUNDS
    deadline = time.perf_counter() + budget
    for index in range(most):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        yield time.perf_counter() - begin
        if index + 1 >= least and time.perf_counter() > deadline:
            break
    torch.cuda.synchronize()


def _kernels(call: Call, cache: L2) -> list[list[float]]:
    """Seconds of each kernel, copy and fill that `call` launches, for some calls of it."""
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        for _ in range(PROFILED):
            cache.spoil()
            call()
        torch.cuda.synchronize()
    events: Any = recorded.profiler.kineto_results.events()
    found = sorted(
        (event for event in events if event.device_type() == DeviceType.CUDA),
        key=lambda event: event.start_ns(),
    )
    calls: list[list[float]] = []
    for event in found:
        if cache.SPOILED_BY in event.name():  # a call begins
            calls.append([])
        elif calls:
            calls[-1].append(1e-9 * event.duration_ns())
    if len(calls) != PROFILED:
        raise ClockError(f"the profiler saw {len(calls)} calls, where {PROFILED} were made")
    return calls
