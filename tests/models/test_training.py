import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

import heads
from models import data, training
from models.config import TrainingConfig
from models.data import Dataset, Split
from models.optimizers import build_optimizer
from models.records import begun
from models.steps import training_step
from models.training import (
    CheckpointError,
    Silent,
    build_model,
    train,
)
from reports.results import Epoch, Loss, Metrics, Training

SMALL = TrainingConfig(
    head="softmax", channels=3, epochs=3, learning_rate=0.1, threads=1, loss_every=5
)


class Recorder(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []
        self.losses: list[Loss] = []
        self.records: list[Training] = []

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        self.batches.append((epoch, batch, batches))

    def on_loss(self, entry: Loss) -> None:
        self.losses.append(entry)

    def on_epoch(self, record: Training) -> None:
        self.records.append(record)


class Interrupt(Silent):
    """Presses Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = (epoch, batch)

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        if (epoch, batch) == self.at:
            raise KeyboardInterrupt


def without_times(record: Training) -> dict[str, Any]:
    epochs = tuple(replace(epoch, train_seconds=0, test_seconds=0) for epoch in record.epochs)
    return replace(record, started="", seconds=0, epochs=epochs).dump()


def test_training_equals_a_loop_spelled_out(tiny: Dataset) -> None:
    record = train(SMALL, tiny)

    torch.manual_seed(SMALL.seed)
    model = build_model(SMALL, tiny.num_classes)
    order = torch.Generator().manual_seed(SMALL.seed)
    losses: list[Any] = []
    epochs: list[dict[str, Any]] = []
    for epoch in (1, 2, 3):
        seen = []
        for index in torch.randperm(400, generator=order).split(32):
            loss = model(tiny.train.images[index], tiny.train.targets[index]).loss
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter.sub_(SMALL.learning_rate * gradient)
            seen.append(loss.item())
        windows = [seen[0:5], seen[5:10], seen[10:13]]
        losses += [
            (epoch, batch, pytest.approx(sum(window) / len(window), rel=1e-5))
            for batch, window in zip((5, 10, 13), windows, strict=True)
        ]
        with torch.no_grad():
            scores = model.log_prob(tiny.test.images)
        right = scores.gather(1, tiny.test.targets.unsqueeze(1))
        labels = range(tiny.num_classes)
        epochs.append(
            {
                "train_loss": pytest.approx(sum(seen) / len(seen), rel=1e-5),
                "test_loss": pytest.approx(-right.mean().item(), rel=1e-5),
                "accuracy": pytest.approx(
                    (scores.argmax(dim=1) == tiny.test.targets).float().mean().item()
                ),
                "top5": pytest.approx(
                    top_k_accuracy_score(tiny.test.targets, scores, k=5, labels=labels)
                ),
            }
        )

    found: list[Any] = [(entry.epoch, entry.batch, entry.loss) for entry in record.losses]
    assert found == losses
    named = [{name: getattr(epoch, name) for name in epochs[0]} for epoch in record.epochs]
    assert named == epochs


@pytest.mark.parametrize("name", heads.names())
def test_plain_sgd_lowers_the_loss(name: str, tiny: Dataset) -> None:
    torch.manual_seed(0)
    config = replace(SMALL, head=name, learning_rate=0.05)
    model = build_model(config, tiny.num_classes)
    optimizer = build_optimizer(model, config)
    images, targets = tiny.train.batch(torch.arange(32))

    def loss() -> float:
        with torch.no_grad():
            return float(model.eval()(images, targets).loss)

    before = loss()
    model.train()
    for _ in range(20):
        training_step(model, optimizer, images, targets)
    assert loss() < before


def test_a_row_sparse_gradient_leaves_the_other_rows_alone(tiny: Dataset) -> None:
    model = build_model(replace(SMALL, head="hierarchical"), 1024)
    optimizer = build_optimizer(model, SMALL)
    before = [parameter.clone() for parameter in model.head.parameters()]
    images, targets = tiny.train.batch(torch.arange(4))
    training_step(model, optimizer, images, targets)
    for old, new in zip(before, model.head.parameters(), strict=True):
        assert new.grad is not None
        assert new.grad.is_sparse
        changed = (old != new).view(len(old), -1).any(dim=1).sum()
        assert 0 < changed <= 4 * 10


def test_learning_shows_in_the_metrics() -> None:
    whole = data.stand_in("a test", per_class=50)

    def first_four(split: Split) -> Split:
        return Split(*split.batch((split.targets < 4).nonzero().flatten()))

    easy = replace(
        whole,
        classes=whole.classes[:4],
        train=first_four(whole.train),
        test=first_four(whole.test),
    )
    record = train(replace(SMALL, channels=10, epochs=20, learning_rate=0.05), easy)
    assert record.final is not None
    assert record.final.accuracy > 0.9
    assert record.final.top5 == 1
    assert record.epochs[-1].train_loss < record.epochs[0].train_loss / 2


@pytest.mark.parametrize("name", ["softmax", "gumbel", "hierarchical"])
def test_same_seed_gives_the_same_result(name: str, few: Dataset) -> None:
    config = replace(SMALL, head=name)
    first, again, other = (train(replace(config, seed=seed), few) for seed in (0, 0, 1))
    assert without_times(again) == without_times(first)
    assert without_times(other)["losses"] != without_times(first)["losses"]


def test_every_head_sees_the_same_batches(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Split.batch
    seen: dict[str, list[list[int]]] = {name: [] for name in heads.names()}
    for name, batches in seen.items():

        def spy(
            self: Split,
            index: torch.Tensor,
            flipped: torch.Tensor | None = None,
            batches: list[list[int]] = batches,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            batches.append(index.tolist())
            return batch(self, index, flipped)

        monkeypatch.setattr(Split, "batch", spy)
        train(replace(SMALL, head=name, epochs=2), few)

    first, *others = seen.values()
    assert all(other == first for other in others)
    epochs = [list(itertools.chain(*batches)) for batches in (first[:4], first[4:])]
    assert epochs[0] != epochs[1]
    assert all(sorted(epoch) == list(range(112)) for epoch in epochs)


def test_training_leaves_torch_as_it_found_it(tiny: Dataset) -> None:
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(replace(SMALL, epochs=1, threads=threads + 1), tiny)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_observer_hears_of_every_batch_loss_and_epoch(tiny: Dataset) -> None:
    recorder = Recorder()
    record = train(SMALL, tiny, observer=recorder)
    assert recorder.batches == [(e, b, 13) for e in (1, 2, 3) for b in range(1, 14)]
    assert tuple(recorder.losses) == record.losses
    assert [len(seen.epochs) for seen in recorder.records] == [1, 2, 3]
    assert [seen.status for seen in recorder.records] == ["failed", "failed", "measured"]
    assert recorder.records[0].reason == "ended after epoch 1 of 3"
    assert recorder.records[-1] == record


def test_seconds_come_from_the_timer(tiny: Dataset) -> None:
    ticks = iter(range(1000))
    record = train(replace(SMALL, epochs=2), tiny, timer=lambda: float(next(ticks)))
    assert [(epoch.train_seconds, epoch.test_seconds) for epoch in record.epochs] == [(1, 1)] * 2
    assert record.seconds == 8


def shape(value: object) -> object:
    """The keys and types of a JSON value; a list is judged by its first item."""
    if isinstance(value, Mapping):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value)


def test_record_has_the_documented_shape(
    tiny: Dataset, documented_record: Mapping[str, Any]
) -> None:
    record = train(replace(SMALL, epochs=1), tiny).dump()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert shape(record) == shape(documented_record)
    assert list(record) == list(documented_record)
    for part in ("config", "epochs", "losses"):
        assert shape(record[part]) == shape(documented_record[part])


def test_record_says_what_it_was_trained_on(tiny: Dataset) -> None:
    dataset = train(replace(SMALL, epochs=1), tiny).dump()["dataset"]
    assert (dataset["stand_in"], dataset["reason"]) == (True, "a test")
    assert (dataset["train_images"], dataset["test_images"]) == (400, 100)
    assert len(dataset["classes"]) == len(dataset["superclass_of"]) == 100
    assert len(dataset["superclasses"]) == 20


def test_a_loss_that_is_not_finite_is_recorded_as_failed(tiny: Dataset) -> None:
    record = train(replace(SMALL, learning_rate=1e30), tiny)
    assert record.status == "failed"
    assert "loss of batches 1 to 5 in epoch 1 is not finite" in record.reason
    assert record.final is None
    json.dumps(record.dump(), allow_nan=False)


def epoch_with(train_loss: float) -> Epoch:
    return Epoch(1, train_loss, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("patience", "losses", "stops_after"),
    [
        (None, [3, 3, 3, 3, 3, 3], None),
        (1, [5, 4, 4, 3, 2, 1], 3),
        (2, [5, 4, 4.5, 3, 3.5, 3.2, 2], 6),
        (2, [5, 4, 4.5, 3, 3.5, 2], None),
        (1, [5, 4, 3, 2, 1, 1], 6),
    ],
)
def test_patience_ends_the_training(
    patience: int | None, losses: list[float], stops_after: int | None, tiny: Dataset
) -> None:
    config = replace(SMALL, patience=patience, epochs=10)
    record = begun(config, tiny)
    metrics = Metrics(0, 0, 0, 0, 0, {}, np.zeros((0, 0)))
    for loss in losses:
        record = training._extend(config, record, epoch_with(loss), metrics, 0)
        if record.status == "measured":
            break
    assert record.stopped_early == (stops_after is not None)
    assert len(record.epochs) == (stops_after or len(losses))
    assert (record.final is None) == (stops_after is None)


def test_the_last_epoch_is_not_an_early_stop(tiny: Dataset) -> None:
    config = replace(SMALL, patience=1, epochs=2)
    record, metrics = begun(config, tiny), Metrics(0, 0, 0, 0, 0, {}, np.zeros((0, 0)))
    for loss in (1, 2):
        record = training._extend(config, record, epoch_with(loss), metrics, 0)
    assert (record.status, record.stopped_early) == ("measured", False)


RECIPES: dict[str, dict[str, Any]] = {
    "published": {},
    "momentum": {"momentum": 0.9, "weight_decay": 1e-3, "schedule": "one-cycle"},
    "adamw": {"optimizer": "adamw", "learning_rate": 4e-3, "schedule": "one-cycle", "flips": True},
    "bfloat16": {"autocast": "bfloat16", "padding": 1, "flips": True},
}


@pytest.fixture(scope="module")
def uninterrupted(
    few: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[TrainingConfig], tuple[Training, Any]]:
    """A training in one go, for all interruptions of it: its record, and the model's state."""
    known: dict[str, tuple[Training, Any]] = {}

    def uninterrupted(config: TrainingConfig) -> tuple[Training, Any]:
        if repr(config) not in known:
            file = tmp_path_factory.mktemp("whole") / "checkpoint"
            record = train(config, few, checkpoint=file)
            known[repr(config)] = record, torch.load(file, weights_only=True)["model"]
        return known[repr(config)]

    return uninterrupted


@pytest.mark.parametrize(
    ("recipe", "epoch", "batch"),
    [
        *(("published", *at) for at in ((1, 2), (2, 1), (2, 4), (3, 3))),
        *((recipe, 3, 3) for recipe in RECIPES if recipe != "published"),
    ],
)
@pytest.mark.parametrize(
    "head",
    [
        {"head": "softmax"},
        {"head": "gumbel", "annealing": (2.0, 0.5)},
        {"head": "hierarchical"},
        {"head": "hierarchical", "head_options": {"tree": "learned"}, "relearn": (0, 1)},
        {
            "head": "hierarchical",
            "head_options": {"tree": "clustered", "branching": 3, "pieces": 2},
            "relearn": (1,),
        },
    ],
    ids=lambda settings: settings.get("head_options", {}).get("tree", settings["head"]),
)
def test_an_interrupted_training_ends_with_the_same_result(
    head: dict[str, Any],
    recipe: str,
    epoch: int,
    batch: int,
    few: Dataset,
    uninterrupted: Callable[[TrainingConfig], tuple[Training, Any]],
    tmp_path: Path,
) -> None:
    config = TrainingConfig(**{**asdict(SMALL), "loss_every": 2, **head, **RECIPES[recipe]})
    whole, expected = uninterrupted(config)
    with pytest.raises(KeyboardInterrupt):
        train(config, few, observer=Interrupt(epoch, batch), checkpoint=tmp_path / "torn")
    recorder = Recorder()
    resumed = train(config, few, observer=recorder, checkpoint=tmp_path / "torn")

    assert recorder.batches[0] == (epoch, 1, 4)
    assert without_times(resumed) == without_times(whole)
    found = torch.load(tmp_path / "torn", weights_only=True)["model"]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["softmax", "gumbel", "hierarchical"])
