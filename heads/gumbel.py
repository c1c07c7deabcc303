"""Softmax trained under noise: the Gumbel-softmax relaxation, and a published variant of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from heads import softmax_torch
from heads.autograd import opaque_apply
from heads.base import Cost, HeadOutput
from heads.kernels import on_device
from heads.options import flag, integer, number
from heads.softmax import Softmax
from heads.softmax_chunked import (
    chunked_log_prob,
    kernels,
    made_at_once,
    sliced_backward_cost,
    sliced_forward_cost,
)
from heads.softmax_torch import Perturbation
from heads.transforms import in_func

if TYPE_CHECKING:
    from collections.abc import Callable

Noise = Literal["gumbel", "normal"]
Loss = Literal["log", "probability", "double-softmax"]


def gumbel_noise(like: Tensor) -> Tensor:
    """Standard Gumbel noise -log(-log U), float32 whatever the dtype of `like`, of its shape.

    If U is uniform, -log U is exponential, and `exponential_` never draws the zero that would make
    the noise infinite. In half precision the tail, which decides the argmax, would be lost.
    """
    return torch.empty_like(like, dtype=torch.float32).exponential_().log_().neg_()


def _temperature(tau: float) -> float:
    return number("tau", tau, 0, above=True)


@dataclass(frozen=True)
class Annealing:
    """A temperature that changes geometrically from `start` to `end` over `steps` training batches.

    Raises:
        ValueError: a temperature not above 0 and finite, or fewer than 1 step.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        number("start", self.start, 0, above=True)
        number("end", self.end, 0, above=True)
        integer("steps", self.steps, 1)

    def __call__(self, step: int) -> float:
        """Temperature of the training batch numbered `step`, counted from 0."""
        return float(self.start * (self.end / self.start) ** min(1.0, step / self.steps))

    def on_device(self, step: Tensor) -> Tensor:
        """The same for a step, (), that lives on a device; the host need not wait for it."""
        return self.start * (self.end / self.start) ** (step / self.steps).clamp(max=1.0)


