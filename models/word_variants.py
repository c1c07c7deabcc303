"""The variants of next-word prediction: the heads as their users run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.variants import Variant

RECIPE: Mapping[str, Any] = {
    "model": "words",
    "optimizer": "lazy-adam",
    "learning_rate": 7.06e-3,
    "batch_size": 32,
    "epochs": 1,
    "rounds": 12,
    "graphs": False,
    "loss_every": 100,
}
"""What all heads share; of their learning rates see `RATES`."""

RELEARN = (2,)
"""Rounds after which a tree is learned: early, as its rows begin anew."""

RATES: Mapping[str, float] = {
    "softmax": 1.3e-2,
    "softmax-tied": 1.3e-2,
    "softmax-chunked": 1.3e-2,  # the same function as softmax
    "gumbel": 1.3e-2,
    "sampled-log-uniform": 1.34e-2,
    "sampled-unigram": 1.03e-2,
    "adaptive": 2.28e-2,
    "two-level": 1.34e-2,
    "learned": 1.04e-2,
}
"""Learning rates of those for which another than the recipe's was best on validation text, of five
to seven between 0.002 and 0.024: 20,000 classes, width 128, 300,000 words. The trainings of the
search are `reports/reference/words-search-20000-narrow.jsonl`."""

_HEADS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "softmax": ("full softmax, the yardstick", {"head": "softmax"}),
    "softmax-tied": (
        "full softmax whose rows are those of the embedding",
        {"head": "softmax", "tied": True},
    ),
    "softmax-chunked": (
        "full softmax, a chunk of classes at a time",
        {"head": "softmax-chunked"},
    ),
    "gumbel": ("full softmax under Gumbel noise", {"head": "gumbel"}),
    "sampled-log-uniform": (
        "sampled softmax, negatives by Zipf's law",
        {"head": "sampled", "head_options": {"distribution": "log-uniform"}},
    ),
    "sampled-unigram": (
        "sampled softmax, negatives as often as their words",
        {"head": "sampled"},
    ),
    "adaptive": ("adaptive softmax, clusters by frequency", {"head": "adaptive"}),
    "two-level": ("classes of words, then words", {"head": "two-level"}),
    "hierarchical": ("balanced binary tree, by frequency", {"head": "hierarchical"}),
    "hierarchical-dense": (
        "the same tree with a dense gradient, as autograd gives it",
        {"head": "hierarchical-dense"},
    ),
    "huffman": (
        "Huffman's tree of the words' frequencies",
        {"head": "hierarchical", "head_options": {"tree": "huffman"}},
    ),
    "learned": (
        "balanced binary tree, learned from the features",
        {"head": "hierarchical", "head_options": {"tree": "learned"}, "relearn": RELEARN},
    ),
}

VARIANTS: Mapping[str, Variant] = {
    name: Variant(
        name,
        about,
        {**RECIPE, **({"learning_rate": RATES[name]} if name in RATES else {}), **settings},
    )
    for name, (about, settings) in _HEADS.items()
}
