"""The training of TinyVGG, once per variant and seed: accuracy to go with the timings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest

from bench.items import for_each, task_of
from bench.session import Session
from bench.train.pool import CrashedError
from bench.train.trainings import Trainings, name_of, prepare
from models.config import TrainingConfig
from models.records import begun
from models.training import CheckpointError


def carrying_out(session: Session, configs: Sequence[TrainingConfig]) -> closing[Trainings]:
    """Carries out all trainings that were asked for, from when the first one is."""
    assert session.dataset is not None  # else there would be no such item
    plan, dataset = session.plan, session.dataset
    return closing(
        Trainings(
            session.run,
            session.display,
            configs[: session.agenda.affordable(configs)],
            dataset,
            plan.jobs,
            partial(prepare, plan, dataset.reason if dataset.stand_in else ""),
            plan.training_weight,
        )
    )


@pytest.fixture(scope="module")
def trainings(session: Session, request: pytest.FixtureRequest) -> Iterator[Trainings]:
    """What carries out the trainings."""
    tasks = map(task_of, request.session.items)
    configs = [task for task in tasks if isinstance(task, TrainingConfig)]
    with carrying_out(session, configs) as trainings:
        yield trainings


@for_each("config", lambda todo: todo.trainings_left())
def test_training(session: Session, trainings: Trainings, config: TrainingConfig) -> None:
    """Train one variant from one seed."""
    assert session.dataset is not None
    jobs = session.plan.jobs
    if not (trainings.awaits(config) if jobs > 1 else session.agenda.affordable([config])):
        session.leave_out("training", config)
    with session.logbook.watching(alone=jobs == 1) as stretch:
        try:
            record = trainings.record(config)
        except ValueError as error:  # such as a tree of superclasses, on data that has none
            session.run.write_training(
                name_of(config), replace(begun(config, session.dataset), reason=str(error))
            )
            pytest.skip(f"{name_of(config)}: {error}")
        except (CheckpointError, CrashedError) as error:
            pytest.fail(f"{name_of(config)}: {error}", pytrace=False)
        seconds = sum(epoch.train_seconds + epoch.test_seconds for epoch in record.epochs)
        stretch.inside_seconds = seconds / jobs
    if record.status != "measured":
        pytest.fail(f"{name_of(config)}: {record.reason}", pytrace=False)
