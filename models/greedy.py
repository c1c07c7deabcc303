"""How often the head of a trained model would miss the most probable class if it were greedy."""

from __future__ import annotations

import torch
from torch import Tensor

from heads.greedy import greedy_misses
from heads.search import TreeHead
from models.tinyvgg import Classifier

BATCH_SIZE = 100


@torch.inference_mode()
def count_greedy_misses(model: Classifier, images: Tensor) -> int | None:
    """How many images a greedy descent answers otherwise than the exact search.

    Args:
        model: in evaluation or not; it is left as it was.
        images: (N, 3, 32, 32), on the model's device.

    Returns:
        The number of images; None if the head does not predict by a search.
    """
    head = model.head
    if not isinstance(head, TreeHead):
        return None
    training = model.training
    model.eval()
    embedded = [model.embed(part) for part in images.split(BATCH_SIZE)]
    missed = [greedy_misses(head, part, head.predict(part)) for part in embedded]
    model.train(training)
    return int(torch.cat(missed).sum())
