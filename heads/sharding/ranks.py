"""The processes that share a head, and what they have to tell each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from heads.autograd import apply

Observer = Callable[[str, int], Any]
"""From a collective's name and its bytes, to a context that it takes place in."""


class LostRankError(RuntimeError):
    """Another rank is gone, or did not answer in time."""


class Communication(NamedTuple):
    """What the ranks tell each other for one batch, counted from a head's formulas.

    Attributes:
        collectives: how many there are, one after the other.
        bytes: that each rank has to send, by the algorithms that send the fewest: of a tensor of B
            bytes on P ranks, (P - 1) B to gather it, 2 (P - 1) / P B to sum it, (P - 1) / P B to
            sum it and keep a part, B to hand it on.
    """

    collectives: int
    bytes: int

    def __add__(self, other: tuple[Any, ...]) -> Communication:
        """One after the other."""
        collectives, size = other
        return Communication(self.collectives + collectives, self.bytes + size)


NOTHING = Communication(0, 0)

SEEDS, ODD = 2**31, 0x9E3779B1
"""As many as torch's generator on the CPU can tell, and the distance between those of two ranks."""


class Ranks:
    """The processes of a mesh, as one of them sees them.

    Args:
        mesh: of one dimension.
        split_batch: whether each rank has samples of its own; else all have the same ones.

    Attributes:
        size: how many there are.
        rank: which of them this is.
        observer: is told of each collective; None for nobody.

    Raises:
        ValueError: the mesh has another number of dimensions.
    """

    def __init__(self, mesh: DeviceMesh, split_batch: bool) -> None:
        if mesh.ndim != 1:
            raise ValueError(
                f"mesh must have one dimension, got {mesh.ndim}: take one, by its name"
            )
        self.mesh, self.split_batch = mesh, split_batch
        self.size, self.rank = mesh.size(), mesh.get_local_rank()
        self.observer: Observer | None = None
        self._group = mesh.get_group()

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        """Itself: a copy of a head is shared by the same processes."""
        return self

    def share(self, total: int) -> slice:
        """This rank's part of so many, as `Shard(0)` deals them out: empty for the last ones."""
        return self.share_of(self.rank, total)

    def share_of(self, rank: int, total: int) -> slice:
        """That of any rank."""
        most = -(-total // self.size)
        return slice(min(rank * most, total), min((rank + 1) * most, total))

    def owned(self, local: Tensor, total: int) -> nn.Parameter:
        """A parameter whose first dimension is shared, this rank's part of it given."""
        shape = torch.Size((total, *local.shape[1:]))
        whole = DTensor.from_local(
            local.contiguous(),
            self.mesh,
            [Shard(0)],
            run_check=False,
            shape=shape,
            stride=torch.empty(shape, device="meta").stride(),
        )
        return nn.Parameter(whole)

    def gathered(self, tensor: Tensor) -> Tensor:
        """Those of all ranks, of one shape: (...) -> (P, ...)."""
        if self.size == 1:
            return tensor.unsqueeze(0)
        tensor = tensor.contiguous()
        result = tensor.new_empty(self.size, *tensor.shape)
        with self._told("all_gather", self.cost_of_gather(size_of(tensor))):
            dist.all_gather_into_tensor(result.view(-1), tensor.view(-1), group=self._group)
        return result

    def summed(self, tensor: Tensor) -> Tensor:
        """Their sum, of the same shape; the tensor may be overwritten."""
        if self.size == 1:
            return tensor
        tensor = tensor.contiguous()
        with self._told("all_reduce", self.cost_of_sum(size_of(tensor))):
            dist.all_reduce(tensor, group=self._group)
        return tensor

    def scattered(self, tensor: Tensor) -> Tensor:
        """This rank's part of the sum: (P, ...) -> (...)."""
        if self.size == 1:
            return tensor.squeeze(0)
        tensor = tensor.contiguous()
        result = torch.empty_like(tensor[0])
        with self._told("reduce_scatter", self.cost_of_scatter(size_of(result))):
            dist.reduce_scatter_tensor(result.view(-1), tensor.view(-1), group=self._group)
        return result

    def of_first(self, tensor: Tensor) -> Tensor:
        """That of the first rank; the tensor may be overwritten."""
        if self.size == 1:
            return tensor
        tensor = tensor.contiguous()
        with self._told("broadcast", self.cost_of_broadcast(size_of(tensor))):
            dist.broadcast(tensor, group=self._group, group_src=0)
        return tensor

    def seed(self, device: torch.device) -> Tensor:
        """From torch's generator, and another one on ranks whose generators agree: (1,)."""
        seed = torch.randint(SEEDS, (1,), device=device)
        return (seed + self.rank * ODD) % SEEDS

    def enter(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The batch that all work on: (M, d), (M,) -> (N, d), (N,), N = M, or P M if it is split.

        Of a split batch, every rank has as many samples as the others.
        """
        if not self.split_batch:
            return self.same(input), target
        together: Tensor = apply(_Together, input, self)
        return together, self.gathered(target).flatten()

    def same(self, input: Tensor) -> Tensor:
        """The input, of which each rank will know a part of the gradient: (N, d) -> (N, d)."""
        shared: Tensor = apply(_Same, input, self)
        return shared

    def leave(self, output: Tensor) -> Tensor:
        """Of all samples' outputs, this rank's own: (N,) -> (M,)."""
        if not self.split_batch:
            return output
        own: Tensor = apply(_Own, output, self)
        return own

    def total(self, part: Tensor) -> Tensor:
        """A sum whose terms are spread over the ranks, and from whose result all go on: (N,)."""
        total: Tensor = apply(_Total, part, self)
        return total

    def cost_of_gather(self, size: int) -> Communication:
        """Of gathering so many bytes of each rank."""
        return self._cost((self.size - 1) * size)

    def cost_of_sum(self, size: int) -> Communication:
        """Of summing so many bytes."""
        return self._cost(2 * (self.size - 1) * size // self.size)

    def cost_of_scatter(self, size: int) -> Communication:
        """Of summing so many bytes for each rank."""
        return self._cost((self.size - 1) * size)

    def cost_of_broadcast(self, size: int) -> Communication:
        """Of handing so many bytes on."""
        return self._cost(size)

    def _cost(self, size: int) -> Communication:
        return Communication(1, size) if self.size > 1 else NOTHING

    @contextmanager
    def _told(self, name: str, cost: Communication) -> Iterator[None]:
        with self.observer(name, cost.bytes) if self.observer else nullcontext():
            try:
                yield
            except RuntimeError as error:
                first = str(error).strip().splitlines()[0]
                raise LostRankError(
                    f"rank {self.rank} of {self.size}: another rank is gone or did not answer in "
                    f"time, during {name} ({first})"
                ) from error


def size_of(tensor: Tensor) -> int:
    """Bytes."""
    return tensor.numel() * tensor.element_size()


class _Same(torch.autograd.Function):
    """The identity, whose gradient is the sum of what each rank knows of it."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return input.view_as(input)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.summed(grad.clone()), None


class _Together(torch.autograd.Function):
    """All ranks' samples.

    Whoever averages gradients over ranks divides a sum by their number, so the gradient is that of
    the ranks' summed losses.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gathered(input).flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ranks: Ranks = ctx.ranks
        return ranks.scattered(grad.unflatten(0, (ranks.size, -1))) * ranks.size, None


class _Own(torch.autograd.Function):
    """This rank's samples. The parameters' gradient is that of the mean of the ranks' losses."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        own: Tensor = output.unflatten(0, (ranks.size, -1))[ranks.rank]
        return own.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.gathered(grad).flatten() / ctx.ranks.size, None


class _Total(torch.autograd.Function):
    """The sum over ranks: all have the same result, so each term's gradient is the result's."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks) -> Tensor:
        return ranks.summed(part.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
