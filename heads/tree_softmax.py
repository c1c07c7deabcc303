"""Hierarchical softmax on any tree: a softmax over the children at every node of a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads.base import INT64_BYTES, Cost, HeadOutput, at_least_float32, check_sizes, distinct
from heads.clustering import clustered
from heads.heap import CACHED_SCORES
from heads.hierarchical import ALL_NODES_UP_TO, Hierarchical
from heads.kernels import Pairs, pair_scores, score_pairs
from heads.options import integer, shown
from heads.order import where_loaded
from heads.search import TreeHead
from heads.transforms import in_func
from heads.trees import (
    Tree,
    balanced,
    checked_counts,
    checked_order,
    huffman,
    learned_order,
    superclass_order,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heads.search import Descent

ROWS_PER_GATHER = 4
"""Gathering a row and updating it sparsely costs about as much as this many rows of a product."""

ZERO_SCORE, NO_CHILD, NO_PIECE = -1, -2, -3
"""What stands for a row where there is none: a score of 0, no child, no further piece of a
child."""

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
    unless a path scores so many rows that one matrix product over all is cheaper.

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
    batch touches, in multiply-adds: forward N S d, backward 2 N S d, step T (d + 1), predict at
    worst N R d; where all rows are scored, S = T = R.
    """

    def __init__(self, in_features: int, num_classes: int, tree: Tree, pieces: int = 1) -> None:
        super().__init__(in_features, num_classes)
        if not isinstance(tree, Tree):
            raise ValueError(f"tree must be a Tree, got {shown(tree)}")
        if tree.num_classes != num_classes:
            raise ValueError(f"tree must have {num_classes} leaves, got {tree.num_classes}")
        self.pieces = integer("pieces", pieces, 1)
        tables = _tables(tree, self.pieces)
        self.rows = nn.Linear(in_features, int((tables[1] >= 0).sum()))
        self._grow(tree, tables, self.rows.weight.device)
        self.keep_coalesced()

    def _grow(
        self, tree: Tree, tables: tuple[Tensor, Tensor, Tensor], device: torch.device
    ) -> None:
        """Take over a tree, whose `_tables` these are, and all that follows from it."""
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
        depths = _depths(tree)
        above, within, places, self.level_sizes = _levels(tree, depths, slots, rows.size(1))
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
        self.all_rows = num_classes <= ALL_NODES_UP_TO or not gathering_pays

    @property
    def tree(self) -> Tree:
        """The tree."""
        return self._tree

    @property
    def row_sparse(self) -> bool:
        """Where paths are gathered, and not all rows scored."""
        return not self.all_rows

    def get_extra_state(self) -> Tensor:
        """The tree's `parents`."""
        return self._tree.parents.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Take over the tree of a saved head, before its parameters are loaded.

        Raises:
            ValueError: a tree over other classes, or with another number of rows.
        """
        tree = Tree(state.cpu(), self.num_classes)
        tables = _tables(tree, self.pieces)
        rows, expected = int((tables[1] >= 0).sum()), self.rows.out_features
        if rows != expected:
            raise ValueError(
                f"the saved head's tree has {rows} rows where this head's has {expected}; "
                f"build the head on that tree, with its pieces, to load it"
            )
        was_sparse = self.row_sparse
        self._grow(tree, tables, where_loaded(self, state))
        if self.row_sparse and not was_sparse:
            self.keep_coalesced()

    def forward(self, input: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: (N, in_features), (N,) -> (N,), ()."""
        features = self.checked_input(input)
        self.check_target(features, target)
        nodes = self.path_nodes[target]
        rows = self.child_rows[nodes]
        if self.all_rows or in_func():
            scores = self.rows(features).gather(1, rows.clamp(min=0).flatten(1)).view(rows.shape)
        else:
            scores = self._gathered(features, rows)
        decisions = _softmax_over_children(scores, rows)
        output = decisions.gather(2, self.path_slots[target].unsqueeze(2)).sum(dim=(1, 2))
        return HeadOutput(output, -output.mean())

    def _gathered(self, input: Tensor, rows: Tensor) -> Tensor:
        """Scores of the rows that exist, 0 for the others: (N, L, b, m) -> (N, L, b, m)."""
        real = rows >= 0
        chosen = rows[real]
        per_sample = real.flatten(1).sum(dim=1)
        samples = torch.arange(len(rows), device=rows.device).repeat_interleave(per_sample)
        pairs = Pairs(chosen, samples, per_sample.cumsum(0) - per_sample, chosen.argsort())
        scores = pair_scores(input, self.rows.weight, self.rows.bias, pairs)
        return scores.new_zeros(rows.shape).masked_scatter(real, scores)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of every class: (N, in_features) -> (N, num_classes)."""
        # A column per sample: what is picked out of the tree then lies side by side.
        columns = at_least_float32(self.rows(self.checked_input(input))).t().contiguous()
        scores = columns[self.child_rows.clamp(min=0)]
        decisions = _softmax_over_children(scores, self.child_rows.unsqueeze(3), dim=1)
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
                decisions = _softmax_over_children(
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
            decisions = _softmax_over_children(scores.view(rows.shape), rows)
            return self.child_nodes[nodes - self.num_classes], decisions

        root = int((self._tree.parents == -1).nonzero())
        roots = torch.full((len(input),), root, device=input.device)
        return expand, lambda nodes: nodes < self.num_classes, lambda nodes: nodes, roots

    def forward_cost(self, batch_size: int) -> Cost:
        """The children of a path's nodes, or of all nodes."""
        d, (products, touched) = self.in_features, self._rows(batch_size)
        elements = touched * (d + 1) + batch_size * (d + 1) + products
        return Cost(products * d, elements * self.itemsize + batch_size * INT64_BYTES)

    def backward_cost(self, batch_size: int) -> Cost:
        """Two products for each of the forward's, and a gradient of the rows touched."""
        d, (products, touched) = self.in_features, self._rows(batch_size)
        elements = touched * (2 * d + 1) + 2 * batch_size * d + products
        indices = 0 if self.all_rows else 2 * touched
        return Cost(
            2 * products * d,
            elements * self.itemsize + (batch_size + indices) * INT64_BYTES,
        )

    def step_cost(self, batch_size: int) -> Cost:
        """The rows touched are read with their gradient, and written."""
        _, touched = self._rows(batch_size)
        parameters = touched * (self.in_features + 1)
        indices = 0 if self.all_rows else 2 * touched
        return Cost(parameters, 3 * parameters * self.itemsize + indices * INT64_BYTES)

    def predict_cost(self, batch_size: int) -> Cost:
        """One product over all rows."""
        rows, d = self.rows.out_features, self.in_features
        elements = rows * (d + 1) + batch_size * d
        return Cost(batch_size * rows * d, elements * self.itemsize + batch_size * INT64_BYTES)

    def _rows(self, batch_size: int) -> tuple[int, int]:
        """Products of a batch, and the distinct rows that it touches.

        Both are expected under `shares`; else of uniform targets, and the most that can be.
        """
        total = self.rows.out_features
        if self.all_rows:
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