def test_training_on_cuda_learns_and_resumes(name: str, tiny: Dataset, tmp_path: Path) -> None:
    config = replace(SMALL, head=name, device="cuda:0")
    whole = train(config, tiny)
    on_cpu = train(replace(config, device="cpu"), tiny)
    with pytest.raises(KeyboardInterrupt):
        train(config, tiny, observer=Interrupt(3, 7), checkpoint=tmp_path / "torn")
    resumed = train(config, tiny, checkpoint=tmp_path / "torn")

    def losses(record: Training) -> list[float]:
        return [entry.loss for entry in record.losses]

    # Atomic additions on the device come in no fixed order, and its noise is not the CPU's.
    assert losses(resumed) == pytest.approx(losses(whole), rel=1e-3)
    assert losses(on_cpu) == pytest.approx(losses(whole), rel=0.2 if name == "gumbel" else 1e-3)


def test_time_before_the_interruption_counts(tiny: Dataset, tmp_path: Path) -> None:
    def train_with(observer: Silent, clock: float) -> Training:
        ticks = iter(clock + tick for tick in range(1000))
        checkpoint = tmp_path / "checkpoint"
        timer = ticks.__next__
        return train(SMALL, tiny, observer=observer, checkpoint=checkpoint, timer=timer)

    with pytest.raises(KeyboardInterrupt):
        train_with(Interrupt(3, 1), clock=0)
    assert train_with(Silent(), clock=-5000).seconds == 4 + 4 + 4


