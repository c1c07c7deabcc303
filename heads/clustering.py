"""Trees learned by clustering: classes that are hard to tell apart part late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from heads.options import integer
from heads.trees import Tree, check_examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy.cluster.hierarchy import ClusterNode

LARGEST = 4096
"""Most classes to cluster: all their distances are held at once."""

RIDGE = 0.1
"""Of the mean variance within classes, added to each direction's, so that none counts for all."""


def clustered(features: Tensor, targets: Tensor, num_classes: int, branching: int = 2) -> Tree:
    """A tree whose every branch holds classes that lie close together.

    Class means are compared in Mahalanobis' distance: a unit is the scatter within the classes, so
    that close means hard for a linear decision to tell apart. Ward's clustering joins the two
    closest groups until one is left; it need not be balanced. A wider tree takes the largest of a
    node's groups apart until it has `branching` children.

    Source: Ward, "Hierarchical Grouping to Optimize an Objective Function", JASA 1963.

    Args:
        features: (M, d).
        targets: (M,), int64 in [0, num_classes); a class without examples has mean 0.
        num_classes: number n of classes, at most `LARGEST`.
        branching: most children of a node, at least 2.

    Raises:
        ValueError: examples of other shapes or types, too many classes, `branching` below 2.
    """
    # Imported here, as it would take longer than all the other heads together.
    from scipy.cluster.hierarchy import linkage, to_tree

    integer("num_classes", num_classes, 2)
    if num_classes > LARGEST:
        raise ValueError(
            f"num_classes must be in 2..{LARGEST} to be clustered, got {num_classes}; "
            "tree='learned' has no limit"
        )
    check_examples(features, targets, num_classes)
    integer("branching", branching, 2)
    means = whitened_means(features, targets, num_classes)
    root = to_tree(linkage(means.numpy(), method="ward"))
    parents = [-1] * num_classes
    stack: list[tuple[ClusterNode, int]] = [(root, -1)]
    while stack:
        node, parent = stack.pop()
        if node.is_leaf():
            parents[node.id] = parent
        else:
            parents.append(parent)
            stack += [(child, len(parents) - 1) for child in _children(node, branching)]
    return Tree(torch.tensor(parents), num_classes)


def whitened_means(features: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Class means, the scatter within classes made equal in every direction: (n, d) in float64."""
    examples, classes = features.detach().cpu().double(), targets.cpu()
    counts = torch.bincount(classes, minlength=num_classes).clamp(min=1)
    sums = examples.new_zeros(num_classes, examples.size(1)).index_add_(0, classes, examples)
    means = sums / counts.unsqueeze(1)
    residuals = examples - means[classes]
    scatter = residuals.T @ residuals / max(1, len(examples))
    ridge = RIDGE * scatter.diagonal().mean().clamp(min=torch.finfo(scatter.dtype).tiny)
    root = torch.linalg.cholesky(scatter + ridge * torch.eye(len(scatter), dtype=scatter.dtype))
    whitened: Tensor = torch.linalg.solve_triangular(root, means.T, upper=False).T
    return whitened.contiguous()


def _children(node: ClusterNode, branching: int) -> Sequence[ClusterNode]:
    """The groups that `node` falls into when its largest are taken apart."""
    children = [node.get_left(), node.get_right()]
    while len(children) < branching:
        largest = max(children, key=lambda child: child.get_count())
        if largest.is_leaf():
            break
        children.remove(largest)
        children += [largest.get_left(), largest.get_right()]
    return children
