"""The softmax and its relatives, a range of the classes on every rank.

A rank makes the scores of its own classes. What it tells the others of them is two numbers a
sample: their log-sum-exp, and the score of the target if it is among them. The slopes in its scores
need the log-sum-exp of all classes and nothing else; of the input's gradient, each rank knows a
summand.

Source: the parallel cross-entropy of Shoeybi et al., "Megatron-LM", 2019; by class ranges, of An et
al., "Partial FC", 2021.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from heads.autograd import apply
from heads.base import Cost, Head, Phase, at_least_float32
from heads.gumbel import Gumbel
from heads.kernels import sparsely_gathered
from heads.sampled import Sampled
from heads.sharding.base import FLOAT64_BYTES, Sharded, full, joined, linear, local, merged
from heads.sharding.ranks import Communication, Ranks
from heads.softmax import Softmax
from heads.softmax_chunked import SoftmaxChunked, chunked_log_prob, class_slices
from heads.softmax_torch import Perturbation


class ShardedSoftmax(Sharded, Softmax):
    """`Softmax`, a range of the classes on every rank; see the module.

    Communication for a batch of N: forward, 2 N numbers gathered; backward, the input's gradient,
    N d numbers, summed; predict, 2 N numbers gathered. Of a split batch, the input is gathered in
    the forward, and its gradient summed and dealt out in the backward.
    """

    kind: ClassVar[type[Head]] = Softmax
    keeps_logits: ClassVar[bool] = True

    def take_share(self) -> None:
        """Keep a range of the classes."""
        self.linear = self.shared_linear(self.linear.weight, self.linear.bias)
        self.part = self.ranks.share(self.num_classes)

    def whole(self) -> Head:
        """The head as one process has it, with a copy of all parameters, on every rank."""
        made = joined(self.kind, self)
        made.linear = linear(full(self.linear.weight), full(self.linear.bias))
        return made

    def rows(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of this rank's classes."""
        return local(self.linear.weight), local(self.linear.bias)

    def log_prob_of(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probability of each target, on all ranks: (N, in_features), (N,) -> (N,)."""
        return self.in_slices(input, target, None)

    def in_slices(self, input: Tensor, target: Tensor, noise: Perturbation | None) -> Tensor:
        """The same, under noise: (N, in_features), (N,) -> (N,)."""
        own, combine = target - self.part.start, partial(_combined, self.ranks)
        keep = self.keeps_logits
        return chunked_log_prob(input, *self.rows(), own, noise, combine=combine, keep=keep)

    def logits(self, input: Tensor) -> Tensor:
        """Unnormalised log-probabilities of all classes: (N, in_features) -> (N, num_classes)."""
        self.check_surroundings()
        features = self.ranks.same(self.checked_input(input))
        own = at_least_float32(F.linear(features, *self.rows()))
        gathered: Tensor = apply(_AllClasses, own, self.ranks, self.num_classes)
        return gathered

    def best(self, input: Tensor, k: int, normalised: bool) -> tuple[Tensor, Tensor]:
        """`topk`; if not `normalised`, up to a summand of each sample: -> (N, k), (N, k)."""
        weight, bias = (tensor.detach() for tensor in self.rows())
        none = at_least_float32(input.new_full((len(input), 1), -torch.inf))
        values, classes, sums = [none[:, :0]], [none[:, :0].long()], [none]
        for part in class_slices(input, weight, self.keeps_logits):
            scores = at_least_float32(F.linear(input, weight[part], bias[part]))
            value, place = scores.topk(min(k, scores.size(1)), dim=1)
            values.append(value)
            classes.append(place + (self.part.start + part.start))
            if normalised:
                sums.append(scores.logsumexp(dim=1, keepdim=True))
        every = torch.cat(values, dim=1)
        value, where = every.topk(min(k, every.size(1)), dim=1)
        log_sum = torch.cat(sums, dim=1).logsumexp(dim=1) if normalised else None
        return merged(self.ranks, k, value, torch.cat(classes, dim=1).gather(1, where), log_sum)

    def told_in_forward(self, samples: int) -> Communication:
        """Two numbers of each sample."""
        return self.ranks.cost_of_gather(2 * samples * max(4, self.itemsize))

    def rank_cost(self, phase: Phase, samples: int) -> Cost:
        """That of a head of a rank's classes."""
        classes = max(2, self.ranks.share_of(0, self.num_classes).stop)
        with torch.device("meta"):
            return self.kind(self.in_features, classes).to(self.dtype).cost(phase, samples)


class ShardedChunked(ShardedSoftmax, SoftmaxChunked):
    """`SoftmaxChunked`, a range of the classes on every rank; as `ShardedSoftmax`."""

    kind = SoftmaxChunked
    keeps_logits = False


class ShardedGumbel(ShardedSoftmax, Gumbel):
    """`Gumbel`, a range of the classes on every rank, its noise made there and never told.

    With the usual noise and loss, the other options being there to show defects. In training the
    noise is made slice by slice, and again in the backward, on every device. Ranks whose generators
    have the same state still draw different noise; so of a single process's, the sharded head's
    loss has the distribution and not the value.

    Communication: that of `ShardedSoftmax`, for as many samples as there are draws of them.
    """

    kind = Gumbel
    keeps_logits = False

    def take_share(self) -> None:
        """Keep a range of the classes.

        Raises:
            ValueError: unusual noise or loss.
        """
        if (self.noise, self.loss, self.hard) != ("gumbel", "log", False):
            raise ValueError(
                "a sharded gumbel head has noise='gumbel', loss='log' and hard=False, "
                f"got {self.noise!r}, {self.loss!r} and {self.hard}"
            )
        super().take_share()

    def log_prob_of(self, input: Tensor, target: Tensor) -> Tensor:
        """Relaxed log-probability of each target, on all ranks; plain when not training."""
        if not self.training:
            return super().log_prob_of(input, target)
        tau = self._next_tau()
        if not isinstance(tau, Tensor):
            tau = torch.full((1,), tau, device=input.device)
        noise = Perturbation(self.ranks.seed(input.device), tau.float().view(1))
        output = self.in_slices(input.repeat(self.draws, 1), target.repeat(self.draws), noise)
        return output.view(self.draws, -1).mean(dim=0)

    def told_in_forward(self, samples: int) -> Communication:
        """Two numbers of each draw of a sample."""
        return super().told_in_forward(self.draws * samples)

    def rank_cost(self, phase: Phase, samples: int) -> Cost:
        """That of a chunked head of a rank's classes, on as many samples as there are draws."""
        classes = max(2, self.ranks.share_of(0, self.num_classes).stop)
        draws = self.draws if phase in ("forward", "backward", "train") else 1
        with torch.device("meta"):
            twin = SoftmaxChunked(self.in_features, classes).to(self.dtype)
        cost = twin.cost(phase, draws * samples)
        if phase != "train":
            return cost
        return Cost(
            *map(
                sum,
                zip(
                    *(self.rank_cost(p, samples) for p in ("forward", "backward", "step")),
                    strict=True,
                ),
            )
        )


class ShardedSampled(ShardedSoftmax, Sampled):
    """`Sampled`, a range of the classes on every rank, which scores those that are drawn there.

    Communication for a batch of N with m negatives: forward, what the first rank has drawn, 2 m
    numbers, handed on, and 2 N numbers gathered; else that of `ShardedSoftmax`. In evaluation
    nothing is drawn.
    """

    kind = Sampled

    @property
    def row_sparse(self) -> bool:
        """In training, unless dense gradients were asked for."""
        return not self.dense

    def log_prob_of(self, input: Tensor, target: Tensor) -> Tensor:
        """Estimated log-probability of each target, on all ranks; exact when not training."""
        if not self.training:
            return super().log_prob_of(input, target)
        drawn = torch.stack([part.double() for part in self.draw(input.device)])
        drawn = self.ranks.of_first(drawn)
        negatives, samples = (self._here(of) for of in (drawn[0].long(), target))
        rows = torch.cat((target[samples], drawn[0].long()[negatives])) - self.part.start
        weight, bias = sparsely_gathered(*self.rows(), rows, self.dense)
        features, weight, bias = (at_least_float32(each) for each in (input, weight, bias))
        count = len(samples)
        own = torch.linalg.vecdot(features[samples], weight[:count]) + bias[:count]
        # Finite, as a gradient has to come back through a sum of nothing else.
        lowest = torch.finfo(own.dtype).min
        absent = own.new_full((len(target),), lowest)
        positive = absent.index_put((samples,), own)
        score = torch.zeros_like(absent).index_put((samples,), own)
        negative = F.linear(features, weight[count:], bias[count:])
        negative = negative - drawn[1][negatives].to(negative.dtype)
        hit = drawn[0].long()[negatives] == target.unsqueeze(1)
        negative = negative.masked_fill(hit, -torch.inf)
        log_sum = torch.cat((positive.unsqueeze(1), negative), dim=1).logsumexp(dim=1)
        output: Tensor = apply(_Combined, score, log_sum, self.ranks)
        return output

    def _here(self, classes: Tensor) -> Tensor:
        """Which of these are this rank's: (M,) -> (K,)."""
        here = (classes >= self.part.start) & (classes < self.part.stop)
        places: Tensor = here.nonzero().squeeze(1)
        return places

    def told_in_forward(self, samples: int) -> Communication:
        """What was drawn, and two numbers of each sample."""
        told = super().told_in_forward(samples)
        if self.training:
            told += self.ranks.cost_of_broadcast(2 * FLOAT64_BYTES * self.num_sampled)
        return told

    def rank_cost(self, phase: Phase, samples: int) -> Cost:
        """An equal part of the head's; of a prediction, that of a softmax of a rank's classes."""
        if phase == "predict":
            return super().rank_cost(phase, samples)
        return Sharded.rank_cost(self, phase, samples)


class _AllClasses(torch.autograd.Function):
    """Columns of all ranks side by side: (N, a rank's) -> (N, n)."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks, total: int) -> Tensor:
        ctx.part = ranks.share(total)
        most = ranks.share_of(0, total).stop
        every = ranks.gathered(F.pad(own, (0, most - own.size(1))))
        # Only the last ranks have fewer columns than the first.
        return every.transpose(0, 1).flatten(1)[:, :total]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad[:, ctx.part], None, None


def _combined(ranks: Ranks, score: Tensor, log_sum: Tensor) -> tuple[Tensor, Tensor]:
    """The targets' scores and log-sum-exp of a rank's classes, both (N,), to those of all."""
    scores, log_sums = ranks.gathered(torch.stack((score, log_sum))).unbind(1)
    return scores.sum(0), log_sums.logsumexp(0)


class _Combined(torch.autograd.Function):
    """Log-probability from the targets' scores, where they are, and each rank's log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, log_sum: Tensor, ranks: Ranks) -> Tensor:
        known, total = _combined(ranks, score, log_sum)
        ctx.save_for_backward(log_sum - total)
        return known - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (share,) = ctx.saved_tensors
        return grad, -grad * share.exp(), None
