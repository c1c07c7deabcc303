"""Carries out a block: builds what competes, has it take turns, writes a line for each cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import pytest

import heads
from bench import interrupts, peers
from bench.cells import Block, Visit, grouped, timed_as
from bench.items import identity
from bench.measure import duet
from bench.measure.duet import Rival
from bench.measure.stopwatch import Stopwatch
from bench.measure.workload import LAPS, Workload, depends_on_labels
from bench.session import KilledError, Session
from reports.results import Cell


def measure(session: Session, stopwatch: Stopwatch, block: Block) -> None:
    """Time the cells of `block` in turns; a cell that fails leaves the others alone.

    All lines are in the journal when it returns or raises.

    Raises:
        Exception: the first failure, once all cells have had their chance.
        pytest.skip.Exception: no cell could be measured, and none has failed.
    """
    problems: list[BaseException] = []
    match session.agenda.admits(block):
        case "pass":
            session.leave_out("time", block)
        case "cell":
            for visit in block.visits:
                with _noted(problems), session.outcome("time", visit):
                    session.forgo()
            raise problems[0]
    measure_all(session, stopwatch, block)


def measure_all(session: Session, stopwatch: Stopwatch, block: Block) -> None:
    """The same whether or not there is time for it."""
    problems: list[BaseException] = []
    for what, cells in session.attempts(block):
        for part in session.subjects.parts(cells):
            _measure_together(session, stopwatch, part, block.pass_index, what, problems)
    skipped = [one for one in problems if isinstance(one, pytest.skip.Exception)]
    for failure in problems:
        if failure not in skipped or len(skipped) == len(block.cells):
            raise failure


def _measure_together(
    session: Session,
    stopwatch: Stopwatch,
    cells: Sequence[Cell],
    pass_index: int,
    what: str,
    problems: list[BaseException],
) -> None:
    """Time `cells`, which fit into memory together, and write their lines.

    Args:
        session: what they are measured for.
        stopwatch: the clock, and how long.
        cells: of one contest.
        pass_index: which pass over the grid.
        what: is being tried, as the run's folder notes it.
        problems: of cells without figures; added to.
    """
    block, timer = session.name_block(), stopwatch.timer
    phases = grouped(cells, timed_as)
    bounds = stopwatch.bounds.shortened(session.agenda.dose * len(cells) / len(phases))
    rivals: dict[Cell, Rival] = {}
    unready: dict[Cell, BaseException] = {}
    try:
        session.begin_attempt(what)
    except KilledError as error:
        unready |= dict.fromkeys(phases, error)
    anchor = session.anchor if len(unready) < len(phases) else None
    for timed in [timed for timed in phases if timed not in unready]:
        try:
            subject = session.subjects.of(timed)
            if isinstance(subject, Workload):
                known = session.earlier_seconds(timed)
                rivals[timed] = subject.rival(timed.phase, known, timed.state)
        except (Exception, pytest.skip.Exception) as error:
            _let_pass(error)
            unready[timed] = error
    with session.logbook.watching() as stretch:
        played = duet.measure(rivals, bounds, timer, f"{session.plan.seed} {block}", anchor)
        stretch.inside_seconds = sum(one.inside_seconds for one in played.timings.values())
    names = heads.names()
    for cell in cells:
        visit, timed = Visit(cell, pass_index), timed_as(cell)
        with _noted(problems), session.outcome("time", visit) as figures:
            if problem := unready.get(timed) or played.errors.get(timed):
                raise problem
            subject = session.subjects.of(cell)
            if isinstance(subject, Workload):
                timing, others_busy = played.timings[timed], stretch.others_busy
                if cell.phase in LAPS:
                    timing = played.laps[timed][LAPS.index(cell.phase)]
                planted = subject.planted(cell.state)
                figures |= {
                    "graph_breaks": subject.graph_breaks(timed.phase),
                    "block": block,
                    "anchor_seconds": played.anchor_seconds,
                    "planted": planted and planted.record(),
                }
                cost = subject.cost(cell.phase, cell.state)
            else:
                with session.logbook.watching() as by_itself:
                    timing = subject.measure(cell.phase)
                    by_itself.inside_seconds = timing.inside_seconds
                others_busy, cost = by_itself.others_busy, None
            figures |= asdict(timing) | {
                "multiply_adds": cost and cost.multiply_adds,
                "bytes": cost and cost.bytes,
                "others_busy": others_busy,
                "any_labels": not depends_on_labels(cell, cell.phase),
                "same_as": heads.same_as(cell.head, cell.phase) if cell.head in names else "",
                "computes": peers.computes(cell.head),
            }
            stopwatch.keep(identity(visit), timing)


@contextmanager
def _noted(problems: list[BaseException]) -> Iterator[None]:
    """Go on behind this block whatever is wrong with a cell."""
    try:
        yield
    except (Exception, pytest.skip.Exception) as error:
        _let_pass(error)
        problems.append(error)


def _let_pass(error: BaseException) -> None:
    """Raise what ends the run: nothing that follows could be kept either."""
    full = isinstance(error, OSError) and error.errno in interrupts.FULL
    if full or isinstance(error, pytest.exit.Exception):
        raise error
