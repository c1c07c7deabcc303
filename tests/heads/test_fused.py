"""The fused head's backward changes the head as the plain head's backward and SGD do."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import heads

pytest.importorskip("numba", reason="needs the optional extra 'fast'")

from heads import fused


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
    monkeypatch.setattr(fused, "WORK_PER_THREAD", 1)
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


@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("num_classes", [2, 5, 37, 1000])
def test_blocks_share_out_the_update_without_loss_or_repetition(
    blocks: int, num_classes: int
) -> None:
    """However many blocks there are, each row moves by what its samples sum up to."""
    size, width, depth = 23, 5, (num_classes - 1).bit_length()
    generator = np.random.default_rng(0)
    leaf = generator.integers(num_classes, size=size)
    nodes = leaf + num_classes
    places = np.where(nodes >> depth, nodes, 2 * nodes)
    order = places.argsort(kind="stable")
    x, grad = generator.standard_normal((size, width)), generator.standard_normal(size)
    slopes = generator.standard_normal((size, depth))  # in the order of the places
    weight, bias = np.zeros((num_classes - 1, width)), np.zeros(num_classes - 1)
    empty = np.zeros((size, 0))
    fused._update(x, weight, bias, order, places[order], slopes, empty, grad, empty, 0.5, blocks)
    expected_weight, expected_bias = np.zeros_like(weight), np.zeros_like(bias)
    for sample, slope in zip(order, slopes, strict=True):
        for step in range(depth):
            row = (places[sample] >> (depth - step)) - 1
            if row < num_classes - 1:
                expected_weight[row] += 0.5 * grad[sample] * slope[step] * x[sample]
                expected_bias[row] += 0.5 * grad[sample] * slope[step]
    np.testing.assert_allclose(weight, expected_weight, atol=1e-12)
    np.testing.assert_allclose(bias, expected_bias, atol=1e-12)


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
