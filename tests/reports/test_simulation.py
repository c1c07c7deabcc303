"""The benchmark of the method: its rivals' rules, its machine, and that its tables add up."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from reports import simulation
from reports.families import (
    DESIGNS,
    FAMILIES,
    HELD_OUT,
    any_sizes,
    measure,
    measure_anyhow,
    outcome,
)
from reports.simulation import BIG_O, SIZES, Machine, big_o_package, google_benchmark
from reports.stats.complexity import classify, growth


@pytest.mark.parametrize("model", BIG_O)
def test_google_benchmarks_rule_names_pure_curves(model):
    seconds = 1e-6 * (growth(model, SIZES) if model != "O(1)" else np.ones_like(SIZES))
    assert google_benchmark(SIZES, seconds) == model


def test_google_benchmarks_rule_takes_an_overhead_for_the_whole():
    assert google_benchmark(SIZES, 50e-6 + 2e-6 * np.log2(SIZES)) == "O(1)"


@pytest.mark.skipif(not importlib.util.find_spec("big_o"), reason="big-O is not installed")
@pytest.mark.parametrize("model", BIG_O[1:])
def test_the_big_o_package_names_exact_curves_with_overhead(model):
    assert big_o_package(SIZES, 50e-6 + 1e-6 * growth(model, SIZES)) == model


@pytest.mark.parametrize("between_sizes", [False, True])
@pytest.mark.parametrize("between_passes", [False, True])
def test_a_machine_drifts_between_what_it_is_said_to(between_sizes, between_passes):
    shaky = Machine(0.0, 0.05, 0.0, between_sizes, between_passes)
    cells = np.log(shaky.measure(np.ones(500), np.random.default_rng(0)))
    assert np.ptp(cells, axis=2).max() == 0
    assert (np.ptp(cells, axis=0).max() > 0) == between_sizes
    assert (np.ptp(cells, axis=1).max() > 0) == between_passes


@pytest.mark.parametrize("family", FAMILIES)
def test_curves_of_every_family_are_hardly_ever_misjudged(family):
    sizes = DESIGNS["9 sizes, default"]
    random = np.random.default_rng(list(family.encode()))
    said = []
    for _ in range(8):
        truth = FAMILIES[family](sizes, random)
        verdict = classify(sizes, measure(truth.values, "usual", random), draws=0)
        said.append(outcome(truth.growth, *verdict.within))
        assert verdict.model != "O(n^2)" or truth.growth == verdict.model
    assert said.count("wrong") <= 1


@pytest.mark.parametrize("family", HELD_OUT)
def test_curves_that_nothing_was_tuned_on_are_drawn_soundly_and_never_called_quadratic(family):
    random = np.random.default_rng(list(family.encode()))
    sizes = any_sizes(np.random.default_rng(1))
    for _ in range(2):
        truth = HELD_OUT[family](sizes, random)
        assert np.isfinite(truth.values).all()
        assert truth.values.min() > 0
        model = classify(sizes, measure_anyhow(truth.values, random), draws=0).model
        assert model != "O(n^2)" or truth.growth == model


@pytest.mark.parametrize(
    ("truth", "said", "what"),
    [
        ("O(n)", ["O(n)"], "right"),
        ("O(n)", ["O(n^0.9)"], "wrong"),
        ("O(n)", [], "inconclusive"),
        ("O(n^0.73)", ["O(n^0.7)"], "right"),
        ("O(n^0.73)", ["O(n)"], "wrong"),
        ("O(n^1.80)", ["O(n^2)"], "wrong"),
        ("O(n^0.45)", ["O(sqrt n)"], "right"),
        ("O(n)", ["O(n)", "O(n log n)"], "nearly"),
        ("O(n^0.73)", ["O(n)", "O(n log n)"], "wrong"),
    ],
)
def test_a_verdict_is_right_where_it_names_the_truth(truth, said, what):
    assert outcome(truth, *said) == what


def test_tables_show_every_rule_and_family():
    text = simulation.verdicts(1, seed=0)
    for name in ("headbench", "google/benchmark", "true claim", "false: counted O(n)", *FAMILIES):
        assert name in text
    assert "A/A" in simulation.intervals(1, seed=0, cells=20)
    compared = simulation.comparisons(1, seed=0, cells=40, changed=5)
    assert all(f"| {factor:g} " in compared for factor in simulation.CHANGES)


def test_verdicts_of_a_run_are_listed_beside_its_counts_and_medians(synthetic):
    listed = simulation.of_runs([str(synthetic)])
    assert "name a growth" in listed
    assert "| softmax train" in listed


def test_table_is_markdown():
    assert simulation.table(["a", "bc"], [["def", "g"]]) == (
        "| a   | bc |\n| --- | -- |\n| def | g  |\n"
    )
