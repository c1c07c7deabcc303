"""How often the head of a trained model would miss the most probable class if it were greedy."""

from __future__ import annotations

import torch

from heads.greedy import greedy_misses
from heads.search import TreeHead
from models.classifier import Classifier
from models.dataset import Split

BATCH_SIZE = 100

LOOKED_AT = 10_000
"""Predictions at most: an exact search among many classes takes its time."""


@torch.inference_mode()
def count_greedy_misses(model: Classifier, split: Split) -> int | None:
    """How many predictions a greedy descent answers otherwise than the exact search.

    Args:
        model: in evaluation or not; it is left as it was.
        split: what is predicted, on the model's device.

    Returns:
        The number of predictions; None if the head does not predict by a search, or there are more
        than `LOOKED_AT`.
    """
    head = model.head
    if not isinstance(head, TreeHead) or len(split.targets) > LOOKED_AT:
        return None
    training = model.training
    model.eval()
    embedded = [model.embed(inputs) for inputs, _ in split.batches(BATCH_SIZE)]
    missed = [greedy_misses(head, part, head.predict(part)) for part in embedded]
    model.train(training)
    return int(torch.cat(missed).sum())
