"""Where a training step's time goes: how it is fed, and which part of it takes how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.cells import PIPELINE_HEAD, Visit
from bench.items import over
from bench.measure import per_core, timing
from bench.measure.per_core import Team
from bench.measure.workload import Workload
from bench.session import Session
from models import pipelines, variants
from models.costs import flops_per_image, time_split
from models.data import Split
from models.pipelines import Step
from models.tinyvgg import IMAGE_SIZE

STEPS = 30
"""Of a round: a loader's batches come in bursts, which one step alone would show."""

ROUNDS = 3

IMAGES = 8_192
"""To draw batches from when a step is taken apart: more bytes than caches hold."""


@pytest.fixture(scope="module")
def built(session: Session) -> Iterator[Any]:
    """Builds each pipeline once, since the published one first makes pictures of all images."""
    plan, teams = session.plan, list[Team]()
    config = variants.config(PIPELINE_HEAD, device=plan.device, threads=plan.threads)

    @cache
    def build(name: str) -> Step | Team:
        assert session.dataset is not None  # else there would be no such item
        if not name.endswith(per_core.SUFFIX):
            return pipelines.build(name, session.dataset, config)
        teams.append(Team(name.removesuffix(per_core.SUFFIX), config))
        return teams[-1]

    yield build
    for team in teams:
        team.close()


@over("pipeline,classes,batch,pass_index", lambda session: session.left("pipeline"))
def test_pipeline(
    benchmark: BenchmarkFixture,
    session: Session,
    built: Any,
    pipeline: str,
    classes: int,
    batch: int,
    pass_index: int,
) -> None:
    """Seconds per training step of one way to feed TinyVGG.

    Of a team, the steps of all its members count, each as one.
    """
    cell = session.cell("pipeline", PIPELINE_HEAD, "train", classes, batch, pipeline=pipeline)
    with session.entry("time", Visit(cell, pass_index)) as figures:
        step = built(pipeline)
        at_once, iterations = 1, STEPS
        if isinstance(step, Team):
            at_once, iterations = step.members * STEPS, 1
            step = partial(step.make, STEPS)
        clock = timing.timer_of(cell.device)
        session.watch.start()
        begin = clock()
        step()
        warmup = clock() - begin
        benchmark.pedantic(step, rounds=ROUNDS, iterations=iterations)
        others_busy = session.watch.stop()
        metadata: Any = benchmark.stats
        calls = [float(duration) for duration in metadata.stats.data]
        session.measured_seconds += warmup + iterations * sum(calls)
        figures |= {
            "seconds": [call / at_once for call in calls],
            "iterations": iterations * at_once,
            "warmup_seconds": [warmup],
            "multiply_adds": None,
            "bytes": None,
            "others_busy": round(others_busy, 3),
        }


@over("head,classes,batch,pass_index", lambda session: session.left("split"))
def test_split(session: Session, head: str, classes: int, batch: int, pass_index: int) -> None:
    """Seconds of the parts of a training step of TinyVGG."""
    cell = session.cell("in-model", head, "train", classes, batch)
    with session.entry("split", Visit(cell, pass_index)) as figures:
        workload = session.workload(cell)
        assert isinstance(workload, Workload)  # else there would be no such item
        model: Any = workload.module
        session.watch.start()
        parts = time_split(
            model,
            workload.optimizer,
            _random_images(cell.device, classes),
            batch_size=batch,
            steps=session.plan.sweep.split_steps,
            seed=pass_index,
        )
        session.watch.stop()
        session.measured_seconds += sum(map(sum, asdict(parts).values()))
        figures |= {
            "parts": asdict(parts),
            "flops_per_image": round(flops_per_image(model, batch)),
        }


def _random_images(device: str, classes: int) -> Split:
    """Noise: what is on the images does not change how long a step takes."""
    targets = torch.randint(classes, (IMAGES,), device=device)
    return Split(_noise(device), targets)


@cache
def _noise(device: str) -> torch.Tensor:
    images = torch.randn(IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE, device=device)
    return images.contiguous(memory_format=torch.channels_last)
