"""Branches whose score is the log-sum-exp of several linear scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import heads
from heads.tree_softmax import TreeSoftmax
from heads.trees import Tree, balanced


def leaves_below(tree: Tree) -> dict[int, list[int]]:
    parents = tree.parents.tolist()
    below: dict[int, list[int]] = {}
    for leaf in range(tree.num_classes):
        node = leaf
        while node >= 0:
            below.setdefault(node, []).append(leaf)
            node = parents[node]
    return below


@pytest.mark.parametrize("branching", [3, 4, 10])
def test_with_a_piece_for_each_class_it_is_the_full_softmax(branching: int) -> None:
    """Where a branch's pieces are its classes' scores, the product telescopes."""
    torch.manual_seed(0)
    n, d = 30, 6
    softmax = heads.build("softmax", d, n).double()
    tree = balanced(n, branching)
    head = TreeSoftmax(d, n, tree, pieces=n).double()
    below = leaves_below(tree)
    with torch.no_grad():
        for children, rows in zip(head.child_nodes[:-1], head.child_rows[:-1], strict=True):
            for child, pieces in zip(children.tolist(), rows, strict=True):
                real = pieces[pieces >= 0]
                if len(real):
                    head.rows.weight[real] = softmax.linear.weight[below[child]]
                    head.rows.bias[real] = softmax.linear.bias[below[child]]
        # A node with two single classes holds the difference of their scores.
        for children, rows in zip(head.child_nodes[:-1], head.child_rows[:-1], strict=True):
            if rows[0, 0] == -1 and rows[1, 0] >= 0:
                first, second = children[:2].tolist()
                for parameter, scores in (
                    (head.rows.weight, softmax.linear.weight),
                    (head.rows.bias, softmax.linear.bias),
                ):
                    parameter[rows[1, 0]] = scores[second] - scores[first]
    features = torch.randn(9, d, dtype=torch.float64)
    torch.testing.assert_close(head.log_prob(features), softmax.log_prob(features))


@settings(max_examples=40, deadline=None)
@given(
    num_classes=st.integers(2, 40),
    branching=st.integers(2, 6),
    pieces=st.integers(1, 5),
    dense=st.booleans(),
)
def test_forward_gradients_and_search_are_those_of_log_prob(
    num_classes: int, branching: int, pieces: int, dense: bool
) -> None:
    torch.manual_seed(0)
    tree = balanced(num_classes, min(branching, num_classes))
    head = TreeSoftmax(4, num_classes, tree, pieces).double()
    head.dense = dense
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(num_classes, (5,))
    log_prob = head.log_prob(features)
    torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(5, dtype=torch.float64))
    expected = log_prob.gather(1, target.unsqueeze(1)).squeeze(1)
    output, loss = head(features, target)
    torch.testing.assert_close(output, expected)
    variables = [features, *head.parameters()]
    ours = torch.autograd.grad(loss, variables)
    reference = torch.autograd.grad(-expected.mean(), variables)
    for gradient, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(gradient.to_dense(), other, rtol=1e-9, atol=1e-12)
    assert torch.equal(head.predict(features), log_prob.argmax(1))


def test_search_is_exact_with_pieces() -> None:
    torch.manual_seed(0)
    head = heads.build("hierarchical", 8, 20_000, branching=4, pieces=3).double()
    for parameter in head.parameters():
        parameter.data.mul_(20)
    features: Tensor = torch.randn(20, 8, dtype=torch.float64)
    assert torch.equal(head.predict(features), head.log_prob(features).argmax(1))


def test_fewer_than_one_piece_is_refused() -> None:
    with pytest.raises(ValueError, match="pieces must be at least 1"):
        heads.build("hierarchical", 4, 10, branching=3, pieces=0)
