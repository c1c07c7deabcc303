"""Trees over classes: their shapes, the ways to make one, and what can be read off them."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from heads.options import integer, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
"""What a permutation or a count may come as; a bool is none."""

CIFAR100_SUPERCLASSES = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)
"""The superclass of each of CIFAR-100's classes, in the data set's own (alphabetical) order."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A rooted tree whose leaves are the classes.

    Args:
        parents: parent of each node, (num_nodes,), int64; nodes 0..num_classes-1 are the classes,
            the others inner nodes; the root's parent is -1.
        num_classes: number of leaves, at least 2.

    Raises:
        ValueError: not a tree with exactly these leaves.
    """

    parents: Tensor
    num_classes: int

    def __post_init__(self) -> None:
        parents = self.parents
        integer("num_classes", self.num_classes, 2)
        if not isinstance(parents, Tensor):
            raise ValueError(f"parents must be a tensor, got {shown(parents)}")
        nodes = parents.numel()
        if parents.dtype != torch.int64 or parents.dim() != 1 or nodes <= self.num_classes:
            raise ValueError(
                f"parents must be a vector of int64, longer than num_classes "
                f"({self.num_classes}), got {tuple(parents.shape)} of {parents.dtype}"
            )
        if int((parents == -1).sum()) != 1 or int(parents.min()) < -1:
            raise ValueError("exactly one node, the root, must have parent -1, and none less")
        inner = parents[parents >= 0].unique()
        if int(inner[0]) < self.num_classes:
            raise ValueError(f"class {int(inner[0])} is a parent: classes must be leaves")
        if inner.numel() != nodes - self.num_classes or int(inner[-1]) >= nodes:
            raise ValueError("every inner node must be the parent of some node, and no other be")
        # From every node, n steps up a tree lead beyond the root; on a cycle they never do.
        above = torch.cat((parents, parents.new_tensor([-1])))
        for _ in range(nodes.bit_length()):
            above = above[above]
        if bool((above >= 0).any()):
            raise ValueError("parents must not form a cycle")

    def paths(self) -> Tensor:
        """Nodes from each class up to the root, (num_classes, depth + 1); -1 past the root."""
        parents = torch.cat((self.parents, self.parents.new_tensor([-1])))
        node = torch.arange(self.num_classes, device=self.parents.device)
        columns = []
        while bool((node >= 0).any()):
            columns.append(node)
            node = parents[node]
        return torch.stack(columns, dim=1)

    def depths(self) -> Tensor:
        """Number of decisions on the way to each class: (num_classes,), int64."""
        return (self.paths() >= 0).sum(dim=1) - 1

    def expected_depth(self, counts: Sequence[float] | Tensor | None = None) -> float:
        """Mean number of decisions per sample, classes weighted by `counts` (default: equally)."""
        depths = self.depths().double()
        if counts is None:
            return float(depths.mean())
        weights = checked_counts(counts, self.num_classes)
        return float((depths * weights).sum() / weights.sum())

    def picture(self, labels: Sequence[str] | None = None) -> str:
        """The tree as text, one line a node, children indented below their parent."""
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents.tolist()):
            children.setdefault(parent, []).append(node)
        lines: list[str] = []
        stack = [(children[-1][0], "", "")]
        while stack:
            node, lead, indent = stack.pop()
            leaf = node < self.num_classes
            lines.append(lead + ((labels[node] if labels else str(node)) if leaf else "·"))
            below = children.get(node, [])
            for child in reversed(below):
                last = child == below[-1]
                stack.append(
                    (child, indent + ("└ " if last else "├ "), indent + ("  " if last else "│ "))
                )
        return "\n".join(lines)


def balanced(num_classes: int, branching: int = 2, order: Tensor | None = None) -> Tree:
    """A heap: every inner node but the last has `branching` children, depths differ by at most 1.

    Counting the root as 0, node i's parent is (i - 1) // branching, and the leaves come last. It is
    made on the CPU, wherever the head that uses it will live.

    Args:
        num_classes: number n of leaves.
        branching: children of a node, in 2..n; n makes the tree flat.
        order: the classes in the order of the heap's leaves, (n,); by default 0..n-1.
    """
    integer("branching", branching, 2, integer("num_classes", num_classes, 2), "num_classes")
    inner = -(-(num_classes - 1) // (branching - 1))
    if order is None:
        order = torch.arange(num_classes, device="cpu")
    else:
        order = checked_order(order, num_classes).cpu()
    heap_parents = torch.div(
        torch.arange(inner + num_classes, device="cpu") - 1, branching, rounding_mode="floor"
    )
    parents = torch.empty_like(heap_parents)
    parents[order] = heap_parents[inner:] + num_classes
    parents[num_classes:] = heap_parents[:inner] + num_classes
    parents[num_classes] = -1
    return Tree(parents, num_classes)


def huffman(counts: Sequence[float] | Tensor, branching: int = 2) -> Tree:
    """The tree of least expected depth for classes that occur `counts` times, each at least 0.

    Source: Huffman, "A Method for the Construction of Minimum-Redundancy Codes", 1952. With a
    branching above 2, the first merge takes just so many nodes that all later ones are full.
    """
    weights = checked_counts(counts)
    num_classes = len(weights)
    integer("branching", branching, 2, num_classes, "num_classes")
    parents = [-1] * num_classes
    heap = [(weight, node) for node, weight in enumerate(weights.tolist())]
    heapq.heapify(heap)
    take = (num_classes - 2) % (branching - 1) + 2
    while len(heap) > 1:
        merged = [heapq.heappop(heap) for _ in range(take)]
        parents.append(-1)
        for _, node in merged:
            parents[node] = len(parents) - 1
        heapq.heappush(heap, (sum(weight for weight, _ in merged), len(parents) - 1))
        take = branching
    return Tree(torch.tensor(parents, device="cpu"), num_classes)


def superclass_order() -> Tensor:
    """CIFAR-100's classes, those of a superclass side by side: (100,)."""
    return torch.tensor(CIFAR100_SUPERCLASSES, device="cpu").argsort(stable=True)


