"""Do figures of a head alone hold inside a model, and those of planted features on trained ones?

`python -m bench.fidelity` takes two minutes and prints ratios that should be 1, each with the 95 %
interval of its median. What is compared takes turns, call by call.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

import heads
from bench.cells import STANDARD
from bench.display import real_console
from bench.measure import planting
from bench.measure.races import take_turns
from bench.measure.workload import Workload
from bench.options import among
from models import variants
from models.classifier import Classifier
from models.data import Dataset, load, root
from models.dataset import DataError
from models.optimizers import build_optimizer
from models.steps import draw_epoch, epoch_batches, training_step
from models.tinyvgg import IMAGE_SIZE, TinyVGG
from models.training import build_model
from reports import terminal, units
from reports.arguments import Parser, number, several, whole
from reports.results import Cell
from reports.stats.estimates import Interval
from reports.terminal import Column

BATCH = 128
CONFIDENCE = 0.95
EPOCHS = 1
"""Of the training: enough for a model that has left its first state far behind."""

COLUMNS = {
    "head": Column(),
    "classes": Column(number=True),
    "phase": Column(),
    "ratio": Column(number=True),
}


def interval(values: Sequence[float]) -> Interval:
    """The median of independent values and its interval, whatever they are distributed like.

    Of n values, the k-th from either end lies beyond the median with a probability that is
    binomial. With fewer than six, the interval from the least to the largest holds it less often.
    """
    ordered = np.sort(values)
    rank = max(1, int(binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5)))
    return Interval(float(ordered[rank - 1]), float(np.median(ordered)), float(ordered[-rank]))


def body_step(seed: int = 0) -> Callable[[], None]:
    """A training step of TinyVGG without a head, whose gradient is any."""
    torch.manual_seed(seed)
    body = TinyVGG()
    images = torch.randn(BATCH, 3, IMAGE_SIZE, IMAGE_SIZE).contiguous(
        memory_format=torch.channels_last
    )
    optimizer = torch.optim.SGD(body.parameters(), lr=0.0)
    gradient = torch.randn(BATCH, body.out_features)

    def step() -> None:
        optimizer.zero_grad()
        body(images).backward(gradient)
        optimizer.step()

    return step


def inside(head: str, classes: int, seconds: float) -> Interval:
    """A training step inside TinyVGG, over one of the head alone and one of the body alone."""
    width, threads = TinyVGG().out_features, torch.get_num_threads()
    cell = Cell("isolated", head, "train", classes, BATCH, width, threads=threads)
    alone, within = Workload(cell), Workload(replace(cell, scope="in-model"))
    calls: dict[str, Callable[[], object]] = {
        "alone": alone.prepare("train").call,
        "body": body_step(),
        "within": within.prepare("train").call,
    }
    taken = take_turns(calls, time.perf_counter, seconds)
    parts = zip(taken["within"], taken["alone"], taken["body"], strict=True)
    return interval([whole / (head + body) for whole, head, body in parts])


def trained(head: str, dataset: Dataset) -> Classifier:
    """TinyVGG with this head, trained for a while."""
    config = variants.config(head, learning_rate=0.05, batch_size=64, epochs=EPOCHS)
    torch.manual_seed(config.seed)
    model = build_model(config, dataset.num_classes)
    optimizer = build_optimizer(model, config)
    order = torch.Generator().manual_seed(config.seed)
    for _ in range(EPOCHS):
        draw = draw_epoch(len(dataset.train), config, order)
        for images, targets in epoch_batches(dataset.train, draw, config.batch_size):
            training_step(model, optimizer, images, targets)
    return model


def head_step(head: nn.Module, features: Tensor, targets: Tensor) -> Callable[[], None]:
    """A training step of a head on its own."""
    optimizer = torch.optim.SGD(head.parameters(), lr=0.0)
    features = features.detach().clone().requires_grad_()

    def step() -> None:
        optimizer.zero_grad()
        features.grad = None
        head(features, targets).loss.backward()
        optimizer.step()

    return step


def planted(head: str, dataset: Dataset, seconds: float) -> dict[str, Interval]:
    """Phase -> a trained head on its body's features, over a planted twin.

    The twin has fresh weights and features planted to be predicted like the trained ones are: the
    same classes, as surely in the mean.
    """
    model = trained(head, dataset).eval()
    images, targets = dataset.test.batch(torch.arange(BATCH))
    with torch.no_grad():
        features = model.embed(images)
        predicted = model.head.predict(features)
        confidence = float(model.head(features, predicted).output.exp().mean())
    twin = heads.build(head, model.head.in_features, dataset.num_classes)
    for one in (model.head, twin):
        if one.learning_rate is not None:
            one.learning_rate = 0.0
    start = torch.randn(features.shape)
    made = planting.plant(twin, dataset.num_classes, start, predicted, confidence)
    of = {"trained": (model.head, features), "planted": (twin, made.features)}
    ratios = {}
    for phase in ("train", "predict"):
        calls: dict[str, Callable[[], object]] = {}
        for name, (module, seen) in of.items():
            module.train(phase == "train")
            if phase == "train":
                calls[name] = head_step(module, seen, targets)
            else:
                calls[name] = torch.no_grad()(lambda module=module, seen=seen: module.predict(seen))
        taken = take_turns(calls, time.perf_counter, seconds)
        pairs = zip(taken["trained"], taken["planted"], strict=True)
        ratios[phase] = interval([one / other for one, other in pairs])
    return ratios


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ratios; the exit status is 0 unless the data cannot be used."""
    parser = Parser(prog="bench.fidelity", description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=among(heads.names()), default=STANDARD, metavar="NAME,...")
    parser.add_argument(
        "--classes", type=several(whole(2, 2**20)), default=(100, 1_024, 16_384), metavar="N,..."
    )
    parser.add_argument("--seconds", type=number(0.01, 60), default=2.5, help="of turns (2.5)")
    parser.add_argument("--data", metavar="DIR", help="as for the sweep")
    parser.add_argument("--train-images", type=whole(128, 50_000), default=20_000, metavar="N")
    given = parser.parse_args(arguments)
    console = real_console()
    try:
        dataset = load(root(given.data))
    except DataError as error:
        terminal.error(str(error))
        return 2
    if given.train_images < len(dataset.train):
        dataset = dataset.subset(given.train_images, len(dataset.test), 0)
    rows = []
    for classes in given.classes:
        for head in given.heads:
            ratio = inside(head, classes, given.seconds)
            rows.append((head, f"{classes:,}", "train", str(units.show(ratio))))
    title = "in TinyVGG's training step, over the head alone and the body alone"
    terminal.show(console, COLUMNS, rows, title)
    rows = [
        (head, f"{dataset.num_classes:,}", phase, str(units.show(ratio)))
        for head in given.heads
        for phase, ratio in planted(head, dataset, given.seconds).items()
    ]
    data = dataset.name + (" (stand-in images)" if dataset.stand_in else "")
    terminal.show(console, COLUMNS, rows, f"trained on {data}, over its planted twin")
    return 0


if __name__ == "__main__":
    sys.exit(main())
