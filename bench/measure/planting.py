"""Features whose predicted classes follow given labels, at a stated confidence.

Prediction may cost more or less depending on what is predicted and how sure the model is of it.
Fresh weights on random features are one state of many, and one that no trained model is in. Here
the features are moved, not the weights: each sample climbs to where the head gives its target the
probability asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

CONFIDENCE = {"unsure": 0.1, "sure": 0.9}
"""State of a model -> the probability of its targets, and so the mean of its top probability."""

CLEAR = 2.0
"""Of few classes, the target has at least so many times the probability of an equal share."""

NEAR = 0.02
"""The logarithm of a target's probability comes as near as this to what it should be."""

MOST_STEPS = 40
"""A class that is no sample's best, whatever the features, is given up."""

AT_ONCE = 2**25
"""Scores of the samples that are moved together, 128 MiB of them."""

NOISE = 0.1
"""Spread of the features from which samples start, beside the about 30 that the move is long."""


@dataclass(frozen=True)
class Planted:
    """Features to predict from.

    Attributes:
        features: (N, in_features), of the parameters' dtype, without a gradient.
        agreement: share of the samples whose predicted class is their target.
        confidence: mean probability of the predicted class.
    """

    features: Tensor
    agreement: float
    confidence: float

    def record(self) -> dict[str, float]:
        """What the journal keeps of it."""
        return {"agreement": self.agreement, "confidence": self.confidence}


def plant(module: nn.Module, start: Tensor, targets: Tensor, state: str) -> Planted:
    """Move features until the head predicts their targets.

    The loss of a linear head is convex in the features, and each sample has a loss of its own that
    it should come down to. So each goes down its gradient by Polyak's step, (loss - wanted) /
    |gradient|^2, which needs no rate: the first is nearly the whole way, and none goes beyond.

    Source: Polyak, "Minimization of Unsmooth Functionals", 1969.

    Args:
        module: a head; `module(features, targets).output` are log-probabilities.
        start: features to start from, (N, in_features).
        targets: (N,).
        state: one of `CONFIDENCE`.
    """
    training = module.training
    module.eval()
    # Detached, or the gradients of a million rows would be made beside those of the features.
    weights = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def log_prob(features: Tensor, classes: Tensor) -> Tensor:
        output: Tensor = functional_call(module, weights, (features, classes)).output
        return output

    try:
        classes = _classes(module)
        wanted = -math.log(min(max(CONFIDENCE[state], CLEAR / classes), CONFIDENCE["sure"]))
        samples = max(1, AT_ONCE // classes)
        moved = [
            _moved(log_prob, part, target, wanted)
            for part, target in zip(start.split(samples), targets.split(samples), strict=True)
        ]
        with torch.no_grad():
            features = torch.cat(moved).to(start.dtype)
            predict: Any = module.predict
            predicted = torch.cat([predict(part) for part in features.split(samples)])
            top = torch.cat(
                [
                    log_prob(part, best)
                    for part, best in zip(
                        features.split(samples), predicted.split(samples), strict=True
                    )
                ]
            )
    finally:
        module.train(training)
    return Planted(
        features,
        agreement=float((predicted == targets).double().mean()),
        confidence=float(top.double().exp().mean()),
    )


def _moved(log_prob: Any, start: Tensor, targets: Tensor, wanted: float) -> Tensor:
    """The features, (N, d), each moved to where its target's loss is `wanted`."""
    features = start.detach().float() if start.dtype != torch.float64 else start.detach().clone()
    features = NOISE * features
    left = torch.arange(len(features), device=features.device)
    for _ in range(MOST_STEPS):
        at = features[left].requires_grad_()
        losses = -log_prob(at, targets[left])
        (gradient,) = torch.autograd.grad(losses.sum(), at)
        gap = (losses.detach() - wanted).to(features.dtype).unsqueeze(1)
        step = gap / gradient.square().sum(dim=1, keepdim=True).clamp(min=1e-12)
        far = gap.squeeze(1) > NEAR
        features[left[far]] -= (step * gradient)[far]
        left = left[far]
        if not len(left):
            break
    return features