class Gumbel(Softmax):
    """Softmax whose training loss is taken on Gumbel-perturbed, tempered scores.

    Training: `loss = cross_entropy((z + g) / tau, target)`, g standard Gumbel, so that
    `argmax(z + g)` is an exact sample of the softmax. Evaluation is the plain softmax. As tau -> 0,
    `tau * E[loss]` tends to the plain cross-entropy. It contains a softmax, so it is O(num_classes)
    in every phase, with the making of N n numbers of noise on top.

    The options `noise` and `loss` put in, one at a time, what published code gets wrong, so that
    each defect's price can be measured.

    Source: Jang, Gu and Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017;
    Maddison, Mnih and Teh, "The Concrete Distribution", ICLR 2017.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.
        tau: temperature, above 0; or a schedule, from the number of training batches seen to a
            temperature, such as `Annealing`.
        hard: straight-through. The forward's value is that of the sampled class, 1 where it is the
            target and 0 elsewhere, the gradient that of the relaxed probability. The loss is then
            minus the accuracy of the samples: no likelihood, as a sample that misses has none.
        noise: "gumbel"; or "normal", under which `argmax(z + g)` is no sample of the softmax.
        loss: what becomes of the perturbed scores. "log": their cross-entropy. "probability": minus
            the probability of the target, without the logarithm. It is bounded by [-1, 0], and its
            gradient carries a factor p(target), so that it all but vanishes where the model is most
            wrong: with many classes, at the start, everywhere. "double-softmax": the cross-entropy
            of the probabilities, as if they were scores. They differ by 1 at most, so it stays
            above log(1 + (n - 1) / e), however right the model is, and its gradient vanishes
            likewise.
        draws: how often noise is drawn for each sample, at least 1; the losses under it are
            averaged. More of them quieten the gradient and leave its expectation as it is.

    Shape:
        - input: (N, d), target: (N,); output: (N,), loss: ()
        - parameters: weight (n, d), bias (n,)
        - in training, output is minus the loss of each sample: the log-probability under the
          perturbed, tempered scores for "log", their probability for "probability"

    Raises:
        ValueError: as `Head`; `tau`, or what a schedule answers, not above 0 and finite; an unknown
            `noise` or `loss`; `hard` with a `loss` other than "log"; `draws` below 1.

    Cost: as `Softmax`, but that N n log-probabilities are kept for each of the draws; the noise
    needs no multiply-add and is forgotten at once. Where there are kernels for the usual noise and
    loss, they make it on their way over the scores: those of one slice are kept under it, on the
    CPU, as `Softmax` for as many samples as there are draws of them; of several slices nothing is
    kept, as in `SoftmaxChunked`. `heads.softmax_chunked` says which kernels there are.
    """

    predicts_as: ClassVar[str] = "softmax"

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        tau: float | Callable[[int], float] = 1.0,
        hard: bool = False,
        noise: Noise = "gumbel",
        loss: Loss = "log",
        draws: int = 1,
    ) -> None:
        super().__init__(in_features, num_classes)
        for option, value, known in (("noise", noise, Noise), ("loss", loss, Loss)):
            if value not in get_args(known):
                raise ValueError(f"{option} must be one of {get_args(known)}, got {value!r}")
        if flag("hard", hard) and loss != "log":
            raise ValueError(f"hard has a loss of its own; leave loss at 'log', got {loss!r}")
        self.schedule = tau if callable(tau) else _temperature(tau)
        self.hard = hard
        self.noise = noise
        self.loss = loss
        self.draws = integer("draws", draws, 1)
        # Training batches seen under a schedule; on the device, so that a captured graph counts on.
        self.step: Tensor
        self.register_buffer("step", torch.tensor(0))

    @property
    def tau(self) -> float:
        """Temperature of the next training batch."""
        if callable(self.schedule):
            return _temperature(self.schedule(int(self.step)))
        return self.schedule

    def _next_tau(self) -> float | Tensor:
        """Temperature of this training batch; from here on, `tau` is that of the next one."""
        if not callable(self.schedule):
            return self.schedule
        annealing = self.schedule if isinstance(self.schedule, Annealing) else None
        tau = self.tau if annealing is None or self.step.is_cpu else annealing.on_device(self.step)
        self.step += 1
        return tau

    def _noise_like(self, logits: Tensor) -> Tensor:
        return gumbel_noise(logits) if self.noise == "gumbel" else torch.randn_like(logits)

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Relaxed log-probability of each target and the mean loss; plain when not training."""
        if not self.training:
            return super().forward(input, target)
        if self._by_kernels(self.draws * len(input)):
            return self._by_chunks(input, target)
        logits = self.logits(input)
        self.check_target(input, target)
        if self.draws > 1:
            logits, target = logits.repeat(self.draws, 1), target.repeat(self.draws)
        relaxed = self._relaxed(logits)
        if self.hard:
            soft = relaxed.softmax(dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
            hit = (relaxed.argmax(dim=1) == target).to(soft.dtype)
            output = soft + (hit - soft).detach()
        elif self.loss == "probability":
            output = -F.nll_loss(relaxed.softmax(dim=1), target, reduction="none")
        else:
            scores = relaxed if self.loss == "log" else relaxed.softmax(dim=1)
            output = -F.cross_entropy(scores, target, reduction="none")
        if self.draws > 1:
            output = output.view(self.draws, -1).mean(dim=0)
        return HeadOutput(output, -output.mean())

    def _relaxed(self, logits: Tensor) -> Tensor:
        """The scores under noise, tempered; on CUDA by one kernel, if there is one."""
        tau = self._next_tau()
        compiled = logits.is_cuda and kernels(self.linear.weight) is not softmax_torch
        if not compiled or self.noise != "gumbel" or in_func():
            return (logits + self._noise_like(logits)) / tau
        relaxed: Tensor = opaque_apply(_Perturbed, logits, _perturbation(tau, logits), tau)
        return relaxed

    def _by_kernels(self, samples: int) -> bool:
        """Whether kernels make the noise on their way over the scores, and none of it is kept."""
        weight = self.linear.weight
        usual = (self.noise, self.loss, self.hard) == ("gumbel", "log", False)
        return (
            usual
            and kernels(weight) is not softmax_torch
            and (weight.is_cpu or not made_at_once(samples, weight, self.linear.bias))
            and not in_func()
        )

    def _by_chunks(self, input: Tensor, target: Tensor) -> HeadOutput:
        """The usual loss; in several slices, without the N x n scores."""
        features = self.checked_input(input)
        self.check_target(features, target)
        weight, bias = self.linear.weight, self.linear.bias
        noise = _perturbation(self._next_tau(), weight)
        if self.draws > 1:
            features, target = features.repeat(self.draws, 1), target.repeat(self.draws)
        keep = made_at_once(len(features), weight, bias)
        output = chunked_log_prob(features, weight, bias, target, noise, keep=keep)
        if self.draws > 1:
            output = output.view(self.draws, -1).mean(dim=0)
        return HeadOutput(output, -output.mean())

    def forward_cost(self, batch_size: int) -> Cost:
        """As the full softmax, for all draws; in several slices, nothing of size N x n is kept."""
        samples = self.draws * batch_size
        if not self._by_kernels(samples):
            return self._with_all_draws(super().forward_cost(batch_size), batch_size)
        if made_at_once(samples, self.linear.weight, self.linear.bias):
            return super().forward_cost(samples)
        return sliced_forward_cost(self, samples)

    def backward_cost(self, batch_size: int) -> Cost:
        """As the full softmax, for all draws; in several slices, the scores are made again."""
        samples = self.draws * batch_size
        if not self._by_kernels(samples):
            return self._with_all_draws(super().backward_cost(batch_size), batch_size)
        if made_at_once(samples, self.linear.weight, self.linear.bias):
            return super().backward_cost(samples)
        return sliced_backward_cost(self, samples)

    def _with_all_draws(self, cost: Cost, batch_size: int) -> Cost:
        more = (self.draws - 1) * batch_size * self.num_classes * self.itemsize
        return Cost(cost.multiply_adds, cost.bytes + more)


def _perturbation(tau: float | Tensor, like: Tensor) -> Perturbation:
    """New noise, of torch's generator, where a tensor is."""
    if not isinstance(tau, Tensor):
        tau = torch.full((1,), tau, device=like.device)
    seed = torch.randint(2**31, (1,), device=like.device)
    return Perturbation(seed, tau.float().view(1))


class _Perturbed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, noise: Perturbation, tau: float | Tensor) -> Tensor:
        ctx.tau = tau
        with on_device(logits):
            result: Tensor = kernels(logits).perturbed(logits, noise)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        plain = isinstance(ctx.tau, float) and ctx.tau == 1
        return grad_output if plain else grad_output / ctx.tau, None, None


class GumbelNormal(Gumbel):
    """The published variant: `Gumbel` with normal noise, and probabilities without a logarithm.

    Training: `loss = nll_loss(softmax(z + e), target)` with e ~ N(0, 1), which is minus the mean
    probability of the targets. Both differ from `Gumbel`, and both matter: see `noise` and `loss`
    there. Evaluation is the plain softmax.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.

    Shape, errors, cost: as `Gumbel`.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes, noise="normal", loss="probability")
