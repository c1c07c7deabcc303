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
from functools import lru_cache
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.machine.clock import CudaInstant
from bench.measure.l2 import L2
from bench.measure.timing import ClockError

Call = Callable[[], object]

CAPTURES = 4
"""Graphs of a call, replayed in turns: a graph repeats its batch, and rows of one batch alone would
be found in the cache."""

ROUNDS = (5, 50)
"""Replays at least and at most."""

PROFILED = 5
"""Calls whose kernels are looked at."""

BUDGET = 0.06
"""Seconds for either clock."""

WARM_UP = 3
"""Calls before a capture, as torch asks for: what is made once must not be captured."""


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


def measure(prepare: Callable[[], Call], cache: L2, budget: float = BUDGET) -> Clocks:
    """Time a call on both clocks.

    Args:
        prepare: gives the call. It can be made again and again with nothing in between; what it
            works on was made on the stream that is current when it is prepared.
        cache: of the GPU; emptied before every call, as a network would between two.
        budget: seconds for either clock.
    """
    # All of it on one stream: what autograd has seen on another one breaks a capture.
    stream = _side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call = prepare()
        for _ in range(WARM_UP):
            call()
        torch.cuda.synchronize()
        kernels = _kernels(call, cache)
        host = list(_host_seconds(call, budget))
        why_not = _why_not(call)
    per_call = [sum(seconds) for seconds in kernels]
    seconds: list[float] = []
    if not why_not:
        try:
            seconds = _replayed(list(_graphs(call, stream)), cache, budget)
        except RuntimeError as error:
            why_not = _one_line(error)
    torch.cuda.synchronize()
    return Clocks(
        device_seconds=seconds or per_call,
        host_seconds=host,
        kernel_seconds=statistics.median(per_call),
        launches=round(statistics.median(map(len, kernels))),
        captured=bool(seconds),
        why_not=why_not,
    )


@lru_cache(maxsize=1)
def _side_stream() -> torch.cuda.Stream:
    """The one to capture on: each stream keeps memory of its own."""
    return torch.cuda.Stream()


def _why_not(call: Call) -> str:
    """Why `call` cannot be captured: where it makes the host wait for the device; else nothing."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        return _one_line(error)
    finally:
        torch.cuda.set_sync_debug_mode(before)
        torch.cuda.synchronize()
    return ""


def _graphs(call: Call, stream: torch.cuda.Stream) -> Iterator[torch.cuda.CUDAGraph]:
    """Captures of `call`, one for each of its next batches; their memory is shared."""
    pool = torch.cuda.graph_pool_handle()
    for _ in range(CAPTURES):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            call()
        yield graph


def _replayed(graphs: Sequence[torch.cuda.CUDAGraph], cache: L2, budget: float) -> list[float]:
    """Seconds of each replay, the graphs in turns."""

    def once(graph: torch.cuda.CUDAGraph) -> float:
        cache.spoil()
        begin = CudaInstant()
        graph.replay()
        return CudaInstant() - begin

    known = min(once(graph) for graph in graphs)
    least, most = ROUNDS
    rounds = min(most, max(least, math.floor(budget / known)))
    return [once(graphs[index % len(graphs)]) for index in range(rounds)]


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


def _one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
