"""Two-level softmax: a class is a cluster and a place in it."""

from __future__ import annotations

import math

from heads.base import check_sizes
from heads.tree_softmax import TreeSoftmax
from heads.trees import balanced


class TwoLevel(TreeSoftmax):
    """Softmax over about sqrt(n) clusters, then over the about sqrt(n) classes of one of them.

    The classic class-based factorisation, half-way between a binary tree and the full softmax:
    `p(c | x) = p(cluster | x) p(c | cluster, x)`, O(sqrt(n)) in training.

    Source: Goodman, "Classes for Fast Maximum Entropy Training", ICASSP 2001.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes; neighbours share a cluster.

    Shape:
        - input: (N, d), target: (N,); output: (N,), loss: ()
        - parameters: weight (R, d), bias (R,), R about n + sqrt(n)

    Raises:
        ValueError: as `Head`.

    Cost: as `TreeSoftmax` with about 2 sqrt(n) rows scored per sample.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        _, n = check_sizes(in_features, num_classes)
        super().__init__(in_features, n, balanced(n, max(2, math.isqrt(n - 1) + 1)))
