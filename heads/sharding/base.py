"""What every sharded head is: a head whose parameters are spread over processes."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, ClassVar, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor

from heads.autograd import apply
from heads.base import INT64_BYTES, Cost, Head, HeadOutput, Phase
from heads.sharding.ranks import NOTHING, Communication, Ranks
from heads.transforms import in_ddp, in_func

FLOAT64_BYTES = 8

Kind = TypeVar("Kind", bound=Head)


class Sharded(Head):
    """A head of which every rank holds a part of the rows, as `DTensor`s with `Shard(0)`.

    It is made by `of`, and has the options of the head that it is made from. Output and loss are
    the same on all ranks, of a split batch those of a rank's own samples. All methods but those
    that count are collective: each rank has to call them, in the same order.

    Attributes:
        kind: of heads that it is made from.
        ranks: the processes.
        dense: whether gradients are dense that would be row-sparse otherwise.
    """

    kind: ClassVar[type[Head]]
    ranks: Ranks
    dense: bool = False

    @classmethod
    def of(cls, head: Head, ranks: Ranks, dense: bool = False) -> Self:
        """What `head` becomes, of which every rank has a copy with the same parameters.

        The head given stays as it is; if it is on the meta device, each rank draws its own rows.
        """
        made = _alike(cls, head)
        made.ranks, made.dense = ranks, dense
        made.take_share()
        return made

    @abstractmethod
    def take_share(self) -> None:
        """Replace the parameters, which are all there, by this rank's part of them."""

    @abstractmethod
    def whole(self) -> Head:
        """The head as one process has it, with a copy of all parameters, on every rank."""

    @abstractmethod
    def log_prob_of(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probability of each target, on all ranks: (N, in_features), (N,) -> (N,)."""

    @abstractmethod
    def best(self, input: Tensor, k: int, normalised: bool) -> tuple[Tensor, Tensor]:
        """`topk`; if not `normalised`, up to a summand of each sample: -> (N, k), (N, k)."""

    @abstractmethod
    def told_in_forward(self, samples: int) -> Communication:
        """What the ranks tell each other of so many samples' scores."""

    def told_in_predict(self, samples: int) -> Communication:
        """What the ranks tell each other to find so many samples' best class."""
        return self.ranks.cost_of_gather(2 * FLOAT64_BYTES * samples)

    def communication(self, phase: Phase, batch_size: int) -> Communication:
        """What the ranks tell each other in `phase`, for a batch of so many samples of a rank.

        Of predictions, all ranks have the same samples.
        """
        ranks, number = self.ranks, max(4, self.itemsize)
        features = batch_size * self.in_features * self.itemsize
        samples = batch_size * (ranks.size if ranks.split_batch else 1)
        if phase == "predict":
            return self.told_in_predict(batch_size)
        forward = self.told_in_forward(samples)
        if ranks.split_batch:
            forward += ranks.cost_of_gather(features) + ranks.cost_of_gather(
                INT64_BYTES * batch_size
            )
            backward = ranks.cost_of_gather(number * batch_size) + ranks.cost_of_scatter(features)
        else:
            backward = ranks.cost_of_sum(features)
        told = {"forward": forward, "backward": backward, "train": forward + backward}
        return told.get(phase, NOTHING)

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        self.check_surroundings()
        features = self.checked_input(input)
        self.check_target(features, target)
        output = self.ranks.leave(self.log_prob_of(*self.ranks.enter(features, target)))
        return HeadOutput(output, -output.mean())

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class, exactly, of samples that all ranks have: (N, d) -> (N,)."""
        with torch.no_grad():
            return self.best(self.checked_input(input), 1, False)[1].squeeze(1)

    @torch.no_grad()
    def topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most probable classes, exactly, best first: log-probabilities, classes, (N, k)."""
        return self.best(self.checked_input(input), self.check_k(k), True)

    def cost(self, phase: Phase, batch_size: int) -> Cost:
        """Counted work of one rank in `phase`, if all have as much; see `Head.cost`.

        A batch is of so many samples of a rank, and a split one as many times larger as there are
        ranks.
        """
        samples = batch_size * (self.ranks.size if self.ranks.split_batch else 1)
        return self.rank_cost(phase, samples)

    def rank_cost(self, phase: Phase, samples: int) -> Cost:
        """The same for a batch of all ranks' samples."""
        whole = super().cost(phase, samples)
        return Cost(*(-(-part // self.ranks.size) for part in whole))

    def shared_linear(self, weight: Tensor, bias: Tensor, order: Tensor | None = None) -> nn.Linear:
        """A layer of which this rank holds its part: (R, d), (R,) -> (R, d), (R,).

        Args:
            weight: (R, d).
            bias: (R,).
            order: of this rank's rows among these, if it is not theirs.
        """
        total, width = weight.shape
        part = self.ranks.share(total)
        if weight.device.type == "meta":
            local = self._drawn(part.stop - part.start, width, weight.dtype)
        else:
            rows = part if order is None else order
            local = weight.detach()[rows].clone(), bias.detach()[rows].clone()
        layer = nn.Linear(width, total, device="meta", dtype=weight.dtype)
        layer.weight, layer.bias = (self.ranks.owned(tensor, total) for tensor in local)
        return layer

    def _drawn(self, rows: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """As `nn.Linear` draws them; by ranks that have drawn the same until now, others."""
        device = torch.device(self.ranks.mesh.device_type)
        seed = int(self.ranks.seed(torch.device("cpu")))
        generator = torch.Generator(device).manual_seed(seed)
        most = width**-0.5
        weight, bias = (
            torch.empty(*s, device=device, dtype=dtype) for s in ((rows, width), (rows,))
        )
        return (
            weight.uniform_(-most, most, generator=generator),
            bias.uniform_(-most, most, generator=generator),
        )

    def check_surroundings(self) -> None:
        """Raise where a sharded head cannot be."""
        if in_func():
            raise RuntimeError("torch.func cannot transform a sharded head: its ranks communicate")
        if in_ddp():
            raise RuntimeError(
                "a sharded head's parameters differ from rank to rank, so nobody may average them: "
                "wrap the layers below it in DistributedDataParallel, and shard the head with "
                "split_batch=True"
            )


def _alike(kind: type[Kind], head: Head) -> Kind:
    """A head of another kind with all that `head` has; of tensors, no copies."""
    made = kind.__new__(kind)
    # What a module keeps of modules, parameters, buffers and hooks are dictionaries of its own.
    vars(made).update(
        {name: copy.copy(value) if name[0] == "_" else value for name, value in vars(head).items()}
    )
    return made


def joined(kind: type[Kind], head: Sharded) -> Kind:
    """A plain head with all that a sharded one has; its parameters are still spread."""
    made = _alike(kind, head)
    del made.ranks
    return made


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer of these parameters: (R, d), (R,)."""
    rows, width = weight.shape
    layer = nn.Linear(width, rows, device="meta", dtype=weight.dtype)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def local(parameter: Tensor) -> Tensor:
    """This rank's part, through which the gradient comes back, be it dense or row-sparse."""
    part: Tensor = apply(_Local, parameter)
    return part


def full(parameter: Tensor) -> Tensor:
    """All of it, on every rank."""
    assert isinstance(parameter, DTensor)
    whole: Any = parameter.detach()
    tensor: Tensor = whole.full_tensor()
    return tensor


def merged(
    ranks: Ranks, k: int, values: Tensor, classes: Tensor, log_sum: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The best of all ranks' best: at most k of each, (N, m), (N, m), -> (N, k), (N, k).

    Args:
        ranks: who has some.
        k: how many are wanted.
        values: scores, or log-probabilities, best first.
        classes: that have them.
        log_sum: of all scores of this rank, (N,), if log-probabilities are to be made of them.
    """
    missing = k - values.size(1)
    # One tensor of numbers that are as good as those that are compared, and hold any class.
    told = [
        F.pad(values.double(), (0, missing), value=-torch.inf),
        F.pad(classes, (0, missing)).double(),
    ]
    told += [] if log_sum is None else [log_sum.double().unsqueeze(1)]
    gathered = ranks.gathered(torch.cat(told, dim=1))
    every = gathered[..., :k].transpose(0, 1).flatten(1)
    best, where = every.topk(k, dim=1)
    if log_sum is not None:
        best = best - gathered[..., 2 * k].logsumexp(0).unsqueeze(1)
    found = gathered[..., k : 2 * k].transpose(0, 1).flatten(1).gather(1, where)
    return best.to(values.dtype), found.long()


class _Local(torch.autograd.Function):
    """As `DTensor.to_local`, but that a sparse gradient is taken as well.

    Autograd's own way of adding one up does not know of a `DTensor`, so here it is put where it
    belongs; `torch.optim.SGD` works on it as it is.
    """

    @staticmethod
    def forward(ctx: Any, whole: DTensor) -> Tensor:
        ctx.whole = whole
        return whole._local_tensor.view_as(whole._local_tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> DTensor | None:
        whole: DTensor = ctx.whole
        if not grad.is_sparse:
            return DTensor(grad, whole._spec, requires_grad=False)
        given: Any = whole.grad
        total = grad if given is None else (given._local_tensor + grad).coalesce()
        whole.grad = DTensor(total, whole._spec, requires_grad=False)
        return None
