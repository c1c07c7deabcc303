"""The grid holds every cell once, and every pass visits all of it."""

from collections import Counter
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

import heads
from bench import peers
from bench.cells import HEAVY, PIPELINES, SWEEPS, Sweep, blocks, called, contest, grid, itinerary
from models import variants
from models.cases import CASES
from reports.results import PHASES, Cell

SWEEP = Sweep(
    heads=("softmax", "hierarchical"),
    classes=(4, 8),
    batches=(2, 3),
    model_classes=(4,),
    passes=3,
    trained=(),
)


def make(scope, head, phase, classes, batch, features=16, **more):
    return Cell(scope, head, phase, classes, batch, features, **more)


def test_grid_is_the_product_of_its_axes_plus_the_a_a_pair_plus_in_model():
    cells = grid(SWEEP, make)
    isolated = [c for c in cells if c.scope == "isolated" and c.replica == 0]
    assert len(isolated) == len(set(isolated)) == 2 * len(PHASES) * 2 * 2
    twins = {replace(c, replica=0) for c in cells if c.replica == 1}
    assert twins == {c for c in isolated if c.head == "softmax"}
    in_model = [c for c in cells if c.scope == "in-model"]
    assert {(c.head, c.classes, c.batch, c.phase) for c in in_model} == {
        (head, 4, batch, "train") for head in SWEEP.heads for batch in (2, 3)
    }


