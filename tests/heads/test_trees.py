"""Trees: their shapes, the ways to make them, and the softmax on any of them."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import heads
from heads.hierarchical import Hierarchical
from heads.paths import gathers
from heads.tree_softmax import TreeSoftmax
from heads.trees import (
    CIFAR100_SUPERCLASSES,
    Tree,
    balanced,
    huffman,
    learned_order,
    superclass_order,
)


@st.composite
def random_trees(draw: st.DrawFn) -> Tree:
    """Any tree: classes hang below random inner nodes, single children included."""
    num_classes = draw(st.integers(2, 30))
    inner = draw(st.integers(1, 10))
    inner_parents = [-1] + [draw(st.integers(0, node - 1)) for node in range(1, inner)]
    childless = set(range(inner)) - set(inner_parents)
    class_parents = sorted(childless)[:num_classes]
    class_parents += [
        draw(st.integers(0, inner - 1)) for _ in range(num_classes - len(class_parents))
    ]
    if len(childless) > num_classes:
        return balanced(num_classes)
    parents = [p + num_classes for p in class_parents]
    parents += [p + num_classes if p >= 0 else -1 for p in inner_parents]
    return Tree(torch.tensor(parents), num_classes)


def walked_log_prob(head: TreeSoftmax, row: Tensor) -> list[float]:
    """Log-probability of every class, walking the parent array in plain Python."""
    tree = head.tree
    parents = tree.parents.tolist()
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        children.setdefault(parent, []).append(node)
    scores = (head.rows.weight @ row + head.rows.bias).tolist()
    rows = {}
    count = itertools.count()
    for parent in sorted(parent for parent in children if parent >= 0):
        siblings = children[parent]
        if len(siblings) == 2:
            rows[siblings[0]], rows[siblings[1]] = 0.0, scores[next(count)]
        else:
            rows |= {s: scores[next(count)] if len(siblings) > 2 else 0.0 for s in siblings}
    result = []
    for target in range(tree.num_classes):
        node, total = target, 0.0
        while parents[node] >= 0:
            siblings = children[parents[node]]
            total += rows[node] - math.log(sum(math.exp(rows[s]) for s in siblings))
            node = parents[node]
        result.append(total)
    return result


@settings(max_examples=60, deadline=None)
@given(tree=random_trees())
def test_any_tree_gives_the_product_of_softmaxes_on_the_path(tree: Tree) -> None:
    torch.manual_seed(0)
    head = TreeSoftmax(4, tree.num_classes, tree).double()
    features = torch.randn(2, 4, dtype=torch.float64)
    log_prob = head.log_prob(features)
    expected = torch.tensor([walked_log_prob(head, row) for row in features], dtype=torch.float64)
    torch.testing.assert_close(log_prob, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(2, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(tree=random_trees(), dense=st.booleans())
def test_any_trees_forward_and_gradients_are_those_of_log_prob(tree: Tree, dense: bool) -> None:
    torch.manual_seed(0)
    head = TreeSoftmax(4, tree.num_classes, tree).double()
    head.dense = dense
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(tree.num_classes, (5,))
    variables = [features, *head.parameters()]
    output, loss = head(features, target)
    expected = head.log_prob(features).gather(1, target.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(output, expected)
    ours = torch.autograd.grad(loss, variables)
    reference = torch.autograd.grad(-expected.mean(), variables)
    for gradient, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(gradient.to_dense(), other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("tree", "pieces", "walks"),
    [
        (huffman(range(1, 101)), 1, True),
        (balanced(100, 3), 1, True),
        (balanced(100, 2), 4, True),
        (balanced(20, 5), 1, False),  # a path scores 9 of 24 rows
    ],
)
def test_few_rows_have_dense_gradients_by_any_way(tree: Tree, pieces: int, walks: bool) -> None:
    """One product over all rows, which is double's way, or loops along the paths."""
    torch.manual_seed(0)
    head = TreeSoftmax(6, tree.num_classes, tree, pieces)
    exact = copy.deepcopy(head).double()
    assert exact.scores_all
    assert head.scores_all != (walks and not gathers(head.rows.weight))
    features, target = torch.randn(40, 6), torch.randint(tree.num_classes, (40,))
    results = []
    for one in (head, exact):
        variable = features.clone().to(one.dtype).requires_grad_()
        output, loss = one(variable, target)
        found = [output, *torch.autograd.grad(loss, [variable, *one.parameters()])]
        results.append([tensor.detach().double() for tensor in found])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_loops_know_single_children_and_what_is_not_finite(bad: float | None, pieces: int) -> None:
    """As double's product over all rows, NaN for NaN and infinity for infinity."""
    torch.manual_seed(0)
    # Node 4 has classes 0 and 1 and is the only child of 5; the root, 6, has 5 and two classes.
    tree = Tree(torch.tensor([4, 4, 6, 6, 5, 6, -1]), 4)
    head = TreeSoftmax(6, 4, tree, pieces)
    exact = copy.deepcopy(head).double()
    head.walking_pays = True
    features, target = torch.randn(8, 6), torch.arange(8) % 4
    if bad is not None:
        with torch.no_grad():
            for one in (head, exact):
                one.rows.bias[0] = bad
    ours, expected = (one(features.to(one.dtype), target).output for one in (head, exact))
    lowest = torch.finfo(expected.dtype).min  # where torch's operators stop, for the gradient
    expected = expected.masked_fill(expected == lowest, -math.inf)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5, equal_nan=True)