def _softmax_over_children(scores: Tensor, rows: Tensor, dim: int = -2) -> Tensor:
    """Log-probability of each child, given its siblings' scores.

    Args:
        scores: of all pieces, with the children along `dim` and their pieces along the next one.
        rows: which row each piece has, to be broadcast with `scores`.
        dim: from the front or the end; in the result, the children stay and the pieces are gone.
    """
    scores = at_least_float32(scores).masked_fill(rows == ZERO_SCORE, 0)
    pieces = dim + 1
    if scores.size(pieces) > 1:
        # Finite, as a gradient has to come back through it.
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(rows <= NO_CHILD, lowest).logsumexp(pieces)
    else:
        scores = scores.squeeze(pieces)
    exists = rows.select(pieces, 0) != NO_CHILD
    return F.log_softmax(scores.masked_fill(~exists, -torch.inf), dim if dim >= 0 else dim + 1)


def _tables(tree: Tree, pieces: int) -> tuple[Tensor, Tensor, Tensor]:
    """A tree as tables.

    Returns:
        children: children of each inner node, (inner + 1, b), 0 where there are fewer than b.
        rows: the rows of the weight that score each child, (inner + 1, b, pieces), or `ZERO_SCORE`,
            `NO_CHILD`, `NO_PIECE`. The last line is a node that no class needs: its only child is
            certain.
        slots: which child of its parent each node is, (num_nodes,).
    """
    parents = tree.parents.cpu()
    inner = parents.numel() - tree.num_classes
    by_parent = parents.argsort(stable=True)[1:]  # without the root, whose parent is -1
    parent = parents[by_parent] - tree.num_classes
    counts = torch.bincount(parent, minlength=inner)
    slot = torch.arange(by_parent.numel(), device="cpu") - (counts.cumsum(0) - counts)[parent]
    size = _leaves_below(tree)[by_parent].clamp(max=pieces)
    # Two single scores would decide nothing that their difference does not.
    most = torch.zeros(inner, dtype=torch.int64, device="cpu").scatter_reduce(
        0, parent, size, "amax"
    )
    halved = (counts == 2) & (most == 1)
    size[(halved[parent] & (slot == 0)) | (counts[parent] == 1)] = 0
    first = (size.cumsum(0) - size).unsqueeze(1)
    piece = torch.arange(pieces, device="cpu")
    row = torch.where(piece < size.unsqueeze(1), first + piece, NO_PIECE)
    row[size == 0, 0] = ZERO_SCORE
    width = int(counts.max())
    children = torch.zeros(inner + 1, width, dtype=torch.int64, device="cpu")
    rows = torch.full((inner + 1, width, pieces), NO_CHILD, device="cpu")
    children[parent, slot], rows[parent, slot] = by_parent, row
    rows[inner, 0, 0] = ZERO_SCORE
    slots = torch.zeros_like(parents)
    slots[by_parent] = slot
    return children, rows, slots


