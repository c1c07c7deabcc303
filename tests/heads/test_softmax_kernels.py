"""What lies between the products of a softmax in slices, by every back end, against float64."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import stats

import heads
from heads import softmax_torch
from heads.extras import optional
from heads.softmax_chunked import chunked_log_prob
from heads.softmax_torch import Perturbation
from tests.heads.test_paths import DEVICE, INTERPRETED, NAMES

back_ends = pytest.mark.parametrize("name", NAMES)
needs_numba = pytest.mark.skipif("numba" not in NAMES, reason="needs the optional extra 'fast'")
ROWS = 20 if INTERPRETED else 40


def back_end(name: str) -> ModuleType:
    return import_module(f"heads.softmax_{name}")


def device_of(name: str) -> str:
    return "cpu" if name == "numba" else DEVICE


def noise_at(tau: float, seed: int = 5, device: str = "cpu") -> Perturbation:
    return Perturbation(torch.tensor([seed], device=device), torch.tensor([tau], device=device))


def drawn(name: str, size: int, classes: int, noise: Perturbation, start: int = 0) -> torch.Tensor:
    """The noise of a slice."""
    if name == "torch":
        zeros = torch.zeros(size, classes, device=noise.seed.device)
        return (softmax_torch.perturbed(zeros, start, noise) * noise.tau).cpu()
    found: torch.Tensor = back_end(name).drawn(noise, size, classes, start)
    return found.cpu()


@back_ends
@pytest.mark.parametrize("tau", [None, 0.7])
@pytest.mark.parametrize(("size", "slices"), [(7, (64, 36)), (7, (100,)), (70, (64, 3))])
def test_slices_make_up_the_softmax(
    name: str, tau: float | None, size: int, slices: tuple[int, ...]
) -> None:
    module, device = back_end(name), device_of(name)
    torch.manual_seed(0)
    classes = sum(slices)
    logits = 5 * torch.randn(size, classes, device=device)
    logits[:2, : slices[0] if len(slices) > 1 else 5] = -torch.inf  # perhaps a whole slice
    target = torch.randint(classes - 3, classes, (size,), device=device)
    grad = torch.randn(size, device=device)
    noise = None if tau is None else noise_at(tau, device=device)
    running = module.Running(target, noise)
    starts = np.cumsum([0, *slices[:-1]]).tolist()
    parts = list(zip(logits.split(list(slices), dim=1), starts, strict=True))
    for part, start in parts:
        running.take(part.clone(), start)
    score, log_sum = running.result()
    output = score - log_sum
    found, bias = [], torch.empty(classes, device=device)
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


@pytest.mark.skipif("triton" not in NAMES, reason="runs in test_paths' process of its own")
@pytest.mark.parametrize("tau", [None, 0.7])
@pytest.mark.parametrize(
    ("size", "width", "classes"),
    [(3, 5, 70), (130, 16, 131), (130, 4, 9), (1, 100, 1000), (0, 4, 9)],
)
def test_triton_softmax_without_logits(
    size: int, width: int, classes: int, tau: float | None
) -> None:
    """Log-probabilities and all gradients, in any shape, with targets that others have."""
    module = import_module("heads.softmax_fused_triton")
    torch.manual_seed(0)
    features, weight, bias = (
        torch.randn(*shape, device=DEVICE)
        for shape in ((size, width), (classes, width), (classes,))
    )
    bias[::7] = -torch.inf
    target = torch.randint(classes, (size,), device=DEVICE)
    target[target % 7 == 0] = classes
    target[:1] = 1
    grad = torch.randn(size, device=DEVICE)
    noise = None if tau is None else noise_at(tau, device=DEVICE)
    given = (features, weight, bias, target)
    score, log_sum = module.log_sums(*given, noise, torch.float32)
    found = [score, log_sum, module.input_gradient(*given, log_sum, grad, noise, torch.float32)]
    found += module.weight_gradient(*given, log_sum, grad, noise, torch.float32)
    x, w, b = exact = [one.double().cpu().requires_grad_() for one in given[:3]]
    logits = x @ w.T + b
    if noise is not None:
        logits = (logits + drawn("triton", size, classes, noise).double()) / tau
    ours = target.cpu() < classes
    place = target.cpu().clamp(max=classes - 1).unsqueeze(1)
    scores = torch.where(ours, logits.gather(1, place).squeeze(1), 0.0)
    expected = [scores, logits.logsumexp(1)]
    loss = (scores - expected[1]) @ grad.double().cpu()
    expected += torch.autograd.grad(loss, exact)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double().cpu(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "torch"])
def test_noise_is_gumbels_and_all_of_it_is_new(name: str) -> None:
    """In `torch`, it is `exponential_` that is tested so."""
    noise = noise_at(1.0, device=device_of(name))
    sample = drawn(name, ROWS, 256, noise)
    assert stats.kstest(sample.flatten().numpy(), "gumbel_r").pvalue > 0.01
    assert sample.unique().numel() > 0.99 * sample.numel()
    assert torch.equal(drawn(name, ROWS, 128, noise, 128), sample[:, 128:])
    other = drawn(name, ROWS, 256, noise_at(1.0, seed=6, device=device_of(name)))
    for one, another in (
        (sample, other),
        (sample[:, :-1], sample[:, 1:]),
        (sample[:-1], sample[1:]),
    ):
        assert abs(np.corrcoef(one.flatten(), another.flatten())[0, 1]) < 0.05


@pytest.mark.skipif("triton" not in NAMES, reason="runs in test_paths' process of its own")
@pytest.mark.skipif(optional("heads.softmax_numba") is None, reason="needs the extra 'fast'")
@pytest.mark.parametrize("seed", [0, 5, 2**31 - 1])
def test_triton_noise_is_that_of_the_loops(seed: int) -> None:
    one, other = (
        drawn(name, 5, 300, noise_at(1.0, seed, device_of(name)), start=1000)
        for name in ("triton", "numba")
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif("triton" not in NAMES, reason="runs in test_paths' process of its own")
@pytest.mark.parametrize("shape", [(3, 1500), (0, 7)])
def test_triton_puts_that_noise_on_logits(shape: tuple[int, int]) -> None:
    noise, logits = noise_at(0.7, device=DEVICE), torch.randn(shape, device=DEVICE)
    found = back_end("triton").perturbed(logits.bfloat16(), noise)
    expected = (logits.bfloat16().cpu() + drawn("triton", *shape, noise)) / 0.7
    torch.testing.assert_close(found.cpu(), expected)


@pytest.fixture(scope="module")
def much() -> np.ndarray:
    """A million numbers of noise of the compiled loops, a thousand for each sample."""
    return drawn("numba", 1000, 1000, noise_at(1.0)).numpy().astype(float)


@needs_numba
def test_both_tails_of_the_noise_are_gumbels(much: np.ndarray) -> None:
    """Beyond a quantile, what is left is distributed as it should be there, and as frequent."""
    for tail, share in ((stats.gumbel_r.sf(much), 1e-3), (stats.gumbel_r.cdf(much), 1e-3)):
        beyond = tail[tail < share]
        assert stats.binomtest(len(beyond), much.size, share).pvalue > 0.01
        assert stats.kstest(beyond, stats.uniform(scale=share).cdf).pvalue > 0.01
    highest, lowest = much.max(axis=1), much.min(axis=0)
    assert stats.kstest(highest, lambda x: stats.gumbel_r.cdf(x) ** 1000).pvalue > 0.01
    assert stats.kstest(lowest, lambda x: 1 - stats.gumbel_r.sf(x) ** 1000).pvalue > 0.01


@needs_numba
def test_noise_knows_nothing_of_other_noise(much: np.ndarray) -> None:
    """Of another class, sample or seed, near or a power of two away, in the bulk and the tails."""
    uniform = stats.gumbel_r.cdf(much)
    other = stats.gumbel_r.cdf(drawn("numba", 1000, 1000, noise_at(1.0, seed=6)).numpy())
    pairs = [(uniform, other)]
    for step in (1, 2, 64, 256, 512):
        pairs += [(uniform[step:], uniform[:-step]), (uniform[:, step:], uniform[:, :-step])]
    for one, another in pairs:
        table = np.histogram2d(one.ravel(), another.ravel(), bins=32, range=[[0, 1]] * 2)[0]
        assert stats.chisquare(table.ravel()).pvalue > 0.001
        rare = [(of < 0.003) | (of > 0.997) for of in (one, another)]
        together = int((rare[0] & rare[1]).sum())
        assert stats.poisson(one.size * 0.006**2).sf(together - 1) > 0.001


@needs_numba
@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_the_best_under_noise_is_a_sample_of_the_softmax(tau: float) -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0, -7.0])
    size = 400_000
    noise, target = noise_at(tau), torch.zeros(size, dtype=torch.int64)
    perturbed = back_end("numba").Running(target, noise).take(logits.repeat(size, 1), 0)
    count = torch.bincount(perturbed.argmax(1), minlength=6).double().numpy()
    assert stats.chisquare(count, size * logits.double().softmax(0).numpy()).pvalue > 0.001


@needs_numba
def test_the_loops_functions_are_exact_to_rounding() -> None:
    module = back_end("numba")
    bits = np.unique(np.geomspace(1, 2**30, 3000).astype(np.int32))
    bits = np.concatenate(([0], bits, 2**31 - 1 - bits, [2**31 - 1])).astype(np.int32)
    found = np.empty(len(bits), np.float32)
    module._exponentials(found, bits)
    uniform = (bits.astype(float) + 0.5) / 2**31
    np.testing.assert_allclose(found, -np.log1p(-uniform), rtol=3e-7)
    x = np.linspace(-86, 1e-3, 10_000, dtype=np.float32)
    found, total = x.copy(), np.zeros_like(x)
    module._to_slopes(found, total, np.float32(0), np.float32(-1))
    np.testing.assert_allclose(found, np.exp(x.astype(float)), rtol=3e-7)
    y = np.geomspace(2**-32, 23, 10_000, dtype=np.float32)
    found = np.zeros_like(y)
    module._add_noise(found, y, np.float32(1))
    np.testing.assert_allclose(found, -np.log(y.astype(float)), rtol=3e-7, atol=1e-7)


@needs_numba
@pytest.mark.parametrize("bad", [torch.nan, -torch.nan, torch.inf])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    logits, target = torch.randn(3, 2000), torch.tensor([0, 1500, 1999])
    logits[1, 700] = bad
    logits[2, :1100] = -torch.inf
    expected = logits.double().log_softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)
    running = back_end("numba").Running(target, None)
    running.take(logits.clone(), 0)
    score, log_sum = running.result()
    torch.testing.assert_close((score - log_sum).double(), expected, equal_nan=True)
    bias = torch.empty(2000)
    slopes = back_end("numba").slopes(logits, log_sum, target, torch.ones(3), 0, bias, None)
    assert slopes[1].isnan().all()
    assert torch.equal(slopes[2, :1100], torch.zeros(1100))


@needs_numba
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("elements", [64 * 9, 10**6])
def test_gradients_are_those_under_the_same_noise(
    keep: bool, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one slice or several, its logits kept or made again; a second time, too."""
    monkeypatch.setattr(back_end("numba"), "ELEMENTS", elements)
    torch.manual_seed(0)
    noise, target = noise_at(0.7), torch.randint(300, (9,))
    given = [torch.randn(9, 5), torch.randn(300, 5), torch.randn(300)]
    features, weight, bias = (one.double().requires_grad_() for one in given)
    scores = (features @ weight.T + bias + drawn("numba", 9, 300, noise).double()) / 0.7
    expected = scores.log_softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)
    grad = torch.randn(9)
    slopes = torch.autograd.grad(expected @ grad.double(), (features, weight, bias))
    ours = [one.requires_grad_() for one in given]
    output = chunked_log_prob(*ours, target, noise, keep=keep)
    torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-5)
    for again in (True, False):
        found = torch.autograd.grad(output @ grad, ours, retain_graph=again)
        for one, slope in zip(found, slopes, strict=True):
            torch.testing.assert_close(one.double(), slope, rtol=1e-4, atol=1e-5)


