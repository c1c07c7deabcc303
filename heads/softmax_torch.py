"""What lies between the products of a softmax in slices of classes: torch's operators."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from heads.base import at_least_float32

ELEMENTS = 2**21
"""Logits of a slice: 8 MiB of float32, which stays in the cache of most machines."""


class Perturbation(NamedTuple):
    """Gumbel noise and its temperature.

    Attributes:
        seed: of the noise, (1,) int64.
        tau: (1,), float32.
    """

    seed: Tensor
    tau: Tensor


class Running:
    """The log-sum-exp of each sample's (perturbed) logits, and its target's, slice by slice.

    Args:
        target: (N,).
        noise: on top of the logits, if any.
    """

    def __init__(self, target: Tensor, noise: Perturbation | None) -> None:
        self._target, self._noise = target, noise
        self._sums: list[Tensor] = []
        self._score = torch.zeros((), device=target.device)

    def take(self, logits: Tensor, start: int) -> Tensor:
        """A slice of the logits, (N, C), the first of which is of class `start`.

        Returns:
            The same under the noise, which is put on them where they lie if they are float32.
        """
        logits = perturbed(at_least_float32(logits), start, self._noise)
        self._sums.append(logits.logsumexp(dim=1))
        place, inside = _place(self._target, start, logits.size(1))
        self._score = torch.where(inside, logits.gather(1, place), self._score)
        return logits

    def result(self) -> tuple[Tensor, Tensor]:
        """Score of the target, 0 where it was in no slice, and log-sum-exp, both (N,)."""
        log_sum = torch.stack(self._sums).logsumexp(dim=0)
        return self._score.squeeze(1), log_sum


def slopes(
    logits: Tensor,
    log_sum: Tensor,
    target: Tensor,
    grad: Tensor,
    start: int,
    grad_bias: Tensor,
    noise: Perturbation | None,
) -> Tensor:
    """The gradient in a slice of the logits, (N, C), made where they lie.

    Args:
        logits: as they were given to `Running`.
        log_sum: its result, (N,).
        target: (N,).
        grad: the gradient in the targets' log-probabilities, (N,).
        start: the first class.
        grad_bias: where the sum over the samples goes, (C,).
        noise: as it was given to `Running`.
    """
    logits = perturbed(at_least_float32(logits), start, noise)
    # d log p(target) / d logits = one-hot(target) - p. The one-hot part belongs in the products:
    # added to half a gradient afterwards, equal targets would stop counting.
    found = logits.sub_(log_sum.unsqueeze(1)).exp_().neg_()
    place, inside = _place(target, start, logits.size(1))
    found.scatter_add_(1, place, inside.to(found.dtype))
    found *= (grad if noise is None else grad / noise.tau).unsqueeze(1)
    grad_bias.copy_(found.sum(dim=0))
    return found


def perturbed(logits: Tensor, start: int, noise: Perturbation | None) -> Tensor:
    """The logits under noise, in place; the same whenever it is asked for the same slice."""
    if noise is None:
        return logits
    generator = torch.Generator(logits.device).manual_seed(int(noise.seed) + start)
    drawn = torch.empty_like(logits).exponential_(generator=generator).log_()
    return logits.sub_(drawn).div_(noise.tau.to(logits.dtype))


def _place(target: Tensor, start: int, classes: int) -> tuple[Tensor, Tensor]:
    """Where in a slice each target would be, (N, 1), and whether it is there at all, (N, 1)."""
    place = (target - start).unsqueeze(1)
    inside = (place >= 0) & (place < classes)
    return place.clamp_(0, classes - 1), inside
