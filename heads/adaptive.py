"""Adaptive softmax: frequent classes in a short list, rare ones in ever narrower clusters."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads.base import INT64_BYTES, Cost, HeadOutput, at_least_float32
from heads.options import integer, shown
from heads.order import Ordered
from heads.trees import checked_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

DIV_VALUE = 4
"""Each cluster works on so many times fewer features than the one before it, as published."""


def default_cutoffs(in_features: int, num_classes: int) -> list[int]:
    """Ends of the short list and of the clusters but the last: n/20 and n/4, where they differ.

    Cluster i works on in_features / 4^i features, of which at least one must be left.
    """
    cutoffs = sorted({max(1, num_classes // 20), max(1, num_classes // 4)})
    return cutoffs[: max(1, _most_clusters(in_features))]


def _most_clusters(in_features: int) -> int:
    """How many clusters have at least one feature left to work on."""
    clusters = 0
    while DIV_VALUE ** (clusters + 1) <= in_features:
        clusters += 1
    return clusters


def checked_cutoffs(cutoffs: Sequence[int], in_features: int, num_classes: int) -> list[int]:
    """`cutoffs` as ints; a `ValueError` unless they suit `Adaptive`."""
    try:
        ends = list(cutoffs)
    except TypeError:
        raise ValueError(f"cutoffs must be integers, got {shown(cutoffs)}") from None
    ends = [integer("each of cutoffs", end, 1, num_classes - 1, "num_classes - 1") for end in ends]
    if not ends or any(low >= high for low, high in pairwise(ends)):
        raise ValueError(f"cutoffs must be at least one and ascending, got {shown(ends)}")
    most = _most_clusters(in_features)
    if most and len(ends) > most:
        raise ValueError(
            f"cutoffs must be at most {most} with {in_features} features, as the i-th cluster "
            f"works on in_features / {DIV_VALUE}^i of them, got {len(ends)}"
        )
    return ends


class Adaptive(Ordered):
    """The parameters of torch's `AdaptiveLogSoftmaxWithLoss` behind this package's interface.

    The head scores a short list of frequent classes and one slot per cluster of rarer ones; only
    samples whose target lies in a cluster pay for it, and the i-th cluster first projects the
    features down to d / 4^i. It assumes that classes are numbered by descending frequency, and pays
    when labels are skewed; on uniform labels it is a constant factor below the full softmax. Its
    weights get dense gradients, so backward and step are O(num_classes).

    Source: Grave, Joulin, Cissé, Grangier and Jégou, "Efficient softmax approximation for GPUs",
    ICML 2017.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.
        cutoffs: ascending ends, in 1..n-1, of the short list and of each cluster but the last;
            by default `default_cutoffs`. A cluster needs a feature to work on, so at most
            log4(d) of them; with fewer than 4 features, clusters keep them all.
        counts: how often each class occurs, (n,); classes are then ranked by it, and those that
            occur equally often by number. By default they are taken as numbered by descending
            frequency.

    Shape:
        - input: (N, d), target: (N,); output: (N,), loss: ()

    Raises:
        ValueError: as `Head`; `cutoffs` not ascending in 1..n-1 or more than the features allow,
            `counts` not n finite numbers of at least 0.

    Clusters are computed in float32 at least, and all of it is under autocast: two products in a
    row would round twice, and float16 would lose the gradients between them.

    Cost: that of a batch of targets as `expect` is told; else of uniform ones, the worst of those
    it is meant for. Predictions are counted as if they followed the same labels, else as if all lay
    in clusters.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        cutoffs: Sequence[int] | None = None,
        counts: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        if cutoffs is None:
            cutoffs = default_cutoffs(in_features, num_classes)
        cutoffs = checked_cutoffs(cutoffs, in_features, num_classes)
        self.adaptive = nn.AdaptiveLogSoftmaxWithLoss(
            in_features,
            num_classes,
            cutoffs,
            div_value=DIV_VALUE if in_features >= DIV_VALUE else 1,
            head_bias=True,
        )
        order = None
        if counts is not None:
            weights = checked_counts(counts, num_classes)
            if (weights[1:] > weights[:-1]).any():
                order = weights.argsort(descending=True, stable=True)
        self.arrange(order, self.adaptive.head.weight.device)

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        features = self.checked_input(input)
        self.check_target(features, target)
        ranks, short = self.places(target), self.adaptive.shortlist_size
        cluster = torch.bucketize(ranks, ranks.new_tensor(self.adaptive.cutoffs[:-1]), right=True)
        slots = torch.where(cluster > 0, cluster + (short - 1), ranks)
        with self._full_precision(features):
            scores = at_least_float32(self.adaptive.head(features))
            output = F.log_softmax(scores, dim=1).gather(1, slots.unsqueeze(1)).squeeze(1)
            for number, start in enumerate(self.adaptive.cutoffs[:-1], 1):
                samples = (cluster == number).nonzero().squeeze(1)
                if samples.numel():
                    within = self._within(number, features.index_select(0, samples))
                    places = ranks.index_select(0, samples).unsqueeze(1) - start
                    output = output.index_add(0, samples, within.gather(1, places).squeeze(1))
        return HeadOutput(output, -output.mean())

    def _within(self, cluster: int, input: Tensor) -> Tensor:
        """Log-probabilities within a cluster, counted from 1: (N, in_features) -> (N, its size)."""
        hidden = at_least_float32(input)
        for weight in self.adaptive.tail[cluster - 1].parameters():
            hidden = F.linear(hidden, at_least_float32(weight))
        return F.log_softmax(hidden, dim=1)

    def _by_rank(self, input: Tensor, scores: Tensor) -> Tensor:
        """Log-probability of every rank, from the scores of the slots: (N, d), (N, s) -> (N, n)."""
        slots, short = F.log_softmax(scores, dim=1), self.adaptive.shortlist_size
        clusters = (
            self._within(number, input) + slots[:, short + number - 1].unsqueeze(1)
            for number in range(1, self.adaptive.n_clusters + 1)
        )
        return torch.cat((slots[:, :short], *clusters), dim=1)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of every class: (N, in_features) -> (N, num_classes)."""
        features = self.checked_input(input)
        with self._full_precision(features):
            by_rank = self._by_rank(features, at_least_float32(self.adaptive.head(features)))
        return self.by_class(by_rank)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class, exactly; a cluster is scored only where it beats the short list.

        A short-list class at least as probable as a whole cluster beats every class in it.
        """
        features = self.checked_input(input)
        with self._full_precision(features):
            scores = at_least_float32(self.adaptive.head(features))
            ranks = scores.argmax(dim=1)
            in_cluster = ranks >= self.adaptive.shortlist_size
            if in_cluster.any():
                by_rank = self._by_rank(features[in_cluster], scores[in_cluster])
                ranks[in_cluster] = by_rank.argmax(dim=1)
        return self.classes(ranks)

    def _full_precision(self, input: Tensor) -> torch.autocast:
        return torch.autocast(input.device.type, enabled=False)

    def forward_cost(self, batch_size: int) -> Cost:
        """The short list for all; each cluster for its share of the batch."""
        d = self.in_features
        slots, bytes_each = self.adaptive.head_size, self.itemsize
        multiply_adds = batch_size * d * slots
        elements = self._parameters_used(batch_size) + batch_size * (d + slots + 1)
        for share, hidden, size in self._clusters(batch_size):
            multiply_adds += share * hidden * (d + size)
            elements += share * (hidden + size)
        return Cost(multiply_adds, elements * bytes_each + batch_size * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """Two products for each of the forward's; a cluster has a dense gradient or none."""
        d = self.in_features
        forward = self.forward_cost(batch_size)
        elements = 2 * self._parameters_used(batch_size) + batch_size * (
            2 * d + self.adaptive.head_size
        )
        for share, hidden, size in self._clusters(batch_size):
            elements += share * (hidden + size)
        return Cost(2 * forward.multiply_adds, elements * self.itemsize + batch_size * INT64_BYTES)

    def step_cost(self, batch_size: int) -> Cost:
        """Every parameter that has a gradient is read with it, and written."""
        parameters = self._parameters_used(batch_size)
        return Cost(parameters, 3 * parameters * self.itemsize)

    def predict_cost(self, batch_size: int) -> Cost:
        """The short list for all, and everything for each sample whose cluster beats it.

        Those are the ones that the labels expected put into clusters; else all.
        """
        d = self.in_features
        multiply_adds = batch_size * d * self.adaptive.head_size
        clusters = self._clusters(batch_size)
        in_cluster = batch_size if self.shares is None else sum(share for share, _, _ in clusters)
        for _, hidden, size in clusters:
            multiply_adds += in_cluster * hidden * (d + size)
        elements = sum(map(Tensor.numel, self.parameters())) + batch_size * d
        return Cost(multiply_adds, elements * self.itemsize + batch_size * INT64_BYTES)

    def _parameters_used(self, batch_size: int) -> int:
        """Of the short list, and of each cluster if a target lies in it: the expected number."""
        clusters = [sum(map(Tensor.numel, one.parameters())) for one in self.adaptive.tail]
        everything = sum(map(Tensor.numel, self.parameters()))
        if self.shares is None:
            return everything
        unused = zip(clusters, self._cluster_shares(), strict=True)
        return everything - round(sum(size * (1 - share) ** batch_size for size, share in unused))

    def _cluster_shares(self) -> list[float]:
        """How many of all targets lie in each cluster; of uniform ones, if nobody said."""
        ends = self.adaptive.cutoffs
        if self.shares is None:
            return [(stop - start) / self.num_classes for start, stop in pairwise(ends)]
        by_rank = self.shares if self.order is None else self.shares[self.order.cpu()]
        return [float(by_rank[start:stop].sum()) for start, stop in pairwise(ends)]

    def _clusters(self, batch_size: int) -> list[tuple[int, int, int]]:
        """Per cluster: how many of a batch's targets lie in it, its hidden width, its size."""
        sizes = [stop - start for start, stop in pairwise(self.adaptive.cutoffs)]
        hidden = [next(cluster.parameters()).size(0) for cluster in self.adaptive.tail]
        return [
            (round(batch_size * share), width, size)
            for share, width, size in zip(self._cluster_shares(), hidden, sizes, strict=True)
        ]