def learned_order(features: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """An order of the classes that puts classes with similar features into the same subtrees.

    The class means are split in two along their first principal direction, into parts of the sizes
    that the heap's subtrees have, and each part again: recursive balanced clustering.

    Args:
        features: (N, d).
        targets: (N,), int64 in [0, num_classes); a class without examples has mean 0.
        num_classes: number n of classes.

    Returns:
        The classes in the order of the heap's leaves, (n,).
    """
    check_examples(features, targets, integer("num_classes", num_classes, 2))
    sums = torch.zeros(num_classes, features.size(1), dtype=torch.float64)
    sums.index_add_(0, targets.cpu(), features.detach().cpu().double())
    counts = torch.bincount(targets.cpu(), minlength=num_classes).clamp(min=1)
    means = sums / counts.unsqueeze(1)
    # On the deepest level the heap has `width` places; its deep leaves fill one each, from the
    # left, and the leaves of the level above cover two each. A heap counts the latter first.
    width = 1 << (num_classes - 1).bit_length()
    deep = 2 * num_classes - width

    def leaves_before(place: int) -> int:
        return place if place <= deep else deep + (place - deep) // 2

    left_to_right = torch.empty(num_classes, dtype=torch.int64)
    stack = [(torch.arange(num_classes), 0, width)]
    pairs: list[tuple[Tensor, int]] = []
    while stack:
        classes, low, high = stack.pop()
        if len(classes) == 1:
            left_to_right[leaves_before(low)] = classes[0]
            continue
        if len(classes) == 2:
            pairs.append((classes, leaves_before(low)))
            continue
        middle = (low + high) // 2
        left = leaves_before(middle) - leaves_before(low)
        centred = means[classes] - means[classes].mean(dim=0)
        direction = _principal(centred)
        # A principal direction has no sign of its own; fix one, so that the tree is reproducible.
        direction = direction * (1 if direction[direction.abs().argmax()] > 0 else -1)
        ranked = classes[(centred @ direction).argsort(stable=True)]
        stack.append((ranked[:left], low, middle))
        stack.append((ranked[left:], middle, high))
    if pairs:  # a good part of all nodes, which all have the line through them as direction
        both, places = torch.stack([two for two, _ in pairs]), torch.tensor([at for _, at in pairs])
        apart = means[both[:, 0]] - means[both[:, 1]]
        swapped = apart.gather(1, apart.abs().argmax(dim=1, keepdim=True)) > 0
        both = torch.where(swapped, both.flip(1), both)
        left_to_right[places], left_to_right[places + 1] = both[:, 0], both[:, 1]
    return torch.cat((left_to_right[deep:], left_to_right[:deep]))


def _principal(centred: Tensor) -> Tensor:
    """The direction in which points around 0 scatter most, either way along it: (m, d) -> (d,)."""
    points, width = centred.shape
    # The smaller of the two products has the same largest eigenvalue, in a tenth of a SVD's time.
    scatter = centred.T @ centred if points > width else centred @ centred.T
    largest: Tensor = torch.linalg.eigh(scatter).eigenvectors[:, -1]
    return largest if points > width else largest @ centred


def checked_order(order: Sequence[int] | Tensor, num_classes: int) -> Tensor:
    """`order` as a tensor, (num_classes,); a `ValueError` unless it is a permutation."""
    tensor = _as_tensor(order)
    if (
        tensor is None
        or tensor.dtype not in INTEGERS
        or tensor.shape != (num_classes,)
        or not torch.equal(
            tensor.cpu().long().sort().values, torch.arange(num_classes, device="cpu")
        )
    ):
        raise ValueError(f"order must be a permutation of the classes 0..{num_classes - 1}")
    return tensor.long()


def checked_counts(counts: Sequence[float] | Tensor, num_classes: int | None = None) -> Tensor:
    """`counts` as a tensor of float64 on the CPU, (num_classes,).

    Raises:
        ValueError: they are not so many (by default: at least 2) numbers, finite and at least 0.
    """
    tensor = _as_tensor(counts)
    if tensor is not None and tensor.dim() == 1 and num_classes in (None, len(tensor)):
        weights = tensor.cpu().double()
        real = tensor.is_floating_point() or tensor.dtype in INTEGERS
        if real and len(weights) > 1 and bool((weights.isfinite() & (weights >= 0)).all()):
            return weights
    many = "at least 2" if num_classes is None else num_classes
    raise ValueError(f"counts must be {many} numbers, each finite and at least 0")


def _as_tensor(values: Sequence[float] | Tensor) -> Tensor | None:
    """`values` as torch reads them, where they are, else on the CPU; None where it cannot."""
    if isinstance(values, Tensor):
        return values
    try:
        return torch.as_tensor(values, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def check_examples(features: Tensor, targets: Tensor, num_classes: int) -> None:
    """Raise a `ValueError` unless `features` is (M, d), finite, and `targets` (M,), classes."""
    if not (isinstance(features, Tensor) and isinstance(targets, Tensor)):
        raise ValueError("examples must be two tensors, features (M, d) and targets (M,)")
    if features.dim() != 2 or targets.shape != features.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(
            f"features must be (N, d) and targets (N,) int64, got {tuple(features.shape)} and "
            f"{tuple(targets.shape)} of {targets.dtype}"
        )
    if not features.isfinite().all():
        raise ValueError("features must be finite to learn a tree from")
    if bool(((targets < 0) | (targets >= num_classes)).any()):
        raise ValueError(
            f"targets must be in [0, {num_classes}) (num_classes) to learn a tree from"
        )
