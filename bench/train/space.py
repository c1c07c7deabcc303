"""The space of settings that a search draws candidates from."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from heads.tree_softmax import FROM_EXAMPLES
from models import variants
from models.config import TrainingConfig

Draw = Callable[[random.Random], Any]
"""Draws one value."""


def _among(*values: Any) -> Draw:
    return lambda chance: chance.choice(values)


def _between(low: float, high: float) -> Draw:
    """Uniform in the logarithm; three digits, so that a setting can be written down."""
    return lambda chance: float(f"{math.exp(chance.uniform(math.log(low), math.log(high))):.3g}")


SPACE: Mapping[str, Draw] = {
    "optimizer": _among("adamw", "sgd"),
    "learning_rate": _between(5e-4, 2e-2),
    "weight_decay": _among(0.0, 1e-3, 1e-2, 5e-2, 1e-1, 2e-1, 4e-1),
    "batch_size": _among(32, 64, 128, 256),
    "schedule": _among("one-cycle", "constant"),
    "warm_up": _among(0.1, 0.25, 0.4),
    "initialisation": _among("torch", "kaiming"),
    "flips": _among(True, False),
    "padding": _among(0, 1),
}
"""Settings of every head, and how they are drawn; learning rates are AdamW's."""

SGD_RATE = 20
"""How much higher SGD's learning rates are."""

SGD_MOMENTUM = 0.9
"""Not drawn: with it, the rates above are SGD's usual ones."""

SPACE_OF: Mapping[str, Mapping[str, Draw]] = {
    "gumbel": {
        "annealing": lambda chance: (_between(0.5, 4.0)(chance), _between(0.1, 32.0)(chance)),
        "draws": _among(1, 2, 4, 8),
    },
    "hierarchical": {
        "tree": _among("balanced", "superclass", *FROM_EXAMPLES),
        "branching": _among(2, 4, 8, 16, 32),
        "pieces": _among(1, 2, 4, 8),
    },
}
"""What else there is to choose for one head."""

OF_THE_HEAD = ("tree", "branching", "pieces", "draws")
"""Settings that are options of the head itself."""


OF_WORDS: Mapping[str, Draw] = {"learning_rate": _between(5e-4, 3e-2)}
"""Of a language model, the one that all heads have a different best one of."""


def space(head: str, model: str = "tinyvgg") -> Mapping[str, Draw]:
    """What there is to choose for `head`."""
    return {**SPACE, **SPACE_OF.get(head, {})} if model == "tinyvgg" else OF_WORDS


def draw(
    choices: Mapping[str, Draw], base: TrainingConfig, chance: random.Random
) -> dict[str, Any]:
    """One candidate: fields of `TrainingConfig` in place of those of `base`."""
    drawn = {name: one(chance) for name, one in choices.items()}
    sgd = drawn.get("optimizer", base.optimizer) == "sgd"
    if "optimizer" in drawn:
        drawn["momentum"] = SGD_MOMENTUM if sgd else 0.0
    if "learning_rate" in drawn and sgd:
        drawn["learning_rate"] = float(f"{SGD_RATE * drawn['learning_rate']:.3g}")
    chosen = {name: drawn.pop(name) for name in OF_THE_HEAD if name in drawn}
    if chosen:
        drawn["head_options"] = {**base.head_options, **chosen}
    if "tree" in chosen:
        drawn["relearn"] = variants.RELEARN if chosen["tree"] in FROM_EXAMPLES else ()
    return drawn
