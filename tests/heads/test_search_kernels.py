"""The best leaf by Triton's kernels is the best of all leaves."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from heads.heap import leaf_log_prob
from tests.heads.test_paths import CUDA, DEVICE, INTERPRETED, SAMPLES

pytestmark = pytest.mark.skipif(
    not (INTERPRETED or CUDA), reason="runs in test_paths' process of its own"
)


@pytest.mark.parametrize("leaves", [2, 3, 8, 37])
@pytest.mark.parametrize("scale", [0.1, 3.0], ids=["unsure", "sure"])
@pytest.mark.parametrize("elements", [7, 2**20])
def test_triton_finds_the_best_leaf(
    leaves: int, scale: float, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = import_module("heads.search_triton")
    monkeypatch.setattr(kernels, "ELEMENTS", elements)
    torch.manual_seed(leaves)
    weight, bias = scale * torch.randn(leaves - 1, 5), scale * torch.randn(leaves - 1)
    features = torch.randn(SAMPLES, 5)
    exact = leaf_log_prob(torch.nn.functional.linear(features, weight, bias).double())
    given = (weight.to(DEVICE), bias.to(DEVICE), features.to(DEVICE))
    expected, best = exact.max(dim=1)
    for search in (kernels.best_leaf, kernels.best_of_all):
        value, leaf = search(*given)
        torch.testing.assert_close(value.cpu().double(), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(leaf.cpu(), best)
    value, leaf = kernels.descend(*given)
    reached = exact.gather(1, leaf.cpu().unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(value.cpu().double(), reached, rtol=1e-5, atol=1e-5)
