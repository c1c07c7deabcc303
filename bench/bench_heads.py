"""The benchmarks: every cell timed in every pass, its memory measured once, a trace per head."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.cells import Visit
from bench.items import over
from bench.measure import memory, tracing
from bench.measure.workload import Workload
from bench.session import Session
from heads import Phase


@over("scope,head,phase,classes,batch,replica,pass_index", lambda session: session.left("time"))
def test_time(
    benchmark: BenchmarkFixture,
    pytestconfig: pytest.Config,
    session: Session,
    scope: Any,
    head: str,
    phase: Phase,
    classes: int,
    batch: int,
    replica: int,
    pass_index: int,
) -> None:
    """Seconds per call of one cell."""
    cell = session.cell(scope, head, phase, classes, batch, replica)
    with session.entry("time", Visit(cell, pass_index)) as figures:
        workload = session.workload(cell)
        session.watch.start()
        budget = float(pytestconfig.getoption("benchmark_max_time"))
        measured = workload.measure(benchmark, phase, budget, session.known_seconds(cell))
        others_busy = session.watch.stop()
        session.log.look()
        session.measured_seconds += measured.inside_seconds
        cost = workload.cost(phase)
        figures |= {
            "seconds": measured.seconds,
            "iterations": measured.iterations,
            "warmup_seconds": measured.warmup_seconds,
            "multiply_adds": cost and cost.multiply_adds,
            "bytes": cost and cost.bytes,
            "others_busy": round(others_busy, 3),
        }


@over("scope,head,phase,classes,batch", lambda session: session.left("memory"))
def test_memory(
    session: Session, scope: Any, head: str, phase: Phase, classes: int, batch: int
) -> None:
    """Peak bytes of one cell."""
    cell = session.cell(scope, head, phase, classes, batch)
    with session.entry("memory", Visit(cell, 0)) as figures:
        workload = session.workload(cell)
        assert isinstance(workload, Workload)  # else there would be no such item
        figures |= memory.measure(workload, phase)._asdict()


@over("head", lambda session: session.traces_left())
def test_trace(session: Session, head: str) -> None:
    """A profiler trace of TinyVGG's training steps with this head at CIFAR-100's 100 classes."""
    cell = session.cell("in-model", head, "train", classes=100, batch=32)
    path = tracing.trace(cell, session.run.traces(head))
    assert path.stat().st_size > 0
