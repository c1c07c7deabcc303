"""One pipeline in a process on each core: several trainings at a time, each with a thread."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch

from bench.train.pool import Pool, Tell, Work
from models import pipelines
from models.config import TrainingConfig
from models.data import stand_in
from models.pipelines import Step

SUFFIX = "-per-core"
"""Ends the name of a pipeline that runs like this."""

IMAGES_PER_CLASS = 82
"""Of 100 classes: more bytes than caches hold, and little to make for each process. They are
generated, as what is on the images does not change how long a step takes."""

Steps: TypeAlias = int
"""How many training steps a process makes at a time."""


class Team:
    """As many trainings at once as there are cores.

    Args:
        name: of the pipeline that feeds each of them.
        config: what each of them trains; its threads are shared out, one to a process.
    """

    def __init__(self, name: str, config: TrainingConfig) -> None:
        self.members = config.threads
        ready = partial(_prepare, name, config)
        self._pool: Pool[Steps, None, None] = Pool(self.members, ready, lambda task, message: None)

    def make(self, steps: Steps) -> None:
        """Make so many training steps in each process, and wait for the last."""
        waiting = [self._pool.submit(steps) for _ in range(self.members)]
        for member in waiting:
            self._pool.result(member)

    def close(self) -> None:
        """End the processes."""
        self._pool.close()


def _prepare(name: str, config: TrainingConfig) -> Work[Steps, None, None]:
    torch.set_num_threads(1)
    dataset = stand_in("its images are only there to be timed", IMAGES_PER_CLASS)
    return partial(_carry_out, step=pipelines.build(name, dataset, config))


def _carry_out(steps: Steps, tell: Tell[None], *, step: Step) -> None:
    for _ in range(steps):
        step()
