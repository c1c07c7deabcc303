"""Exact search answers as scoring everything does, and greedy search as a walk down the tree."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import heads
from heads import heap, search, tree_softmax
from heads.search import SEARCH_SHARE, Descent, TreeHead, best_leaves


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search even where scoring everything would be faster."""
    monkeypatch.setattr(search, "SEARCH_FROM", 0)


every_tree = pytest.mark.parametrize(
    "options",
    [{}, {"tree": "huffman"}, {"branching": 4}, {"tree": "order"}],
    ids=["heap", "huffman", "branching-4", "order"],
)


def make(options: dict[str, object], num_classes: int, confidence: float) -> heads.Head:
    torch.manual_seed(num_classes)
    options = dict(options)
    if options.get("tree") == "huffman":
        options["counts"] = [1 / (rank + 1) for rank in range(num_classes)]
    if options.get("tree") == "order":
        options["tree"] = torch.randperm(num_classes)
    head = heads.build("hierarchical", 16, num_classes, **options).double()
    for parameter in head.parameters():
        parameter.data.mul_(confidence)
    return head


@every_tree
@pytest.mark.parametrize("confidence", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("num_classes", [7, 300, 5000])
def test_search_finds_what_scoring_everything_finds(
    options: dict[str, object], confidence: float, k: int, num_classes: int
) -> None:
    head = make(options, num_classes, confidence)
    if isinstance(head, tree_softmax.TreeSoftmax):
        head.dense = False
    features = torch.randn(20, 16, dtype=torch.float64)
    with torch.no_grad():
        log_prob = head.log_prob(features)
        sure, values, classes = best_leaves(head.descent(features), k, budget=math.inf)
    assert sure.all()
    torch.testing.assert_close(values, log_prob.topk(k, dim=1).values)
    torch.testing.assert_close(log_prob.gather(1, classes), values)


@pytest.mark.usefixtures("always")
@every_tree
def test_predict_and_topk_are_exact_where_they_search(options: dict[str, object]) -> None:
    head = make(options, 5000, 30.0)
    features = torch.randn(20, 16, dtype=torch.float64)
    assert torch.equal(head.predict(features), head.log_prob(features).argmax(dim=1))
    torch.testing.assert_close(head.topk(features, 5)[0], head.log_prob(features).topk(5).values)


@pytest.mark.usefixtures("always")
@every_tree
@pytest.mark.parametrize("confidence", [0.01, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("k", [1, 2])
def test_no_sample_is_searched_beyond_its_share_of_the_nodes(
    options: dict[str, object], confidence: float, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam and search together, whether the search succeeds or is given up."""
    head = make(options, 20_000, confidence)
    assert isinstance(head, TreeHead)
    spent = torch.zeros(20, dtype=torch.int64)
    make_descent = head.descent

    def counted(input: Tensor) -> Descent:
        expand, *rest = make_descent(input)

        def count(samples: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
            spent.add_(samples.bincount(minlength=len(spent)))
            return expand(samples, nodes)

        return (count, *rest)

    monkeypatch.setattr(head, "descent", counted)
    head.topk(torch.randn(20, 16, dtype=torch.float64), k)
    assert 0 < int(spent.max()) <= head.inner_nodes // SEARCH_SHARE


@every_tree
def test_where_a_search_cannot_pay_none_is_begun(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = make(options, 5000, 30.0)
    monkeypatch.setattr(search, "best_leaves", None)
    features = torch.randn(20, 16, dtype=torch.float64)
    assert torch.equal(head.predict(features), head.log_prob(features).argmax(dim=1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"branching": 4},
        {"branching": 4, "pieces": 3},
        {"tree": "huffman"},
        {"tree": "order"},
    ],
    ids=["heap", "branching-4", "pieces", "huffman", "order"],
)
@pytest.mark.parametrize("num_classes", [5, 64, 300])
@pytest.mark.parametrize("confidence", [0.1, 30.0])
def test_the_best_leaf_is_found_a_part_of_the_tree_at_a_time(
    options: dict[str, object], num_classes: int, confidence: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (
        (search, "ALL_LEAVES_UP_TO"),
        (tree_softmax, "CACHED_SCORES"),
        (heap, "CACHED_SCORES"),
    ):
        monkeypatch.setattr(module, name, 0 if "LEAVES" in name else 800)
    head = make(options, num_classes, confidence)
    assert isinstance(head, TreeHead)
    features = torch.randn(20, 16, dtype=torch.float64)
    value, best = head.score_all(features, 1)
    torch.testing.assert_close(value, head.log_prob(features).topk(1).values)
    assert torch.equal(best.squeeze(1), head.log_prob(features).argmax(dim=1))


@every_tree
def test_sure_samples_are_searched_and_unsure_ones_are_not(options: dict[str, object]) -> None:
    features = torch.randn(20, 16, dtype=torch.float64)
    assert best_leaves(make(options, 5000, 100.0).descent(features), 1, budget=500)[0].all()
    assert not best_leaves(make(options, 5000, 0.01).descent(features), 1, budget=20)[0].all()


@pytest.mark.usefixtures("always")
@every_tree
@pytest.mark.parametrize("k", [1, 5])
def test_a_batch_of_sure_and_unsure_samples_is_answered_in_its_order(
    options: dict[str, object], k: int
) -> None:
    head = make(options, 5000, 30.0)
    features = torch.randn(20, 16, dtype=torch.float64)
    features[::2] *= 0.001
    values, classes = head.topk(features, k)
    log_prob = head.log_prob(features)
    torch.testing.assert_close(values, log_prob.topk(k).values)
    torch.testing.assert_close(log_prob.gather(1, classes), values)


@pytest.mark.usefixtures("always")
@every_tree
def test_an_unsure_model_is_answered_all_the_same(options: dict[str, object]) -> None:
    head = make(options, 5000, 0.01)
    features = torch.randn(20, 16, dtype=torch.float64)
    assert torch.equal(head.predict(features), head.log_prob(features).argmax(dim=1))


@pytest.mark.parametrize("num_classes", [2, 3, 100, 5000])
def test_greedy_search_follows_the_likelier_child(num_classes: int) -> None:
    head = make({}, num_classes, 1.0)
    features = torch.randn(20, 16, dtype=torch.float64)
    scores = F.linear(features, head.nodes.weight, head.nodes.bias)
    expected = []
    for row in scores.tolist():
        node = 1
        while node < num_classes:
            node = 2 * node + (row[node - 1] > 0)
        expected.append(node - num_classes)
    assert head.predict(features, search="greedy").tolist() == expected


def test_an_unknown_search_is_refused() -> None:
    for options in ({}, {"branching": 4}):
        with pytest.raises(ValueError, match="'exact' or 'greedy', got 'best'"):
            make(options, 10, 1.0).predict(torch.zeros(1, 16), search="best")


@every_tree
@pytest.mark.parametrize("k", [-1, 0, 5001])
def test_a_search_for_no_classes_or_too_many_is_refused(options: dict[str, object], k: int) -> None:
    with pytest.raises(ValueError, match=r"k must be in 1\.\.5000"):
        make(options, 5000, 1.0).topk(torch.zeros(1, 16, dtype=torch.float64), k)