@needs_numba
@pytest.mark.parametrize("tau", [None, 0.7])
@pytest.mark.parametrize("classes", [3, 100, 5000])
def test_bits_do_not_depend_on_the_number_of_threads(
    tau: float | None, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = back_end("numba")
    monkeypatch.setattr(module, "ELEMENTS_PER_THREAD", 1)
    noise = None if tau is None else noise_at(tau)
    torch.manual_seed(0)
    logits, target, grad = torch.randn(7, classes), torch.randint(classes, (7,)), torch.randn(7)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            running = module.Running(target, noise)
            running.take(logits.clone(), 0)
            score, log_sum = running.result()
            bias = torch.empty(classes)
            slopes = module.slopes(logits.clone(), log_sum, target, grad, 0, bias, noise)
            results.append((score, log_sum, slopes, bias))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@needs_numba
@pytest.mark.parametrize("elements", [7 * 64, 10**6])
def test_the_noise_follows_torchs_generator(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back_end("numba"), "ELEMENTS", elements)
    head = heads.build("gumbel", 6, 300)
    features, target = torch.randn(7, 6), torch.arange(7)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(head(features, target).output)
    again = head(features, target).output
    assert torch.equal(outputs[0], outputs[1])
    for other in (outputs[2], again):
        assert (outputs[0] != other).all()