@settings(max_examples=200, deadline=None)
@given(num_classes=st.integers(2, 500), data=st.data())
def test_a_balanced_tree_has_depths_that_differ_by_at_most_one(
    num_classes: int, data: st.DataObject
) -> None:
    branching = data.draw(st.integers(2, num_classes))
    depths = balanced(num_classes, branching).depths()
    assert int(depths.max()) - int(depths.min()) <= 1
    shortest = next(k for k in range(1, 20) if branching**k >= num_classes)
    assert int(depths.max()) == shortest


def test_a_flat_tree_is_the_full_softmax() -> None:
    torch.manual_seed(0)
    flat = heads.build("hierarchical", 6, 50, branching=50).double()
    softmax = heads.build("softmax", 6, 50).double()
    softmax.linear.load_state_dict(flat.rows.state_dict())
    features, target = torch.randn(9, 6, dtype=torch.float64), torch.randint(50, (9,))
    torch.testing.assert_close(flat(features, target).output, softmax(features, target).output)
    torch.testing.assert_close(flat.log_prob(features), softmax.log_prob(features))


@pytest.mark.parametrize("num_classes", [2, 3, 100, 300, 1000])
def test_the_heap_is_the_balanced_binary_tree(num_classes: int) -> None:
    """The shift-based head and the table-based one agree, on any order of the classes."""
    torch.manual_seed(0)
    order = torch.randperm(num_classes)
    heap = heads.build("hierarchical", 4, num_classes, tree=order).double()
    assert isinstance(heap, Hierarchical)
    table = TreeSoftmax(4, num_classes, heap.tree).double()
    table.rows.load_state_dict(heap.nodes.state_dict())
    # The parents of a tree do not say which child is the right one, so a row's sign is free.
    right = [2 * node + 2 for node in range(num_classes - 1)]
    names = [*range(num_classes, 2 * num_classes - 1), *order.tolist()]
    flipped = table.child_nodes[:-1, 1] != torch.tensor([names[child] for child in right])
    for parameter in table.parameters():
        parameter.data[flipped] *= -1
    features, target = torch.randn(5, 4, dtype=torch.float64), torch.randint(num_classes, (5,))
    torch.testing.assert_close(heap.log_prob(features), table.log_prob(features))
    torch.testing.assert_close(heap(features, target).output, table(features, target).output)


@pytest.mark.parametrize("branching", [2, 3, 4, 10])
@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(0, 1000), min_size=10, max_size=40))
def test_huffman_is_within_one_decision_of_the_entropy(branching: int, counts: list[int]) -> None:
    total = sum(counts)
    if total == 0:
        return
    shares = [count / total for count in counts if count]
    entropy = -sum(share * math.log(share, branching) for share in shares)
    expected = huffman(counts, branching).expected_depth(counts)
    assert entropy - 1e-9 <= expected < entropy + 1 + 1e-9


def test_huffman_has_the_least_expected_depth_of_all_binary_trees() -> None:
    """Against every way of merging five classes."""
    counts = [7, 1, 3, 3, 11]

    def least(weights: list[int]) -> int:
        if len(weights) == 1:
            return 0
        costs = []
        for a, b in itertools.combinations(range(len(weights)), 2):
            rest = [w for i, w in enumerate(weights) if i not in (a, b)]
            costs.append(weights[a] + weights[b] + least([*rest, weights[a] + weights[b]]))
        return min(costs)

    tree = huffman(counts)
    assert tree.expected_depth(counts) * sum(counts) == pytest.approx(least(counts))


