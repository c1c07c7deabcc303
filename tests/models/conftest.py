import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from models import data
from models.data import Dataset


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """100 classes, 400 training and 100 test images."""
    return data.stand_in("a test", per_class=4)


@pytest.fixture(scope="session")
def few(tiny: Dataset) -> Dataset:
    """Four batches of 32 an epoch, the last of them half full, and 20 test images."""
    return tiny.subset(112, 20, seed=0)


@pytest.fixture(scope="session")
def documented_record() -> Mapping[str, Any]:
    """The example of a training record in the documentation of the results folder."""
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    section = text.split("## `training/")[1]
    example: dict[str, Any] = json.loads(section.split("```json")[1].split("```")[0])
    return example
