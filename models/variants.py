"""The variants of the study: a head, where it sits, and how it is trained, under one name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import heads
from heads.tree_softmax import FROM_EXAMPLES
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
    "learning_rate": 7e-3,
    "weight_decay": 0.2,
    "schedule": "one-cycle",
    "warm_up": 0.25,
    "batch_size": 64,
    "padding": 1,
    "flips": True,
    "initialisation": "kaiming",
}
"""One recipe for every head, chosen on a held-out part of the training images."""

_ON_LOGITS = {"on": "logits"}

RELEARN = (1, 2, 3)
"""Epochs after which a tree is learned: while the learning rate is still high."""


def _tree(tree: str, **options: Any) -> dict[str, Any]:
    """A tree head under the tuned recipe."""
    settings: dict[str, Any] = {"head": "hierarchical", "head_options": {"tree": tree, **options}}
    if tree in FROM_EXAMPLES:
        settings["relearn"] = RELEARN
    return {**settings, **TUNED}


def _frontier() -> Iterator[Variant]:
    """From the narrowest tree to the full softmax: wider, better learned, richer branches."""
    yield Variant("hierarchical-tuned", "balanced binary tree, alphabetical", _tree("balanced"))
    yield Variant("superclass-tuned", "binary tree, superclasses together", _tree("superclass"))
    yield Variant("learned-tuned", "balanced binary tree, learned", _tree("learned"))
    for branching in (4, 8, 16, 32):
        yield Variant(
            f"balanced-{branching}-tuned",
            f"balanced tree in alphabetical order, {branching} children",
            _tree("balanced", branching=branching),
        )
    for branching in (2, 4, 8, 16, 32):
        yield Variant(
            f"clustered-{branching}-tuned",
            f"tree learned by clustering, {branching} children",
            _tree("clustered", branching=branching),
        )
    for branching, pieces in ((2, 2), (2, 4), (2, 8), (4, 4), (10, 3)):
        yield Variant(
            f"clustered-{branching}x{pieces}-tuned",
            f"tree learned by clustering, {branching} children of up to {pieces} pieces",
            _tree("clustered", branching=branching, pieces=pieces),
        )


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
        Variant(
            "hierarchical-learned",
            "a balanced tree learned from the features after one epoch",
            {"head": "hierarchical", "head_options": {"tree": "learned"}, "relearn": (1,)},
        ),
        # As published, but faster.
        Variant(
            "softmax-bfloat16",
            "softmax as published, its products and convolutions in bfloat16",
            {"head": "softmax", "autocast": "bfloat16"},
        ),
        # Beaten.
        Variant("softmax-tuned", "softmax, tuned recipe", {"head": "softmax", **TUNED}),
        Variant(
            "gumbel-tuned",
            "the mean loss under eight draws of Gumbel noise, tuned recipe",
            {"head": "gumbel", "head_options": {"draws": 8}, **TUNED},
        ),
        Variant(
            "gumbel-annealed-tuned",
            "the same at a temperature that falls from 1 to 0.5",
            {
                "head": "gumbel",
                "head_options": {"draws": 8},
                "annealing": (1.0, 0.5),
                **TUNED,
            },
        ),
        *_frontier(),
    )
}


def names() -> tuple[str, ...]:
    """Every variant of the study, in its order; every other head's name is a variant as well."""
    return tuple(VARIANTS)


def config(
    name: str,
    table: Mapping[str, Variant] = VARIANTS,
    recipe: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> TrainingConfig:
    """The settings of the variant called `name`.

    Args:
        name: of one of `table`; or a head's name, with its options as in a call, for that head
            under the recipe.
        table: the variants of a model.
        recipe: what its heads are trained by, if nothing else is said, as fields of
            `TrainingConfig`; by default the published one.
        overrides: fields of `TrainingConfig` to set otherwise, such as `seed` or `epochs`.

    Raises:
        ValueError: there is no such variant or head (the message lists them), or a bad value.
    """
    settings: Mapping[str, Any]
    if name in table:
        settings = table[name].settings
    elif name in heads.names():
        settings = {**(recipe or {}), "head": name}
    elif name.endswith(")"):
        head, options = heads.called(name)
        if options.get("tree") == "huffman" and table is VARIANTS:
            raise ValueError(f"{name} is not trained: its tree is made from counts of the classes")
        settings = {**(recipe or {}), "head": head, "head_options": options}
        if options.get("tree") in FROM_EXAMPLES and recipe:
            settings = {**settings, "relearn": (1,)}
    else:
        known = dict.fromkeys((*table, *heads.names()))
        raise ValueError(f"unknown variant {name!r}; variants are: {', '.join(known)}")
    return TrainingConfig(**{"variant": name, **settings, **overrides})
