"""Sums in half precision: gradients are as close to float64's as those of the full softmax."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor

import heads
from heads.tree_softmax import TreeSoftmax
from heads.trees import balanced

CLASSES, FEATURES = 500, 16
SAMPLES = 4096
"""Twice as many equal numbers as float16 can add up one by one; of bfloat16, 16 times."""
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "autocast": torch.bfloat16}
# On a tree with wider nodes, heads use other tables.
NAMES = (*heads.names(), "wide")
# Times the softmax's own error that a head may err, where it is not 2.
FACTORS: dict[str, float] = {}


@cache
def batch(labels: str, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(size, FEATURES, generator=generator)
    share = torch.rand(size, generator=generator)
    target = {"skewed": share**6, "equal": torch.full((size,), 0.3)}[labels]
    return features, (target * CLASSES).long()


def gradients(head: heads.Head, features: Tensor, target: Tensor, mode: str) -> list[Tensor]:
    """Of the input and of all parameters, in float64; the same seed for whatever a head draws."""
    features = features.to(head.dtype).requires_grad_()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
        loss = head(features, target).loss
    found = torch.autograd.grad(loss, [features, *head.parameters()], materialize_grads=True)
    return [gradient.to_dense().double() for gradient in found]


@cache
def errors(name: str, mode: str, labels: str, size: int, training: bool) -> list[float]:
    """Relative, of each gradient as a whole: of the input's, then of the parameters'."""
    torch.manual_seed(0)
    if name == "wide":
        head: heads.Head = TreeSoftmax(FEATURES, CLASSES, balanced(CLASSES, 8))
    else:
        head = heads.build(name, FEATURES, CLASSES)
    head.train(training)
    if mode != "autocast":
        head.to(DTYPES[mode])
    features, target = batch(labels, size)
    rounded = features.to(head.dtype)
    reference = copy.deepcopy(head)
    if not (mode == "autocast" and name == "gumbel" and training):
        reference.double()  # which, in float32, would be under other noise
    exact = gradients(reference, rounded, target, "exact")
    return [
        float((ours - expected).norm() / expected.norm()) if expected.any() else float(ours.norm())
        for ours, expected in zip(gradients(head, rounded, target, mode), exact, strict=True)
    ]


@pytest.mark.parametrize("labels", ["skewed", "equal"])
@pytest.mark.parametrize("mode", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_err_at_most_twice_as_much_as_the_softmaxs(
    name: str, mode: str, labels: str
) -> None:
    """Or as the rounding of a result to its dtype, beyond which the softmax may be lucky."""
    rounding, factor = torch.finfo(DTYPES[mode]).eps / 2, FACTORS.get(name, 2)
    of_input, *of_parameters = errors("softmax", mode, labels, SAMPLES, False)
    ours, *others = errors(name, mode, labels, SAMPLES, False)
    assert ours <= factor * max(of_input, rounding)
    assert max(others) <= factor * max(*of_parameters, rounding)


@pytest.mark.parametrize("labels", ["skewed", "equal"])
@pytest.mark.parametrize("mode", DTYPES)
@pytest.mark.parametrize("name", ["gumbel", "sampled"])
def test_so_they_do_under_the_noise_of_training(name: str, mode: str, labels: str) -> None:
    rounding = torch.finfo(DTYPES[mode]).eps / 2
    allowed = 2 * max(*errors("softmax", mode, labels, SAMPLES, False), rounding)
    assert max(errors(name, mode, labels, SAMPLES, True)) <= allowed


@pytest.mark.parametrize("name", ["sampled", "two-level", "hierarchical"])
def test_a_sparse_gradient_comes_summed_up(name: str) -> None:
    """What torch sums when it coalesces, it sums in the dtype of the gradient."""
    head = heads.build(name, FEATURES, CLASSES).bfloat16()
    features, target = batch("equal", 1024)
    head(features, target).loss.backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        rows = parameter.grad._indices()[0]
        assert len(rows.unique()) == len(rows)
        assert parameter.grad.is_coalesced()