@given(passes=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_every_pass_visits_every_cell_once(passes, seed):
    cells = grid(SWEEP, make)
    visits = list(itinerary(cells, passes, seed))
    for index in range(passes):
        assert Counter(v.cell for v in visits if v.pass_index == index) == Counter(cells)


@given(seed=st.integers(0, 2**32))
def test_phases_of_a_subject_stay_together(seed):
    visits = itinerary(grid(SWEEP, make), 2, seed)
    groups = [key for key, _ in groupby((v.pass_index, v.cell.subject) for v in visits)]
    assert len(groups) == len(set(groups))


@given(seed=st.integers(0, 2**32))
def test_a_block_is_all_that_competes_and_blocks_of_the_same_subjects_stay_together(seed):
    cells = grid(SWEEP, make)
    found = list(blocks(cells, 2, seed))
    for index in range(2):
        of_pass = [cell for block in found if block.pass_index == index for cell in block.cells]
        assert Counter(of_pass) == Counter(cells)
    assert len({(contest(block.cells[0]), block.pass_index) for block in found}) == len(found)
    for block in found:
        assert len({contest(cell) for cell in block.cells}) == 1
        isolated = block.cells[0].scope == "isolated"
        assert {(c.head, c.replica) for c in block.cells} == {
            ("softmax", 0), ("hierarchical", 0), *([("softmax", 1)] if isolated else []),
        }  # fmt: skip
    groups = [key for key, _ in groupby((b.pass_index, contest(b.cells[0]).subject) for b in found)]
    assert len(groups) == len(set(groups))


@pytest.mark.parametrize("heavy_passes", [1, 2])
def test_a_heavy_cell_is_in_the_first_passes_only_and_has_no_twin(heavy_passes):
    heavy = make("isolated", "softmax", "train", HEAVY // 4, 4)
    light = make("isolated", "softmax", "train", HEAVY // 8, 4)
    found = [block.cells for block in blocks([heavy, light], 3, seed=0, heavy_passes=heavy_passes)]
    assert found.count((heavy,)) == heavy_passes
    assert found.count((light,)) == 3
    cells = grid(replace(SWEEP, classes=(HEAVY // 4,), batches=(2, 4)), make)
    assert {c.batch for c in cells if c.replica == 1} == {2}


def test_order_follows_from_the_seed_and_differs_between_passes():
    cells = grid(SWEEP, make)
    once, again = (list(blocks(cells, 2, seed=5)) for _ in range(2))
    assert once == again != list(blocks(cells, 2, seed=6))
    first, second = ([b.cells for b in once if b.pass_index == index] for index in (0, 1))
    assert first != second


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps_name_heads_and_peers_that_exist(name):
    sweep = SWEEPS[name]
    assert {called(head)[0] for head in sweep.heads} <= {*heads.names(), *peers.names()}
    known = CASES[sweep.model].variants
    assert set(sweep.trained) <= {*known, *heads.names()}
    assert set(sweep.pipelines) <= set(PIPELINES)
    assert sweep.a_a in sweep.heads


def test_the_study_trains_every_variant_from_five_seeds():
    assert SWEEPS["study"].trained == variants.names()
    assert SWEEPS["study"].seeds >= 5


# Axes


AROUND = replace(
    SWEEP,
    heads=("softmax", "adaptive", "hierarchical(branching=4)"),
    classes=tuple(2**k for k in range(4, 13)),
    batches=(32, 128),
    model_classes=(64,),
    features=(16, 32),
    labels=("uniform", "zipf:1"),
    states=("unsure", "sure", "untrained"),
    dtypes=("float32", "bfloat16"),
    optimizers=("sgd", "adam"),
)


def axes(cell):
    """What differs from the standard."""
    said = {"features": 16, "labels": "uniform", "dtype": "float32", "optimizer": "sgd"}
    said["state"] = "unsure" if cell.phase == "predict" else "untrained"
    return {name for name, value in said.items() if getattr(cell, name) != value}


def test_each_axis_varies_alone_at_the_usual_batch_and_a_few_class_counts():
    cells = grid(AROUND, make)
    assert len(cells) == len(set(cells))
    varied = [c for c in cells if axes(c)]
    assert {frozenset(axes(c)) for c in varied} == {
        *(frozenset({name}) for name in ("features", "labels", "state", "dtype", "optimizer")),
    }
    assert {c.batch for c in varied} == {128}
    assert {c.classes for c in varied} == {2**12, 2**10, 2**8, 2**6}
    assert {c.scope for c in varied} == {"isolated"}
    assert all(not axes(c) for c in cells if c.replica)


def test_the_standard_has_the_full_grid_whatever_else_is_asked_for():
    standard = {c for c in grid(AROUND, make) if not axes(c)}
    alone = replace(
        AROUND,
        features=(16,),
        labels=("uniform",),
        states=("unsure",),
        dtypes=("float32",),
        optimizers=("sgd",),
    )
    assert standard == set(grid(alone, make))


def test_what_does_not_depend_on_labels_is_measured_once():
    for sweep in (AROUND, replace(AROUND, product=True)):
        cells = grid(sweep, make)
        assert {c.labels for c in cells if c.head == "softmax"} == {"uniform"}
        assert {c.state for c in cells if c.head == "softmax"} == {"untrained", "unsure"}
        assert {c.labels for c in cells if c.head == "adaptive"} == {"uniform", "zipf:1"}
        untrained = [c for c in cells if c.phase == "predict" and c.state == "untrained"]
        assert {c.labels for c in untrained} == {"uniform"}


def test_an_optimizer_matters_where_there_is_a_step():
    for sweep in (AROUND, replace(AROUND, product=True)):
        other = [c for c in grid(sweep, make) if c.optimizer != "sgd"]
        assert {c.phase for c in other} == {"step", "train"}


def test_the_product_is_every_combination_that_can_differ():
    cells = [c for c in grid(replace(AROUND, product=True), make) if c.replica == 0]
    assert len(cells) == len(set(cells))
    sizes = len(AROUND.classes) * len(AROUND.batches)
    of = Counter((c.head, c.phase) for c in cells if c.scope == "isolated")
    free = 2 * 2  # widths and dtypes
    assert of["softmax", "train"] == sizes * free * 2
    assert of["softmax", "forward"] == of["softmax", "predict"] == sizes * free
    assert of["adaptive", "train"] == sizes * free * 2 * 2
    # Two planted states under two labels, and untrained, which has none.
    assert of["adaptive", "predict"] == sizes * free * 5


def test_a_head_with_options_is_a_cell_of_its_own():
    cells = [c for c in grid(AROUND, make) if c.head == "hierarchical"]
    assert {(c.options, c.name) for c in cells} == {("branching=4", "hierarchical(branching=4)")}
    twins = grid(replace(AROUND, a_a="hierarchical(branching=4)"), make)
    assert {c.name for c in twins if c.replica} == {"hierarchical(branching=4)"}


@pytest.mark.parametrize("name", SWEEPS)
def test_more_axes_make_no_sweep_much_longer(name):
    cells = grid(SWEEPS[name], lambda *where, **more: make(*where, **more))
    standard = replace(
        SWEEPS[name], labels=("uniform",), states=SWEEPS[name].states[:1], optimizers=("sgd",)
    )
    assert len(cells) <= 1.1 * len(grid(standard, make))


def test_visits_are_not_undercounted():
    for sweep in (AROUND, replace(AROUND, product=True), *SWEEPS.values()):
        timed = list(itinerary(grid(sweep, make), sweep.passes, 0))
        assert len(timed) <= sweep.visits
