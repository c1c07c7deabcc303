"""The options of a run: declared to pytest, checked, and turned into a plan."""

from __future__ import annotations

import os
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import pytest
import torch

import heads
from bench import peers
from bench.cells import PIPELINES, SWEEPS, Sweep, called, rate
from bench.cluster.nodes import address
from bench.machine.heap import HEAPS, Heap
from bench.measure import labels
from bench.measure.workload import why_unsuitable
from models import cases
from models.config import TrainingConfig
from models.data import root
from models.dataset import Dataset
from reports.arguments import MOST_SEED, number, several, shown, whole
from reports.results import MODES, STATES, Cell
from reports.results import fields as check
from reports.results.cell import LONGEST_OPTIONS
from reports.results.fields import Record, checked

MOST_VISITS = 200_000
"""Of a run, all passes together: some days, and as many as a report can hold."""


MOST_MINUTES = 60 * 24 * 365
"""Of a run; whoever needs more has mistyped."""

MINUTES: Mapping[str, float] = {"default": 12.0}
"""What a sweep has where nothing was asked for; others take as long as they take."""


def _parsed(record: Mapping[str, Any], field: str, parse: Callable[[str], str]) -> str:
    """A string that is what an option of the command line takes."""
    try:
        return parse(check.text(record, field))
    except ArgumentTypeError as error:
        raise ValueError(f"{field}: {error}") from None


def _folder(record: Mapping[str, Any], field: str) -> str:
    if "\0" in (given := check.text(record, field)):
        raise ValueError(f"{field}: expected a folder, got {given[:40]!r}")
    return given


