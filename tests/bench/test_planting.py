"""Planted features are predicted as the class that was drawn, as surely as was asked for."""

import pytest
import torch

import heads
from bench.measure import labels, planting
from bench.measure.workload import Workload
from reports.results import Cell

CPU = torch.device("cpu")


def planted(name, state, num_classes=1000, law="uniform", **options):
    torch.manual_seed(0)
    head = heads.build(name, 128, num_classes, **options)
    targets = labels.draw(law, num_classes, (64,), CPU)
    start = torch.randn(64, 128)
    return (
        head,
        targets,
        planting.plant(head, num_classes, start, targets, planting.CONFIDENCE[state]),
    )


@pytest.mark.parametrize("state", planting.CONFIDENCE)
@pytest.mark.parametrize("name", heads.names())
def test_every_head_predicts_as_surely_as_was_asked_for(name, state):
    head, targets, found = planted(name, state)
    assert found.confidence == pytest.approx(planting.CONFIDENCE[state], abs=0.03)
    # Recorded is what an independent look at all classes says.
    head.eval()
    with torch.no_grad():
        top = head.log_prob(found.features).max(dim=1)
    assert found.confidence == pytest.approx(top.values.double().exp().mean().item(), rel=1e-3)
    agreement = (top.indices == targets).double().mean().item()
    assert found.agreement == pytest.approx(agreement, abs=0.02)
    # Eight numbers a class leave some of the 750 in adaptive's last cluster no place of their own.
    assert found.agreement > (0.6 if name == "adaptive" else 0.95)


@pytest.mark.parametrize("state", planting.CONFIDENCE)
@pytest.mark.parametrize(("law", "low", "high"), [("uniform", 0.85, 1.0), ("zipf:2", 0.0, 0.15)])
def test_predictions_of_adaptive_lie_in_clusters_as_often_as_labels_do(law, low, high, state):
    head, targets, found = planted("adaptive", state, law=law)
    short = head.adaptive.shortlist_size
    share = (head.predict(found.features) >= short).double().mean().item()
    assert low <= share <= high
    assert share == pytest.approx((targets >= short).double().mean().item(), abs=0.05)


@pytest.mark.parametrize(
    "options", [{"branching": 16}, {"tree": "huffman"}, {"pieces": 2}], ids=str
)
def test_trees_of_any_kind_are_planted(options):
    counts = labels.counts("zipf:1", 1000)
    _, _, found = planted("hierarchical", "sure", law="zipf:1", class_counts=counts, **options)
    assert found.agreement > 0.95
    assert found.confidence == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("num_classes", [2, 3, 10, 16])
@pytest.mark.parametrize("state", planting.CONFIDENCE)
def test_of_few_classes_the_target_is_still_the_first(num_classes, state):
    _, _, found = planted("softmax", state, num_classes)
    assert found.agreement == 1


def test_the_module_is_left_as_it_was():
    head = heads.build("hierarchical", 16, 600).train()
    before = [p.clone() for p in head.parameters()]
    planting.plant(head, 600, torch.randn(8, 16), torch.arange(8), 0.9)
    assert head.training
    assert all(map(torch.equal, head.parameters(), before))
    assert all(p.grad is None and p.requires_grad for p in head.parameters())


def test_samples_are_moved_in_parts_that_fit(monkeypatch):
    _, _, whole = planted("softmax", "sure")
    monkeypatch.setattr(planting, "AT_ONCE", 7_000)
    _, _, parts = planted("softmax", "sure")
    torch.testing.assert_close(whole.features, parts.features, rtol=1e-3, atol=1e-3)


def workload(head, batch=8, **more):
    return Workload(Cell("isolated", head, "predict", 600, batch, 32, **more))


def test_each_prepared_call_keeps_its_state(monkeypatch):
    built, seen = workload("adaptive"), []
    timed = [built.prepare("predict", state) for state in ("unsure", "sure", "untrained")]
    monkeypatch.setattr(built, "_predict_of", seen.append)
    for one in timed:
        one.call()
    unsure, sure, untrained = seen
    assert untrained is built.input
    assert unsure.norm() < sure.norm()


@pytest.mark.parametrize("batch", [8, 300])
def test_all_batches_are_made_of_the_same_samples(batch):
    made, usual = workload("adaptive", batch).planted("sure"), workload("adaptive").planted("sure")
    assert made is usual
    assert made.batch(batch).shape == (batch, 32)
    common = min(batch, 128)
    assert torch.equal(made.batch(batch)[:common], made.batch(128)[:common])


def test_nothing_is_planted_where_no_prediction_depends_on_it():
    assert workload("softmax").planted("sure") is None


def test_counted_work_of_predictions_follows_the_labels_once_they_are_planted():
    built = workload("adaptive", labels="zipf:2")
    most = built.cost("predict").multiply_adds
    assert built.cost("predict", "sure").multiply_adds < most / 2
