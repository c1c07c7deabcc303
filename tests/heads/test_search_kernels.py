"""The best leaf by Triton's kernels is the best of all leaves."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from heads.heap import leaf_log_prob
from tests.heads.test_paths import CUDA, DEVICE, INTERPRETED, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = pytest.mark.skipif(
    not (INTERPRETED or CUDA), reason="runs in test_paths' process of its own"
)


@pytest.fixture
def kernels() -> ModuleType:
    return import_module("heads.search_triton")


@pytest.fixture
def unsure(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Score every node even where a descent could tell."""
    monkeypatch.setattr(kernels, "SURE", math.inf)


class Case:
    """Weights, inputs and what float64 makes of them."""

    def __init__(
        self,
        leaves: int,
        width: int = 5,
        samples: int = SAMPLES,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        torch.manual_seed(leaves)
        self.weight = (scale * torch.randn(leaves - 1, width)).to(dtype)
        self.bias = (scale * torch.randn(leaves - 1)).to(dtype)
        self.features = torch.randn(samples, width).to(dtype)

    def exact(self) -> Tensor:
        """Every leaf's log-probability, (N, n)."""
        scores = F.linear(self.features.double(), self.weight.double(), self.bias.double())
        return leaf_log_prob(scores)

    def check(self, kernels: ModuleType) -> None:
        """No leaf is better than the one found, and its log-probability is right."""
        given = (self.weight, self.bias, self.features)
        value, leaf = kernels.best_leaf(*(tensor.to(DEVICE) for tensor in given))
        assert value.dtype == torch.float32
        assert leaf.dtype == torch.int64
        exact = self.exact()
        found = exact.gather(1, leaf.cpu().unsqueeze(1)).squeeze(1)
        best = exact.max(dim=1).values
        torch.testing.assert_close(found, best, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(value.cpu().double(), best, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 3.0], ids=["unsure", "sure"])
@pytest.mark.parametrize("leaves", [2, 3, 8, 37, 257])
def test_triton_finds_the_best_leaf(kernels: ModuleType, leaves: int, scale: float) -> None:
    Case(leaves, scale=scale).check(kernels)


@pytest.mark.usefixtures("unsure")
@pytest.mark.parametrize("leaves", range(2, 41))
def test_triton_scoring_all_finds_it_in_heaps_of_any_shape(
    kernels: ModuleType, leaves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In up to three launches, of tiles of several subtrees."""
    monkeypatch.setattr(kernels, "HEIGHT", 2)
    monkeypatch.setattr(kernels, "NODES", 16)
    Case(leaves).check(kernels)


@pytest.mark.usefixtures("unsure")
@pytest.mark.parametrize("leaves", [1000, 4096, 5000])
def test_triton_scoring_all_finds_it_in_large_heaps(kernels: ModuleType, leaves: int) -> None:
    Case(leaves).check(kernels)


@pytest.mark.usefixtures("unsure")
@pytest.mark.parametrize("width", [1, 16, 33, 100])
@pytest.mark.parametrize("samples", [0, 1, 70])
def test_triton_scoring_all_finds_it_for_any_input(
    kernels: ModuleType, width: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a few samples at a time."""
    monkeypatch.setattr(kernels, "ELEMENTS", 0)
    Case(37, width, samples, scale=0.3).check(kernels)


@pytest.mark.usefixtures("unsure")
# The interpreter multiplies bfloat16's bits as integers.
@pytest.mark.parametrize("dtype", [torch.float16] + [torch.bfloat16] * CUDA)
def test_triton_scores_of_narrow_numbers_are_sums_in_float32(
    kernels: ModuleType, dtype: torch.dtype
) -> None:
    Case(300, 40, dtype=dtype, scale=0.3).check(kernels)


@pytest.mark.parametrize("leaves", [32, 37])
@pytest.mark.parametrize(
    "bias",
    [
        lambda node: 0.0 * node,
        lambda node: 1e4 + 0.0 * node,
        lambda node: -1e4 + 0.0 * node,
        lambda node: 1e4 * (-1.0) ** node,
        lambda node: torch.where(node % 3 == 0, 80.0, -1e-6),
        lambda node: torch.where(node == 0, 1e-6, -2.0),
    ],
    ids=["equal", "right", "left", "saturated", "nearly equal", "not greedily"],
)
def test_no_scores_mislead_triton(
    kernels: ModuleType, leaves: int, bias: Callable[[Tensor], Tensor]
) -> None:
    case = Case(leaves)
    case.weight.zero_()
    case.bias = bias(torch.arange(leaves - 1)).float()
    case.check(kernels)


def test_triton_keeps_sure_and_unsure_samples_in_their_places(kernels: ModuleType) -> None:
    case = Case(37, samples=70, scale=30.0)
    case.features[::3] *= 0.001
    case.bias.zero_()
    case.check(kernels)
    _, _, unsure = kernels.descend(
        case.weight.to(DEVICE), case.bias.to(DEVICE), case.features.to(DEVICE)
    )
    count = int(unsure.number)
    expected = (case.exact().max(dim=1).values < math.log(0.5)).nonzero().squeeze(1)
    assert 0 < count < 70
    assert set(expected.tolist()) <= set(unsure.samples[:count].tolist())


def test_triton_descending_says_how_probable_its_leaf_is(kernels: ModuleType) -> None:
    case = Case(37)
    value, leaf, _ = kernels.descend(
        case.weight.to(DEVICE), case.bias.to(DEVICE), case.features.to(DEVICE)
    )
    reached = case.exact().gather(1, leaf.cpu().unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(value.cpu().double(), reached, rtol=1e-5, atol=1e-5)
