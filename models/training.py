"""The training loop of the study: a test pass after every epoch, everything recorded."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from heads import Head
from heads.gumbel import Annealing
from heads.trees import Tree
from models import cases
from models.classifier import Classifier
from models.config import Autocast, TrainingConfig
from models.costs import path_multiply_adds
from models.dataset import Dataset, Split
from models.greedy import count_greedy_misses
from models.metrics import measure, normaliser_bias
from models.optimizers import build_optimizer, build_schedule
from models.records import begun
from models.relearning import first_options, head_on, learn_tree
from models.steps import Captured, Draw, Eager, Steps, capturable, casting, draw_epoch
from reports.results import Epoch, Loss, Metrics, Training
from reports.results.files import write_whole


class Observer(Protocol):
    """Who wants to follow a training: to show it, to keep what there is, to draw curves."""

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        """After every training step; `epoch` and `batch` count from 1, `batches` an epoch's."""

    def on_loss(self, entry: Loss) -> None:
        """After every recorded loss."""

    def on_epoch(self, record: Training) -> None:
        """After every epoch, with the record so far; "failed" as long as epochs are missing."""


class Silent:
    """An observer that does nothing; a base for those that want only some of the calls."""

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        """Do nothing."""

    def on_loss(self, entry: Loss) -> None:
        """Do nothing."""

    def on_epoch(self, record: Training) -> None:
        """Do nothing."""