def _depths(tree: Tree) -> Tensor:
    """How far below the root each node is: (num_nodes,)."""
    parents = tree.parents.cpu()
    depth, node = torch.zeros_like(parents), parents
    while bool((node >= 0).any()):
        depth += node >= 0
        node = torch.where(node >= 0, parents[node], -1)
    return depth


def _leaves_below(tree: Tree) -> Tensor:
    """How many classes each node stands for: (num_nodes,)."""
    parents = tree.parents.cpu()
    counts = torch.zeros_like(parents)
    node = torch.arange(tree.num_classes, device="cpu")
    while node.numel():
        counts += torch.bincount(node, minlength=counts.numel())
        node = parents[node]
        node = node[node >= 0]
    return counts


def _levels(
    tree: Tree, depths: Tensor, slots: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """The nodes below the root, level by level.

    Args:
        tree: any tree.
        depths: how far below the root each of its nodes is, (num_nodes,).
        slots: which child of its parent each node is, (num_nodes,).
        width: most children of a node.

    Returns:
        above: each node's parent, as its place on the level above, (num_nodes - 1,).
        within: each node as a child among all inner nodes' `width` each, (num_nodes - 1,).
        places: where each class is among these nodes, (num_classes,).
        sizes: of the levels.
    """
    parents = tree.parents.cpu()
    order = depths.argsort(stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(order.numel(), device="cpu")
    sizes = torch.bincount(depths)
    first = sizes.cumsum(0) - sizes
    below = order[1:]
    above = parents[below]
    return (
        places[above] - first[depths[above]],
        (above - tree.num_classes) * width + slots[below],
        places[: tree.num_classes] - 1,
        sizes[1:].tolist(),
    )


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
        return TreeSoftmax(in_features, num_classes, tree, pieces)
    if counts is not None:
        weights = checked_counts(counts, num_classes)
        return TreeSoftmax(in_features, num_classes, huffman(weights, branching), pieces)
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
        return Hierarchical(in_features, num_classes, order)
    shape = balanced(num_classes, branching, order)
    return TreeSoftmax(in_features, num_classes, shape, pieces)
