"""Trees that are learned while their model trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import heads
from heads import Head
from heads.tree_softmax import FROM_EXAMPLES, from_examples
from heads.trees import Tree
from models.classifier import Classifier
from models.config import TrainingConfig
from models.dataset import Split

EXAMPLES, PREDICTIONS = 20_000, 400_000
"""Training examples that a tree is learned from, at most, and predictions in them: enough to know
each class's mean by."""

BATCH_SIZE = 500


def first_options(config: TrainingConfig) -> dict[str, Any]:
    """Options of the head that a training begins with: balanced where its tree is yet to learn."""
    options = dict(config.head_options)
    if options.get("tree") in FROM_EXAMPLES:
        options["tree"] = "balanced"
    return options


@torch.no_grad()
def learn_tree(model: Classifier, split: Split, config: TrainingConfig) -> Tree | Tensor:
    """The head's option `tree`, learned from what the model makes of some training images.

    Args:
        model: in evaluation or not; it is left as it was.
        split: the training examples, on the model's device.
        config: says which kind of tree.
    """
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(config.seed))
    most = min(EXAMPLES, PREDICTIONS * len(split) // max(1, len(split.targets)))
    features, targets = zip(
        *(
            (model.embed(images), targets)
            for index in chosen[:most].to(split.targets.device).split(BATCH_SIZE)
            for images, targets in (split.batch(index),)
        ),
        strict=True,
    )
    options = config.head_options
    return from_examples(
        options["tree"],
        torch.cat(features),
        torch.cat(targets),
        model.head.num_classes,
        options.get("branching", 2),
    )


def head_on(tree: Tree | Tensor, model: Classifier, config: TrainingConfig) -> Head:
    """A fresh head like the model's, but on `tree`, on the configured device."""
    options = {**config.head_options, "tree": tree}
    old = model.head
    return heads.build(config.head, old.in_features, old.num_classes, **options).to(config.device)
