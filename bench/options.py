"""The options of a run: declared to pytest, checked, and turned into a plan."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import pytest
import torch

import heads
from bench import peers
from bench.cells import PIPELINES, SWEEPS, Sweep
from models import variants
from models.config import TrainingConfig
from models.data import Dataset, load, root, stand_in
from reports.results import fields as check
from reports.results.fields import Record, checked

MOST_VISITS = 1_000_000
"""More than a year of measuring: no run holds as much."""


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
    """

    name: str = field(metadata=checked(check.name))
    sweep: Sweep = field(metadata=checked(check.one, Sweep))
    seed: int = field(metadata=checked(check.count))
    device: str = field(metadata=checked(_parsed, lambda given: device(given)))
    threads: int = field(metadata=checked(check.count, 1, 2**16))
    data: str | None = field(metadata=checked(check.optional, _folder))
    jobs: int = field(default=1, metadata=checked(check.count, 1, 2**16, later=True))

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
        for head in plan.sweep.heads:
            _known(head)
        for variant in plan.sweep.trained:
            variants.config(variant)
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
            DataError: the data cannot be used, see `models.data.load`.
        """
        if not (self.sweep.trained and self.sweep.epochs):
            return None
        folder = None if self.data is None else Path(self.data)
        dataset = stand_in(missing) if missing else load(folder, self.seed)
        if (images := self.sweep.train_images) is None:
            return dataset
        return dataset.subset(min(images, len(dataset.train)), len(dataset.test), self.seed)

    def trainings(self) -> list[TrainingConfig]:
        """What the plan trains: seed by seed, so that a run cut short has all variants alike."""
        overrides: dict[str, Any] = {
            name: value
            for name in ("epochs", "channels", "patience")
            if (value := getattr(self.sweep, name)) is not None
        }
        if not self.sweep.epochs:
            return []
        return [
            variants.config(
                name,
                seed=seed,
                device=self.device,
                threads=max(1, self.threads // self.jobs),
                **overrides,
            )
            for seed in range(self.seed, self.seed + self.sweep.seeds)
            for name in self.sweep.trained
        ]

    @property
    def training_weight(self) -> float:
        """Rough seconds that one training adds to the run on a small CPU."""
        return 2e-4 * self.sweep.epochs * (self.sweep.train_images or 50_000) / self.jobs


SWEEP = "default"
"""The sweep that is measured where none was asked for."""

OVERRIDES = (
    "heads", "classes", "batches", "model_classes", "features", "passes",
    "trained", "epochs", "train_images", "seeds", "channels", "patience",
)  # fmt: skip
"""Options that replace the field of the same name of the sweep."""

FLAGS = {"trained": "train"}
"""Of options whose flag is not their name."""


def add_to(parser: pytest.Parser) -> None:
    """Declare headbench's options beside pytest's own."""
    group = parser.getgroup("headbench", "headbench: what to measure")
    add = group.addoption
    # No defaults here: whether an option was given decides whether it contradicts a resumed run.
    add("--sweep", choices=SWEEPS, help=f"grid to start from ({SWEEP})")
    add(
        "--heads",
        type=_heads,
        metavar="NAME,...",
        help=f"heads to measure and train, of: {', '.join(heads.names())}; "
        f"peers to measure beside them: {', '.join(peers.names())}",
    )
    add(
        "--train",
        dest="trained",
        type=_variants,
        metavar="NAME,...",
        help=f"variants to train, of: {', '.join(variants.names())}; any head's name is one too; "
        "none trains nothing",
    )
    for flag, least, text in (
        ("--classes", 2, "class counts of the isolated heads"),
        ("--batches", 1, "batch sizes"),
        ("--model-classes", 2, "class counts of the heads inside TinyVGG"),
    ):
        add(flag, type=_list_of(whole(least)), metavar="N,...", help=text)
    for flag, least, text in (
        ("--features", 1, "width of the isolated heads' input"),
        ("--passes", 1, "times the whole grid is measured"),
        ("--epochs", 0, "epochs of each training; 0 trains nothing"),
        ("--train-images", 1, "train on this many images only"),
        ("--seeds", 1, "trainings of each variant, from --seed on"),
        ("--channels", 1, "width of TinyVGG's convolutions in training"),
        ("--patience", 1, "end a training after so many epochs without a lower training loss"),
        ("--threads", 1, "CPU threads (default: as torch chooses)"),
    ):
        add(flag, type=whole(least), metavar="N", help=text)
    add("--seed", type=whole(0), help="of order, data and training (0)")
    add("--device", type=device, help="cpu, cuda or cuda:N (cpu)")
    add("--jobs", type=whole(1), metavar="N", help="trainings at once (1)")
    add(
        "--data",
        metavar="DIR",
        help="folder of CIFAR-100 or of class folders (default: $CIFAR100_ROOT, else data/)",
    )
    add("--results", metavar="DIR", default="results", help="where runs are kept (%(default)s/)")
    add("--resume", metavar="RUN", help="complete this run; 'latest' is the newest")


def plan(option: Callable[[str], Any]) -> Plan:
    """The plan that the options ask for.

    Args:
        option: gives an option's value, as `pytest.Config.getoption` does.
    """
    sweep = option("sweep") or SWEEP
    overrides = {name: value for name in OVERRIDES if (value := option(name)) is not None}
    if "heads" in overrides:
        overrides["a_a"] = overrides["heads"][0]
        if SWEEPS[sweep].trained:
            own = tuple(name for name in overrides["heads"] if name not in peers.names())
            overrides.setdefault("trained", own)
    folder = root(option("data"))
    return Plan(
        name=sweep,
        sweep=replace(SWEEPS[sweep], **overrides),
        seed=option("seed") or 0,
        device=option("device") or "cpu",
        threads=option("threads") or torch.get_num_threads(),
        data=None if folder is None else str(folder),
        jobs=option("jobs") or 1,
    )


def contradiction(plan: Plan, option: Callable[[str], Any]) -> str:
    """How the options given contradict the plan of a run that goes on, in words; else nothing.

    Where its data lie is free to change: what they are is checked when they have been read.
    """
    kept = {"sweep": plan.name} | {
        name: getattr(plan, name) for name in ("seed", "device", "threads", "jobs")
    }
    for name, ours in (kept | {name: getattr(plan.sweep, name) for name in OVERRIDES}).items():
        if (given := option(name)) not in (None, ours):
            flag = FLAGS.get(name, name.replace("_", "-"))
            return f"--{flag} {_shown(given)} contradicts the run, which has {_shown(ours)}"
    return ""


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def whole(least: int) -> Callable[[str], int]:
    """Parse a whole number of at least so much."""

    def parse(given: str) -> int:
        try:
            value = int(given)
        except ValueError:
            raise ArgumentTypeError(f"expected a whole number, got {given!r}") from None
        if value < least:
            raise ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return parse


def _list_of(parse: Callable[[str], int]) -> Callable[[str], tuple[int, ...]]:
    return lambda given: tuple(sorted({parse(part) for part in given.split(",")}))


def _names(given: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in given.split(",")))


def _variants(given: str) -> tuple[str, ...]:
    if given == "none":
        return ()
    for name in (chosen := _names(given)):
        try:
            variants.config(name)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None
    return chosen


def _heads(given: str) -> tuple[str, ...]:
    chosen = _names(given)
    for name in chosen:
        try:
            _known(name)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None
    return chosen


def _known(name: str) -> None:
    if name not in (known := (*heads.names(), *peers.names())):
        raise ValueError(f"no head called {name!r}; there are: {', '.join(known)}")


def device(given: str) -> str:
    """Parse a device that torch has."""
    try:
        found = torch.device(given)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise ArgumentTypeError(f"must be cpu, cuda or cuda:N, got {given!r}")
    seen = torch.cuda.device_count()
    if found.type == "cuda" and (found.index or 0) >= seen:
        raise ArgumentTypeError(
            f"{given}: torch sees {seen} CUDA devices; use cpu, "
            "or install a CUDA build of torch on a machine with a GPU"
        )
    return given
