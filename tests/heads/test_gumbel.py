"""Gumbel noise is Gumbel noise, and the published stand-in is not."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

import heads
from heads.gumbel import Annealing, gumbel_noise


def test_noise_follows_the_gumbel_distribution() -> None:
    torch.manual_seed(0)
    sample = gumbel_noise(torch.empty(20_000)).numpy()
    assert stats.kstest(sample, stats.gumbel_r.cdf).pvalue > 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_noise_is_float32_whatever_the_dtype(dtype: torch.dtype) -> None:
    assert gumbel_noise(torch.empty(3, dtype=dtype)).dtype == torch.float32


def argmax_frequencies(logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    winners = (logits + noise).argmax(dim=1)
    return torch.bincount(winners, minlength=logits.numel()) / winners.numel()


def test_argmax_under_gumbel_noise_samples_the_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])
    shape = torch.empty(1_000_000, 5)
    error = argmax_frequencies(logits, gumbel_noise(shape)) - logits.softmax(0)
    published = argmax_frequencies(logits, torch.randn_like(shape)) - logits.softmax(0)
    assert error.abs().max() < 0.003
    assert published.abs().max() > 0.05


def test_tempered_loss_tends_to_cross_entropy_as_tau_vanishes() -> None:
    """The tau -> 0 identity: E max_k(z_k + g_k) = log sum exp z + gamma, E g_y = gamma."""
    torch.manual_seed(0)
    head = heads.build("gumbel", 6, 10, tau=1e-3).double()
    features = torch.randn(1, 6, dtype=torch.float64).expand(200_000, -1)
    target = torch.full((200_000,), 3)
    with torch.no_grad():
        tempered = 1e-3 * head(features, target).loss
        plain = head.eval()(features[:1], target[:1]).loss
    # The mean's standard error is about 0.003.
    assert float(tempered) == pytest.approx(float(plain), abs=0.015)


def test_training_loss_is_the_cross_entropy_of_noisy_tempered_scores() -> None:
    """In float64, where torch's operators make the noise; for kernels' see their tests."""
    head = heads.build("gumbel", 6, 10, tau=0.7).double()
    features, target = torch.randn(5, 6, dtype=torch.float64), torch.arange(5)
    torch.manual_seed(1)
    loss = head(features, target).loss
    torch.manual_seed(1)
    uniform_free = -torch.empty(5, 10).exponential_().log()
    logits = head.linear(features)
    torch.testing.assert_close(loss, F.cross_entropy((logits + uniform_free) / 0.7, target))


@pytest.mark.parametrize("options", [{}, {"hard": True}, {"loss": "probability"}])
def test_the_loss_is_the_mean_over_the_draws(options: dict[str, object]) -> None:
    one = heads.build("gumbel", 6, 10, tau=0.7, **options)
    three = heads.build("gumbel", 6, 10, tau=0.7, draws=3, **options)
    three.load_state_dict(one.state_dict())
    features, target = torch.randn(5, 6), torch.arange(5)
    torch.manual_seed(1)
    output, loss = three(features, target)
    torch.manual_seed(1)
    apart = one(features.repeat(3, 1), target.repeat(3))
    torch.testing.assert_close(output, apart.output.view(3, 5).mean(0))
    torch.testing.assert_close(loss, apart.loss)


def test_published_variant_puts_probabilities_straight_into_the_likelihood() -> None:
    head = heads.build("gumbel-normal", 6, 10)
    features, target = torch.randn(5, 6), torch.arange(5)
    torch.manual_seed(1)
    loss = head(features, target).loss
    torch.manual_seed(1)
    noise = torch.randn(5, 10)
    expected = F.nll_loss((head.linear(features) + noise).softmax(1), target)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", ["gumbel", "gumbel-normal"])
def test_evaluation_is_the_plain_softmax(name: str) -> None:
    head = heads.build(name, 6, 10).eval()
    features, target = torch.randn(5, 6), torch.arange(5)
    torch.testing.assert_close(
        head(features, target).loss, F.cross_entropy(head.linear(features), target)
    )


@pytest.mark.parametrize("tau", [0, -1.0, float("nan")])
def test_a_temperature_not_above_zero_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match="tau must be above 0"):
        heads.build("gumbel", 6, 10, tau=tau)


def test_annealing_falls_geometrically_and_stays() -> None:
    tau = Annealing(start=2.0, end=0.5, steps=4)
    assert [tau(step) for step in (0, 2, 4, 100)] == pytest.approx([2.0, 1.0, 0.5, 0.5])


def test_a_schedule_advances_with_training_batches_and_is_saved() -> None:
    def make() -> heads.Head:
        return heads.build("gumbel", 6, 10, tau=Annealing(2.0, 0.5, 4))

    head = make()
    features, target = torch.randn(5, 6), torch.arange(5)
    for _ in range(2):
        head(features, target)
    head.eval()(features, target)
    assert head.tau == pytest.approx(1.0)
    restored = make()
    restored.load_state_dict(head.state_dict())
    assert restored.tau == head.tau


def test_a_bad_schedule_is_refused() -> None:
    for start, end, steps in ((0, 1, 1), (1, -1, 1), (1, 1, 0)):
        with pytest.raises(ValueError, match="must be a"):
            Annealing(start, end, steps)


def test_straight_through_has_the_samples_value_and_the_relaxed_gradient() -> None:
    torch.manual_seed(0)
    head = heads.build("gumbel", 6, 4, tau=0.7, hard=True).double()
    features = torch.randn(500, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randint(4, (500,))
    torch.manual_seed(1)
    output, loss = head(features, target)
    torch.manual_seed(1)
    relaxed = (head.linear(features) + gumbel_noise(torch.empty(500, 4))) / 0.7
    assert torch.equal(output, (relaxed.argmax(1) == target).double())
    assert 0 < output.mean() < 1
    soft = -relaxed.softmax(1).gather(1, target.unsqueeze(1)).mean()
    for ours, expected in zip(
        torch.autograd.grad(loss, [features, *head.parameters()]),
        torch.autograd.grad(soft, [features, *head.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("noise", ["gumbel", "normal"])
@pytest.mark.parametrize("loss", ["log", "probability", "double-softmax"])
def test_each_defect_is_what_it_says(noise: str, loss: str) -> None:
    torch.manual_seed(0)
    head = heads.build("gumbel", 6, 10, tau=0.7, noise=noise, loss=loss).double()
    features, target = torch.randn(5, 6, dtype=torch.float64), torch.arange(5)
    torch.manual_seed(1)
    output, mean = head(features, target)
    torch.manual_seed(1)
    logits = head.linear(features)
    drawn = gumbel_noise(logits) if noise == "gumbel" else torch.randn_like(logits)
    likely = torch.softmax((logits + drawn) / 0.7, dim=1)
    expected = {
        "log": likely.log(),
        "probability": likely,
        "double-softmax": likely - likely.exp().sum(dim=1, keepdim=True).log(),
    }[loss][range(5), target]
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(mean, -expected.mean())


def test_the_double_softmax_loss_stays_above_its_floor() -> None:
    head = heads.build("gumbel", 6, 10, loss="double-softmax")
    with torch.no_grad():
        head.linear.bias.copy_(1e4 * torch.nn.functional.one_hot(torch.tensor(3), 10))
    loss = head(torch.zeros(4, 6), torch.full((4,), 3)).loss
    assert loss.item() == pytest.approx(math.log(1 + 9 / math.e))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "uniform"}, r"noise must be one of \('gumbel', 'normal'\), got 'uniform'"),
        ({"loss": "none"}, "loss must be one of .* got 'none'"),
        ({"draws": 0}, "draws must be at least 1, got 0"),
        ({"hard": True, "loss": "probability"}, "hard has a loss of its own"),
    ],
)
def test_unknown_defects_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads.build("gumbel", 6, 10, **options)


@pytest.mark.parametrize("step", [0, 1, 3, 4, 50])
def test_annealing_on_a_device_is_annealing(step: int) -> None:
    tau = Annealing(start=2.0, end=0.5, steps=4)
    assert float(tau.on_device(torch.tensor(step))) == pytest.approx(tau(step))
