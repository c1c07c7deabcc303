"""Hierarchical softmax on a binary heap: a class is a path of yes-or-no decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads.base import INT64_BYTES, Cost, HeadOutput, Phase, at_least_float32, distinct
from heads.extras import optional
from heads.heap import Path, best_leaf, heap_path, leaf_log_prob
from heads.kernels import gathered, on_device, path_log_prob, score_pairs
from heads.order import Ordered
from heads.paths import gathers, path_loss
from heads.search import TreeHead
from heads.transforms import in_func
from heads.trees import Tree, balanced
from heads.walk import Heap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heads.search import Descent

ALL_NODES_UP_TO = 256
"""Up to here a dense gradient beats a row-sparse one, and of torch's operators one matrix product
over all nodes beats gathering paths."""


class HierarchicalDense(Ordered):
    """Hierarchical softmax on a heap with exactly n leaves, with autograd's dense gradient.

    Each internal node holds a logistic unit; `p(c | x)` is the product of `sigmoid(+-z)` along the
    path from the root to class c. Internal nodes are 1..n-1, class c is node c + n, the parent of a
    node is `node >> 1`: no path table is needed, and because exactly n leaves exist, the
    probabilities sum to 1 for every n. A path is at most ceil(log2 n) decisions long, and all is in
    log space, so the loss is finite for scores of any finite size.

    The forward touches O(log n) rows per sample. The backward does not: indexing rows of a weight
    makes autograd fill a zero gradient of n - 1 rows, and SGD then walks all of them. Same
    algorithm, but O(n). `Hierarchical` is the cure; this head exists to show the trap.

    Source: Morin and Bengio, "Hierarchical Probabilistic Neural Network Language Model", AISTATS
    2005; Mnih and Hinton, "A Scalable Hierarchical Distributed Language Model", NeurIPS 2008.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.
        order: the classes in the order of the heap's leaves, (n,); by default 0..n-1.

    Shape:
        - input: (N, d), target: (N,); output: (N,), loss: ()
        - parameters: weight (n - 1, d), bias (n - 1,); row i belongs to heap node i + 1

    Raises:
        ValueError: as `Head`; `order` no permutation of the classes.

    Cost, with L = ceil(log2 n), in multiply-adds: forward N L d, backward 2 N L d, step
    (n - 1) (d + 1), predict N (n - 1) d.
    """

    label_phases: ClassVar[frozenset[Phase]] = frozenset({"forward", "backward"})

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        order: Sequence[int] | Tensor | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.leaves = self._leaves()
        self.depth = (self.leaves - 1).bit_length()
        self.nodes = nn.Linear(in_features, self.leaves - 1)
        self.arrange(order, self.nodes.weight.device)

    def _leaves(self) -> int:
        return self.num_classes

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        features = self.checked_input(input)
        self.check_target(features, target)
        path = heap_path(self.places(target), self.leaves)
        output = path_log_prob(self._scores(features, path), path.signs, path.offsets)
        return HeadOutput(output, -output.mean())

    def _scores(self, input: Tensor, path: Path) -> Tensor:
        """Scores of the path's rows for each sample: (N, in_features) -> (N, depth)."""
        bias = gathered(self.nodes.bias, path.rows).unsqueeze(2)
        weight = gathered(self.nodes.weight, path.rows)
        return torch.baddbmm(bias, weight, input.unsqueeze(2)).squeeze(2)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of every class: (N, in_features) -> (N, num_classes).

        One matrix product scores all nodes; the rest is sums.
        """
        scores = at_least_float32(self.nodes(self.checked_input(input)))
        return self.by_class(leaf_log_prob(scores)[:, : self.num_classes])

    def forward_cost(self, batch_size: int) -> Cost:
        """A path per sample; the decisions' scores are written for the backward."""
        d, path = self.in_features, batch_size * self.depth
        elements = self.rows_touched(batch_size) * (d + 1) + batch_size * (d + 1) + path
        return Cost(path * d, elements * self.itemsize + batch_size * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """Two products along each path, and a gradient of all n - 1 rows, zeros included."""
        d, path = self.in_features, batch_size * self.depth
        read = self.rows_touched(batch_size) * d + batch_size * d + path
        written = (self.leaves - 1) * (d + 1) + batch_size * d
        return Cost(2 * path * d, (read + written) * self.itemsize + batch_size * INT64_BYTES)

    def step_cost(self, batch_size: int) -> Cost:
        """Every parameter and gradient is read, every parameter written, whatever the batch."""
        parameters = (self.leaves - 1) * (self.in_features + 1)
        return Cost(parameters, 3 * parameters * self.itemsize)

    def predict_cost(self, batch_size: int) -> Cost:
        """One product over all nodes."""
        n, d = self.leaves - 1, self.in_features
        elements = n * (d + 1) + batch_size * d
        return Cost(batch_size * n * d, elements * self.itemsize + batch_size * INT64_BYTES)

    def rows_touched(self, batch_size: int) -> int:
        """Distinct rows that a batch touches, expected under `shares`; else the most it can touch.

        Those are, per level, its nodes or one per sample.
        """
        if self.shares is not None:
            return round(distinct(self._passed(self.shares), batch_size))
        widths = (min(2**level, self.leaves - 2**level) for level in range(self.depth))
        return sum(min(width, batch_size) for width in widths)

    def _passed(self, shares: Tensor) -> Tensor:
        """Probability that a sample's path passes each inner node: (n,) -> (leaves - 1,)."""
        through = shares.new_zeros(2 * self.leaves)
        by_place = shares if self.order is None else shares[self.order.cpu()]
        through[self.leaves : self.leaves + self.num_classes] = by_place
        for first in (1 << level for level in reversed(range(self.depth))):
            end = min(2 * first, self.leaves)
            through[first:end] = through[2 * first : 2 * end].view(-1, 2).sum(dim=1)
        return through[1 : self.leaves]


class Hierarchical(TreeHead, HierarchicalDense):
    """Hierarchical softmax whose training step costs O(log n) from end to end.

    As `HierarchicalDense`, but the gradient of the weight is row-sparse (`torch.sparse_coo`,
    coalesced): it holds the rows on the batch's paths and no others, so that forward, backward and
    a plain SGD step all touch O(N log n) rows. With few classes (n <= 256) the gradient is dense,
    and where the paths would have to be gathered with torch's operators, one matrix product over
    all nodes is cheaper, and is used instead: same function, same parameters. `heads.paths` says
    which kernels there are.

    Which optimizer: `torch.optim.SGD` without momentum and `torch.optim.SparseAdam` touch only the
    gradient's rows. `SGD(momentum=...)` gives the right result, but its momentum soon holds every
    row ever touched and each step walks them all. `Adam` and its kin refuse sparse gradients with a
    `RuntimeError`, as does weight decay in `SGD`; use `hierarchical-dense` for them.

    `predict` and `topk` are exact, and search where that pays: see `TreeHead`.

    Source, arguments, shape, errors: as `HierarchicalDense`.

    Cost, with L = ceil(log2 n) and R the distinct rows that a batch touches (see `rows_touched`; at
    most N L), in multiply-adds: with kernels, which have the rows at hand for the input's gradient,
    forward 2 N L d, backward N (L + 1) d; else forward N L d, backward 2 N L d, or for n <= 256
    N (n - 1) d, 2 N (n - 1) d. Step R (d + 1), for n <= 256 (n - 1) (d + 1). Predict at worst
    N (n - 1) d.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        order: Sequence[int] | Tensor | None = None,
    ) -> None:
        super().__init__(in_features, num_classes, order)
        self.inner_nodes = self.num_classes - 1
        self.keep_coalesced()

    def arrange(self, order: Sequence[int] | Tensor | None, device: torch.device) -> None:
        """Give the classes this order; with few of them, tables of their paths follow from it."""
        super().arrange(order, device)
        self.few_nodes = self.num_classes <= ALL_NODES_UP_TO
        if self.few_nodes:
            leaf = self.places(torch.arange(self.num_classes, device=device))
            self.path_rows: Tensor
            self.path_signs: Tensor
            self.path_offsets: Tensor
            rows, signs, offsets, _ = heap_path(leaf, self.num_classes)
            self.register_buffer("path_rows", rows, persistent=False)
            self.register_buffer("path_signs", signs.float(), persistent=False)
            self.register_buffer("path_offsets", offsets, persistent=False)

    @property
    def row_sparse(self) -> bool:
        """Where a gradient of all rows would be more than a few."""
        return not self.few_nodes

    @property
    def tree(self) -> Tree:
        """The tree, for its depths and its picture."""
        return balanced(self.num_classes, 2, None if self.order is None else self.order.cpu())

    def best_leaf(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and class of the best leaf, every node scored: (N, d) -> (N,), (N,)."""
        value, leaf = best_leaf(self.nodes.weight, self.nodes.bias, input)
        return value, self.classes(leaf)

    def best_on_device(self, input: Tensor) -> tuple[Tensor, Tensor] | None:
        """`topk` for k = 1, by an accelerator's own kernels: (N, d) -> (N, 1), (N, 1), if any."""
        weight = self.nodes.weight
        usable = weight.is_cuda and weight.dtype != torch.float64 and not self.few_nodes
        usable = usable and weight.is_contiguous() and self.nodes.bias.is_contiguous()
        kernels = optional("heads.search_triton") if usable else None
        if kernels is None or torch.is_autocast_enabled("cuda") or not kernels.works(weight.device):
            return None
        with on_device(weight):
            value, leaf = kernels.best_leaf(weight, self.nodes.bias, input)
        return value.unsqueeze(1), self.classes(leaf).unsqueeze(1)

    def descent(self, input: Tensor) -> Descent:
        """This head's tree, as the search wants it."""
        weight, bias = self.nodes.weight, self.nodes.bias

        def expand(samples: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
            scores = score_pairs(input, weight, bias, nodes - 1, samples)
            children = torch.stack((2 * nodes, 2 * nodes + 1), dim=1)
            return children, F.logsigmoid(torch.stack((-scores, scores), dim=1))

        def classes(nodes: Tensor) -> Tensor:
            return self.classes(nodes - self.leaves)

        roots = torch.ones(len(input), dtype=torch.int64, device=input.device)
        return expand, lambda nodes: nodes >= self.leaves, classes, roots

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        weight, bias = self.nodes.weight, self.nodes.bias
        rate = self.own_step(weight, bias)
        if in_func() and not self.few_nodes:
            return super().forward(input, target)
        features = self.checked_input(input)
        kernels_check = target.is_cuda and not (in_func() or gathers(weight, bias))
        self.check_target(features, target, not kernels_check)
        if rate is not None or not (self.scores_all or in_func()):
            paths = Heap(self.places(target), self.leaves)
            return HeadOutput(*path_loss(features, weight, bias, paths, self.row_sparse, rate))
        rows, signs, offsets = (
            table.index_select(0, target)
            for table in (self.path_rows, self.path_signs, self.path_offsets)
        )
        output = path_log_prob(self.nodes(features).gather(1, rows), signs, offsets)
        return HeadOutput(output, -output.mean())

    @property
    def scores_all(self) -> bool:
        """Whether all nodes are scored in training: if they are few, and paths to be gathered."""
        return self.few_nodes and gathers(self.nodes.weight)

    def forward_cost(self, batch_size: int) -> Cost:
        """A path per sample; by kernels, the input's gradient as well. Or one product over all."""
        n, d, path = self.leaves - 1, self.in_features, batch_size * self.depth
        if self.scores_all:
            elements = n * (d + 1) + batch_size * (d + 1) + path
            products = batch_size * n * d
        elif gathers(self.nodes.weight):
            return super().forward_cost(batch_size)
        else:
            elements = self.rows_touched(batch_size) * (d + 1) + batch_size * (2 * d + 1) + path
            products = 2 * path * d
        return Cost(products, elements * self.itemsize + batch_size * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """A gradient of the rows touched, or of all; and the input's, unless it is there."""
        n, d, path = self.leaves - 1, self.in_features, batch_size * self.depth
        rows = n if self.few_nodes else self.rows_touched(batch_size)
        indices = batch_size + (0 if self.few_nodes else 2 * rows)
        if self.scores_all:
            products, read = 2 * batch_size * n * d, n * d
        elif gathers(self.nodes.weight):
            products, read = 2 * path * d, rows * d
        else:
            products, read = path * d + batch_size * d, batch_size * d
        elements = read + batch_size * d + path + rows * (d + 1) + batch_size * d
        return Cost(products, elements * self.itemsize + indices * INT64_BYTES)

    def step_cost(self, batch_size: int) -> Cost:
        """Only rows on a path are read and written; or all of them."""
        if self.few_nodes:
            return super().step_cost(batch_size)
        rows = self.rows_touched(batch_size)
        parameters = rows * (self.in_features + 1)
        return Cost(parameters, 3 * parameters * self.itemsize + 2 * rows * INT64_BYTES)


class HierarchicalPadded(HierarchicalDense):
    """The published variant: a perfect tree with the next power of two as its number of leaves.

    Class y sits at heap node y + leaves - 1, counting the root as 0 and the parent of i as
    (i - 1) // 2. When n is not a power of two, leaves - n of them belong to no class, yet receive
    probability: the classes' probabilities sum to less than 1, to n / leaves at zero weights
    (100 / 128 = 0.78 for CIFAR-100). Training pushes the leaked mass down, at a cost in accuracy
    and in loss. As published, its gradient is autograd's dense one, so it is O(n).

    Args, errors: as `HierarchicalDense`.

    Shape:
        - input: (N, d), target: (N,); output: (N,), loss: ()
        - parameters: weight (leaves - 1, d), bias (leaves - 1,)

    Cost: that of `HierarchicalDense` on `leaves` classes.
    """

    def _leaves(self) -> int:
        return int(2 ** (self.num_classes - 1).bit_length())
