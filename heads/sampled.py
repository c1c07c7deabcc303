"""Sampled softmax: in training, a few negatives stand in for all classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import INT64_BYTES, Cost, HeadOutput, Phase, at_least_float32
from heads.kernels import RowSparse, sparsely_gathered
from heads.options import integer, shown
from heads.softmax import Softmax
from heads.trees import checked_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

Distribution = Literal["log-uniform", "uniform"]

EVERYTHING = 2.0**53
"""What the shares of all classes sum to, in integers that a float64 holds."""


class Sampled(RowSparse, Softmax):
    """Sampled softmax: each training batch scores its targets and a shared sample of negatives.

    m negatives are drawn with replacement from q, and the normaliser is estimated as
    `exp(z_y) + sum_k exp(z_k) / (m q_k)` over the draws k other than y: the logQ correction makes
    it unbiased, accidental hits are left out. Its logarithm is biased, less so the larger m. A
    training step touches N + m rows and its gradient is row-sparse, so it does not depend on the
    number of classes at all; evaluation is the exact full softmax and O(n).

    Source: Bengio and Senécal, "Quick Training of Probabilistic Neural Nets by Importance
    Sampling", AISTATS 2003; Jean et al., "On Using Very Large Target Vocabulary for Neural Machine
    Translation", ACL 2015.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.
        num_sampled: negatives m per batch, at least 1.
        distribution: "log-uniform" (Zipf's law, for classes numbered by descending frequency) or
            "uniform".
        counts: how often each class occurs, (n,); negatives are then drawn in proportion to it, so
            that a class without any is no negative; not with another `distribution` than "uniform",
            which says the same where all occur equally often.

    Shape:
        - input: (N, d), target: (N,); output: (N,), loss: ()
        - parameters: weight (n, d), bias (n,)
        - in training, output is the estimate of the log-probability

    Raises:
        ValueError: as `Head`; `num_sampled` below 1, unknown `distribution`, `counts` not n finite
            numbers of at least 0 and not all 0.

    Cost, in multiply-adds: forward N (m + 1) d, backward 2 N (m + 1) d, step R (d + 1), with R the
    distinct rows among the N + m, predict N n d. For optimizers, see `Hierarchical`.
    """

    label_phases: ClassVar[frozenset[Phase]] = frozenset({"forward", "backward", "step"})
    predicts_as: ClassVar[str] = "softmax"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        num_sampled: int = 1024,
        distribution: Distribution = "uniform",
        counts: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        if distribution not in get_args(Distribution):
            raise ValueError(
                f"distribution must be one of {', '.join(get_args(Distribution))}, "
                f"got {shown(distribution)}"
            )
        self.num_sampled = integer("num_sampled", num_sampled, 1)
        self.distribution = distribution
        # Integers, as a conversion to half precision leaves those alone.
        up_to: Tensor | None = None
        if counts is not None:
            weights = checked_counts(counts, num_classes)
            if not weights.any():
                raise ValueError("counts must not all be 0")
            if distribution != "uniform":
                raise ValueError(f"counts and distribution={distribution!r} exclude each other")
            if (weights != weights[0]).any():
                ends = weights.cumsum(0) / weights.sum()
                up_to = (ends * EVERYTHING).long().to(self.linear.weight.device)
        self.up_to: Tensor | None
        self.register_buffer("up_to", up_to, persistent=False)
        self.keep_coalesced()

    @property
    def row_sparse(self) -> bool:
        """Always, in training."""
        return True

    def draw(self, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Negatives and the logarithm of each one's expected number of draws m q, both (m,)."""
        n, m = self.num_classes, self.num_sampled
        if self.up_to is not None:
            drawn = torch.randint(int(EVERYTHING), (m,), device=device)
            classes = torch.searchsorted(self.up_to, drawn, right=True).clamp_(max=n - 1)
            below = torch.where(classes > 0, self.up_to[classes - 1], 0)
            share = (self.up_to[classes] - below).double() / EVERYTHING
            return classes, (m * share).log()
        if self.distribution == "uniform":
            classes = torch.randint(n, (m,), device=device)
            return classes, torch.full((m,), math.log(m / n), device=device)
        # q(k) = log((k + 2) / (k + 1)) / log(n + 1), by inversion.
        uniform = torch.rand(m, dtype=torch.float64, device=device)
        classes = (uniform * math.log(n + 1)).exp_().long().sub_(1).clamp_(0, n - 1)
        share = torch.log1p(1 / (classes.double() + 1)) / math.log(n + 1)
        return classes, (m * share).log()

    def _shares(self) -> Tensor:
        """Probability of each class to be a draw: (n,), float64."""
        n, device = self.num_classes, self.linear.weight.device
        if self.up_to is not None:
            return self.up_to.diff(prepend=self.up_to.new_zeros(1)).double() / EVERYTHING
        if self.distribution == "uniform":
            return torch.full((n,), 1 / n, dtype=torch.float64, device=device)
        classes = torch.arange(n, dtype=torch.float64, device=device)
        return torch.log1p(1 / (classes + 1)) / math.log(n + 1)

    def rows_touched(self, batch_size: int) -> int:
        """Distinct rows among targets and negatives, expected under `shares`; else at most."""
        if self.shares is None:
            return batch_size + self.num_sampled
        negatives = self._shares().cpu()
        absent = batch_size * torch.log1p(-self.shares.clamp(max=1))
        absent += self.num_sampled * torch.log1p(-negatives.clamp(max=1))
        return round(float(-torch.expm1(absent).sum()))

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Estimated log-probability of each target and the mean loss; exact when not training."""
        if not self.training:
            return super().forward(input, target)
        features = self.checked_input(input)
        self.check_target(features, target)
        classes, log_expected = self.draw(features.device)
        rows = torch.cat((target, classes))
        weight, bias = sparsely_gathered(self.linear.weight, self.linear.bias, rows)
        size = len(target)
        # In float16, slopes of 1 / N would be lost on their way back to these few rows.
        features, weight, bias = (at_least_float32(each) for each in (features, weight, bias))
        positive = torch.linalg.vecdot(features, weight[:size]) + bias[:size]
        negative = at_least_float32(F.linear(features, weight[size:], bias[size:]))
        negative = negative - log_expected.to(negative.dtype)
        negative = negative.masked_fill(classes == target.unsqueeze(1), -torch.inf)
        logits = torch.cat((positive.unsqueeze(1), negative), dim=1)
        output = F.log_softmax(logits, dim=1)[:, 0]
        return HeadOutput(output, -output.mean())

    def forward_cost(self, batch_size: int) -> Cost:
        """The targets' scores and the negatives'."""
        d, scored = self.in_features, self.num_sampled + 1
        indices = batch_size + self.num_sampled
        rows = self.rows_touched(batch_size)
        elements = rows * (d + 1) + batch_size * (d + 1) + batch_size * scored
        return Cost(batch_size * scored * d, elements * self.itemsize + indices * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """Two products, and a gradient of the rows scored."""
        d, scored = self.in_features, self.num_sampled + 1
        rows = self.rows_touched(batch_size)
        elements = rows * (2 * d + 1) + 2 * batch_size * d + batch_size * scored
        return Cost(2 * batch_size * scored * d, elements * self.itemsize + 2 * rows * INT64_BYTES)

    def step_cost(self, batch_size: int) -> Cost:
        """The rows scored are read with their gradient, and written."""
        rows = self.rows_touched(batch_size)
        parameters = rows * (self.in_features + 1)
        return Cost(parameters, 3 * parameters * self.itemsize + 2 * rows * INT64_BYTES)
