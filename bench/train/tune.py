"""Searches a variant's settings on held-out images, or validation text: `tox -e tune`.

Candidates are drawn at random from a stated space and thinned out by successive halving: all are
trained briefly, the best third three times as long, and so on. Every training runs its whole
schedule anew, because a schedule cut short says little about the whole one. The test images are
never looked at, nor is the test text. Images are judged by accuracy, words by perplexity.

Source: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", AISTATS 2016.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest

from bench import interrupts, options
from bench.display import Display
from bench.measure.allocation import is_out_of_memory
from bench.train.pool import CrashedError, Pool, Tell, Work
from bench.train.space import draw, space
from models import cases
from models.cases import CASES, Wanted
from models.config import TrainingConfig
from models.data import root
from models.dataset import DataError, Dataset
from models.training import train
from reports import terminal
from reports.arguments import MOST_SEED, Parser, number, several, shown, whole
from reports.results import fields
from reports.results.files import Reader, append_line
from reports.terminal import Column

THIRD = 3
"""Candidates per survivor, and how much longer a survivor is trained next; the source's choice."""

VARIANTS = {"tinyvgg": "softmax-tuned", "words": "softmax"}
"""Whose settings to search where nothing is said."""

COLUMNS = {
    "epochs": Column(number=True, given_up=2),
    "held out": Column(number=True, given_up=1),
    "95 %": Column(given_up=3),
    "s/epoch": Column(number=True, given_up=4),
    "settings": Column(readable=20),
}

Settings = Mapping[str, Any]
"""Fields of `TrainingConfig`, and their values in place of the variant's."""


