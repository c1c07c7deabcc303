"""Where a training step's time goes: how it is fed, and which part of it takes how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import pytest
import torch

from bench.cells import PIPELINE_HEAD, Visit
from bench.items import for_each, identity
from bench.measure import per_core
from bench.measure.per_core import Team
from bench.measure.precision import AUTOCAST
from bench.measure.stopwatch import Stopwatch
from bench.measure.timing import Timed, Timing, play
from bench.session import Session
from models import pipelines, variants
from models.costs import flops_per_image, time_split
from models.data import Dataset, Split
from models.pipelines import Step
from models.tinyvgg import IMAGE_SIZE

STEPS = 30
"""Of a round: a loader's batches come in bursts, which one step alone would show."""

ROUNDS = 3
"""Of a visit: few, as a step of the slowest pipeline takes tens of milliseconds."""

IMAGES = 8_192
"""To draw batches from when a step is taken apart: more bytes than caches hold."""


@contextmanager
def builder(session: Session) -> Iterator[Callable[[str], Step | Team]]:
    """Builds each pipeline once, since the published one first makes pictures of all images."""
    plan, teams = session.plan, list[Team]()
    config = variants.config(PIPELINE_HEAD, device=plan.device, threads=plan.threads)

    @cache
    def build(name: str) -> Step | Team:
        assert isinstance(session.dataset, Dataset)  # else there would be no such item
        if not name.endswith(per_core.SUFFIX):
            return pipelines.build(name, session.dataset, config)
        teams.append(Team(name.removesuffix(per_core.SUFFIX), config))
        return teams[-1]

    try:
        yield build
    finally:
        for team in teams:
            team.close()


@pytest.fixture(scope="module")
def built(session: Session) -> Iterator[Callable[[str], Step | Team]]:
    """What builds pipelines."""
    with builder(session) as build:
        yield build


@for_each("visit", lambda todo: todo.left("pipeline"))
def test_pipeline(session: Session, stopwatch: Stopwatch, built: Any, visit: Visit) -> None:
    """Seconds per training step of one way to feed TinyVGG.

    Of a team, the steps of all its members count, each as one.
    """
    with session.entry("time", visit) as figures:
        step = built(visit.cell.pipeline)
        at_once, iterations = 1, STEPS
        if isinstance(step, Team):
            at_once, iterations = step.members * STEPS, 1
            step = partial(step.make, STEPS)
        with session.logbook.watching(alone=not isinstance(step, Team)) as stretch:
            timed, timer = Timed(step), stopwatch.timer
            warmup = play(timed, 1, timer).seconds
            steps = iterations * at_once
            seconds = [play(timed, iterations, timer).seconds / steps for _ in range(ROUNDS)]
            timing = Timing(seconds, steps, [warmup])
            stretch.inside_seconds = warmup + iterations * at_once * sum(seconds)
        stopwatch.keep(identity(visit), timing)
        figures |= asdict(timing) | {"others_busy": stretch.others_busy}


@for_each("visit", lambda todo: todo.left("split"))
def test_split(session: Session, visit: Visit) -> None:
    """Seconds of the parts of a training step of TinyVGG."""
    cell = visit.cell
    with session.entry("split", visit) as figures:
        if cell.dtype == f"{AUTOCAST}float16":
            pytest.skip("steps are taken apart under bfloat16's autocast only")
        workload = session.subjects.module_of(cell)
        model: Any = workload.module
        with session.logbook.watching() as stretch:
            parts = asdict(
                time_split(
                    model,
                    workload.optimizer,
                    _random_images(cell.device, cell.classes, workload.input.dtype),
                    batch_size=cell.batch,
                    autocast="float32" if workload.precision.autocast is None else "bfloat16",
                    steps=session.plan.sweep.split_steps,
                    seed=visit.pass_index,
                )
            )
            stretch.inside_seconds = sum(map(sum, parts.values()))
        figures |= {"parts": parts, "flops_per_image": round(flops_per_image(model, cell.batch))}


def _random_images(device: str, classes: int, dtype: torch.dtype) -> Split:
    """Noise: what is on the images does not change how long a step takes."""
    targets = torch.randint(classes, (IMAGES,), device=device)
    return Split(_noise(device).to(dtype), targets)


@cache
def _noise(device: str) -> torch.Tensor:
    images = torch.randn(IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE, device=device)
    return images.contiguous(memory_format=torch.channels_last)
