"""What a training's record says of what is trained, and on what."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from models.cases import CASES
from models.config import TrainingConfig
from models.dataset import Dataset
from reports.results import Training

OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW", "lazy-adam": "Adam, lazy on sparse rows"}


def begun(config: TrainingConfig, dataset: Dataset, head_multiply_adds: float = 0.0) -> Training:
    """The record of a training in which nothing has happened yet."""
    settings = {"dtype": "float32", **asdict(config), "model": CASES[config.model].title}
    settings["optimizer"] = OPTIMIZERS[config.optimizer]
    return Training(
        head=settings.pop("head"),
        variant=settings.pop("variant") or config.head,
        seed=settings.pop("seed"),
        status="failed",
        reason="not started",
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        dataset=dataset.facts(),
        config=settings,
        head_multiply_adds=head_multiply_adds,
    )
