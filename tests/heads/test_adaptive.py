"""The wrapped adaptive softmax: its answers are torch's, its defaults fit any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import heads
from heads.adaptive import default_cutoffs


def test_it_is_torchs_own() -> None:
    head = heads.build("adaptive", 64, 1000, cutoffs=[50, 250])
    torchs = nn.AdaptiveLogSoftmaxWithLoss(64, 1000, [50, 250], head_bias=True)
    torchs.load_state_dict(head.adaptive.state_dict())
    features, target = torch.randn(9, 64), torch.randint(1000, (9,))
    assert torch.equal(head(features, target).output, torchs(features, target).output)
    assert torch.equal(head.log_prob(features), torchs.log_prob(features))


@settings(max_examples=200, deadline=None)
@given(in_features=st.integers(1, 600), num_classes=st.integers(2, 10**7))
def test_default_cutoffs_suit_torch_at_any_size(in_features: int, num_classes: int) -> None:
    cutoffs = default_cutoffs(in_features, num_classes)
    assert cutoffs
    assert cutoffs == sorted(set(cutoffs))
    assert cutoffs[0] >= 1
    assert cutoffs[-1] < num_classes
    assert len(cutoffs) == 1 or in_features >= 4 ** len(cutoffs)


@pytest.mark.parametrize("cutoffs", [[0], [10], [5, 3], [3, 3]])
def test_bad_cutoffs_are_refused(cutoffs: list[int]) -> None:
    with pytest.raises(ValueError, match="cutoffs"):
        heads.build("adaptive", 8, 10, cutoffs=cutoffs)


def test_counts_order_the_classes_and_leave_the_cutoffs() -> None:
    counts = 1 / torch.arange(1, 1_001).flip(0)
    head = heads.build("adaptive", 128, 1_000, class_counts=counts)
    assert head.adaptive.cutoffs == [*default_cutoffs(128, 1_000), 1_000]
    assert head.order.tolist() == list(range(999, -1, -1))


def test_counts_rank_the_classes_for_the_caller() -> None:
    torch.manual_seed(0)
    counts = torch.rand(60)
    ranked = heads.build("adaptive", 16, 60, counts=counts).double()
    plain = heads.build("adaptive", 16, 60).double()
    plain.adaptive.load_state_dict(ranked.adaptive.state_dict())
    order = counts.argsort(descending=True)
    features = torch.randn(9, 16, dtype=torch.float64)
    target = torch.randint(60, (9,))
    torch.testing.assert_close(ranked.log_prob(features)[:, order], plain.log_prob(features))
    torch.testing.assert_close(ranked(features, order[target]), plain(features, target))
    assert torch.equal(ranked.predict(features), ranked.log_prob(features).argmax(dim=1))


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="10 numbers"):
        heads.build("adaptive", 8, 10, counts=[1.0] * 9)
