"""What is left of a run's minutes: further passes where the fastest head is not known yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from bench import blocks
from bench.cells import Block, Spare, contest, grouped
from bench.items import for_each, label
from bench.measure.stopwatch import Stopwatch
from bench.session import Session
from bench.undecided import Duel, duel, next_contest
from reports.results import Cell, Time


@for_each("spare", lambda todo: todo.spare())
def test_undecided(session: Session, stopwatch: Stopwatch, spare: Spare) -> None:
    """Contests whose fastest head is not known get further passes, while there is time."""
    session.agenda.dose = 1.0
    contests = grouped((cell for cell in session.times if cell.scope != "pipeline"), contest)
    duels = {name: found for name, cells in contests.items() if (found := fought(session, cells))}
    passes = 0
    while True:
        seconds = {
            name: session.agenda.seconds_for(again(session, contests[name])) for name in duels
        }
        affordable = {name: cost for name, cost in seconds.items() if cost is not None}
        name = next_contest(duels, affordable, near_a_crossover(duels))
        if name is None:
            break
        block = again(session, contests[name])
        session.display.running(f"undecided {label(block)}")
        blocks.measure_all(session, stopwatch, block)
        passes += 1
        if (found := fought(session, contests[name])) and found != duels[name]:
            duels[name] = found
        else:  # nothing came of it, and nothing would
            del duels[name]
    if not contests:
        return
    undecided = sum(not one.decided for one in duels.values())
    session.display.say(
        f"{passes} further passes over contests whose fastest head was not known; "
        f"of {len(duels)}, {undecided} are undecided."
    )


def again(session: Session, cells: list[Cell]) -> Block:
    """Another pass over `cells`."""
    return Block(tuple(cells), 1 + max(max(session.times[cell]) for cell in cells))


def fought(session: Session, cells: list[Cell]) -> Duel | None:
    """How a contest stands: the one of its questions that is answered soonest, if any is open.

    A question is asked for all labels and states that there are, and of the phases of training for
    the whole step only, if that was measured.
    """
    phases = {cell.phase for cell in cells}
    asked = {"train"} & phases or phases
    known = {
        cell: session.times[cell]
        for cell in cells
        if cell.phase in asked and cell.replica == 0 and not too_short(session.times[cell])
        if not same_as(session.times[cell]) & {one.head for one in cells}
    }
    duels = [
        duel({cell.name: found for cell, found in known.items() if answers(cell, found, question)})
        for question in {one.contest for one in known}
    ]
    return min(
        (one for one in duels if one),
        key=lambda one: (one.decided, one.passes_needed),
        default=None,
    )


def same_as(found: Mapping[int, Time]) -> set[str]:
    """The head that the time is the same as, whatever noise says; none if it is its own."""
    return {one.same_as for one in found.values()} - {""}


def answers(cell: Cell, found: Mapping[int, Time], question: Cell) -> bool:
    """Whether `cell` was measured under these labels and in this state, or under any."""
    return cell.contest == question or (
        cell.phase == question.phase and any(one.any_labels for one in found.values())
    )


def too_short(found: Mapping[int, Time]) -> bool:
    """Whether the clock was too coarse for some of it."""
    return any(min(one.seconds) <= 0 for one in found.values())


def near_a_crossover(duels: dict[Cell, Duel]) -> set[Cell]:
    """Contests beside which, at the next class count, another head is the fastest."""
    near: set[Cell] = set()
    for row in grouped(duels, lambda cell: replace(cell, classes=2)).values():
        for one, other in pairwise(sorted(row, key=lambda cell: cell.classes)):
            if duels[one].best != duels[other].best:
                near |= {one, other}
    return near
