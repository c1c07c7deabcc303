"""Heads whose classes are spread over processes, each with its own device: `shard`."""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh

from heads.base import Head
from heads.sharding.base import Sharded
from heads.sharding.ranks import Communication, LostRankError, Ranks
from heads.sharding.softmax import ShardedChunked, ShardedGumbel, ShardedSampled, ShardedSoftmax
from heads.sharding.tree import ShardedHierarchical

__all__ = ["Communication", "LostRankError", "Sharded", "shard", "shardable"]

_KINDS: tuple[type[Sharded], ...] = (
    ShardedSoftmax,
    ShardedChunked,
    ShardedGumbel,
    ShardedSampled,
    ShardedHierarchical,
)


def shardable(head: Head) -> bool:
    """Whether `shard` takes a head of this kind."""
    return any(type(head) is kind.kind for kind in _KINDS)


def shard(
    head: Head, mesh: DeviceMesh, *, split_batch: bool = False, dense: bool = False
) -> Sharded:
    """Spread the classes of `head` over the ranks of `mesh`, each of which calls this.

    What comes back is a head with the same interface, whose methods are collective: every rank
    calls them with the same input and target, and has the same output, loss and input's gradient.
    Its parameters are `DTensor`s with `Shard(0)`, so that optimizers work on them as they are, and
    `torch.distributed.checkpoint` saves and loads them, also on another number of ranks. Nothing of
    size N x n is ever gathered but by `log_prob`, whose result is that.

    Args:
        head: `softmax`, `softmax-chunked`, `gumbel`, `sampled` or `hierarchical` on a heap, of any
            number of classes; the same on every rank, as from the same seed. On the meta device,
            where it takes no memory, if each rank is to draw its own rows.
        mesh: of one dimension, on the device that the head is to live on.
        split_batch: whether each rank has samples of its own, equally many, as under
            `DistributedDataParallel` for the layers below: output and loss are then those of a
            rank's own samples, and gradients are made so that those of the whole model, averaged
            below and whole in the head, are those of the mean of the ranks' losses. Predictions are
            of samples that all ranks have.
        dense: whether heads with row-sparse gradients give dense ones, as `AdamW` wants them.

    Raises:
        ValueError: a head that cannot be spread, or a mesh of several dimensions.
        LostRankError: in use, another rank is gone, or did not answer in the time that the
            process group was made with.
        RuntimeError: in use, inside `DistributedDataParallel` or `torch.func`.
    """
    for kind in _KINDS:
        if type(head) is kind.kind:
            return kind.of(head, Ranks(mesh, split_batch), dense)
    known = ", ".join(kind.kind.__name__ for kind in _KINDS)
    raise ValueError(f"{type(head).__name__} cannot be sharded; heads that can: {known}")
