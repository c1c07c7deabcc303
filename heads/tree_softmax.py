"""Hierarchical softmax on any tree: a softmax over the children at every node of a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from heads import tree_tables
from heads.base import INT64_BYTES, Cost, HeadOutput, at_least_float32, check_sizes, distinct
from heads.clustering import clustered
from heads.heap import CACHED_SCORES
from heads.hierarchical import ALL_NODES_UP_TO, Hierarchical
from heads.kernels import score_pairs
from heads.options import integer, shown
from heads.order import where_loaded
from heads.paths import gathers, path_loss
from heads.search import TreeHead
from heads.transforms import in_func
from heads.tree_tables import softmax_over_children
from heads.trees import (
    Tree,
    balanced,
    checked_counts,
    checked_order,
    huffman,
    learned_order,
    superclass_order,
)
from heads.walk import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heads.search import Descent

ROWS_PER_GATHER = 4
"""Gathering a row and updating it sparsely costs about as much as this many rows of a product; so
does scoring it on a path in compiled loops."""

FROM_EXAMPLES = ("learned", "clustered")
"""Trees that are made from features and targets."""


def from_examples(
    name: str, features: Tensor, targets: Tensor, num_classes: int, branching: int = 2
) -> Tree | Tensor:
    """The option `tree` of `on_tree` that a name of `FROM_EXAMPLES` stands for."""
    if name == "clustered":
        return clustered(features, targets, num_classes, branching)
    return learned_order(features, targets, num_classes)


class TreeSoftmax(TreeHead):
    """Softmax over the children of each node on the way from the root to a class.

    `p(c | x)` is the product, over the nodes on the path to c, of the softmax over that node's
    children at the next one. A node with two children holds one logistic unit, one with more holds
    a score for each child; so a binary tree is the classic hierarchical softmax, and a flat tree
    the full softmax, with O(b log_b n) for a branching of b in between. The gradient is row-sparse
    unless classes are few (n <= 256), or a path scores so many rows that one matrix product over
    all is cheaper.

    One linear score cannot say that an input belongs to any of many classes: under the full softmax
    a branch's score is the log-sum-exp of its classes' scores. With `pieces` m above 1, a branch's
    score is the log-sum-exp of m linear scores, or of one per class where it has fewer than m: what
    the full softmax would say, but with the branch's classes in m groups. Each path then costs up
    to m times as much.

    Source: Morin and Bengio, "Hierarchical Probabilistic Neural Network Language Model", AISTATS
    2005; for trees from counts, Mikolov et al., "Distributed Representations of Words and Phrases
    and their Compositionality", NeurIPS 2013. For optimizers, see `Hierarchical`.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.
        tree: a tree with n leaves.
        pieces: most linear scores of a branch, at least 1.

    Shape:
        - input: (N, d), target: (N,); output: (N,), loss: ()
        - parameters: weight (R, d), bias (R,), with R = n - 1 rows for a binary tree and one for
          every node but the root when every inner node has more than two children; up to `pieces`
          times as many

    Raises:
        ValueError: as `Head`; a tree with another number of leaves; `pieces` below 1.

    Cost, with S the mean number of rows scored on the way to a class and T the distinct rows that a
    batch touches, in multiply-adds: with kernels, which have the rows at hand for the input's
    gradient, forward 2 N S d, backward N (S + 1) d; else, and where all rows are scored, with
    S = R, forward N S d, backward 2 N S d. Step T (d + 1), with a dense gradient R (d + 1), predict
    at worst N R d.
    """

    walking_pays: bool = False
    """Whether the CPU's loops along the paths beat a product over all rows."""

    always_on_paths: ClassVar[bool] = False
    """Whether rows are gathered even where one product over all would be cheaper."""

    def __init__(self, in_features: int, num_classes: int, tree: Tree, pieces: int = 1) -> None:
        super().__init__(in_features, num_classes)
        if not isinstance(tree, Tree):
            raise ValueError(f"tree must be a Tree, got {shown(tree)}")
        if tree.num_classes != num_classes:
            raise ValueError(f"tree must have {num_classes} leaves, got {tree.num_classes}")
        self.pieces = integer("pieces", pieces, 1)
        made = tree_tables.tables(tree, self.pieces)
        self.rows = nn.Linear(in_features, int((made[1] >= 0).sum()))
        self._grow(tree, made, self.rows.weight.device)
        self.keep_coalesced()

    def _grow(
        self, tree: Tree, tables: tuple[Tensor, Tensor, Tensor], device: torch.device
    ) -> None:
        """Take over a tree, whose `tree_tables.tables` these are, and all that follows from it."""
        self._tree = tree
        self.child_nodes: Tensor
        self.child_rows: Tensor
        self.path_nodes: Tensor
        self.path_slots: Tensor
        self.level_parents: Tensor
        self.level_slots: Tensor
        self.class_places: Tensor
        self.inner_by_level: Tensor
        children, rows, slots = tables
        num_classes = self.num_classes
        paths = tree.paths().cpu()
        # Inner nodes are counted from 0; one more, whose only child is certain, fills short paths.
        nodes = torch.where(paths[:, 1:] >= 0, paths[:, 1:] - num_classes, len(children) - 1)
        below = paths[:, :-1]
        taken = torch.where(paths[:, 1:] >= 0, slots[below.clamp(min=0)], 0)
        depths = tree_tables.depths(tree)
        above, within, places, self.level_sizes = tree_tables.levels(
            tree, depths, slots, rows.size(1)
        )
        self.inner_sizes = torch.bincount(depths[num_classes:]).tolist()
        for name, table in (
            ("child_nodes", children),
            ("child_rows", rows),
            ("path_nodes", nodes),
            ("path_slots", taken),
            ("level_parents", above),
            ("level_slots", within),
            ("class_places", places),
            # The inner nodes, counted from 0, from the root down.
            ("inner_by_level", depths[num_classes:].argsort(stable=True)),
        ):
            self.register_buffer(name, table.to(device), persistent=False)
        self.rows_at = (rows >= 0).sum(dim=(1, 2))
        self.scored = self.rows_at[nodes].sum(dim=1)
        self.depth = nodes.size(1)
        self.inner_nodes = self.rows.out_features // rows[0].numel()
        widest = self.depth * rows[0].numel()
        gathering_pays = ROWS_PER_GATHER * widest < self.rows.out_features
        few = num_classes <= ALL_NODES_UP_TO or not gathering_pays
        self.dense = few and not self.always_on_paths
        scored = self.scored.double().mean()
        # Loops pass over what fills the tables as well.
        real = widest < self.rows.out_features
        self.walking_pays = real and bool(ROWS_PER_GATHER * scored < self.rows.out_features)

    @property
    def tree(self) -> Tree:
        """The tree."""
        return self._tree

    @property
    def row_sparse(self) -> bool:
        """Whether the gradient holds the rows on the paths alone."""
        return not self.dense

    def get_extra_state(self) -> Tensor:
        """The tree's `parents`."""
        return self._tree.parents.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Take over the tree of a saved head, before its parameters are loaded.

        Raises:
            ValueError: a tree over other classes, or with another number of rows.
        """
        tree = Tree(state.cpu(), self.num_classes)
        made = tree_tables.tables(tree, self.pieces)
        rows, expected = int((made[1] >= 0).sum()), self.rows.out_features
        if rows != expected:
            raise ValueError(
                f"the saved head's tree has {rows} rows where this head's has {expected}; "
                f"build the head on that tree, with its pieces, to load it"
            )
        was_sparse = self.row_sparse
        self._grow(tree, made, where_loaded(self, state))
        if self.row_sparse and not was_sparse:
            self.keep_coalesced()

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        features = self.checked_input(input)
        self.check_target(features, target)
        weight, bias = self.rows.weight, self.rows.bias
        rate = self.own_step(weight, bias)
        if rate is not None or not (self.scores_all or in_func()):
            paths = Table(target, self.path_nodes, self.path_slots, self.child_rows)
            return HeadOutput(*path_loss(features, weight, bias, paths, self.row_sparse, rate))
        rows = self.child_rows[self.path_nodes[target]]
        scores = self.rows(features).gather(1, rows.clamp(min=0).flatten(1)).view(rows.shape)
        _, decisions = softmax_over_children(scores, rows)
        output = decisions.gather(2, self.path_slots[target].unsqueeze(2)).sum(dim=(1, 2))
        return HeadOutput(output, -output.mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of every class: (N, in_features) -> (N, num_classes)."""
        # A column per sample: what is picked out of the tree then lies side by side.
        columns = at_least_float32(self.rows(self.checked_input(input))).t().contiguous()
        scores = columns[self.child_rows.clamp(min=0)]
        _, decisions = softmax_over_children(scores, self.child_rows.unsqueeze(3), dim=1)
        decisions = decisions.flatten(0, 1)
        level, levels = torch.zeros_like(decisions[:1]), []
        for above, within in zip(
            self.level_parents.split(self.level_sizes),
            self.level_slots.split(self.level_sizes),
            strict=True,
        ):
            level = level.index_select(0, above) + decisions.index_select(0, within)
            levels.append(level)
        return torch.cat(levels).index_select(0, self.class_places).t().contiguous()

    @torch.no_grad()
    def best_leaf(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and class of the best leaf, every node scored: (N, d) -> (N,), (N,).

        From the root down, a cache's worth of nodes at a time; of the leaves only the best is kept.
        """
        weight, bias = self.rows.weight, self.rows.bias
        features, samples = self.checked_input(input).t(), len(input)
        _, branching, pieces = self.child_rows.shape
        reached = at_least_float32(weight.new_zeros(len(self.child_rows), samples))
        best = torch.full_like(reached[0], -torch.inf)
        classes = torch.zeros(samples, dtype=torch.int64, device=input.device)
        at_once = max(1, CACHED_SCORES // (branching * pieces * max(1, samples)))
        for level in self.inner_by_level.split(self.inner_sizes):
            for nodes in level.split(at_once):
                rows, children = self.child_rows[nodes], self.child_nodes[nodes].flatten()
                chosen = rows.clamp(min=0).flatten()
                scores = torch.addmm(bias[chosen].unsqueeze(1), weight[chosen], features)
                _, decisions = softmax_over_children(
                    scores.view(*rows.shape, samples), rows.unsqueeze(3), dim=1
                )
                values = (decisions + reached[nodes].unsqueeze(1)).flatten(0, 1)
                inner = (children >= self.num_classes).nonzero().squeeze(1)
                reached[children[inner] - self.num_classes] = values[inner]
                values[inner] = -torch.inf
                value, place = values.max(dim=0)
                better = value > best
                best = torch.where(better, value, best)
                classes = torch.where(better, children[place], classes)
        return best, classes

    def descent(self, input: Tensor) -> Descent:
        """This head's tree, as the search wants it."""
        weight, bias = self.rows.weight, self.rows.bias

        def expand(samples: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
            rows = self.child_rows[nodes - self.num_classes]
            clamped = rows.clamp(min=0).flatten()
            owners = samples.repeat_interleave(rows[0].numel())
            scores = score_pairs(input, weight, bias, clamped, owners)
            _, decisions = softmax_over_children(scores.view(rows.shape), rows)
            return self.child_nodes[nodes - self.num_classes], decisions

        root = int((self._tree.parents == -1).nonzero())
        roots = torch.full((len(input),), root, device=input.device)
        return expand, lambda nodes: nodes < self.num_classes, lambda nodes: nodes, roots

    @property
    def scores_all(self) -> bool:
        """Whether all rows are scored in training; few need not be where loops walk the paths.

        Those of the CPU: CUDA's kernels for tables sum a dense gradient by atomics, in any order.
        """
        weight = self.rows.weight
        loops = self.walking_pays and weight.is_cpu and not gathers(weight)
        return self.dense and not loops

    def forward_cost(self, batch_size: int) -> Cost:
        """The children of a path's nodes, by kernels the input's gradient as well; or of all."""
        d, (products, touched) = self.in_features, self._rows(batch_size)
        elements = touched * (d + 1) + batch_size * (d + 1) + products
        times = 1
        if self._in_kernels:
            elements += batch_size * d
            times = 2
        return Cost(times * products * d, elements * self.itemsize + batch_size * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """A gradient of the rows touched, or of all; and the input's, unless it is there."""
        d, (scores, touched) = self.in_features, self._rows(batch_size)
        written = self._with_gradient(touched)
        if self._in_kernels:
            products, read = scores + batch_size, batch_size * d
        else:
            products, read = 2 * scores, touched * d
        elements = read + batch_size * d + scores + written * (d + 1) + batch_size * d
        indices = 0 if self.dense else 2 * written
        return Cost(
            products * d,
            elements * self.itemsize + (batch_size + indices) * INT64_BYTES,
        )

    def step_cost(self, batch_size: int) -> Cost:
        """The rows that have a gradient are read with it, and written."""
        rows = self._with_gradient(self._rows(batch_size)[1])
        parameters = rows * (self.in_features + 1)
        indices = 0 if self.dense else 2 * rows
        return Cost(parameters, 3 * parameters * self.itemsize + indices * INT64_BYTES)

    def predict_cost(self, batch_size: int) -> Cost:
        """One product over all rows."""
        rows, d = self.rows.out_features, self.in_features
        elements = rows * (d + 1) + batch_size * d
        return Cost(batch_size * rows * d, elements * self.itemsize + batch_size * INT64_BYTES)

    @property
    def _in_kernels(self) -> bool:
        """Whether kernels walk the paths, and not torch's gathers or a product over all rows."""
        return not (self.scores_all or gathers(self.rows.weight))

    def _with_gradient(self, touched: int) -> int:
        """How many rows have a gradient, if a batch touches so many."""
        return self.rows.out_features if self.dense else touched

    def _rows(self, batch_size: int) -> tuple[int, int]:
        """Products of a batch, and the distinct rows that it touches.

        Both are expected under `shares`; else of uniform targets, and the most that can be.
        """
        total = self.rows.out_features
        if self.scores_all:
            return batch_size * total, total
        scored = self.scored.cpu().double()
        if self.shares is None:
            products = batch_size * float(scored.mean())
            return round(products), min(total, batch_size * int(scored.max()))
        parents = self._tree.parents.cpu()
        passed, node = self.shares.new_zeros(len(parents)), parents[: self.num_classes]
        share = self.shares
        while node.numel():
            passed.index_add_(0, node, share)
            node = parents[node]
            node, share = node[node >= 0], share[node >= 0]
        rows = passed[self.num_classes :].repeat_interleave(self.rows_at[:-1])
        products = batch_size * float(scored @ self.shares)
        touched = distinct(rows, batch_size)
        return round(products), round(touched)


def on_tree(
    in_features: int,
    num_classes: int,
    tree: str | Tree | Sequence[int] | Tensor = "balanced",
    branching: int = 2,
    counts: Sequence[float] | Tensor | None = None,
    examples: tuple[Tensor, Tensor] | None = None,
    pieces: int = 1,
) -> TreeHead:
    """Hierarchical softmax on the tree asked for: `Hierarchical` where it fits, else `TreeSoftmax`.

    Args:
        in_features: width d of the input.
        num_classes: number n of classes.
        tree: "balanced"; "huffman", from `counts`; "superclass", CIFAR-100's; "learned", a balanced
            tree from `examples`; "clustered", one that need not be balanced; a `Tree`; or a
            permutation of the classes, the order of a balanced tree's leaves.
        branching: children of a node, in 2..n; n is the full softmax. A `Tree` has its own.
        counts: how often each class occurs, (n,); for "huffman" alone.
        examples: features (M, d) and targets (M,); for "learned" and "clustered" alone.
        pieces: most linear scores of a branch; see `TreeSoftmax`.

    Raises:
        ValueError: as `Head`; an unknown tree, or one without what it is made from.
    """
    check_sizes(in_features, num_classes)
    shape = planted(num_classes, tree, branching, counts, examples, pieces)
    if isinstance(shape, Tree):
        return TreeSoftmax(in_features, num_classes, shape, pieces)
    return Hierarchical(in_features, num_classes, shape)


def planted(
    num_classes: int,
    tree: str | Tree | Sequence[int] | Tensor,
    branching: int,
    counts: Sequence[float] | Tensor | None,
    examples: tuple[Tensor, Tensor] | None,
    pieces: int,
) -> Tree | Tensor | None:
    """The tree that the options of `on_tree` ask for; of a binary heap, the order of the leaves."""
    name = tree if isinstance(tree, str) else ""
    for needs, given, option in (
        (("huffman",), counts, "counts"),
        (FROM_EXAMPLES, examples, "examples"),
    ):
        if (given is not None) != (name in needs):
            trees = " or ".join(f"tree={tree!r}" for tree in needs)
            raise ValueError(f"{trees} and the option {option!r} need each other")
    if not isinstance(tree, Tree):
        branching = integer("branching", branching, 2, num_classes, "num_classes")
    if examples is not None:
        if not isinstance(examples, tuple | list) or len(examples) != 2:
            raise ValueError("examples must be two tensors, features (M, d) and targets (M,)")
        tree = from_examples(name, *examples, num_classes, branching)
    if isinstance(tree, Tree):
        return tree
    if counts is not None:
        return huffman(checked_counts(counts, num_classes), branching)
    order: Tensor | None
    if not isinstance(tree, str):
        order = checked_order(tree, num_classes)
    elif tree == "balanced":
        order = None
    elif tree == "superclass":
        if num_classes != 100:
            raise ValueError(f"tree='superclass' is CIFAR-100's: 100 classes, not {num_classes}")
        order = superclass_order()
    else:
        raise ValueError(
            f"unknown tree {tree!r}; trees are: balanced, huffman, superclass, learned, clustered, "
            f"a Tree, or a permutation of the classes"
        )
    if branching == 2 and integer("pieces", pieces, 1) == 1:
        return order
    return balanced(num_classes, branching, order)
