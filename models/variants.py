"""The variants of the study: a head, where it sits, and how it is trained, under one name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import heads
from models.config import TrainingConfig


@dataclass(frozen=True)
class Variant:
    """One entry of the study.

    Attributes:
        name: what the study calls it.
        about: one line that says what it is.
        settings: where its `TrainingConfig` differs from the published recipe.
    """

    name: str
    about: str
    settings: Mapping[str, Any]


TUNED: Mapping[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 4e-3,
    "schedule": "one-cycle",
    "batch_size": 64,
    "padding": 1,
    "flips": True,
}
"""One recipe for every head, chosen on a held-out part of the training images."""

_ON_LOGITS = {"on": "logits"}

VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        # As published.
        Variant("softmax", "softmax with cross-entropy, as published", {"head": "softmax"}),
        Variant(
            "gumbel-normal",
            "as published: normal noise, probabilities into the loss without a logarithm",
            {"head": "gumbel-normal"},
        ),
        Variant(
            "hierarchical-padded",
            "as published: a perfect tree of 128 leaves, 28 of them no class, on 100 logits",
            {"head": "hierarchical-padded", **_ON_LOGITS},
        ),
        # Done right.
        Variant("gumbel", "Gumbel noise, loss in log space", {"head": "gumbel"}),
        Variant(
            "hierarchical",
            "a tree of exactly 100 leaves in alphabetical order, on the features",
            {"head": "hierarchical"},
        ),
        # One step at a time between the two.
        Variant(
            "gumbel-normal-log",
            "normal noise, loss in log space",
            {"head": "gumbel", "head_options": {"noise": "normal"}},
        ),
        Variant(
            "gumbel-probabilities",
            "Gumbel noise, probabilities into the loss without a logarithm",
            {"head": "gumbel", "head_options": {"loss": "probability"}},
        ),
        Variant(
            "gumbel-double-softmax",
            "normal noise, probabilities into the cross-entropy as if they were scores",
            {"head": "gumbel", "head_options": {"noise": "normal", "loss": "double-softmax"}},
        ),
        Variant(
            "hierarchical-on-logits",
            "a tree of exactly 100 leaves on 100 logits: the leak repaired",
            {"head": "hierarchical", **_ON_LOGITS},
        ),
        Variant(
            "hierarchical-padded-on-features",
            "the padded tree on the features",
            {"head": "hierarchical-padded"},
        ),
        Variant(
            "hierarchical-superclass",
            "classes of a superclass side by side instead of alphabetical",
            {"head": "hierarchical", "head_options": {"tree": "superclass"}},
        ),
        # Beaten.
        Variant("softmax-tuned", "softmax, tuned recipe", {"head": "softmax", **TUNED}),
        Variant(
            "gumbel-tuned",
            "Gumbel noise at an annealed temperature, tuned recipe",
            {"head": "gumbel", "annealing": (2.0, 0.5), **TUNED},
        ),
        Variant(
            "hierarchical-tuned",
            "a tree of exactly 100 leaves, tuned recipe",
            {"head": "hierarchical", **TUNED},
        ),
    )
}


def names() -> tuple[str, ...]:
    """Every variant of the study, in its order; every other head's name is a variant as well."""
    return tuple(VARIANTS)


def config(name: str, **overrides: Any) -> TrainingConfig:
    """The settings of the variant called `name`.

    Args:
        name: one of `names()`; or a head's name, for that head under the published recipe.
        overrides: fields of `TrainingConfig` to set otherwise, such as `seed` or `epochs`.

    Raises:
        ValueError: there is no such variant or head (the message lists them), or a bad value.
    """
    settings: Mapping[str, Any]
    if name in VARIANTS:
        settings = VARIANTS[name].settings
    elif name in heads.names():
        settings = {"head": name}
    else:
        known = dict.fromkeys((*VARIANTS, *heads.names()))
        raise ValueError(f"unknown variant {name!r}; variants are: {', '.join(known)}")
    return TrainingConfig(**{"variant": name, **settings, **overrides})
