"""How often a single descent through a head's tree misses the most probable class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from heads.search import TreeHead


@torch.no_grad()
def greedy_misses(head: TreeHead, input: Tensor, exact: Tensor) -> Tensor:
    """For which samples a greedy descent ends elsewhere than the exact search.

    Args:
        head: predicts by a search in its tree.
        input: (N, in_features).
        exact: what `head.predict(input)` answers, (N,).

    Returns:
        (N,), bool.
    """
    return head.predict(input, search="greedy") != exact
