"""Spare time goes where it decides most: to contests that are close, cheap and not decided."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.bench_undecided import fought, near_a_crossover
from bench.undecided import ALIKE, Duel, duel, next_contest, paired
from reports.results import Cell, Time


def measured(level, block="1.1", turns=8, noise=()):
    shared = np.exp(np.resize(noise, turns)) if len(noise) else np.ones(turns)
    return Time(level * shared, 1, np.array([]), block=block, turns=tuple(range(turns)))


def passes(*levels):
    return {index: measured(level, f"1.{index}") for index, level in enumerate(levels)}


@given(st.floats(-3, 3), st.lists(st.floats(-2, 2), min_size=3, max_size=9))
def test_what_rivals_share_in_a_turn_cancels(ratio, noise):
    best, other = measured(1.0, noise=noise), measured(math.exp(ratio), noise=noise)
    assert paired(best, other) == pytest.approx(ratio, abs=1e-9)


def test_of_other_blocks_only_medians_are_compared():
    best, other = measured(1.0, noise=[0.0, 1.0, 0.0]), measured(2.0, "2.7")
    assert paired(best, other) == pytest.approx(math.log(2))


def test_a_contest_is_between_the_fastest_and_whoever_may_be_as_fast():
    found = duel({
        "slow": passes(9.0, 9.0, 9.0),
        "fast": passes(1.0, 1.0, 1.0),
        "close": passes(1.05, 1.2, 1.1),
    })  # fmt: skip
    assert found.best == "fast"
    assert found.gap == pytest.approx(np.mean(np.log([1.05, 1.2, 1.1])))
    assert found.passes == 3
    assert not found.decided


@pytest.mark.parametrize(
    ("levels", "decided"),
    [
        ((1.3, 1.31, 1.29), True),  # one is faster
        ((1.001, 1.002, 0.999), True),  # they are as fast
        ((1.3, 1.0, 1.2), False),
        ((1.3,), False),  # of one pass nobody knows how far the next one is from it
    ],
)
def test_faster_is_an_answer_and_so_is_as_fast(levels, decided):
    rivals = {"a": passes(*[1.0] * len(levels)), "b": passes(*levels)}
    assert duel(rivals).decided is decided


def test_nobody_competes_alone():
    assert duel({"a": passes(1.0)}) is None
    assert duel({"a": passes(1.0), "b": {}}) is None


def close(passes_needed, passes=3, gap=ALIKE / 4):
    """A duel of that many passes in all, if nothing changes."""
    error = 1.0
    one = Duel("a", gap, error, passes)
    return one._replace(error=error * (passes_needed / one.passes_needed) ** 0.5)


def test_a_duel_says_how_many_passes_decide_it():
    assert close(12).passes_needed == pytest.approx(12)
    assert not close(12).decided
    assert close(2).decided


def test_the_cheapest_decision_comes_first_and_what_is_decided_never():
    duels = {"cheap": close(12), "dear": close(12), "long": close(40), "done": close(1)}
    cost = {"cheap": 1.0, "dear": 2.0, "long": 1.0, "done": 0.1}
    assert next_contest(duels, cost, ()) == "cheap"
    assert next_contest(duels, cost | {"dear": 1.5}, ["dear"]) == "dear"  # beside a crossover
    assert next_contest({"done": close(1)}, cost, ()) is None


def test_what_there_is_no_time_for_or_what_measuring_on_does_not_decide_is_left():
    assert next_contest({"a": close(12)}, {}, ()) is None
    assert next_contest({"a": close(1_000)}, {"a": 1.0}, ()) is None


def test_a_crossover_is_between_neighbours_of_which_another_is_the_fastest():
    cell = Cell("isolated", "*", "train", 16, 128, 128)
    sizes = [replace(cell, classes=n) for n in (16, 64, 256, 1_024)]
    best = ["softmax", "softmax", "adaptive", "adaptive"]
    duels = {s: Duel(b, 0.1, 0.1, 3) for s, b in zip(sizes, best, strict=True)}
    duels[replace(cell, batch=32, classes=64)] = Duel("gumbel", 0.1, 0.1, 3)
    assert near_a_crossover(duels) == {sizes[1], sizes[2]}


def session_of(**levels):
    """Three passes of each phase of two heads, whose second one takes so many times as long."""
    times = {}
    for phase, level in levels.items():
        cell = Cell("isolated", "softmax", phase, 64, 128, 128)
        times[cell] = passes(1.0, 1.0, 1.0)
        times[replace(cell, head="gumbel")] = passes(*level)
    return SimpleNamespace(times=times)


def test_training_is_undecided_where_its_whole_step_is():
    open_, closed = (1.3, 1.0, 1.2), (1.3, 1.31, 1.29)
    session = session_of(forward=open_, train=closed)
    assert fought(session, list(session.times)).decided
    session = session_of(forward=closed, train=open_)
    assert not fought(session, list(session.times)).decided
    session = session_of(forward=open_)
    assert not fought(session, list(session.times)).decided


def test_what_holds_for_any_labels_competes_under_all():
    cell = Cell("isolated", "softmax", "train", 64, 128, 128)
    any_labels = {i: replace(one, any_labels=True) for i, one in passes(1.0, 1.0, 1.0).items()}
    tree = replace(cell, head="hierarchical")
    times = {
        cell: any_labels,
        tree: passes(1.3, 1.31, 1.29),
        replace(tree, labels="zipf:1"): passes(1.0, 1.3, 1.2),
    }
    found = fought(SimpleNamespace(times=times), list(times))
    assert not found.decided
    del times[replace(tree, labels="zipf:1")]
    assert fought(SimpleNamespace(times=times), list(times)).decided


def test_what_is_the_same_code_is_no_rival():
    cell = Cell("isolated", "softmax", "predict", 64, 128, 128)
    copy = {i: replace(one, same_as="softmax") for i, one in passes(1.0, 1.3, 1.2).items()}
    tree = passes(1.3, 1.31, 1.29)
    times = {
        cell: passes(1.0, 1.0, 1.0),
        replace(cell, head="gumbel"): copy,
        replace(cell, head="hierarchical"): tree,
    }
    assert fought(SimpleNamespace(times=times), list(times)).decided
    del times[cell]
    assert not fought(SimpleNamespace(times=times), list(times)).decided