def test_a_finished_training_is_not_trained_again(tiny: Dataset, tmp_path: Path) -> None:
    whole = train(SMALL, tiny, checkpoint=tmp_path / "checkpoint")
    recorder = Recorder()
    again = train(SMALL, tiny, observer=recorder, checkpoint=tmp_path / "checkpoint")
    assert again.dump() == whole.dump()
    assert recorder.batches == []


def test_a_checkpoint_torn_while_written_leaves_the_one_before(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, tiny, observer=Interrupt(2, 1), checkpoint=checkpoint)
    before = checkpoint.read_bytes()

    def torn(_: object, stream: Any) -> None:
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", torn)
        with pytest.raises(OSError, match="No space left"):
            train(SMALL, tiny, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before
    assert without_times(train(SMALL, tiny, checkpoint=checkpoint)) == without_times(
        train(SMALL, tiny)
    )


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_is_named(content: bytes, tiny: Dataset, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(CheckpointError, match="checkpoint is not a checkpoint or is damaged"):
        train(SMALL, tiny, checkpoint=tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 0.2}, "learning_rate"),
        ({"seed": 1, "epochs": 4}, "seed, epochs"),
        ({"head": "gumbel", "head_options": {"tau": 0.5}}, "head, variant, head_options"),
        ({"variant": "other", "optimizer": "adamw"}, "variant, optimizer"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    change: dict[str, Any], named: str, tiny: Dataset, tmp_path: Path
) -> None:
    first = replace(SMALL, epochs=1)
    train(first, tiny, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=rf"another training \(different: {named}\)"):
        train(replace(first, **change), tiny, checkpoint=tmp_path / "checkpoint")


def test_a_checkpoint_of_other_data_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    train(SMALL, tiny, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="different: train_images"):
        train(SMALL, tiny.subset(200, 100), checkpoint=tmp_path / "checkpoint")
