"""Features whose predicted classes follow given labels, at a stated confidence.

Prediction may cost more or less depending on what is predicted and how sure the model is of it.
Fresh weights on random features are one state of many, and one that no trained model is in. Here
the features are moved, not the weights: each sample climbs to where the head gives its target the
probability asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

CONFIDENCE = {"unsure": 0.1, "sure": 0.9}
"""State of a model -> the probability of its targets, and so the mean of its top probability."""

CLEAR = 3.0
"""Of few classes, an unsure target has this many times an equal share, or it would not be first."""

NEAR = 0.02
"""The logarithm of a target's probability comes as near as this to what it should be."""

MOST_STEPS = 8
"""A class that can be the best one at all needs no more than 6."""

ATTEMPTS = 3
"""What is predicted in the place of a class may not stay first on the way to its probability."""

AT_ONCE = 2**25
"""Scores of the samples that are moved together, 128 MiB of them."""

SAMPLES = 128
"""As many are planted, whatever the batch, which is made of them: moving a sample takes some ten
times as long as predicting it."""

NOISE = 0.1
"""Spread of the features from which samples start; the way from there is about 10 to 40 long."""

LogProb = Callable[[Tensor, Tensor], Tensor]
"""Of (features, classes): (N, d), (N,) -> (N,)."""


@dataclass(frozen=True)
class Planted:
    """Features to predict from.

    Attributes:
        features: (N, in_features), of the dtype of those they started from, without a gradient.
        agreement: share of the samples whose predicted class is their target.
        confidence: mean probability of the predicted class.
    """

    features: Tensor
    agreement: float
    confidence: float

    def record(self) -> dict[str, float]:
        """What the journal keeps of it."""
        return {"agreement": self.agreement, "confidence": self.confidence}

    def batch(self, size: int) -> Tensor:
        """So many of the features, over again if there are fewer: (size, in_features)."""
        return self.features.repeat(-(-size // len(self.features)), 1)[:size]


def plant(
    module: nn.Module, classes: int, start: Tensor, targets: Tensor, confidence: float
) -> Planted:
    """Move features until the head predicts their targets.

    The loss of a linear head is convex in the features, and each sample has a loss of its own that
    it should come down to. So each goes down its gradient by Polyak's step, (loss - wanted) /
    |gradient|^2, which needs no rate: the first is most of the way, and none goes beyond. A class
    that is no sample's best, whatever its features, is given up, and the one that is predicted
    instead takes its place. (Of the 49,152 classes that `adaptive` tells apart by 8 numbers, most
    are so, as long as their rows are random.)

    Source: Polyak, "Minimization of Unsmooth Functionals", 1969.

    Args:
        module: a head; `module(features, targets).output` are log-probabilities.
        classes: how many it knows.
        start: features to start from, (N, in_features).
        targets: (N,).
        confidence: what the probability of each target should be.
    """
    # Without gradients of their own, or those of a million rows would be made along the way.
    weights = {name: parameter.detach() for name, parameter in module.named_parameters()}
    predict: Any = module.predict

    def log_prob(features: Tensor, classes: Tensor) -> Tensor:
        output: Tensor = functional_call(module, weights, (features, classes)).output
        return output

    probability = max(confidence, min(CLEAR / classes, CONFIDENCE["sure"]))
    at_once = max(1, AT_ONCE // classes)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    training = module.training
    module.eval()
    for part, wanted in zip(start.split(at_once), targets.split(at_once), strict=True):
        features = NOISE * part.detach().to(torch.promote_types(part.dtype, torch.float32))
        for _ in range(ATTEMPTS):
            if _move(log_prob, features, wanted, -math.log(probability)):
                break
            with torch.no_grad():
                wanted = predict(features)
        with torch.no_grad():
            features = features.to(start.dtype)
            predicted = predict(features)
            parts.append((features, predicted, log_prob(features, predicted)))
    module.train(training)
    features, predicted, top = map(torch.cat, zip(*parts, strict=True))
    return Planted(
        features,
        agreement=float((predicted == targets).double().mean()),
        confidence=float(top.double().exp().mean()),
    )


def _move(log_prob: LogProb, features: Tensor, targets: Tensor, wanted: float) -> bool:
    """Move the features, (N, d), in place, to where the losses of their targets are as wanted.

    Returns:
        Whether all came there.
    """
    left = torch.arange(len(features), device=features.device)
    for _ in range(MOST_STEPS):
        at = features[left].requires_grad_()
        losses = -log_prob(at, targets[left])
        (slope,) = torch.autograd.grad(losses.sum(), at)
        gap = losses.detach().to(features.dtype) - wanted
        far = gap.abs() > NEAR
        left, gap, slope = left[far], gap[far].unsqueeze(1), slope[far]
        if not len(left):
            return True
        features[left] -= gap / slope.square().sum(dim=1, keepdim=True).clamp(min=1e-12) * slope
    return False
