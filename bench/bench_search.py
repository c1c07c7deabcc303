"""Ways to a prediction of every tree head, raced on a fresh and on a trained model."""

from __future__ import annotations

from bench.cells import Visit
from bench.items import over
from bench.measure import races
from bench.measure.timing import timer_of
from bench.measure.workload import Workload
from bench.session import Session


@over("head,classes,batch", lambda session: session.left("search"))
def test_search(session: Session, head: str, classes: int, batch: int) -> None:
    """How much time exactness costs a tree head, and how often greed goes wrong."""
    cell = session.cell("isolated", head, "predict", classes, batch)
    with session.entry("search", Visit(cell, 0)) as figures:
        workload = session.workload(cell)
        assert isinstance(workload, Workload)  # else there would be no such item
        session.watch.start()
        found = races.races(workload.head, batch, cell.device, timer_of(cell.device))
        session.watch.stop()
        for race in found.values():
            session.measured_seconds += sum(map(sum, race.seconds.values()))
        figures |= {model: race.dump() for model, race in found.items()}
