"""The races of a tree head: what is drawn, trained, counted, and in which turns."""

import itertools

import pytest
import torch

import heads
from bench.cells import SWEEPS, grid
from bench.measure import races
from bench.measure.races import Clusters
from heads.greedy import greedy_misses
from reports.results import Cell

TREES = ("hierarchical", "two-level")


def head(name, classes, features=32):
    torch.manual_seed(0)
    return heads.build(name, features, classes)


def ticking():
    """A clock that advances a second at every look."""
    seconds = itertools.count()
    return lambda: float(next(seconds))


def test_a_greedy_miss_is_a_descent_to_a_less_probable_class():
    found = head("hierarchical", 300)
    features = torch.randn(200, 32)
    with torch.no_grad():
        log_prob = found.log_prob(features)
    missed = greedy_misses(found, features, log_prob.argmax(dim=1))
    greedy = found.predict(features, search="greedy")
    best = log_prob.max(dim=1).values
    chosen = log_prob.gather(1, greedy.unsqueeze(1)).squeeze(1)
    assert torch.equal(missed, chosen < best)
    assert missed.any()
    assert not missed.all()


def test_the_mean_of_a_class_is_the_sum_of_directions_on_its_path():
    tree = head("hierarchical", 11).tree
    clusters = Clusters(tree, 4_096, seed=0, device="cpu")
    classes = torch.arange(11).repeat_interleave(100)
    features, target = clusters.draw(classes)
    means = torch.stack([features[target == c].mean(dim=0) for c in range(11)])
    paths = [set(path[path >= 0].tolist()) for path in tree.paths()]
    shared = torch.tensor([[len(a & b) for b in paths] for a in paths]).float()
    torch.testing.assert_close(means @ means.t(), shared, rtol=0, atol=0.5)


@pytest.mark.parametrize("name", TREES)
def test_a_quick_training_makes_a_head_right_and_leaves_the_original_alone(name):
    fresh = head(name, 1_000)
    before = [parameter.clone() for parameter in fresh.parameters()]
    clusters = Clusters(fresh.tree, 32, seed=0, device="cpu")
    trained = races.trained(fresh, clusters)
    features, target = clusters.sample(300)
    hits = [(h.predict(features) == target).float().mean() for h in (fresh, trained)]
    assert hits[1] > hits[0] + 0.05
    assert all(map(torch.equal, before, fresh.parameters()))


@pytest.mark.parametrize(("name", "classes"), [("hierarchical", 4_096), ("two-level", 4_096)])
def test_scores_are_those_of_the_nodes_a_method_looks_at(name, classes):
    found = head(name, classes)
    features = torch.randn(16, 32)
    rows = sum(p.size(0) for p in found.parameters() if p.dim() == 2)
    everything = races.scores(lambda: found.log_prob(features), 16, 32)
    greedy = races.scores(lambda: found.predict(features, search="greedy"), 16, 32)
    assert everything == rows
    assert greedy == {"hierarchical": 12, "two-level": 2 * 64}[name]


def test_a_sure_model_is_searched_with_few_scores_and_an_unsure_one_with_all(monkeypatch):
    monkeypatch.setattr(heads.search, "SEARCH_FROM", 0)  # however small the work
    found = head("hierarchical", 5_000)
    features = torch.randn(16, 32)

    def exact():
        return races.scores(lambda: found.predict(features), 16, 32)

    assert exact() >= 4_999
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(100)
    assert 13 <= exact() < 500


def test_all_take_their_turn_in_every_round():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}
    taken = races.take_turns(calls, ticking(), budget=0)
    assert called == [*"abc"] * (1 + races.LEAST_ROUNDS)
    assert taken == {name: [1.0] * races.LEAST_ROUNDS for name in "abc"}


def test_a_race_ends_with_its_budget_or_enough_rounds():
    def rounds(budget):
        return len(races.take_turns({"a": lambda: None}, ticking(), budget)["a"])

    assert races.LEAST_ROUNDS < rounds(60) < rounds(120) < rounds(1e9) == races.MOST_ROUNDS


@pytest.mark.parametrize("classes", [16, 5_000])
def test_a_race_counts_what_each_model_answers(classes):
    raced = races.races(head("hierarchical", classes), 8, "cpu", ticking())
    assert list(raced) == ["untrained", "trained"]
    for race in raced.values():
        assert {len(rounds) for rounds in race.seconds.values()} == {races.LEAST_ROUNDS}
        assert 0 <= race.misses <= race.samples == races.SAMPLES
    assert raced["trained"].right > raced["untrained"].right
    assert raced["trained"].misses < raced["untrained"].misses


def test_tree_heads_are_raced_alone_at_one_batch_size():
    def make(scope, name, phase, classes, batch, features=8, **more):
        return Cell(scope, name, phase, classes, batch, features, **more)

    found = races.cells(grid(SWEEPS["default"], make))
    assert {cell.head for cell in found} == {"hierarchical"}
    assert {(c.scope, c.phase, c.batch) for c in found} == {("isolated", "predict", 128)}
    assert [cell.classes for cell in found] == list(SWEEPS["default"].classes)
    assert not races.cells([])
