"""Hierarchical softmax whose backward is also its update."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from heads.base import INT64_BYTES, Cost, check_sizes
from heads.hierarchical import Hierarchical
from heads.options import number
from heads.search import TreeHead
from heads.transforms import in_ddp, in_func
from heads.tree_softmax import TreeSoftmax, planted
from heads.trees import Tree, checked_order

if TYPE_CHECKING:
    from collections.abc import Sequence


class Fused(TreeHead):
    """A tree that makes its own SGD step in the backward, as word2vec does.

    In training, the forward reads the rows on each path and also finds the input's gradient; the
    backward adds to the rows in place what plain SGD would, and leaves no gradient of the weight
    behind, so that a `torch.optim.SGD` beside it finds nothing to do. The batch's gradient is taken
    before any row moves: the result is that of the same head under `hierarchical` with `SGD` at
    `learning_rate`. On the CPU it does not depend on the number of threads. On CUDA samples add
    to rows by atomics, whose order may change the last bit, unless
    `torch.use_deterministic_algorithms(True)` asks for the other way.

    This holds for float32. In evaluation, without gradients, with a frozen weight or bias or in
    another dtype it is `hierarchical`, and the optimizer makes the step. Every backward is a step:
    gradients do not accumulate over several of them, no one clips or averages them, and a factor of
    the loss is one of the step. So where somebody else would have to see the gradient first, the
    head refuses before a row moves: a loss multiplied by more than 1, as a `GradScaler` does
    (float32 needs none; a weight belongs in `learning_rate`), under `DistributedDataParallel`,
    whose ranks would drift apart, and inside `torch.func`'s transforms. `hierarchical` does all of
    these.

    Source: the update of Mikolov et al., "Distributed Representations of Words and Phrases and
    their Compositionality", NeurIPS 2013, here with the whole batch's gradient taken first.

    Raises:
        ValueError: `learning_rate` not a finite number of at least 0.
        RuntimeError: in training, where the step cannot be made as described above.
    """

    _learning_rate = 0.0

    @property
    def learning_rate(self) -> float:
        """Of the step that the backward makes."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._learning_rate = number("learning_rate", rate, 0)

    def own_step(self, weight: Tensor, bias: Tensor) -> float | None:
        """The learning rate; None where the backward makes gradients, as under `hierarchical`."""
        fusible = weight.dtype == torch.float32 and weight.device.type in ("cpu", "cuda")
        free = weight.requires_grad and bias.requires_grad
        if not (fusible and self.training and torch.is_grad_enabled() and free):
            return None
        if in_ddp() or in_func():
            raise RuntimeError(
                "hierarchical-fused makes its own step in the backward, which does not go with "
                f"{'DistributedDataParallel' if in_ddp() else 'torch.func'}; use 'hierarchical'"
            )
        return self.learning_rate

    @abstractmethod
    def path_work(self, batch_size: int) -> tuple[int, int]:
        """Scores on the paths of a batch, and the distinct rows that make them."""

    def forward_cost(self, batch_size: int) -> Cost:
        """The scores on a path, and from the same rows the input's gradient."""
        d, (path, rows) = self.in_features, self.path_work(batch_size)
        elements = rows * (d + 1) + batch_size * (2 * d + 1) + path
        return Cost(2 * path * d, elements * self.itemsize + batch_size * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """The rows' update: each is read and written."""
        d, (path, rows) = self.in_features, self.path_work(batch_size)
        elements = 2 * rows * (d + 1) + 3 * batch_size * d + path
        return Cost(path * (d + 1), elements * self.itemsize + batch_size * INT64_BYTES)

    def step_cost(self, batch_size: int) -> Cost:
        """Nothing is left to do."""
        return Cost(0, 0)


class HierarchicalFused(Fused, Hierarchical):
    """`Hierarchical` with a step of its own: see `Fused`.

    Cost, with L = ceil(log2 n), in multiply-adds: forward 2 N L d, backward N L (d + 1), step none,
    predict at worst N (n - 1) d.
    """

    def path_work(self, batch_size: int) -> tuple[int, int]:
        """Scores on the paths of a batch, and the distinct rows that make them."""
        return batch_size * self.depth, self.rows_touched(batch_size)


class TreeSoftmaxFused(Fused, TreeSoftmax):
    """`TreeSoftmax` with a step of its own: see `Fused`.

    Cost, with S the mean number of rows scored on the way to a class, in multiply-adds: forward
    2 N S d, backward N S (d + 1), step none, predict at worst N R d.
    """

    always_on_paths = True

    def path_work(self, batch_size: int) -> tuple[int, int]:
        """Scores on the paths of a batch, and the distinct rows that make them."""
        return self._rows(batch_size)


def fused_on_tree(
    in_features: int,
    num_classes: int,
    order: Sequence[int] | Tensor | None = None,
    learning_rate: float = 0.01,
    tree: str | Tree | Sequence[int] | Tensor = "balanced",
    branching: int = 2,
    counts: Sequence[float] | Tensor | None = None,
    examples: tuple[Tensor, Tensor] | None = None,
    pieces: int = 1,
) -> Fused:
    """`on_tree`, with a step of its own in the backward: see `Fused`.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.
        order: the classes in the order of a heap's leaves, (n,); the same as `tree`, given one.
        learning_rate: of the step, at least 0; an attribute, which a schedule may change.
        tree: this and all others: see `on_tree`.
        branching: of the tree.
        counts: of the classes.
        examples: to learn a tree from.
        pieces: of a branch.

    Raises:
        ValueError: as `on_tree`; a bad `learning_rate`; both an `order` and a `tree`.
    """
    check_sizes(in_features, num_classes)
    if order is not None:
        if not (isinstance(tree, str) and tree == "balanced"):
            raise ValueError("order and tree exclude each other: an order is a tree")
        tree = checked_order(order, num_classes)
    shape = planted(num_classes, tree, branching, counts, examples, pieces)
    head: HierarchicalFused | TreeSoftmaxFused
    if isinstance(shape, Tree):
        head = TreeSoftmaxFused(in_features, num_classes, shape, pieces)
    else:
        head = HierarchicalFused(in_features, num_classes, shape)
    head.learning_rate = learning_rate
    return head