DATA = (
    *("name", "stand_in", "train_images", "test_images", "classes", "superclass_of"),
    *("num_classes", "sha256"),
)
"""Facts of the data set that a training goes on with; where it lies and why is free to change."""


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message is one line that says why and what to do."""


class _NotFiniteError(Exception):
    """A training loss is infinite or not a number."""


def build_model(
    config: TrainingConfig, num_classes: int, steps: int = 1, counts: Tensor | None = None
) -> Classifier:
    """The model of `config`, drawn from torch's global generator, on the configured device.

    Args:
        config: what to build.
        num_classes: number of classes.
        steps: training steps of the whole training, which `annealing` is spread over.
        counts: how often each class occurs, for heads that make use of it.
    """
    options = first_options(config)
    if config.annealing is not None:
        options["tau"] = Annealing(*config.annealing, steps)
    model = cases.build(config, num_classes, counts, options)
    cases.CASES[config.model].ready(model, config)
    return model.to(config.device)


def evaluate(
    model: Classifier, split: Split, num_classes: int, autocast: Autocast = "float32"
) -> tuple[Tensor, Tensor]:
    """Mean loss, (), and the most probable classes of each prediction, best first, (N, <= 5)."""
    model.eval()
    device = split.targets.device
    total = torch.zeros((), dtype=torch.float64, device=device)
    ranked = []
    size = model.test_batch[device.type != "cpu"]
    with torch.inference_mode(), casting(autocast, device):
        for inputs, targets in split.batches(size):
            loss, best = model.tested(inputs, targets, min(5, num_classes))
            total += loss * len(targets)
            ranked.append(best)
    model.train()
    return total / len(split.targets), torch.cat(ranked)


def train(
    config: TrainingConfig,
    dataset: Dataset,
    *,
    observer: Observer | None = None,
    checkpoint: Path | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> Training:
    """Train and test one head on its model.

    A loss that is not finite ends the training with a record that says so. Whatever else goes wrong
    is raised; the last record given to `observer.on_epoch` then holds what was done.

    Args:
        config: what to train.
        dataset: on what.
        observer: told of progress.
        checkpoint: a file to keep the state in after every pass. Where it exists, training goes on
            from it, and ends with the same result as without the interruption, bit for bit on the
            same machine.
        timer: seconds, from any origin.

    Raises:
        CheckpointError: the checkpoint is damaged or of another training.
        ValueError: the model cannot be built as configured.
    """
    with _reproducibly(config):
        return _train(config, dataset, observer or Silent(), checkpoint, timer)


@dataclass
class _State:
    """What changes from batch to batch, and all that a checkpoint has to hold.

    But for `draw`, that of the pass: there are none within one.
    """

    model: Classifier
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler | None
    order: torch.Generator
    record: Training
    config: TrainingConfig
    examples: int
    tree: Tree | Tensor | None = None
    steps: Steps | None = None
    draw: Draw | None = None

    @property
    def pass_length(self) -> int:
        """Training steps of a pass."""
        return -(-self.examples // self.config.batch_size)

    @property
    def length(self) -> int:
        """Training steps from the first epoch to the last."""
        return self.config.epochs * self.pass_length

    @property
    def rounds(self) -> int:
        """Parts of a pass: no more than it has steps."""
        return min(self.config.rounds, self.pass_length)

    @property
    def is_kept(self) -> bool:
        """Whether a checkpoint is made here: after a whole pass.

        In rounds, a pass is short and the model large; what has ended is then not kept again.
        """
        ended = self.record.status == "measured"
        return len(self.record.epochs) % self.rounds == 0 and not (ended and self.rounds > 1)

    def next_draw(self, done: int) -> Draw:
        """The lot of the epoch after so many that are done: a pass, or a round's part of one."""
        config, part = self.config, done % self.rounds
        if part == 0 or self.draw is None:
            self.draw = draw_epoch(self.examples, config, self.order)
        start, stop = (
            min(self.examples, end * self.pass_length // self.rounds * config.batch_size)
            for end in (part, part + 1)
        )
        return self.draw.part(start, stop)

    def relearn(self, split: Split) -> None:
        """Learn the head's tree anew; the body trains on as if nothing had happened."""
        self.tree = learn_tree(self.model, split, self.config)
        self.change_head(head_on(self.tree, self.model, self.config))

    def change_head(self, head: Head) -> None:
        """Put `head` in the place of the model's; the rest keeps its place in the schedule."""
        config, old = self.config, self.optimizer
        self.model.head = head
        self.steps = None
        self.optimizer = build_optimizer(
            self.model, config, capturable=_captures(self.model, config)
        )
        kept: dict[Tensor, Any] = {
            p: old.state[p] for p in self.model.parameters() if p in old.state
        }
        self.optimizer.state.update(kept)
        if self.schedule is not None:
            schedule = build_schedule(self.optimizer, config, self.length)
            assert schedule is not None
            schedule.load_state_dict(self.schedule.state_dict())
            self.schedule = schedule
        for new_group, old_group in zip(self.optimizer.param_groups, old.param_groups, strict=True):
            new_group["lr"] = old_group["lr"]


def _train(
    config: TrainingConfig,
    dataset: Dataset,
    observer: Observer,
    checkpoint: Path | None,
    timer: Callable[[], float],
) -> Training:
    length = config.epochs * -(-len(dataset.train) // config.batch_size)
    counts = dataset.class_counts
    model = build_model(config, dataset.num_classes, length, counts)
    optimizer = build_optimizer(model, config, capturable=_captures(model, config))
    state = _State(
        model,
        optimizer,
        build_schedule(optimizer, config, length),
        torch.Generator().manual_seed(config.seed),
        begun(config, dataset, path_multiply_adds(model.head)),
        config,
        len(dataset.train),
    )
    if checkpoint is not None and checkpoint.exists():
        _restore(state, checkpoint)
    dataset = dataset.to(torch.device(config.device))
    before, started = state.record.seconds, timer()

    while state.record.status != "measured":
        try:
            epoch, metrics = _epoch(state, dataset, observer, timer)
        except _NotFiniteError as error:
            return replace(state.record, reason=str(error), seconds=before + timer() - started)
        state.record = _extend(
            config, state.record, epoch, metrics, before + timer() - started, state.rounds
        )
        if state.record.status == "measured":
            state.record = replace(
                state.record,
                greedy_misses=count_greedy_misses(model, dataset.test),
                head_multiply_adds=path_multiply_adds(model.head, counts),
            )
            if dataset.followed is not dataset.test:
                final, seconds = _final(state, dataset), before + timer() - started
                state.record = replace(state.record, final=final, seconds=seconds)
        if checkpoint is not None and state.is_kept:
            _save(state, checkpoint)
        observer.on_epoch(state.record)
    return state.record


def _captures(model: Classifier, config: TrainingConfig) -> bool:
    """Whether this training's steps are captured as a graph."""
    return config.graphs and capturable(model)


def _final(state: _State, dataset: Dataset) -> Metrics:
    """The metrics of a test split that nothing has been tested on before."""
    loss, metrics = _test(state, dataset, dataset.test)
    return replace(
        metrics,
        loss=loss,
        normaliser_bias=normaliser_bias(state.model, dataset.test, state.config.autocast),
    )


def _extend(
    config: TrainingConfig,
    record: Training,
    epoch: Epoch,
    metrics: Metrics,
    seconds: float,
    rounds: int = 1,
) -> Training:
    """The record with one more epoch in it, marked as measured if that was the last one."""
    last = config.epochs * rounds
    epochs = (*record.epochs, epoch)
    out_of_patience = config.patience is not None and config.patience <= _epochs_since_best(epochs)
    ended = out_of_patience or len(epochs) == last
    return replace(
        record,
        seconds=seconds,
        status="measured" if ended else "failed",
        reason="" if ended else f"ended after epoch {len(epochs)} of {last}",
        epochs=epochs,
        stopped_early=len(epochs) < last and ended,
        final=metrics if ended else None,
    )


def _epochs_since_best(epochs: tuple[Epoch, ...]) -> int:
    losses = [epoch.train_loss for epoch in epochs]
    return len(losses) - 1 - losses.index(min(losses))


def _epoch(
    state: _State,
    dataset: Dataset,
    observer: Observer,
    timer: Callable[[], float],
) -> tuple[Epoch, Metrics]:
    """Train one epoch, recording its losses in `state.record`, and test."""
    config, number = state.config, len(state.record.epochs) + 1
    device, clock = dataset.train.targets.device, _synchronised(timer, dataset)
    began = clock()
    if number - 1 in config.relearn:
        state.relearn(dataset.train)
    if state.steps is None:
        kind = Captured if _captures(state.model, config) else Eager
        state.steps = kind(state.model, state.optimizer, dataset.train, config)
    draw = state.next_draw(number - 1)
    length = -(-len(draw.index) // config.batch_size)
    # Summed on the device: reading every loss would make a GPU wait for the host at every batch.
    window = torch.zeros((), dtype=torch.float64, device=device)
    total, recorded = 0.0, 0
    for batch, loss in enumerate(state.steps.epoch(draw), start=1):
        window += loss
        if state.schedule is not None:
            state.schedule.step()
        if batch % config.loss_every == 0 or batch == length:
            mean = window.item() / (batch - recorded)
            _require_finite(mean, f"training loss of batches {recorded + 1} to {batch}", number)
            entry = Loss(number, batch, mean)
            state.record = replace(state.record, losses=(*state.record.losses, entry))
            observer.on_loss(entry)
            total += window.item()
            recorded = batch
            window.zero_()
        observer.on_batch(number, batch, length)
    trained = clock()
    test_loss, metrics = _test(state, dataset, dataset.followed)
    tested = clock()
    epoch = Epoch(
        epoch=number,
        train_loss=total / length,
        test_loss=test_loss,
        train_seconds=trained - began,
        test_seconds=tested - trained,
        accuracy=metrics.accuracy,
        top5=metrics.top5,
        precision=metrics.precision,
        recall=metrics.recall,
        f1=metrics.f1,
    )
    return epoch, metrics


def _test(state: _State, dataset: Dataset, split: Split) -> tuple[float, Metrics]:
    """Mean loss and metrics on `split`."""
    loss, ranked = evaluate(state.model, split, dataset.num_classes, state.config.autocast)
    mean = loss.item()
    _require_finite(mean, "test loss", len(state.record.epochs) + 1)
    # A table of confusions among all classes is for those that are scored one by one.
    return mean, measure(split.targets, ranked, dataset.num_classes, dataset.scored_classes)


def _require_finite(loss: float, what: str, epoch: int) -> None:
    if not math.isfinite(loss):
        raise _NotFiniteError(f"the {what} in epoch {epoch} is not finite ({loss})")


def _synchronised(timer: Callable[[], float], dataset: Dataset) -> Callable[[], float]:
    """`timer`, read once the data's device has done what it was asked to."""
    device = dataset.train.targets.device
    if device.type == "cpu":
        return timer

    def read() -> float:
        torch.accelerator.synchronize(device)
        return timer()

    return read


@contextmanager
def _reproducibly(config: TrainingConfig) -> Iterator[None]:
    """Seed torch and set its threads for the block; as they were after it."""
    threads = torch.get_num_threads()
    device = torch.device(config.device)
    with torch.random.fork_rng(
        devices=[] if device.type == "cpu" else [device.index or 0],
        device_type="cuda" if device.type == "cpu" else device.type,
    ):
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _save(state: _State, file: Path) -> None:
    """Write the checkpoint whole: whoever reads `file` finds the old state or the new one."""
    content = {
        "record": state.record.dump(),
        "tree": state.tree.parents if isinstance(state.tree, Tree) else state.tree,
        "tree_has_parents": isinstance(state.tree, Tree),
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": None if state.schedule is None else state.schedule.state_dict(),
        "order": state.order.get_state(),
        "random": _random_state(torch.device(state.config.device)),
    }
    write_whole(file, lambda stream: torch.save(content, stream))


def _restore(state: _State, file: Path) -> None:
    """Put `state` back to where it was when the checkpoint was written."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        record = Training.load(content["record"])
        _require_same(state.record, record, file)
        state.tree = content["tree"]
        if content["tree_has_parents"]:
            state.tree = Tree(content["tree"], state.model.head.num_classes)
        if state.tree is not None:
            state.change_head(head_on(state.tree, state.model, state.config))
        state.model.load_state_dict(content["model"])
        state.optimizer.load_state_dict(content["optimizer"])
        for group in state.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"] = group["lr"].to(state.config.device)
        if state.schedule is not None:
            state.schedule.load_state_dict(content["schedule"])
        state.order.set_state(content["order"])
        _set_random_state(torch.device(state.config.device), content["random"])
    except (
        *(RuntimeError, EOFError, KeyError, TypeError, ValueError, AttributeError),
        pickle.UnpicklingError,
    ) as error:
        raise CheckpointError(
            f"{file} is not a checkpoint or is damaged; delete it to train from the start"
        ) from error
    state.record = record


def _require_same(wanted: Training, saved: Training, file: Path) -> None:
    """Raise unless both records are of the same training."""

    def settings(record: Training) -> dict[str, Any]:
        kept = record.dump()  # what is read from JSON is a list where a tuple was written
        data = {name: kept["dataset"].get(name) for name in DATA}
        own = {name: kept[name] for name in ("head", "variant", "seed")}
        return {**own, **data, **kept["config"]}

    ours, theirs = settings(wanted), settings(saved)
    other = [name for name in ours if name not in theirs or ours[name] != theirs[name]]
    if other:
        raise CheckpointError(
            f"{file} is the checkpoint of another training (different: {', '.join(other)}); "
            "delete it to train from the start"
        )


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's global generators that a training on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states["device"] = torch.get_device_module(device).get_rng_state(device)
    return states


def _set_random_state(device: torch.device, states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states["device"], device)
