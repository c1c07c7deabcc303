"""The language model in sweeps and trainings: its options, its cells, its searches."""

from argparse import ArgumentTypeError
from dataclasses import replace

import pytest
import torch

from bench import options
from bench.cells import SWEEPS
from bench.measure.workload import Workload
from bench.todo import Todo
from bench.train.space import space
from bench.train.tune import Trial, halve
from models import cases
from reports.results import Cell, RunFolder
from tests.bench.test_options import given


def test_the_words_sweep_trains_every_variant_from_every_seed():
    trainings = options.plan(given(sweep="words")).trainings()
    assert [(c.seed, c.variant) for c in trainings] == [
        (seed, variant) for seed in range(3) for variant in cases.CASES["words"].variants
    ]
    assert {c.model for c in trainings} == {"words"}


def test_another_model_brings_its_own_variants_and_no_pipelines():
    sweep = options.plan(given(sweep="study", model="words")).sweep
    assert sweep.trained == tuple(cases.CASES["words"].variants)
    assert (sweep.pipelines, sweep.split_steps) == ((), 0)
    assert sweep.seeds == SWEEPS["study"].seeds


def test_a_vocabulary_is_measured_at_its_size():
    sweep = options.plan(given(sweep="words", vocabulary=50)).sweep
    assert sweep.classes == sweep.model_classes == (50,)
    kept = options.plan(given(sweep="words", vocabulary=50, classes=(9,))).sweep
    assert (kept.classes, kept.model_classes) == ((9,), (50,))


def test_options_of_a_training_reach_it():
    chosen = {"width": 8, "train_batch": 4, "rates": ("huffman=0.25",)}
    plan = options.plan(given(sweep="words", trained=("huffman", "softmax"), seeds=1, **chosen))
    huffman, softmax = plan.trainings()
    assert (huffman.width, huffman.batch_size, huffman.learning_rate) == (8, 4, 0.25)
    own = cases.config("words", "softmax", threads=softmax.threads)
    assert softmax == replace(own, width=8, batch_size=4)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"vocabulary": 9}, "--vocabulary: an option of --model words; the model is tinyvgg"),
        ({"width": 9}, "--width: an option of --model words"),
        ({"sweep": "words", "channels": 9}, "--channels: an option of --model tinyvgg"),
        ({"sweep": "words", "trained": ("nope",)}, "--train: unknown variant 'nope'"),
        ({"trained": ("huffman",)}, "--train: unknown variant 'huffman'; variants are: softmax,"),
    ],
)
def test_what_does_not_suit_the_model_is_one_line(asked, said):
    with pytest.raises(pytest.UsageError, match=said) as caught:
        options.plan(given(**asked))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given_rate", ["softmax", "softmax=", "=0.1", "softmax=0", "a=nan"])
def test_a_rate_is_a_variant_and_a_number(given_rate):
    with pytest.raises(ArgumentTypeError, match="expected VARIANT=RATE"):
        options._rate(given_rate)


@pytest.mark.parametrize("head", ["softmax", "hierarchical", "sampled", "adaptive"])
def test_a_cell_on_the_language_model_makes_steps(head):
    cell = Cell("in-model", head, "train", 300, 64, 8, model="words", labels="zipf:1")
    workload = Workload(cell)
    assert workload.input.shape == (2, 32)
    before = [parameter.clone() for parameter in workload.parameters]
    workload.train()
    assert all(map(torch.equal, before, workload.parameters))  # a learning rate of 0
    assert workload.held_bytes[0] > 300 * 8 * 4


def test_cells_in_the_model_have_its_width_and_name(tmp_path):
    plan = options.plan(given(sweep="words", width=8))
    cells = [visit.cell for visit in Todo(plan, RunFolder(tmp_path), None, []).visits("time")]
    assert {(c.model, c.features) for c in cells if c.scope == "in-model"} == {("words", 8)}
    assert {(c.model, c.features) for c in cells if c.scope == "isolated"} == {("tinyvgg", 128)}


def test_of_words_the_rate_alone_is_searched_and_perplexity_decides():
    assert list(space("huffman", "words")) == ["learning_rate"]
    losses = {0.1: 3.0, 0.2: 2.0, 0.3: 4.0}

    def evaluate(candidates, epochs):
        return [
            Trial(one, epochs, right=1, images=2, loss=losses[one["learning_rate"]])
            for one in candidates
        ]

    best, *_ = halve([{"learning_rate": rate} for rate in losses], [(3, 1)], evaluate)
    assert best.settings == {"learning_rate": 0.2}
    assert best.told == "perplexity 7.389"
