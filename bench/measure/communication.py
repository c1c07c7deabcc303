"""What the ranks of a sharded head tell each other in a call, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.machine.clock import Timer
from bench.measure.sharded import Leader
from heads import Phase
from reports.results import COLLECTIVES

CALLS, SECONDS, WARM_UP = (4, 30), 0.5, 2
"""At least and at most, that they may take together beyond the least, and before the first."""


@dataclass(frozen=True)
class Told:
    """See `reports.results.journal.Communication`."""

    call_seconds: list[float]
    told_seconds: list[float]
    collectives: int
    bytes: int
    sent: dict[str, int]
    counted_collectives: int
    counted_bytes: int

    @property
    def inside_seconds(self) -> float:
        """Time spent inside the measured calls."""
        return sum(self.call_seconds)


def measure(workload: Leader, phase: Phase, timer: Timer) -> Told:
    """Time calls of `phase`, and within them every collective."""
    timed = workload.prepare(phase)
    assert timed.company is not None
    told: list[tuple[str, int, Any, Any]] = []

    @contextmanager
    def observer(name: str, size: int) -> Iterator[None]:
        begin = timer()
        yield
        told.append((name, size, begin, timer()))

    calls: list[tuple[Any, Any]] = []
    seen: list[list[tuple[str, int, Any, Any]]] = []
    workload.sharded.ranks.observer = observer
    try:
        least, most = CALLS
        opened = time.perf_counter()
        for index in range(WARM_UP + most):
            if index >= WARM_UP + least and time.perf_counter() - opened > SECONDS:
                break
            timed.company(1)
            told = []
            begin = timer()
            timed.call()
            calls.append((begin, timer()))
            seen.append(told)
    finally:
        workload.sharded.ranks.observer = None
    # Of moments on a GPU, a difference has to be waited for: not between the calls.
    counted = workload.told(phase)
    return Told(
        call_seconds=[end - begin for begin, end in calls[WARM_UP:]],
        told_seconds=[sum(end - begin for *_, begin, end in one) for one in seen[WARM_UP:]],
        collectives=len(seen[-1]),
        bytes=sum(size for _, size, *_ in seen[-1]),
        sent={
            kind: sum(size for name, size, *_ in seen[-1] if name == kind) for kind in COLLECTIVES
        },
        counted_collectives=counted.collectives,
        counted_bytes=counted.bytes,
    )