def test_huffman_saves_work_on_skewed_classes() -> None:
    counts = [1 / (rank + 1) for rank in range(1000)]
    assert huffman(counts).expected_depth(counts) < balanced(1000).expected_depth(counts) - 1


def test_superclasses_lie_side_by_side() -> None:
    superclasses = torch.tensor(CIFAR100_SUPERCLASSES)[superclass_order()]
    assert superclasses.tolist() == [group for group in range(20) for _ in range(5)]


@pytest.mark.parametrize("num_classes", [2, 3, 5, 64, 100])
def test_a_learned_order_puts_similar_classes_into_the_same_subtree(num_classes: int) -> None:
    """Means on a line, classes shuffled: the leaves come out in the line's order."""
    generator = torch.Generator().manual_seed(0)
    position = torch.randperm(num_classes, generator=generator).double()
    targets = torch.arange(num_classes).repeat(3)
    features = position[targets].unsqueeze(1) * torch.tensor([[1.0, -2.0, 0.5]])
    order = learned_order(features, targets, num_classes)
    assert sorted(order.tolist()) == list(range(num_classes))
    deep = 2 * num_classes - 2 ** (num_classes - 1).bit_length()
    left_to_right = torch.cat((order[-deep:], order[:-deep])) if deep < num_classes else order
    along = position[left_to_right]
    # Each split sorts along one direction, whose sign is free: the top split must be clean.
    paths = balanced(num_classes, 2, order).paths()
    top = torch.tensor([path[path >= 0][-2] for path in paths])
    sides = [position[top == child] for child in top.unique()]
    sides.sort(key=lambda side: float(side.min()))
    assert float(sides[0].max()) < float(sides[1].min())
    assert along.numel() == num_classes


@pytest.mark.parametrize(
    "options",
    [
        {"tree": "superclass"},
        {"tree": "superclass", "branching": 5},
        {"tree": "huffman", "counts": range(100)},
        {"tree": "huffman", "counts": range(100), "branching": 3},
        {"tree": "learned", "examples": (torch.randn(300, 8), torch.arange(300) % 100)},
        {"tree": list(range(99, -1, -1))},
        {"tree": balanced(100, 7)},
        {"branching": 10},
    ],
    ids=["superclass", "superclass-5", "huffman", "huffman-3", "learned", "order", "tree", "10"],
)
def test_every_way_to_name_a_tree_gives_a_head_that_learns(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    head = heads.build("hierarchical", 8, 100, **options)
    assert head.tree.num_classes == 100
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    features, target = torch.randn(50, 8), torch.randint(100, (50,))
    before = head(features, target).loss.item()
    for _ in range(50):
        optimizer.zero_grad()
        head(features, target).loss.backward()
        optimizer.step()
    assert head(features, target).loss.item() < before - 0.5
    restored = heads.build("hierarchical", 8, 100, **options)
    restored.load_state_dict(head.state_dict())
    assert torch.equal(restored.predict(features), head.predict(features))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tree": "bonsai"}, "unknown tree 'bonsai'; trees are"),
        ({"tree": "huffman"}, "need each other"),
        ({"tree": "learned"}, "need each other"),
        ({"counts": [1.0] * 10}, "need each other"),
        ({"tree": "huffman", "counts": [1.0] * 9}, "10 numbers"),
        ({"tree": "huffman", "counts": [-1.0] * 10}, "at least 0"),
        ({"tree": "superclass"}, "100 classes, not 10"),
        ({"tree": [0] * 10}, "permutation"),
        ({"tree": balanced(11)}, "10 leaves, got 11"),
        ({"branching": 11}, r"branching must be in 2\.\.10"),
        ({"branching": 1}, r"branching must be in 2\.\.10"),
    ],
)
def test_bad_trees_are_refused(options: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        heads.build("hierarchical", 8, 10, **options)


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ([2, 2], "longer than num_classes"),
        ([2, 2, 2], "exactly one node, the root"),
        ([2, 0, -1], "class 0 is a parent"),
        ([2, 2, -1, 2], "every inner node must be the parent"),
        ([2, 2, -1, 4, 3], "cycle"),
    ],
)
def test_parents_that_are_no_tree_are_refused(parents: list[int], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Tree(torch.tensor(parents), 2)


def test_the_picture_shows_every_class_once_below_its_siblings() -> None:
    picture = balanced(3).picture(["ant", "bee", "cat"])
    assert picture == "·\n├ ant\n└ ·\n  ├ bee\n  └ cat"
