"""The benchmarks: every cell timed in every pass, its memory measured once, a trace per head."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from bench.cells import Visit
from bench.items import for_each
from bench.measure import device, l2, memory, tracing
from bench.measure.stopwatch import Stopwatch
from bench.session import Session
from reports.results import Cell


@for_each("visit", lambda todo: todo.left("time"))
def test_time(session: Session, stopwatch: Stopwatch, visit: Visit) -> None:
    """Seconds per call of one cell."""
    cell = visit.cell
    with session.entry("time", visit) as figures:
        subject = session.subject.of(cell)
        with session.logbook.watching() as stretch:
            timing = subject.measure(stopwatch, cell.phase, session.earlier_seconds(cell))
            stretch.inside_seconds = timing.inside_seconds
        cost = subject.cost(cell.phase)
        figures |= {
            "seconds": timing.seconds,
            "iterations": timing.iterations,
            "warmup_seconds": timing.warmup_seconds,
            "multiply_adds": cost and cost.multiply_adds,
            "bytes": cost and cost.bytes,
            "others_busy": stretch.others_busy,
        }


@for_each("visit", lambda todo: todo.left("device"))
def test_device(session: Session, visit: Visit) -> None:
    """Seconds of one cell on a GPU's own clock, and on the host's."""
    with session.entry("device", visit) as figures:
        workload = session.subject.module_of(visit.cell)
        with session.logbook.watching() as stretch:
            clocks = device.measure(
                partial(workload.repeatable, visit.cell.phase), l2.of_current_device()
            )
            stretch.inside_seconds = clocks.inside_seconds
        figures |= asdict(clocks)


@for_each("visit", lambda todo: todo.left("memory"))
def test_memory(session: Session, visit: Visit) -> None:
    """Peak bytes of one cell."""
    with session.entry("memory", visit) as figures:
        workload = session.subject.module_of(visit.cell)
        figures |= memory.measure(workload, visit.cell.phase)._asdict()


@for_each("cell", lambda todo: todo.traces_left())
def test_trace(session: Session, cell: Cell) -> None:
    """A profiler trace of training steps with one head."""
    path = tracing.trace(cell, session.run.traces(cell.head))
    assert path.stat().st_size > 0
