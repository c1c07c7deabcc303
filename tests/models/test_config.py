from dataclasses import asdict
from typing import Any

import pytest

from models.config import TrainingConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"padding": -1}, "padding must be at least 0, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay must be at least 0, got nan"),
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, lazy-adam, got 'adam'"),
        ({"schedule": "cosine"}, "schedule must be one of constant, one-cycle, got 'cosine'"),
        ({"autocast": "float16"}, "autocast must be one of float32, bfloat16, got 'float16'"),
        ({"on": "pixels"}, "on must be one of features, logits, got 'pixels'"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"momentum": 0.9, "optimizer": "adamw"}, "momentum is an option of sgd"),
        ({"annealing": (1.0, 0.0)}, "annealing must be two temperatures above 0"),
        ({"annealing": (1.0,)}, "annealing must be two temperatures above 0"),
        ({"warm_up": 1.0}, "warm_up must be between 0 and 1, got 1.0"),
        ({"initialisation": "ones"}, "initialisation must be one of torch, kaiming"),
        ({"patience": 0}, "patience must be at least 1 or None"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**{"head": "softmax", **change})


def test_the_published_recipe_is_the_default() -> None:
    assert asdict(TrainingConfig(head="softmax", threads=2)) == {
        "head": "softmax",
        "variant": "",
        "head_options": {},
        "annealing": None,
        "relearn": (),
        "initialisation": "torch",
        "channels": 10,
        "padding": 0,
        "on": "features",
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "schedule": "constant",
        "warm_up": 0.3,
        "flips": False,
        "autocast": "float32",
        "graphs": True,
        "batch_size": 32,
        "epochs": 10,
        "patience": None,
        "seed": 0,
        "device": "cpu",
        "threads": 2,
        "loss_every": 500,
        "model": "tinyvgg",
        "rounds": 1,
        "tied": False,
        "width": 128,
    }
