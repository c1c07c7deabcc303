"""Sampled softmax: its draws, its unbiased normaliser, and its sparse gradient."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import heads

every_distribution = pytest.mark.parametrize("distribution", ["log-uniform", "uniform"])


@every_distribution
def test_draws_follow_the_distribution_that_corrects_them(distribution: str) -> None:
    torch.manual_seed(0)
    m, n = 200_000, 20
    head = heads.build("sampled", 4, n, num_sampled=m, distribution=distribution)
    classes, log_expected = head.draw()
    counts = torch.bincount(classes, minlength=n).double()
    expected = torch.zeros(n, dtype=torch.float64)
    expected[classes] = log_expected.double().exp()
    assert expected.sum() == pytest.approx(m, rel=1e-5)
    assert ((counts - expected) / expected.sqrt()).abs().max() < 5
    if distribution == "log-uniform":
        assert expected[0] / m == pytest.approx(math.log(2) / math.log(n + 1), rel=1e-5)


@every_distribution
def test_normaliser_is_unbiased(distribution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of exp(z_y - output) over all that can be drawn is the full softmax's normaliser."""
    torch.manual_seed(0)
    n, m = 7, 2
    head = heads.build("sampled", 4, n, num_sampled=m, distribution=distribution).double()
    expected: dict[int, float] = {}
    while len(expected) < n:
        classes, log_expected = head.draw()
        expected |= zip(classes.tolist(), log_expected.tolist(), strict=True)
    features = torch.randn(1, 4, dtype=torch.float64)
    target = torch.tensor([3])
    mean = 0.0
    with torch.no_grad():
        logits = head.logits(features)
        for drawn in itertools.product(range(n), repeat=m):
            logs = torch.tensor([expected[k] for k in drawn], dtype=torch.float64)
            monkeypatch.setattr(head, "draw", lambda *_, d=drawn, e=logs: (torch.tensor(d), e))
            probability = float((logs.exp() / m).prod())
            mean += probability * float((logits[0, 3] - head(features, target).output).exp())
    assert mean == pytest.approx(float(logits.exp().sum()), rel=1e-6)


@every_distribution
def test_loss_tends_to_the_exact_one_as_the_sample_grows(distribution: str) -> None:
    torch.manual_seed(0)
    head = heads.build("sampled", 4, 50, num_sampled=500_000, distribution=distribution)
    features, target = torch.randn(6, 4), torch.randint(50, (6,))
    with torch.no_grad():
        estimate = head(features, target).output
        torch.testing.assert_close(
            estimate, head.eval()(features, target).output, atol=0.03, rtol=0
        )


def test_gradient_holds_targets_and_negatives_and_no_others() -> None:
    head = heads.build("sampled", 4, 100_000, num_sampled=5)
    target = torch.tensor([1, 99_999])
    torch.manual_seed(0)
    head(torch.randn(2, 4), target).loss.backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.is_sparse
        assert parameter.grad._nnz() == 7
        assert set(target.tolist()) <= set(parameter.grad.coalesce().indices()[0].tolist())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_sampled": 0}, "num_sampled must be at least 1"),
        ({"distribution": "normal"}, "one of log-uniform, uniform"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        heads.build("sampled", 4, 10, **options)
