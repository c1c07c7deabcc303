"""What lies between the products of a softmax in slices, by every back end, against float64."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import stats

from heads import softmax_torch
from heads.softmax_torch import Perturbation
from tests.heads.test_paths import CUDA, DEVICE, INTERPRETED

NAMES = ["torch", *(["triton"] if INTERPRETED or CUDA else [])]
back_ends = pytest.mark.parametrize("name", NAMES)
ROWS = 20 if INTERPRETED else 40


def back_end(name: str) -> ModuleType:
    return import_module(f"heads.softmax_{name}")


def noise_at(tau: float, seed: int = 5) -> Perturbation:
    return Perturbation(torch.tensor([seed], device=DEVICE), torch.tensor([tau], device=DEVICE))


def drawn(name: str, size: int, classes: int, noise: Perturbation, start: int) -> torch.Tensor:
    """The noise of a slice."""
    if name == "torch":
        zeros = torch.zeros(size, classes, device=DEVICE)
        return (softmax_torch.perturbed(zeros, start, noise) * noise.tau).cpu()
    found: torch.Tensor = back_end(name).drawn(noise, size, classes, start)
    return found.cpu()


@back_ends
@pytest.mark.parametrize("tau", [None, 0.7])
@pytest.mark.parametrize("slices", [(64, 36), (100,)])
def test_slices_make_up_the_softmax(name: str, tau: float | None, slices: tuple[int, ...]) -> None:
    module = back_end(name)
    torch.manual_seed(0)
    size, classes = 7, sum(slices)
    logits = 5 * torch.randn(size, classes, device=DEVICE)
    target = torch.randint(classes, (size,), device=DEVICE)
    grad = torch.randn(size, device=DEVICE)
    noise = None if tau is None else noise_at(tau)
    running = module.Running(target, noise)
    starts = np.cumsum([0, *slices[:-1]]).tolist()
    parts = list(zip(logits.split(list(slices), dim=1), starts, strict=True))
    for part, start in parts:
        running.take(part.clone(), start)
    output, log_sum = running.result()
    found, bias = [], torch.empty(classes, device=DEVICE)
    for part, start in parts:
        into = bias[start : start + part.size(1)]
        slopes = module.slopes(part.contiguous().clone(), log_sum, target, grad, start, into, noise)
        found.append(slopes)
    scores = logits.double().cpu()
    if noise is not None:
        whole = [drawn(name, size, part.size(1), noise, start) for part, start in parts]
        scores = (scores + torch.cat(whole, dim=1)) / tau
    scores = scores.requires_grad_()
    expected = scores.log_softmax(1).gather(1, target.cpu().unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(output.double().cpu(), expected, rtol=1e-4, atol=1e-4)
    (slopes,) = torch.autograd.grad(expected @ grad.double().cpu(), scores)
    slopes = slopes / (tau or 1)
    ours = torch.cat(found, dim=1).double().cpu()
    torch.testing.assert_close(ours, slopes, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(bias.double().cpu(), slopes.sum(0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "torch"])
def test_noise_is_gumbels_and_all_of_it_is_new(name: str) -> None:
    """In `torch`, it is `exponential_` that is tested so."""
    sample = drawn(name, ROWS, 256, noise_at(1.0), 0)
    assert stats.kstest(sample.flatten().numpy(), "gumbel_r").pvalue > 0.01
    assert sample.unique().numel() > 0.99 * sample.numel()
    assert torch.equal(drawn(name, 3, 128, noise_at(1.0), 128), sample[:3, 128:])
    other = drawn(name, ROWS, 256, noise_at(1.0, seed=6), 0)
    for one, another in (
        (sample, other),
        (sample[:, :-1], sample[:, 1:]),
        (sample[:-1], sample[1:]),
    ):
        assert abs(np.corrcoef(one.flatten(), another.flatten())[0, 1]) < 0.05
