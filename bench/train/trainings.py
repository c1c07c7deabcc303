"""The trainings of a run, one after the other or several at once: followed, shown, kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.display import Display
from bench.options import Plan
from bench.train.pool import Pool, Tell, Work
from models.config import TrainingConfig
from models.dataset import Dataset
from models.training import train
from reports.results import Loss, RunFolder, file_name
from reports.results import Training as TrainingRecord
from reports.results.files import write_json

SECONDS_BETWEEN = 0.5
"""A step may take less than a millisecond: not every one is worth a message."""


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        share: of its steps that are done, in [0, 1].
        doing: what it does now, in words.
        line: what to tell the user for good; mostly empty.
    """

    share: float
    doing: str
    line: str = ""


@dataclass(frozen=True)
class Assignment:
    """One training and the run that keeps it."""

    run: RunFolder
    config: TrainingConfig

    @property
    def name(self) -> str:
        """What its files are called."""
        return name_of(self.config)


def name_of(config: TrainingConfig) -> str:
    """What the files of a training are called."""
    return f"{file_name(config.variant or config.head)}-seed{config.seed}"


def carry_out(training: Assignment, tell: Tell[Progress], *, dataset: Dataset) -> TrainingRecord:
    """Train, from the checkpoint where there is one; the record is kept whatever becomes of it.

    Raises:
        CheckpointError: the checkpoint is damaged or of another training.
        ValueError: the model cannot be built as configured.
    """
    run, name = training.run, training.name
    checkpoint = run.checkpoint(name)
    checkpoint.parent.mkdir(exist_ok=True)
    with closing(Follower(training, tell)) as follower:
        record = train(training.config, dataset, observer=follower, checkpoint=checkpoint)
        run.write_training(name, record)
        follower.on_end(record)
    checkpoint.unlink(missing_ok=True)
    return record


def prepare(plan: Plan, missing: str) -> Work[Assignment, Progress, TrainingRecord]:
    """What a process of its own needs before it can train: the data, loaded once."""
    dataset = plan.load_dataset(missing)
    assert dataset is not None  # else there would be nothing to train
    return partial(carry_out, dataset=dataset)


class Follower:
    """Tells of a training's progress, keeps its record, writes its scalars for TensorBoard."""

    def __init__(
        self,
        training: Assignment,
        tell: Tell[Progress],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Imported here: a run that ends at its options need not wait for it.
        from torch.utils.tensorboard import SummaryWriter

        self._config = training.config
        self._tell = tell
        self._clock = clock
        self._told = clock()
        self._record_path = training.run.training(training.name)
        self._writer = SummaryWriter(training.run.traces(training.name))
        self._batches_done = 0

    def close(self) -> None:
        """Write what TensorBoard has not got yet."""
        self._writer.close()

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        """Tell now and then."""
        self._batches_done = (epoch - 1) * batches + batch
        if (now := self._clock()) - self._told >= SECONDS_BETWEEN:
            self._told = now
            share = self._batches_done / (batches * self._config.epochs * self._config.rounds)
            self._tell(Progress(share, f"epoch {epoch}, batch {batch}/{batches}"))

    def on_loss(self, entry: Loss) -> None:
        """A point of the training curve."""
        self._writer.add_scalar("loss/train", entry.loss, self._batches_done)

    def on_epoch(self, record: TrainingRecord) -> None:
        """The record so far, a line for the user, and the points of the test curves."""
        write_json(self._record_path, record.dump())
        last = record.epochs[-1]
        for name in ("accuracy", "top5", "f1"):
            self._writer.add_scalar(f"test/{name}", getattr(last, name), last.epoch)
        self._writer.add_scalar("loss/test", last.test_loss, last.epoch)
        part = "epoch" if self._config.rounds == 1 else "round"
        perplexity = f"perplexity {math.exp(last.test_loss):.4g}, " if record.of_words else ""
        line = (
            f"{part} {last.epoch}, loss {last.train_loss:.3f}, {perplexity}"
            f"accuracy {last.accuracy:.1%}, {last.train_seconds:.1f} s"
        )
        share = last.epoch / (self._config.epochs * self._config.rounds)
        self._tell(Progress(1.0 if record.final else share, line, line))

    def on_end(self, record: TrainingRecord) -> None:
        """The settings beside what they led to, for TensorBoard's table of hyper-parameters."""
        if record.final is None:
            return
        content = record.dump()
        settings = {"variant": content["variant"], "head": content["head"], **content["config"]}
        names = ("accuracy", "top5", "f1")
        self._writer.add_hparams(
            {name: _plain(value) for name, value in settings.items()},
            {f"final/{name}": getattr(record.final, name) for name in names},
            run_name=".",  # beside the scalars, not as a run of its own
        )


def _plain(value: Any) -> str | float | bool:
    """What TensorBoard takes as the value of a hyper-parameter."""
    return value if isinstance(value, str | bool | int | float) else str(value)


class Trainings:
    """Carries out trainings here, or several at once in processes, and shows how they go.

    Args:
        run: where to keep them.
        display: where to show it.
        todo: what is trained, in this order.
        dataset: what to train on here.
        jobs: how many at once; more than 1 are trained in processes of their own.
        ready: makes such a process ready: see `prepare`.
        weight: rough seconds that one training adds.
    """

    def __init__(
        self,
        run: RunFolder,
        display: Display,
        todo: Sequence[TrainingConfig],
        dataset: Dataset,
        jobs: int,
        ready: Callable[[], Work[Assignment, Progress, TrainingRecord]],
        weight: float,
    ) -> None:
        self._run = run
        self._display = display
        self._weight = weight
        self._going: dict[str, Progress] = {}
        self._here: Work[Assignment, Progress, TrainingRecord] = partial(carry_out, dataset=dataset)
        self._pool = Pool(jobs, ready, self._show) if jobs > 1 else None
        self._futures: dict[str, Future[TrainingRecord]] = {}
        if self._pool is not None:
            self._futures = {name_of(c): self._pool.submit(Assignment(run, c)) for c in todo}

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        if self._pool is not None:
            self._pool.close()

    def awaits(self, config: TrainingConfig) -> bool:
        """Whether a process trains it, or has done so."""
        return name_of(config) in self._futures

    def record(self, config: TrainingConfig) -> TrainingRecord:
        """The finished record of `config`; waits for it.

        Raises:
            CrashedError: its process ended before it did; the others go on.
            CheckpointError: its checkpoint is damaged or of another training.
            ValueError: the model cannot be built as configured.
        """
        training = Assignment(self._run, config)
        try:
            if self._pool is not None:
                return self._pool.result(self._futures[training.name])
            return self._here(training, partial(self._show, training))
        finally:
            self._going.pop(training.name, None)

    def _show(self, training: Assignment, progress: Progress) -> None:
        self._going[training.name] = progress
        if progress.line:
            self._display.say(f"{training.name}: {progress.line}")
        doing = [f"{name}: {p.doing}" for name, p in self._going.items() if p.share < 1]
        done = sum(progress.share for progress in self._going.values())
        self._display.running(f"training {'; '.join(doing)}", done * self._weight)
