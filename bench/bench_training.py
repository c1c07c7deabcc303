"""The training of TinyVGG, once per variant and seed: accuracy to go with the timings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from bench.items import over
from bench.session import Session
from bench.train.pool import CrashedError
from bench.train.trainings import Trainings, name_of, prepare
from models.training import CheckpointError


@pytest.fixture(scope="module")
def trainings(session: Session, request: pytest.FixtureRequest) -> Iterator[Trainings]:
    """Carries out all trainings that were asked for, from when the first one is."""
    assert session.dataset is not None  # else there would be no such item
    asked = {
        item.callspec.id  # type: ignore[attr-defined]
        for item in request.session.items
        if item.path == request.path
    }
    plan, dataset = session.plan, session.dataset
    with Trainings(
        session.run,
        session.display,
        [c for c in session.trainings_left() if f"{c.variant}-{c.seed}" in asked],
        dataset,
        plan.jobs,
        partial(prepare, plan, dataset.reason if dataset.stand_in else ""),
        plan.training_weight,
    ) as trainings:
        yield trainings


@over("variant,seed", lambda session: session.trainings_left())
def test_training(session: Session, trainings: Trainings, variant: str, seed: int) -> None:
    """Train one variant from one seed."""
    (config,) = (c for c in session.plan.trainings() if (c.variant, c.seed) == (variant, seed))
    here = session.plan.jobs == 1  # what other processes of this run use would count as others'
    if here:
        session.watch.start()
    try:
        record = trainings.record(config)
    except ValueError as error:  # such as a tree of superclasses, on data that has none
        pytest.skip(f"{name_of(config)}: {error}")
    except (CheckpointError, CrashedError) as error:
        pytest.fail(f"{name_of(config)}: {error}", pytrace=False)
    if here:
        session.watch.stop()
    seconds = sum(epoch.train_seconds + epoch.test_seconds for epoch in record.epochs)
    session.measured_seconds += seconds / session.plan.jobs
    if record.status != "measured":
        pytest.fail(f"{name_of(config)}: {record.reason}", pytrace=False)
