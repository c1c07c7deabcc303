"""The full softmax: one score per class, normalised over all of them."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from heads.base import INT64_BYTES, Cost, Head, HeadOutput, Phase, at_least_float32


class Softmax(Head):
    """Full softmax with cross-entropy, the baseline of every comparison.

    `p(c | x) = exp(z_c) / sum_k exp(z_k)` with `z = W x + b`. Every class takes part in every
    sample's normalisation, so each phase costs O(num_classes).

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.

    Shape:
        - input: (N, d), target: (N,); output: (N,), loss: ()
        - parameters: weight (n, d), bias (n,)

    Raises:
        ValueError: as `Head`.

    Cost, in multiply-adds: forward N n d, backward 2 N n d, step n (d + 1), predict N n d. The
    N x n log-probabilities are kept from forward to backward.
    """

    label_phases: ClassVar[frozenset[Phase]] = frozenset()

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.linear = nn.Linear(in_features, num_classes)

    def logits(self, input: Tensor) -> Tensor:
        """Unnormalised log-probabilities of all classes: (N, in_features) -> (N, num_classes)."""
        return at_least_float32(self.linear(self.checked_input(input)))

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        logits = self.logits(input)
        self.check_target(input, target)
        output = -F.cross_entropy(logits, target, reduction="none")
        return HeadOutput(output, -output.mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of every class: (N, in_features) -> (N, num_classes)."""
        return F.log_softmax(self.logits(input), dim=1)

    def predict(self, input: Tensor) -> Tensor:
        """The class with the largest score, which needs no normalisation: -> (N,)."""
        return self.logits(input).argmax(dim=1)

    def forward_cost(self, batch_size: int) -> Cost:
        """One product with the weight; the log-probabilities are written for the backward."""
        n, d = self.num_classes, self.in_features
        elements = n * (d + 1) + batch_size * d + batch_size * n + batch_size
        return Cost(batch_size * n * d, elements * self.itemsize + batch_size * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """Two products: the gradients of the weight and of the input."""
        n, d = self.num_classes, self.in_features
        read = n * d + batch_size * d + batch_size * n
        written = n * (d + 1) + batch_size * d
        return Cost(
            2 * batch_size * n * d,
            (read + written) * self.itemsize + batch_size * INT64_BYTES,
        )

    def step_cost(self, batch_size: int) -> Cost:
        """Every parameter and gradient is read, every parameter written, whatever the batch."""
        parameters = self.num_classes * (self.in_features + 1)
        return Cost(parameters, 3 * parameters * self.itemsize)

    def predict_cost(self, batch_size: int) -> Cost:
        """One product with the weight."""
        n, d = self.num_classes, self.in_features
        elements = n * (d + 1) + batch_size * d
        return Cost(batch_size * n * d, elements * self.itemsize + batch_size * INT64_BYTES)