@dataclass(frozen=True)
class Plan(Record):
    """Everything that decides what a run measures; kept in `run.json`, so that it can be resumed.

    Attributes:
        name: of the sweep it started from.
        sweep: the grid after all overrides.
        seed: of the order of visits, the data and the training.
        device: `cpu` or `cuda`.
        threads: torch's intra-op threads; trainings at once share them.
        data: folder of CIFAR-100, or of images, as given; None where none was.
        jobs: trainings at once.
        heap: whether memory that is freed goes back to the system, as malloc does it, or is kept.
        minutes: that a session has; None for as long as all takes.
    """

    name: str = field(metadata=checked(check.name))
    sweep: Sweep = field(metadata=checked(check.one, Sweep))
    seed: int = field(metadata=checked(check.count))
    device: str = field(metadata=checked(_parsed, lambda given: device(given)))
    threads: int = field(metadata=checked(check.count, 1, 2**16))
    data: str | None = field(metadata=checked(check.optional, _folder))
    jobs: int = field(default=1, metadata=checked(check.count, 1, 2**16, later=True))
    heap: Heap = field(default="default", metadata=checked(check.choice, HEAPS, later=True))
    minutes: float | None = field(
        default=None, metadata=checked(check.optional, check.number, 0, MOST_MINUTES, later=True)
    )

    @classmethod
    def load(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `dump`.

        Raises:
            ValueError: it asks for what is not known here or would never end; the message says so.
        """
        plan = super().load(record)
        for kind, given in ((cls, record), (Sweep, record["sweep"])):
            if strange := sorted(given.keys() - {one.name for one in fields(kind)}):
                raise ValueError(f"the option {strange[0]!r} is not known here")
        for head in (*plan.sweep.heads, plan.sweep.a_a):
            called(head)
        _check_values(plan.sweep)
        _check_sizes(plan.sweep)
        for variant in plan.sweep.trained:
            cases.config(plan.sweep.model, variant)
        if strange := sorted(set(plan.sweep.pipelines) - set(PIPELINES)):
            raise ValueError(f"no pipeline called {strange[0]!r}")
        if (visits := plan.sweep.visits) > MOST_VISITS:
            raise ValueError(f"expected at most {MOST_VISITS:,} measurements, got {visits:,}")
        return plan

    def load_dataset(self, missing: str = "") -> Dataset | None:
        """What the plan trains on: the data, or its stand-in; None if it trains nothing.

        Args:
            missing: why the data cannot be had, where that is known already.

        Raises:
            DataError: the data cannot be used, see `models.data.load` and `models.text.load`.
        """
        if not (self.sweep.trained and self.sweep.epochs):
            return None
        return cases.CASES[self.sweep.model].load(
            cases.Wanted(
                folder=None if self.data is None else Path(self.data),
                seed=self.seed,
                train=self.sweep.train_images,
                vocabulary=self.sweep.vocabulary,
                missing=missing,
            )
        )

    def trainings(self) -> list[TrainingConfig]:
        """What the plan trains: seed by seed, so that a run cut short has all variants alike."""
        overrides: dict[str, Any] = {
            name: value
            for name in ("epochs", "channels", "patience", "width")
            if (value := getattr(self.sweep, name)) is not None
        }
        if self.sweep.train_batch is not None:
            overrides["batch_size"] = self.sweep.train_batch
        if not self.sweep.epochs:
            return []
        rates = {name: {"learning_rate": value} for name, value in map(rate, self.sweep.rates)}
        return [
            cases.config(
                self.sweep.model,
                name,
                seed=seed,
                device=self.device,
                threads=max(1, self.threads // self.jobs),
                **overrides,
                **rates.get(name, {}),
            )
            for seed in range(self.seed, self.seed + self.sweep.seeds)
            for name in self.sweep.trained
        ]

    @property
    def training_weight(self) -> float:
        """Rough seconds that one training adds to the run on a small CPU."""
        case = cases.CASES[self.sweep.model]
        predictions = self.sweep.epochs * (self.sweep.train_images or case.predictions)
        return case.prediction_seconds * predictions / self.jobs


SWEEP = "default"
"""The sweep that is measured where none was asked for."""

OVERRIDES = (
    "heads", "classes", "batches", "model_classes", "features", "labels", "states", "dtypes",
    "optimizers", "modes", "ranks", "product", "passes",
    "trained", "epochs", "train_images", "seeds", "channels", "patience",
    "model", "vocabulary", "width", "train_batch", "rates",
)  # fmt: skip
"""Options that replace the field of the same name of the sweep."""

DTYPES = ("float32", "bfloat16", "float16", "tf32")
AUTOCAST = ("bfloat16", "float16")
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "adagrad")

OF_A_MODEL = {"vocabulary": "words", "width": "words", "channels": "tinyvgg"}
"""Options that only one model has a use for."""

MOST_CLASSES = 2**31 - 1
"""What an index of 32 bits reaches; twenty times the largest output published so far."""

MOST_RANKS = 64
"""On one machine."""

THREADS = max(16, 4 * (os.cpu_count() or 1))
"""More would not be faster, and OpenMP ends the process where it cannot start them."""

JOBS, SEEDS, EPOCHS, IMAGES = 256, 1_000, 10_000, 10**9
"""At most; whoever needs more has mistyped."""

BENCHMARK: dict[str, Callable[[str], float]] = {
    "max_time": number(1e-6, 3_600),
    "min_time": number(1e-9, 60),
    "min_rounds": whole(1, 1_000_000),
    "precision": number(0, 1, inside=True),
    "confidence": number(0, 1, inside=True),
    "calibration_precision": whole(1, 1_000_000),
    "warmup_iterations": whole(0, 1_000_000),
}
"""pytest-benchmark's own options that bound a measurement; it takes nan and inf for seconds."""
FLAGS = {"trained": "train", "dtypes": "dtype", "optimizers": "optimizer", "modes": "mode"}
"""Of options whose flag is not their name."""


def add_to(parser: pytest.Parser) -> None:
    """Declare headbench's options beside pytest's own."""
    group = parser.getgroup("headbench", "headbench: what to measure")
    add = group.addoption
    # No defaults here: whether an option was given decides whether it contradicts a resumed run.
    add("--model", choices=cases.names(), help="what heads sit on and are trained in (tinyvgg)")
    add("--sweep", choices=SWEEPS, help=f"grid to start from ({SWEEP})")
    add(
        "--heads",
        type=_heads,
        metavar="NAME,...",
        help="heads to measure and train, with options as in hierarchical(tree=huffman) or "
        f"adaptive(cutoffs=1000/5000), of: {', '.join(heads.names())}; "
        f"peers to measure beside them: {', '.join(peers.names())}",
    )
    add(
        "--train",
        dest="trained",
        type=_variants,
        metavar="NAME,...",
        help="variants to train; "
        + "; ".join(
            f"of {model}: {', '.join(case.variants)}" for model, case in cases.CASES.items()
        )
        + "; any head's name is one too; none trains nothing",
    )
    for flag, low, high, text in (
        ("--classes", 2, MOST_CLASSES, "class counts of the isolated heads"),
        ("--batches", 1, 2**24, "batch sizes"),
        ("--model-classes", 2, MOST_CLASSES, "class counts of the heads inside the model"),
        ("--features", 1, 2**20, "widths of the isolated heads' input; the first is the standard"),
        ("--ranks", 1, MOST_RANKS, "processes that share a head's classes, with a GPU each"),
    ):
        read = several(whole(low, high)) if flag == "--features" else _ascending(whole(low, high))
        add(flag, type=read, metavar="N,...", help=text)
    for flag, known, text in (
        ("--states", STATES, "of the model that predicts"),
        ("--dtype", DTYPES, "of weights and features; tf32 on CUDA only"),
        ("--optimizer", OPTIMIZERS, "what makes the steps"),
        ("--mode", MODES, "how calls are made: as written, replayed from CUDA graphs, compiled"),
    ):
        dest = {flag: name for name, flag in FLAGS.items()}.get(flag[2:], flag[2:])
        add(
            flag,
            dest=dest,
            type=among(known),
            metavar="NAME,...",
            help=f"{text}, of: {', '.join(known)}",
        )
    add(
        "--autocast",
        type=among(AUTOCAST),
        metavar="NAME,...",
        help=f"make products of float32 weights in: {', '.join(AUTOCAST)}",
    )
    add(
        "--labels",
        type=several(_label),
        metavar="LABELS,...",
        help="how often classes occur: uniform, zipf, zipf:EXPONENT, words:LANGUAGE (needs the "
        "extra 'words'), or a file with a count for each class, text or JSON",
    )
    add(
        "--product",
        action="store_true",
        default=None,
        help="measure every combination of widths, labels, states, dtypes, optimizers, modes and "
        "ranks; "
        "by default, those beyond the first of each are measured by themselves, at a few sizes",
    )
    for flag, low, high, text in (
        ("--passes", 1, 1_000, "times the whole grid is measured"),
        ("--epochs", 0, EPOCHS, "epochs of each training; 0 trains nothing"),
        ("--train-images", 1, IMAGES, "train on this many images, or words of a text, only"),
        ("--seeds", 1, SEEDS, "trainings of each variant, from --seed on"),
        ("--channels", 1, 1_024, "width of TinyVGG's convolutions in training"),
        ("--vocabulary", 3, MOST_CLASSES, "classes of words at most: the most frequent ones"),
        ("--width", 1, 2**16, "of a language model's layers"),
        ("--train-batch", 1, 2**20, "images, or windows of a text, of a training step"),
        ("--patience", 1, EPOCHS, "end a training after so many epochs without a lower loss"),
        ("--threads", 1, THREADS, "CPU threads, of each rank (default: as torch chooses)"),
    ):
        add(flag, type=whole(low, high), metavar="N", help=text)
    add(
        "--rates",
        type=several(_rate),
        metavar="VARIANT=RATE,...",
        help="learning rates in the place of the variants' own, as `tox -e tune` names the best",
    )
    add("--seed", type=whole(0, MOST_SEED), help="of order, data and training (0)")
    add("--device", type=device, help="cpu, cuda or cuda:N (cpu)")
    add("--jobs", type=whole(1, JOBS), metavar="N", help="trainings at once (1)")
    add("--heap", choices=HEAPS, help="freed memory: as malloc does it, or kept (default)")
    add(
        "--data",
        metavar="PATH",
        help="folder of CIFAR-100 or of class folders (default: $CIFAR100_ROOT, else data/); for "
        "words, a text file or a folder of them (default: the source of Python's library)",
    )
    add(
        "--minutes",
        type=_minutes,
        metavar="N",
        help="that a session has: what does not fit is left out and named, what is left is spent "
        "where the fastest head is not known yet; 'none' for no limit (12 for the default sweep)",
    )
    add(
        "--cluster",
        type=address,
        metavar="ADDRESS",
        help="measure on the machines of this Ray cluster (auto, HOST:PORT), or on local[:N] nodes",
    )
    add("--results", metavar="DIR", default="results", help="where runs are kept (%(default)s/)")
    add("--resume", metavar="RUN", help="complete this run; 'latest' is the newest")


def plan(option: Callable[[str], Any]) -> Plan:
    """The plan that the options ask for.

    Args:
        option: gives an option's value, as `pytest.Config.getoption` does.

    Raises:
        pytest.UsageError: together, the options ask for more than can be measured.
    """
    sweep = option("sweep") or SWEEP
    overrides = _overrides(option)
    model = overrides.get("model", SWEEPS[sweep].model)
    if "heads" in overrides:
        overrides["a_a"] = overrides["heads"][0]
        if SWEEPS[sweep].trained:
            known = [name for name in overrides["heads"] if _trainable(model, name)]
            overrides.setdefault("trained", tuple(known))
    if model != SWEEPS[sweep].model:
        # What is known of one model says nothing of another.
        overrides = {"pipelines": (), "split_steps": 0, **overrides}
        if SWEEPS[sweep].trained:
            overrides.setdefault("trained", tuple(cases.CASES[model].variants))
    if "vocabulary" in overrides:
        overrides.setdefault("model_classes", (overrides["vocabulary"],))
        overrides.setdefault("classes", (overrides["vocabulary"],))
    _check_model(model, overrides)
    folder = root(option("data"), os.environ if model == "tinyvgg" else {})
    minutes = option("minutes")
    if option("cluster") is not None:
        minutes = 0.0
        check_alone(option)
    asked = replace(SWEEPS[sweep], **overrides)
    if asked.visits > MOST_VISITS:
        raise pytest.UsageError(
            f"heads, classes, batches and passes make {asked.visits:,} visits, expected at most "
            f"{MOST_VISITS:,}: ask for fewer of them"
        )
    try:
        _check_sizes(asked)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    if "tf32" in asked.dtypes and not (option("device") or "cpu").startswith("cuda"):
        raise pytest.UsageError(
            "argument --dtype: tf32 is CUDA's; leave it out or use --device cuda"
        )
    return Plan(
        name=sweep,
        sweep=asked,
        seed=option("seed") or 0,
        device=option("device") or "cpu",
        threads=option("threads") or max(1, torch.get_num_threads() // max(asked.ranks)),
        data=None if folder is None else str(folder),
        jobs=option("jobs") or 1,
        heap=option("heap") or "default",
        minutes=(MINUTES.get(sweep) if minutes is None else minutes) or None,
    )


def _check_model(model: str, given: Mapping[str, Any]) -> None:
    """Raise a `pytest.UsageError` unless the options are such as the model has."""
    for name, owner in OF_A_MODEL.items():
        if name in given and model != owner:
            flag = name.replace("_", "-")
            raise pytest.UsageError(
                f"argument --{flag}: an option of --model {owner}; the model is {model}"
            )
    for name in given.get("trained", ()):
        try:
            cases.config(model, name)
        except ValueError as error:
            raise pytest.UsageError(f"argument --train: {error}") from None


def check_alone(option: Callable[[str], Any]) -> None:
    """Hold a run on a cluster to what it can do.

    Raises:
        pytest.UsageError: an option is of a machine that works alone.
    """
    for name, why in (
        ("minutes", "its machines share no clock; ask for fewer passes or classes"),
        ("jobs", "each training has a machine to itself"),
    ):
        if (given := option(name)) not in (None, {"minutes": 0.0, "jobs": 1}[name]):
            raise pytest.UsageError(f"--{name} {given:g} does not go with --cluster: {why}")
    if ":" in (given := option("device") or ""):
        raise pytest.UsageError(
            f"--device {given} does not go with --cluster: a task is given a GPU; use cuda"
        )


def contradiction(plan: Plan, option: Callable[[str], Any]) -> str:
    """How the options given contradict the plan of a run that goes on, in words; else nothing.

    Where its data lie is free to change: what they are is checked when they have been read.
    """
    kept = {"sweep": plan.name} | {
        name: getattr(plan, name) for name in ("seed", "device", "threads", "jobs", "heap")
    }
    asked = {name: option(name) for name in kept} | _overrides(option)
    for name, ours in (kept | {name: getattr(plan.sweep, name) for name in OVERRIDES}).items():
        if (given := asked.get(name)) not in (None, ours):
            flag = FLAGS.get(name, name.replace("_", "-"))
            return f"--{flag} {_shown(given)} contradicts the run, which has {_shown(ours)}"
    return ""


def _overrides(option: Callable[[str], Any]) -> dict[str, Any]:
    """Fields of the sweep that the options replace, and what by."""
    given = {name: value for name in OVERRIDES if (value := option(name)) is not None}
    if autocast := option("autocast"):
        within = tuple(f"autocast-{name}" for name in autocast)
        given["dtypes"] = (*given.get("dtypes", ()), *within)
    return given


def _check_values(sweep: Sweep) -> None:
    """Raise a `ValueError` unless dtypes and optimizers are known here."""
    dtypes = (*DTYPES, *(f"autocast-{name}" for name in AUTOCAST))
    for kind, given, known in (
        ("dtype", sweep.dtypes, dtypes),
        ("optimizer", sweep.optimizers, OPTIMIZERS),
    ):
        if strange := [one for one in given if one not in known]:
            raise ValueError(f"no {kind} called {shown(strange[0])}; there are: {', '.join(known)}")


def _check_sizes(sweep: Sweep) -> None:
    """Raise a `ValueError` where labels know fewer classes, or no size suits a head's options.

    Sizes that do not, among others that do, are skipped when their turn comes, which says why.
    """
    largest = max((*sweep.classes, *sweep.model_classes))
    for given in sweep.labels:
        most = labels.most_classes(given)
        if most is not None and largest > most:
            raise ValueError(
                f"labels {labels.name(given)} know {most:,} classes, the sweep has {largest:,}: "
                "ask for fewer with --classes and --model-classes"
            )
    sizes = [(width, n) for n in sorted(sweep.classes) for width in sweep.features]
    width = sweep.width or cases.CASES[sweep.model].features
    inside = [(width, n) for n in sorted(sweep.model_classes)]
    for head in sweep.heads:
        name, options = called(head)
        reasons = []
        for width, n in [*sizes, *inside] if options else ():
            cell = Cell("isolated", name, "train", n, 1, width, options=options)
            if not (reason := why_unsuitable(cell)):
                break
            reasons.append(reason)
        else:
            if reasons:
                raise ValueError(reasons[-1])


def _trainable(model: str, head: str) -> bool:
    if head in peers.names():
        return False
    try:
        cases.config(model, head)
    except ValueError:
        return False
    return True


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def check_benchmark(option: Callable[[str], Any]) -> None:
    """Hold pytest-benchmark's own options to a range.

    Raises:
        pytest.UsageError: one is out of its range.
    """
    for name, read in BENCHMARK.items():
        if (value := option(f"benchmark_{name}")) is not None:
            try:
                read(str(value))
            except ArgumentTypeError as error:
                flag = name.replace("_", "-")
                raise pytest.UsageError(f"argument --benchmark-{flag}: {error}") from None


def _ascending(read: Callable[[str], int]) -> Callable[[str], tuple[int, ...]]:
    return lambda given: tuple(sorted(several(read)(given)))


def _named(given: str) -> str:
    if not given:
        raise ArgumentTypeError("expected names parted by commas, got an empty one")
    return given


_names = several(_named)


def _variants(given: str) -> tuple[str, ...]:
    return () if given == "none" else _names(given)


def _heads(given: str) -> tuple[str, ...]:
    chosen = []
    # A comma within parentheses parts options, not heads.
    for call in re.split(r",(?![^()]*\))", given):
        try:
            name, options = called(_named(call.strip()))
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None
        if len(options) > LONGEST_OPTIONS:
            raise ArgumentTypeError(f"{name}: options longer than {LONGEST_OPTIONS} characters")
        chosen.append(f"{name}({options})" if options else name)
    return tuple(dict.fromkeys(chosen))


def among(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads names parted by commas, each one of `known`."""

    def read(given: str) -> str:
        if given not in known:
            raise ArgumentTypeError(f"expected one of {', '.join(known)}, got {shown(given)}")
        return given

    return several(read)


def _rate(given: str) -> str:
    try:
        rate(given)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return given


def _label(given: str) -> str:
    try:
        return labels.parse(given)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _minutes(given: str) -> float:
    return 0.0 if given == "none" else number(0, MOST_MINUTES, inside=True)(given)


def device(given: str) -> str:
    """Parse a device that torch has."""
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", given):
        raise ArgumentTypeError(f"must be cpu, cuda or cuda:N, got {shown(given)}")
    found = torch.device(given)
    seen = torch.cuda.device_count()
    if found.type == "cuda" and (found.index or 0) >= seen:
        raise ArgumentTypeError(
            f"{given}: torch sees {seen} CUDA devices; use cpu, "
            "or install a CUDA build of torch on a machine with a GPU"
        )
    return given
