"""Libraries that train by themselves: timed on their own training call, per sample."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

from bench.measure.timing import Timing
from heads import Cost, Phase
from reports.results import Cell

LONG_ENOUGH = 2.0
"""Seconds of training behind a figure, beside which what starts and stops it is small."""

EPOCH_SAMPLES = 2**16
"""An epoch has at least this many samples, and every class equally often."""


class Trainer(ABC):
    """A model inside a library, with its own data, optimizer and threads.

    Such a library goes through samples one by one and knows no batches, so a cell's figure is its
    time per sample, times the cell's batch.

    Args:
        cell: what to build; its phase does not matter.
        epoch_samples: least number of samples in an epoch.
    """

    predict_samples = 8
    """Of a round of `predict`, each a search of its own."""

    def __init__(self, cell: Cell, epoch_samples: int = EPOCH_SAMPLES) -> None:
        self.cell = cell
        self.epoch_samples = cell.classes * -(-epoch_samples // cell.classes)

    @abstractmethod
    def train(self, epochs: int) -> float:
        """Train for `epochs` times `epoch_samples` samples: the seconds of the training alone."""

    def predict(self, rounds: int) -> float:
        """Find the best class of `rounds` times `predict_samples` samples: its seconds."""
        raise NotImplementedError

    def measure(self, phase: Phase) -> Timing:
        """Time `phase` by the library's own training call, or by `predict`; never warmed up.

        They take as long as they take: nothing can take turns with them.
        """
        run, samples = {
            "train": (self.train, self.epoch_samples),
            "predict": (self.predict, self.predict_samples),
        }[phase]
        return per_batch(run, samples / self.cell.batch)

    def cost(self, phase: Phase) -> Cost | None:
        """Nothing: work is counted from our own formulas only."""
        return None


def per_batch(run: Callable[[int], float], batches: float) -> Timing:
    """Seconds per batch of `run`, repeated until it takes long enough.

    Args:
        run: does its work so many times and returns the seconds they took together.
        batches: how many batches there are in the work.
    """
    first = run(1)
    if first >= LONG_ENOUGH:
        return Timing([first / batches], max(1, round(batches)), [])
    # A fifth more, as the first time may have been slow.
    repeats = math.ceil(1.2 * LONG_ENOUGH / max(first, 1e-6))
    seconds = run(repeats) / (repeats * batches)
    return Timing([seconds], max(1, round(repeats * batches)), [first / batches])
