"""The fused head's backward changes the head as the plain head's backward and SGD do."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch

import heads
from heads.trees import Tree, balanced, huffman


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("num_classes", [2, 3, 100, 300, 5000])
def test_a_fused_backward_is_an_sgd_step(num_classes: int, ordered: bool) -> None:
    torch.manual_seed(0)
    order = torch.randperm(num_classes) if ordered else None
    head = heads.build("hierarchical-fused", 24, num_classes, order=order, learning_rate=0.7)
    exact = copy.deepcopy(head).double()
    optimizer = torch.optim.SGD(exact.parameters(), lr=0.7)
    features, target = torch.randn(40, 24), torch.randint(num_classes, (40,))
    weights = torch.rand(40)
    for _ in range(3):
        ours = features.clone().requires_grad_()
        reference = features.double().requires_grad_()
        output = head(ours, target).output
        expected = exact(reference, target).output
        optimizer.zero_grad()
        (-output @ weights / 40).backward()
        (-expected @ weights.double() / 40).backward()
        optimizer.step()
        torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad.double(), reference.grad, rtol=1e-4, atol=1e-6)
    for parameter, other in zip(head.parameters(), exact.parameters(), strict=True):
        assert parameter.grad is None
        torch.testing.assert_close(parameter.double(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 100, 5000])
@pytest.mark.parametrize("batch_size", [1, 2, 40])
def test_the_result_does_not_depend_on_the_number_of_threads(
    num_classes: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = pytest.importorskip("heads.paths_numba", reason="needs the optional extra 'fast'")
    monkeypatch.setattr(kernels, "WORK_PER_THREAD", 1)
    torch.manual_seed(0)
    head = heads.build("hierarchical-fused", 24, num_classes, learning_rate=0.5)
    other = copy.deepcopy(head)
    features, target = torch.randn(batch_size, 24), torch.randint(num_classes, (batch_size,))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        head(features, target).loss.backward()
        torch.set_num_threads(2)
        other(features, target).loss.backward()
    finally:
        torch.set_num_threads(threads)
    for parameter, expected in zip(other.parameters(), head.parameters(), strict=True):
        assert torch.equal(parameter, expected)


def test_nothing_moves_in_evaluation_or_without_gradients_or_when_frozen() -> None:
    head = heads.build("hierarchical-fused", 24, 300, learning_rate=0.5)
    before = head.nodes.weight.detach().clone()
    features, target = torch.randn(4, 24, requires_grad=True), torch.arange(4)
    with torch.no_grad():
        head(features, target)
    head.eval()(features, target).loss.backward()
    head.train().requires_grad_(False)
    head(features, target).loss.backward()
    assert torch.equal(head.nodes.weight, before)


@pytest.mark.parametrize(
    "tree",
    [balanced(300, 5), huffman(1 / torch.arange(1, 301)), balanced(40, 40)],
    ids=["wide", "huffman", "flat"],
)
@pytest.mark.parametrize("pieces", [1, 3])
def test_any_trees_fused_backward_is_an_sgd_step(tree: Tree, pieces: int) -> None:
    torch.manual_seed(0)
    options = {"tree": tree, "pieces": pieces}
    head = heads.build("hierarchical-fused", 8, tree.num_classes, learning_rate=0.7, **options)
    plain = heads.build("hierarchical", 8, tree.num_classes, **options)
    plain.load_state_dict(head.state_dict())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.7)
    for _ in range(3):
        features, target = torch.randn(20, 8), torch.randint(tree.num_classes, (20,))
        optimizer.zero_grad()
        plain(features, target).loss.backward()
        optimizer.step()
        head(features, target).loss.backward()
    for ours, expected in zip(head.parameters(), plain.parameters(), strict=True):
        assert ours.grad is None
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["hierarchical", "hierarchical-fused", "two-level"])
def test_a_batch_is_freed_without_the_garbage_collector(name: str) -> None:
    head = heads.build(name, 8, 3000)
    gc.collect()
    gc.disable()
    try:
        output = head(torch.randn(4, 8, requires_grad=True), torch.arange(4)).output
        gone = weakref.ref(output)
        output.sum().backward()
        del output
        assert gone() is None
    finally:
        gc.enable()


def test_an_order_is_a_tree_and_only_one_can_be_had() -> None:
    with pytest.raises(ValueError, match="order and tree exclude each other"):
        heads.build("hierarchical-fused", 8, 3, order=[0, 2, 1], tree="huffman", counts=[1, 2, 3])
