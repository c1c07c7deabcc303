"""Ways to a prediction of every tree head, raced on a fresh and on a trained model."""

from __future__ import annotations

from bench.cells import Visit
from bench.items import for_each
from bench.machine.clock import timer_of
from bench.measure import races
from bench.session import Session


@for_each("visit", lambda todo: todo.left("search"))
def test_races(session: Session, visit: Visit) -> None:
    """How much time exactness costs a tree head, and how often greed goes wrong."""
    cell = visit.cell
    with session.entry("search", visit) as figures:
        head = session.subjects.module_of(cell).head
        with session.logbook.watching() as stretch:
            raced = races.races(head, cell.batch, cell.device, timer_of(cell.device))
            stretch.inside_seconds = sum(
                sum(map(sum, race.seconds.values())) for race in raced.values()
            )
        figures |= {model: race.dump() for model, race in raced.items()}
