"""The options of a run: declared to pytest, checked, and turned into a plan."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import heads
from bench import peers
from bench.cells import SWEEPS, Sweep
from models import variants
from models.config import TrainingConfig
from models.data import Dataset, load, root, stand_in


@dataclass(frozen=True)
class Plan:
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

    name: str
    sweep: Sweep
    seed: int
    device: str
    threads: int
    data: str | None
    jobs: int = 1

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

    def to_json(self) -> dict[str, Any]:
        """As kept in `run.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Plan:
        """Inverse of `to_json`."""
        sweep: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content["sweep"].items()
        }
        return cls(**content | {"sweep": Sweep(**sweep)})


OVERRIDES = (
    "heads", "classes", "batches", "model_classes", "features", "passes",
    "trained", "epochs", "train_images", "seeds", "channels", "patience",
)  # fmt: skip
"""Options that replace the field of the same name of the sweep."""


def add_to(parser: pytest.Parser) -> None:
    """Declare headbench's options beside pytest's own."""
    group = parser.getgroup("headbench", "headbench: what to measure")
    add = group.addoption
    add("--sweep", choices=SWEEPS, default="default", help="grid to start from (%(default)s)")
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
    add("--seed", type=whole(0), default=0, help="of order, data and training (%(default)s)")
    add("--device", type=device, default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
    add("--jobs", type=whole(1), default=1, metavar="N", help="trainings at once (%(default)s)")
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
    overrides = {name: value for name in OVERRIDES if (value := option(name)) is not None}
    if "heads" in overrides:
        overrides["a_a"] = overrides["heads"][0]
        if SWEEPS[option("sweep")].trained:
            own = tuple(name for name in overrides["heads"] if name not in peers.names())
            overrides.setdefault("trained", own)
    folder = root(option("data"))
    return Plan(
        name=option("sweep"),
        sweep=replace(SWEEPS[option("sweep")], **overrides),
        seed=option("seed"),
        device=option("device"),
        threads=option("threads") or torch.get_num_threads(),
        data=None if folder is None else str(folder),
        jobs=option("jobs"),
    )


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
        if name not in (*heads.names(), *peers.names()):
            known = ", ".join((*heads.names(), *peers.names()))
            raise ArgumentTypeError(f"no head called {name!r}; there are: {known}")
    return chosen


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