@dataclass(frozen=True)
class Trial:
    """One candidate trained for so many epochs.

    Attributes:
        settings: where it differs from the variant.
        epochs: of each training.
        right: held-out images that were classified rightly, over all seeds.
        images: held-out images, over all seeds.
        seconds: of an epoch's training pass, on average.
        reason: why there is no result; empty where there is one.
        loss: mean over seeds, of words; None where accuracy is what counts.
    """

    settings: Settings
    epochs: int
    right: int = 0
    images: int = 0
    seconds: float = 0.0
    reason: str = ""
    loss: float | None = None

    @property
    def score(self) -> float:
        """What candidates are ranked by: more is better."""
        if self.loss is None:
            return self.accuracy
        return -self.loss

    @property
    def told(self) -> str:
        """The score, for people."""
        if self.loss is None:
            return f"{self.accuracy:.1%}"
        return f"perplexity {math.exp(self.loss):.4g}"

    @property
    def accuracy(self) -> float:
        """Share of the held-out images; -1 where the training failed."""
        return self.right / self.images if self.images else -1.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval (Wilson) of the accuracy, over images; what seeds add is not in it."""
        found = binomtest(self.right, self.images).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def rungs(candidates: int, epochs: int, least: int = 1) -> list[tuple[int, int]]:
    """Candidates and epochs of each round: the last has all `epochs`, each before it a third.

    The first has at least `least`: what acts late in a training cannot be judged from its start.
    """
    halvings = 0
    while THIRD ** (halvings + 1) <= min(candidates, epochs // least):
        halvings += 1
    return [
        (candidates // THIRD**number, epochs // THIRD ** (halvings - number))
        for number in range(halvings + 1)
    ]


def halve(
    candidates: Sequence[Settings],
    rounds: Iterable[tuple[int, int]],
    evaluate: Callable[[Sequence[Settings], int], Sequence[Trial]],
) -> list[Trial]:
    """Every candidate's last trial, best first: who was trained longer stands before the others.

    Args:
        candidates: what to choose from.
        rounds: how many go into each round, and for how many epochs.
        evaluate: gives the trials of some candidates after so many epochs.
    """
    ranked: list[Trial] = []
    alive = list(candidates)
    for count, epochs in rounds:
        trials = evaluate(alive[:count], epochs)
        best = sorted(trials, key=_rank, reverse=True)
        ranked = [*best, *ranked[count:]]
        alive = [trial.settings for trial in best]
    return ranked


def _rank(trial: Trial) -> tuple[bool, float]:
    """Who failed comes last."""
    return not trial.reason, trial.score


def carry_out(config: TrainingConfig, tell: Tell[None], *, dataset: Dataset) -> dict[str, Any]:
    """One training, in a process of its own: what a trial needs of it."""
    try:
        record = train(config, dataset)
    except ValueError as error:  # such as a head whose gradients the optimizer cannot use
        return {"reason": str(error)}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return {"reason": f"out of memory: {str(error).partition('. ')[0]}"}
    if record.final is None:
        return {"reason": record.reason}
    tested = len(dataset.test.targets)
    found = {
        "right": round(record.final.accuracy * tested),
        "images": tested,
        "seconds": sum(epoch.train_seconds for epoch in record.epochs) / len(record.epochs),
    }
    return found | ({"loss": record.epochs[-1].test_loss} if record.of_words else {})


def prepare(
    model: str, wanted: Wanted, train: int | None, share: float
) -> Work[TrainingConfig, None, dict[str, Any]]:
    """The data of one process: the training split alone, a part of it held out to test on."""
    dataset = CASES[model].load(wanted)
    if dataset.stand_in:
        raise DataError(f"there is nothing to learn from generated images: {dataset.reason}")
    return partial(carry_out, dataset=dataset.held_out(share).shortened(train))


class Book:
    """The trainings of a search, one JSON line each; what it holds is not trained again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found = dict(Reader(path.parent).lines(path.name, _noted))

    def get(self, training: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `training` gave, if it was made before."""
        return self._found.get(_key(training))

    def add(self, training: Mapping[str, Any], found: dict[str, Any]) -> None:
        """Keep what `training` gave."""
        self._found[_key(training)] = found
        append_line(self._path, {"training": training, "found": found})


def _noted(line: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A training's key, and what it gave."""
    return _key(fields.mapping(line, "training")), dict(fields.mapping(line, "found"))


def _key(training: Mapping[str, Any]) -> str:
    return json.dumps(training, sort_keys=True)


@dataclass(frozen=True)
class Tuning:
    """What all trials of a search have in common."""

    arguments: argparse.Namespace
    pool: Pool[TrainingConfig, None, dict[str, Any]]
    book: Book
    display: Display

    def config(self, settings: Settings, epochs: int, seed: int) -> TrainingConfig:
        """The training of a candidate."""
        given = self.arguments
        threads = max(1, given.threads // given.jobs)
        own = {"epochs": epochs, "seed": seed, "device": given.device, "threads": threads}
        if given.train_batch:
            own["batch_size"] = given.train_batch
        if given.width:
            own["width"] = given.width
        return cases.config(given.model, given.variant, **{**settings, **own})

    def evaluate(self, candidates: Sequence[Settings], epochs: int) -> list[Trial]:
        """Train every candidate from every seed, as many at once as there are jobs."""
        given = self.arguments
        seeds = range(given.seed, given.seed + given.seeds)
        data = {"images": given.train_images, "held_out": given.held_out}
        if given.vocabulary:
            data["vocabulary"] = given.vocabulary
        wanted = []
        for settings in candidates:
            for seed in seeds:
                config = self.config(settings, epochs, seed)
                training = {**asdict(config), **data}
                known = self.book.get(training)
                wanted.append((training, known, None if known else self.pool.submit(config)))
        found: list[dict[str, Any]] = []
        for training, known, future in wanted:
            if future is not None:
                self.display.running(f"{given.variant} for {epochs} epochs")
                try:
                    known = self.pool.result(future)
                except CrashedError as error:
                    known = {"reason": str(error)}
                else:
                    self.book.add(training, known)
            assert known is not None
            found.append(known)
            self.display.done(epochs)
        trials = [
            _trial(settings, epochs, found[start : start + len(seeds)])
            for settings, start in zip(candidates, range(0, len(found), len(seeds)), strict=True)
        ]
        best = max(trials, key=_rank)
        self.display.say(
            f"{len(trials)} candidates after {epochs} epochs: best {best.told} "
            f"with {_words(best.settings)}"
        )
        return trials


def _trial(settings: Settings, epochs: int, found: Sequence[Mapping[str, Any]]) -> Trial:
    for one in found:
        if "reason" in one:
            return Trial(settings, epochs, reason=one["reason"])
    return Trial(
        settings,
        epochs,
        right=sum(one["right"] for one in found),
        images=sum(one["images"] for one in found),
        seconds=sum(one["seconds"] for one in found) / len(found),
        loss=sum(one["loss"] for one in found) / len(found) if "loss" in found[0] else None,
    )


def rows(trials: Sequence[Trial], most: int = 20) -> Sequence[tuple[str, ...]]:
    """The best trials, those trained longest first, in the order of `COLUMNS`."""
    found = []
    for trial in trials[:most]:
        told = ("-", trial.reason, "-")
        if not trial.reason:
            low, high = trial.interval
            within = f"{low:.1%}-{high:.1%}" if trial.loss is None else "—"
            told = trial.told, within, f"{trial.seconds:.1f}"
        found.append((str(trial.epochs), *told, _words(trial.settings)))
    return found


def _words(settings: Settings) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "the variant's own"


def parser() -> Parser:
    """The command line."""
    made = Parser("bench.train.tune", description=(__doc__ or "").partition("\n")[0])
    add = made.add_argument
    add("--model", choices=cases.names(), default="tinyvgg", help="(%(default)s)")
    own = ", ".join(f"{variant} of {model}" for model, variant in VARIANTS.items())
    add("--variant", default=None, help=f"whose settings to search ({own})")
    add(
        "--over",
        type=several(str),
        metavar="NAME,...",
        help="settings to draw; the others stay (default: all)",
    )
    for flag, low, high, default, text in (
        ("--candidates", 1, 10_000, 27, "drawn (%(default)s)"),
        ("--epochs", 1, options.EPOCHS, 10, "of the last round (%(default)s)"),
        ("--least-epochs", 1, options.EPOCHS, 1, "of the first (%(default)s)"),
        ("--seeds", 1, 100, 1, "per candidate (%(default)s)"),
        ("--train-images", 1, options.IMAGES, None, "train on this many images, or words, only"),
        ("--vocabulary", 3, options.MOST_CLASSES, None, "classes of words at most"),
        ("--width", 1, 2**16, None, "of a language model's layers"),
        ("--train-batch", 1, 2**20, None, "images, or windows of a text, of a training step"),
        ("--seed", 0, MOST_SEED, 0, "of draws and trainings (%(default)s)"),
        ("--threads", 1, options.THREADS, torch.get_num_threads(), "of the CPU (%(default)s)"),
        ("--jobs", 1, options.JOBS, 1, "trainings at once (%(default)s)"),
    ):
        add(flag, type=whole(low, high), default=default, metavar="N", help=text)
    share = number(0, 1, inside=True)
    add("--held-out", type=share, default=0.1, metavar="SHARE", help="to test on (%(default)s)")
    add("--device", type=options.device, default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
    add("--data", metavar="DIR", help="as for a sweep")
    add("--output", type=Path, metavar="FILE", help="JSON lines; continued where it exists")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Search as the command line says; the exit status."""
    made = parser()
    given = made.parse_args(argv)
    given.variant = given.variant or VARIANTS[given.model]
    try:
        base = cases.config(given.model, given.variant)
    except ValueError as error:
        made.error(str(error))
    choices = space(base.head, given.model)
    if given.over:
        if unknown := [name for name in given.over if name not in choices]:
            made.error(
                f"--over: no setting {shown(unknown[0])} for {base.head}; of: {', '.join(choices)}"
            )
        choices = {name: choices[name] for name in given.over}
    of = "" if given.model == "tinyvgg" else f"{given.model}-"
    output = given.output or Path("results/tune") / f"{of}{given.variant}-seed{given.seed}.jsonl"
    chance = random.Random(given.seed)
    # The variant itself is the first candidate, so that a search never ends with less.
    candidates = [{}, *(draw(choices, base, chance) for _ in range(given.candidates - 1))]
    rounds = rungs(given.candidates, given.epochs, given.least_epochs)
    console = terminal.console()
    display = Display(console)
    display.say(f"Trainings go to {output}")
    display.start(
        given.seeds * sum(count for count, _ in rounds),
        given.seeds * sum(count * epochs for count, epochs in rounds),
    )
    try:
        folder = root(given.data, os.environ if given.model == "tinyvgg" else {})
        wanted = Wanted(folder, vocabulary=given.vocabulary)
        ready = partial(prepare, given.model, wanted, given.train_images, given.held_out)
        pool = Pool(given.jobs, ready, lambda config, message: None)
        with interrupts.like_ctrl_c(), closing(pool):
            tuning = Tuning(given, pool, Book(output), display)
            ranked = halve(candidates, rounds, tuning.evaluate)
    except DataError as error:
        made.error(str(error))
    except OSError as error:
        terminal.error(
            f"cannot write {output} ({error.strerror}): make room, and the same command goes on"
        )
        return 2
    except KeyboardInterrupt:
        display.say("Interrupted; the same command goes on from here.")
        return 130
    finally:
        display.stop()
    terminal.show(console, COLUMNS, rows(ranked), most=console.width)
    if ranked and not ranked[0].reason:
        best = {"learning_rate": base.learning_rate, **ranked[0].settings}["learning_rate"]
        display.say(f"A sweep takes the best learning rate as --rates {given.variant}={best:g}")
    return 0


if __name__ == "__main__":
    sys.exit(terminal.command(main))
