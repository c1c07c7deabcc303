"""The benchmarks: cells timed against their rivals in every pass, memory once, a trace per head."""

from __future__ import annotations

from bench import blocks
from bench.cells import Block, Visit
from bench.items import for_each
from bench.measure import memory, tracing
from bench.measure.stopwatch import Stopwatch
from bench.session import Session
from reports.results import Cell


@for_each("block", lambda todo: todo.blocks_left())
def test_time(session: Session, stopwatch: Stopwatch, block: Block) -> None:
    """Seconds per call of cells that compete."""
    blocks.measure(session, stopwatch, block)


@for_each("visit", lambda todo: todo.left("memory"))
def test_memory(session: Session, visit: Visit) -> None:
    """Peak bytes of one cell."""
    with session.entry("memory", visit) as figures:
        workload = session.subjects.module_of(visit.cell)
        figures |= memory.measure(workload, visit.cell.phase)._asdict()


@for_each("cell", lambda todo: todo.traces_left())
def test_trace(session: Session, cell: Cell) -> None:
    """A profiler trace of training steps with one head."""
    if session.agenda.is_over:
        session.leave_out("trace", cell)
    path = tracing.trace(cell, session.run.traces(cell.name))
    assert path.stat().st_size > 0
