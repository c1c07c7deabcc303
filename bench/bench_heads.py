"""The benchmarks: cells timed against their rivals in every pass, memory once, a trace per head."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import partial

from bench import blocks
from bench.cells import Block, Visit
from bench.items import for_each
from bench.machine.clock import timer_of
from bench.measure import device, l2, memory, tracing
from bench.measure.stopwatch import Stopwatch
from bench.session import Session
from reports.results import Cell


@for_each("block", lambda todo: todo.blocks_left())
def test_time(session: Session, stopwatch: Stopwatch, block: Block) -> None:
    """Seconds per call of cells that compete."""
    blocks.measure(session, stopwatch, block)


@for_each("visit", lambda todo: todo.left("device"))
def test_device(session: Session, visit: Visit) -> None:
    """Seconds of one cell on a GPU's own clock, and on the host's."""
    with session.entry("device", visit) as figures:
        workload, cell = session.subjects.module_of(visit.cell), visit.cell
        call = partial(workload.repeatable, cell.phase, cell.state)
        with session.logbook.watching() as stretch:
            replays = cell.mode == "graph"
            clocks = device.measure(call, l2.of_current_device(), replays=replays)
            stretch.inside_seconds = clocks.inside_seconds
        workload.release()
        figures |= asdict(clocks)


@for_each("visit", lambda todo: todo.left("memory"))
def test_memory(session: Session, visit: Visit) -> None:
    """Peak bytes of one cell."""
    with session.entry("memory", visit) as figures:
        workload = session.subjects.module_of(visit.cell)
        figures |= memory.measure(workload, visit.cell.phase)._asdict()


@for_each("visit", lambda todo: todo.left("communication"))
def test_communication(session: Session, visit: Visit) -> None:
    """What the ranks of one cell tell each other."""
    with session.entry("communication", visit) as figures:
        from bench.measure import communication, sharded  # slow to import, and seldom wanted

        workload, phase = session.subjects.module_of(visit.cell), visit.cell.phase
        assert isinstance(workload, sharded.Leader)
        told = communication.measure(workload, phase, timer_of(visit.cell.device))
        figures |= {one.name: getattr(told, one.name) for one in fields(told)}


@for_each("cell", lambda todo: todo.traces_left())
def test_trace(session: Session, cell: Cell) -> None:
    """A profiler trace of training steps with one head."""
    if session.agenda.is_over:
        session.leave_out("trace", cell)
    path = tracing.trace(cell, session.run.traces(cell.name))
    assert path.stat().st_size > 0
