"""A tree as tables of children, rows and levels, and the softmax over a node's children."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from heads.base import at_least_float32
from heads.trees import Tree

ZERO_SCORE, NO_CHILD, NO_PIECE = -1, -2, -3
"""What stands for a row where there is none: a score of 0, no child, no further piece of a
child."""


def softmax_over_children(scores: Tensor, rows: Tensor, dim: int = -2) -> tuple[Tensor, Tensor]:
    """Score and log-probability of each child, given its siblings' scores.

    Args:
        scores: of all pieces, with the children along `dim` and their pieces along the next one.
        rows: which row each piece has, to be broadcast with `scores`.
        dim: from the front or the end; in the results, the children stay and the pieces are gone.
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
    masked = scores.masked_fill(~exists, -torch.inf)
    return scores, F.log_softmax(masked, dim if dim >= 0 else dim + 1)


def tables(tree: Tree, pieces: int) -> tuple[Tensor, Tensor, Tensor]:
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
    size = leaves_below(tree)[by_parent].clamp(max=pieces)
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


def depths(tree: Tree) -> Tensor:
    """How far below the root each node is: (num_nodes,)."""
    parents = tree.parents.cpu()
    depth, node = torch.zeros_like(parents), parents
    while bool((node >= 0).any()):
        depth += node >= 0
        node = torch.where(node >= 0, parents[node], -1)
    return depth


def leaves_below(tree: Tree) -> Tensor:
    """How many classes each node stands for: (num_nodes,)."""
    parents = tree.parents.cpu()
    counts = torch.zeros_like(parents)
    node = torch.arange(tree.num_classes, device="cpu")
    while node.numel():
        counts += torch.bincount(node, minlength=counts.numel())
        node = parents[node]
        node = node[node >= 0]
    return counts


def levels(
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
