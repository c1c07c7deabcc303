"""One rule for dtypes, whatever the head, the method and the way that an answer is found."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import heads
from heads import search
from heads.search import TreeHead

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

every_head = pytest.mark.parametrize("name", heads.names())


@pytest.mark.parametrize("num_classes", [5, 3000])
@pytest.mark.parametrize("parameters", DTYPES, ids=str)
@every_head
def test_answers_have_the_dtype_of_the_parameters_or_float32(
    name: str, parameters: torch.dtype, num_classes: int
) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 8, num_classes).to(parameters)
    expected = torch.promote_types(parameters, torch.float32)
    target = torch.randint(num_classes, (6,))
    for given in DTYPES:
        for training in (False, True):
            features = torch.randn(6, 8, dtype=given, requires_grad=True)
            head.zero_grad()  # torch cannot add up sparse gradients in float16 on a CPU
            output, loss = head.train(training)(features, target)
            loss.backward()
            answers = [output, loss, head.log_prob(features)]
            answers += [head.topk(features, k)[0] for k in (1, 3)]
            assert {answer.dtype for answer in answers} == {expected}
            assert features.grad is not None
            assert features.grad.dtype == given
            assert head.predict(features).dtype == torch.int64
            assert all(p.dtype == parameters for p in head.parameters())


@every_head
def test_another_dtype_of_the_input_is_a_conversion_and_no_more(name: str) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 8, 300).eval()
    features, target = torch.randn(6, 8, dtype=torch.float64), torch.randint(300, (6,))
    converted = features.float()
    assert torch.equal(head(features, target).loss, head(converted, target).loss)
    assert torch.equal(head.log_prob(features), head.log_prob(converted))
    assert torch.equal(head.topk(features, 2)[0], head.topk(converted, 2)[0])


@pytest.mark.parametrize("options", [{}, {"branching": 8}], ids=["binary", "wide"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_search_answers_in_the_dtype_of_scoring_everything(
    dtype: torch.dtype, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of samples of which some are searched for and others, less sure, are not."""
    monkeypatch.setattr(search, "SEARCH_FROM", 0)
    torch.manual_seed(0)
    head = heads.build("hierarchical", 8, 60_000, **options).to(dtype)
    assert isinstance(head, TreeHead)
    features = torch.randn(6, 8, dtype=dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(30 if parameter.dim() > 1 else 0)
        features[3:] /= 1000
    sure, _, _ = search.best_leaves(head.descent(features), 1, head.inner_nodes // 128)
    assert sure[:3].any()
    assert not sure[3:].all()
    values, classes = head.topk(features, 1)
    log_prob = head.log_prob(features)
    assert values.dtype == log_prob.dtype
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.02}.get(dtype, 1e-3)
    torch.testing.assert_close(values[:, 0], log_prob.amax(1), rtol=tolerance, atol=tolerance)
    assert classes.shape == (6, 1)


@every_head
def test_no_gradient_flows_through_what_may_be_a_search(name: str) -> None:
    features: Tensor = torch.randn(3, 8, requires_grad=True)
    assert not heads.build(name, 8, 20).topk(features, 2)[0].requires_grad
